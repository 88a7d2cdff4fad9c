#!/bin/sh
# Proves that the import walls of .golangci.yaml bite. In a throw-away module with the names of this one and nothing in
# it, each line below becomes a package with one import, and depguard must complain of exactly those that say "deny".
# Then every package that exists must have a rule, and every rule's package must exist.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# verdict, importing folder, kind of file, import ("~" is this module's path)
cat >"$work/probes" <<'PROBES'
deny  internal/sensitive    code ~/internal/fault
deny  internal/fault        code ~/internal/canon
deny  internal/canon        code github.com/google/uuid
deny  internal/limit        code ~/internal/fault
deny  internal/randomness   code ~/internal/fault
deny  internal/randomness   code os
allow internal/randomness   code crypto/rand
deny  internal/vault        code crypto/rand
deny  internal/envelope     code crypto/rand
deny  internal/boot         code crypto/rand
allow internal/vault        code ~/internal/randomness
deny  internal/postgres     code crypto/rand
deny  internal/canon        code log/slog
allow internal/sensitive    code log/slog
deny  internal/secret       code os
deny  internal/secret       code database/sql
deny  internal/secret       code ~/internal/envelope
allow internal/secret       code ~/internal/sensitive
deny  internal/secret       code github.com/netresearch/go-cron
deny  internal/vault        code github.com/netresearch/go-cron
deny  internal/access       code net/http
deny  internal/access       code net
deny  internal/access       code github.com/gin-gonic/gin
allow internal/access       code net/netip
deny  internal/envelope     code log/slog
deny  internal/envelope     code net
deny  internal/envelope     code os/exec
deny  internal/envelope     code math/rand/v2
deny  internal/envelope     code ~/internal/kms
allow internal/envelope     code ~/internal/canon
allow internal/envelope     code golang.org/x/crypto/chacha20poly1305
allow internal/envelope     test math/rand/v2
deny  internal/kms          code ~/internal/secret
deny  internal/kms          code ~/internal/postgres
deny  internal/kms          code math/rand
allow internal/kms          code ~/internal/sensitive
allow internal/kms          code github.com/aws/aws-sdk-go-v2
deny  internal/vault        code github.com/aws/aws-sdk-go-v2
deny  cmd/api               code github.com/aws/aws-sdk-go-v2
deny  internal/integrity    code net/http
deny  internal/integrity    code ~/internal/audit
allow internal/integrity    code ~/internal/kms
deny  internal/audit        code ~/internal/sensitive
deny  internal/audit        code ~/internal/secret
deny  internal/audit        code ~/internal/ship
deny  internal/audit        code ~/internal/vault
allow internal/audit        code ~/internal/postgres
deny  internal/postgres     code ~/internal/sensitive
deny  internal/postgres     code ~/internal/envelope
deny  internal/postgres     code ~/internal/kms
deny  internal/postgres     code ~/internal/integrity
deny  internal/postgres     code ~/internal/secret
deny  internal/postgres     code ~/internal/vault
deny  internal/postgres     code ~/internal/pgtest
allow internal/postgres     test ~/internal/pgtest
allow internal/postgres     code ~/internal/postgres/db
allow internal/postgres     code github.com/jackc/pgx/v5
deny  migrations            code ~/internal/postgres
deny  internal/rotation     code ~/internal/postgres
deny  internal/rotation     code ~/internal/kms
deny  internal/rotation     code github.com/gin-gonic/gin
deny  internal/rotation     code github.com/jackc/pgx/v5
allow internal/rotation     code ~/internal/vault
allow internal/rotation     code ~/internal/target/pgtarget
deny  internal/vault        code ~/internal/rotation
deny  internal/target       code ~/internal/vault
deny  internal/target       code ~/internal/postgres
deny  internal/target       code github.com/jackc/pgx/v5
deny  internal/target/hook  code github.com/jackc/pgx/v5
deny  internal/target/hook  code crypto/rand
deny  internal/target/webhook code log/slog
allow internal/target/hook  code net/http
allow internal/target/hook  code ~/internal/target
allow internal/target       code ~/internal/sensitive
deny  internal/target/pgtarget code ~/internal/postgres
deny  internal/target/pgtarget code ~/internal/secret
deny  internal/target/pgtarget code net/http
deny  internal/target/pgtarget code database/sql
deny  internal/target/pgtarget code crypto/rand
allow internal/target/pgtarget code github.com/jackc/pgx/v5
allow internal/target/pgtarget code ~/internal/target
allow internal/target/pgtarget code ~/internal/sensitive
allow internal/vault        code ~/internal/limit
deny  internal/vault        code github.com/gin-gonic/gin
deny  internal/vault        code github.com/jackc/pgx/v5
deny  internal/vault        code github.com/jackc/pgx/v5/pgxpool
deny  internal/vault        code database/sql
deny  internal/vault        code ~/internal/httpapi
deny  internal/vault        code ~/internal/cli
deny  internal/vault        code ~/internal/config
deny  internal/vault        code ~/internal/sealkeeptest
allow internal/vault        code ~/internal/postgres
allow internal/vault        code ~/internal/sensitive
deny  internal/httpapi      code github.com/jackc/pgx/v5
deny  internal/httpapi      code ~/internal/postgres
deny  internal/httpapi      code ~/internal/envelope
deny  internal/httpapi      code ~/internal/cli
allow internal/httpapi      code github.com/gin-gonic/gin
allow internal/httpapi      code ~/internal/vault
deny  internal/cli          code github.com/gin-gonic/gin
deny  internal/cli          code ~/cmd/sealkeep
deny  internal/cli          code ~/internal/pgtest
allow internal/cli          code ~/internal/vault
deny  internal/boot         code ~/internal/cli
allow internal/boot         code ~/internal/httpapi
deny  internal/config       code ~/internal/secret
deny  internal/telemetry    code ~/internal/vault
deny  internal/process      code ~/internal/postgres
deny  internal/pgserver     code ~/internal/postgres
allow internal/config       code ~/internal/sensitive
deny  cmd/api               code ~/internal/pgtest
deny  cmd/api               code io/ioutil
deny  cmd/api               code github.com/pkg/errors
deny  internal/vault        test github.com/stretchr/testify/require
deny  internal/vault        test github.com/google/go-cmp/cmp
allow test/interop          test github.com/stretchr/testify/require
allow cmd/api               code ~/internal/httpapi
PROBES

