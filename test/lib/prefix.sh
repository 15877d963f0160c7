#!/bin/sh
# Make a private copy of the installed PostgreSQL.
#
#   [PG_CONFIG=...] prefix.sh DIR      prints the path of the copy's pg_config
#
# PostgreSQL finds its files relative to its executable.  So the directories
# that an installation writes to or an executable is looked up in are copied
# to the same paths below DIR (a symbolic link would lead back), and those
# that are only read are linked.  "make PG_CONFIG=<copy> install" then installs
# into the copy: nothing of the system is touched, and no root is needed.
set -eu

dir=${1:?usage: prefix.sh DIR}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

# The newest installed version, unless told.
newest=$(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -V | tail -n 1)
pg_config=${PG_CONFIG:-${newest:-$(command -v pg_config)}}

# Copies one directory, contents into contents: a parent of it may be there.
copy()
{
    mkdir -p "$dir$1"
    cp -a "$1/." "$dir$1/"
}

# Links one directory, or its entries where a part of it has been copied.
link()
{
    if [ ! -e "$dir$1" ]
    then
        mkdir -p "$(dirname "$dir$1")"
        ln -s "$1" "$dir$1"
    elif [ ! -L "$dir$1" ]
    then
        for entry in "$1"/*
        do
            [ -e "$dir$entry" ] || ln -s "$entry" "$dir$entry"
        done
    fi
}

for what in bindir pkglibdir sharedir includedir-server
do
    copy "$("$pg_config" --$what)"
done
for what in libdir pkgincludedir includedir
do
    link "$("$pg_config" --$what)"
done

# Among the headers of the server PGXS makes a directory for every extension,
# even for one that installs none; documentation is not ours to install.
echo "$dir$("$pg_config" --bindir)/pg_config"
