#!/bin/sh
# Fails when an audited read allocates a tenth more than it did when that was last looked at. It runs without the race
# detector, which allocates too.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

if [ -z "${SEALKEEP_TEST_POSTGRES_URL:-}" ]; then
	server=$("$root/scripts/postgres.sh")
	SEALKEEP_POSTGRES_BIN=$(printf '%s\n' "$server" | head -n 1)
	export SEALKEEP_POSTGRES_BIN
fi
cd "$root"
CGO_ENABLED=0 go test -buildvcs=false -run '^$' -bench AllocationsPerAuditedRead -benchtime 3000x ./internal/boot
