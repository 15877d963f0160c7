#!/bin/sh
# Install the other queues, and the programs here that drive them.
#
#   install.sh DIR
#
# From the registries that npm, go and pip know on this machine.  Node is a
# package too, whose script fetches the one for this processor.  What was
# completed from the same files as are here is used again: the last thing
# written is a copy of them all.  Else it is made anew.
set -eu

dir=${1:?usage: install.sh DIR}
here=$(cd "$(dirname "$0")" && pwd)
mark=$(cat "$here"/*.*)

[ "$(cat "$dir/complete" 2>/dev/null)" != "$mark" ] || exit 0
rm -rf "$dir"
mkdir -p "$dir"
cp "$here"/*.* "$dir"
cd "$dir"
# That the Node of the system is too old for them is no error.
npm install --no-package-lock --no-audit --no-fund --loglevel error
go build -o river .
"$here/../../whisper/venv.sh" "$dir/venv" "$here/requirements.txt" > /dev/null
chmod -R a+rX .
printf '%s\n' "$mark" > complete
