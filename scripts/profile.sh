#!/bin/sh
# Makes cmd/api/default.pgo anew: a CPU profile of the vault under the benchmark's load, by which the product is compiled
# (profile-guided optimization). Worth doing after the hot path has changed; an old profile does no harm.
set -eu
cd -- "$(dirname -- "$0")/.."

mkdir -p .bench
case $(go env GOOS)/$(go env GOARCH) in
linux/amd64 | linux/arm64) experiment=runtimesecret ;;
*) experiment= ;;
esac
CGO_ENABLED=0 GOEXPERIMENT=$experiment go build -trimpath -buildvcs=false -pgo=off -o .bench/profiled-api ./test/bench/profiled
scripts/bench.sh -vault-bin .bench/profiled-api -vault-env "SEALKEEP_CPU_PROFILE=$PWD/.bench/default.pgo" \
	-servers vault -only rates -conns 8,32,128,32,128 -rounds 1 -time "${1:-5s}"
mv .bench/default.pgo cmd/api/default.pgo
