#!/bin/sh
# Make a Python environment, for whisper_server.py or others.
#
#   venv.sh DIR [REQUIREMENTS]      prints the path of its python
#
# The requirements are those of whisper_server.py, unless a file is named.
# An environment that was completed from the same requirements is used again:
# the last thing written into it is a copy of them.  One that is not, or was
# interrupted, is made anew.  The system's own Python is used, because others
# may live in a home directory that the user who runs the tests cannot enter.
set -eu

dir=${1:?usage: venv.sh DIR [REQUIREMENTS]}
requirements=${2:-$(dirname "$0")/requirements.txt}
python=${PYTHON:-/usr/bin/python3}

# The version is part of the mark: a new Python does not see an old one's
# packages.
mark=$("$python" -V; cat "$requirements")

if [ "$(cat "$dir/complete" 2>/dev/null)" != "$mark" ]
then
    rm -rf "$dir"
    mkdir -p "$(dirname "$dir")"
    "$python" -m venv "$dir" >&2
    "$dir/bin/pip" install --no-deps --no-input --disable-pip-version-check \
        -r "$requirements" >&2
    chmod -R a+rX "$dir"
    printf '%s\n' "$mark" > "$dir/complete"
fi
echo "$dir/bin/python"
