#!/bin/sh
# Prints the folder with the programs of the PostgreSQL server to work with, and its version on a second line: the one
# that is found, or else one fetched into .tools/pg, for which Debian and Ubuntu need no root.
set -eu
cd -- "$(dirname -- "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -buildvcs=false -o "$work/findpg" ./scripts/findpg
if "$work/findpg" 2>"$work/why"; then
	exit
fi
if [ -z "${SEALKEEP_POSTGRES_BIN:-}" ] && [ -f /etc/debian_version ] && command -v apt-get >/dev/null; then
	echo "no PostgreSQL server found; fetching one into .tools/pg" >&2
	scripts/fetch-postgres.sh >&2
	"$work/findpg"
	exit
fi
cat "$work/why" >&2
exit 1
