#!/bin/sh
# Measures what it costs that keys and plaintext are erased from registers, stacks and ciphers (runtime/secret): opening a value
# with and without, and the ratio.
set -eu
cd -- "$(dirname -- "$0")/.."

run() {
	CGO_ENABLED=0 GOEXPERIMENT=$1 go test -buildvcs=false -run '^$' -bench '^BenchmarkOpen$' -count 5 ./internal/envelope
}
{ run '' | sed 's/^/without /'; run runtimesecret | sed 's/^/with /'; } | awk '
	$2 ~ /^BenchmarkOpen\// { name = $2; sub(/-[0-9]+$/, "", name); k = $1 " " name; if (!(k in least) || $4 < least[k]) least[k] = $4; names[name] }
	END {
		for (n in names) {
			a = least["without " n]; b = least["with " n]
			if (a == "" || b == "") exit 1
			printf "%s: %.0f ns without, %.0f ns with runtime/secret: %.2f times\n", n, a, b, b / a
		}
	}'
