#!/bin/sh
# usage: bench.sh [flags of test/bench]
# Builds the benchmark and runs it with the PostgreSQL server that is found or fetched. Its results go to .bench/, which git
# ignores.
set -eu
cd -- "$(dirname -- "$0")/.."

server=$(scripts/postgres.sh)
SEALKEEP_POSTGRES_BIN=$(printf '%s\n' "$server" | head -n 1)
export SEALKEEP_POSTGRES_BIN
mkdir -p .bench
(cd test && CGO_ENABLED=0 go build -trimpath -buildvcs=false -o ../.bench/bench ./bench)
# exec: a Ctrl-C reaches the benchmark itself, which then cleans up.
exec .bench/bench "$@"
