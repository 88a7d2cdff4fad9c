#!/bin/sh
# Prints the folder that holds a PostgreSQL server's programs, of version 15 or newer: the first that is found where
# `sealkeep dev` looks too, or else one fetched into .tools/pg, for which Debian and Ubuntu need no root.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

# usable DIR: DIR holds a server that is new enough.
usable() {
	[ -x "$1/postgres" ] && [ -x "$1/initdb" ] || return 1
	major=$("$1/postgres" --version 2>/dev/null | sed -n 's/^[^0-9]*\([0-9][0-9]*\).*/\1/p')
	[ "${major:-0}" -ge 15 ]
}

# newest DIR...: DIRs by their version, the newest first.
newest() {
	for dir; do
		[ -d "$dir" ] && printf '%s\n' "$dir"
	done | sort -t@ -k2,2nr -k1,1Vr 2>/dev/null || true
}

find_server() {
	if [ -n "${SEALKEEP_POSTGRES_BIN:-}" ]; then
		usable "$SEALKEEP_POSTGRES_BIN" && printf '%s\n' "$SEALKEEP_POSTGRES_BIN" && return
		echo "SEALKEEP_POSTGRES_BIN=$SEALKEEP_POSTGRES_BIN holds no PostgreSQL 15 or newer (postgres and initdb)" >&2
		exit 1
	fi
	if found=$(command -v postgres); then
		dir=$(dirname -- "$(readlink -f -- "$found" 2>/dev/null || echo "$found")")
		usable "$dir" && printf '%s\n' "$dir" && return
	fi
	for dir in $(newest /usr/lib/postgresql/*/bin) \
		$(newest /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin) \
		"$root"/.tools/pg/bin "$root"/.tools/pg/usr/lib/postgresql/*/bin; do
		usable "$dir" && printf '%s\n' "$dir" && return
	done
	return 1
}

find_server && exit
if [ -f /etc/debian_version ] && command -v apt-get >/dev/null; then
	echo "no PostgreSQL found; fetching one into .tools/pg" >&2
	"$root/scripts/fetch-postgres.sh" "$root/.tools/pg" >&2
	find_server && exit
fi
echo "Install PostgreSQL 15 or newer (its server, not only the client), or set SEALKEEP_POSTGRES_BIN to the folder with its postgres and initdb." >&2
exit 1
