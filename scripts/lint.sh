#!/bin/sh
# Every check that needs no running server; all of them run, and the ones that failed are named at the end.
# `make lint` puts the pinned tools first on PATH.
set -eu
cd -- "$(dirname -- "$0")/.."
root=$PWD
failed=

# check NAME COMMAND...: runs it and remembers whether it failed.
check() {
	name=$1
	shift
	echo "lint: $name"
	"$@" || failed="$failed, $name"
}

go_files() {
	git ls-files --cached --others --exclude-standard '*.go' | while IFS= read -r file; do
		if [ -f "$file" ] && ! head -n 5 "$file" | grep -q '^// Code generated .* DO NOT EDIT\.$'; then
			printf '%s\n' "$file"
		fi
	done
}

formatted() {
	wrong=$(go_files | xargs gofumpt -l -extra=false -modpath github.com/sealkeep/sealkeep)
	[ -z "$wrong" ] || {
		echo "not as gofumpt has it (run .tools/gofumpt -w on them):"
		echo "$wrong"
		return 1
	}
}

# each_module COMMAND...: runs it in the folder of each module of the workspace that has packages.
each_module() {
	status=0
	for module in . test; do
		if [ -n "$(cd "$module" && go list ./... 2>/dev/null)" ]; then
			(cd "$module" && "$@") || status=1
		fi
	done
	return $status
}

tidy() {
	status=0
	for module in . test tools; do
		(cd "$module" && GOWORK=off go mod tidy -diff) || {
			echo "$module/go.mod is not tidy"
			status=1
		}
	done
	return $status
}

shell_syntax() {
	status=0
	for script in scripts/*.sh; do
		sh -n "$script" || status=1
	done
	bash -n .ci/run || status=1
	return $status
}

check "configuration of golangci-lint" golangci-lint config verify --config .golangci.yaml
check "gofumpt" formatted
check "go vet" each_module go vet ./...
check "golangci-lint" each_module golangci-lint run --config "$root/.golangci.yaml" ./...
check "import walls" scripts/check-walls.sh
check "sqlc vet" sqlc vet
check "generated files" scripts/check-generated.sh
check "go mod tidy" tidy
check "shell syntax" shell_syntax

[ -z "$failed" ] || {
	echo "lint: failed:${failed#,}" >&2
	exit 1
}
echo "lint: clean"
