#!/bin/sh
# usage: test.sh MODULE [go test flags]
# Runs the tests of the module in the folder MODULE against a real PostgreSQL: that of SEALKEEP_TEST_POSTGRES_URL, or
# one that it finds or fetches. The race detector is on where a C compiler works; with SEALKEEP_REQUIRE_RACE=1 it is an
# error if none does.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
module=$1
shift
name=$(sed -n 's/^module //p' "$root/$module/go.mod")

if [ -z "${SEALKEEP_TEST_POSTGRES_URL:-}" ]; then
	server=$("$root/scripts/postgres.sh")
	SEALKEEP_POSTGRES_BIN=$(printf '%s\n' "$server" | head -n 1)
	export SEALKEEP_POSTGRES_BIN
fi

# The only honest question is whether a program with the race detector builds and runs.
probe=$(mktemp -d)
trap 'rm -rf "$probe"' EXIT
printf 'package main\n\nimport "C"\n\nfunc main() {}\n' >"$probe/main.go"
if CGO_ENABLED=1 GOWORK=off go run -buildvcs=false -race "$probe/main.go" >/dev/null 2>"$probe/log"; then
	race=-race cgo=1
	echo "testing $name with the race detector"
elif [ "${SEALKEEP_REQUIRE_RACE:-}" = 1 ]; then
	cat "$probe/log" >&2
	echo "The race detector is required here and does not work: install a C compiler (on Debian and Ubuntu, gcc and libc6-dev)." >&2
	exit 1
else
	race=-race=false cgo=0
	echo "testing $name without the race detector: it needs a C compiler, and none works here"
fi

cd "$root/$module"
if [ -z "$(go list ./... 2>/dev/null)" ]; then
	echo "no packages in $name"
	exit
fi
CGO_ENABLED=$cgo go test -buildvcs=false "$race" -timeout 20m "$@" ./...