module=github.com/sealkeep/sealkeep
tree="$work/tree"
mkdir "$tree"
cp "$root/.golangci.yaml" "$tree"

# An import must resolve, so each package that a probe names exists, empty; foreign modules are folders here.
foreign='github.com/gin-gonic/gin github.com/jackc/pgx/v5 github.com/google/uuid github.com/google/go-cmp
	github.com/pkg/errors github.com/stretchr/testify golang.org/x/crypto github.com/aws/aws-sdk-go-v2 github.com/netresearch/go-cron'
{
	printf 'module %s\n\ngo 1.26\n' "$module"
	for path in $foreign; do
		case $path in */v5) version=v5.0.0 ;; *) version=v0.0.0 ;; esac
		mkdir -p "$tree/foreign/$path"
		printf 'module %s\n' "$path" >"$tree/foreign/$path/go.mod"
		printf '\nrequire %s %s\n\nreplace %s => ./foreign/%s\n' "$path" "$version" "$path" "$path"
	done
} >"$tree/go.mod"

n=0
while read -r verdict folder kind import; do
	n=$((n + 1))
	package="$tree/$folder/probe$n"
	mkdir -p "$package"
	case $kind in
	code) file=probe.go ;;
	test)
		file=probe_test.go
		printf 'package probe%s\n' "$n" >"$package/doc.go"
		;;
	esac
	case $import in
	"~"/*)
		target="$tree/${import#*/}"
		import="$module/${import#*/}"
		;;
	*.*/*) target="$tree/foreign/$import" ;;
	*) target= ;;
	esac
	printf 'package probe%s\n\nimport _ "%s"\n' "$n" "$import" >"$package/$file"
	if [ -n "$target" ] && [ ! -f "$target/empty.go" ]; then
		mkdir -p "$target"
		echo 'package empty' >"$target/empty.go"
	fi
	printf '%s %s %s %s\n' "$verdict" "$folder/probe$n/$file" "$folder" "$import"
done <"$work/probes" >"$work/expected"

code=0
(cd "$tree" && GOWORK=off GOFLAGS=-mod=mod golangci-lint run --config .golangci.yaml --enable-only depguard \
	--output.text.path stdout --output.text.colors=false --output.text.print-issued-lines=false ./...) >"$work/found" 2>"$work/log" || code=$?
# 1 is "issues found"; anything else means that nothing was judged.
if [ "$code" -ne 1 ] || grep -q '(typecheck)' "$work/found"; then
	cat "$work/found" "$work/log" >&2
	echo "check-walls: golangci-lint could not judge the probes (exit $code)" >&2
	exit 1
fi

failed=0
while read -r verdict file folder import; do
	if grep -q "^$file:.*(depguard)" "$work/found"; then got=deny; else got=allow; fi
	if [ "$got" != "$verdict" ]; then
		echo "check-walls: $folder importing $import: expected $verdict, got $got" >&2
		failed=1
	fi
done <"$work/expected"

# A wall around a package that was renamed guards nothing, and a new package starts without one. One that holds only tests
# needs none.
walled=$(grep -o '\*\*/internal/[a-z0-9]*/\*\*' "$root/.golangci.yaml" | cut -d/ -f3 | sort -u)
for name in $walled; do
	[ -d "$root/internal/$name" ] || {
		echo "check-walls: .golangci.yaml has a wall for internal/$name, which does not exist" >&2
		failed=1
	}
done
for dir in "$root"/internal/*/; do
	name=$(basename -- "$dir")
	find "$dir" -name '*.go' ! -name '*_test.go' | grep -q . || continue
	echo "$walled" | grep -qx "$name" || {
		echo "check-walls: internal/$name has no rule in .golangci.yaml" >&2
		failed=1
	}
done
[ "$failed" -eq 0 ] && echo "$n probes, each judged as it should be"
