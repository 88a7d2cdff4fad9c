#!/bin/sh
# usage: test-aws.sh [go test flags]
# Runs the tests of both modules with AWS KMS in the place of the local master key: the KMS for tests, test/kmsserver, as a
# process of its own. It ends with this script, whose end closes its standard input.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
work=$(mktemp -d)
trap 'exec 9>&-; wait; rm -rf "$work"' EXIT

(cd "$root/test" && go build -buildvcs=false -o "$work/kmsserver" ./kmsserver)
mkfifo "$work/stdin"
"$work/kmsserver" -key eu-central-1 <"$work/stdin" >"$work/addresses" &
exec 9>"$work/stdin"
until [ -s "$work/addresses" ]; do
	kill -0 $! 2>/dev/null || { echo "test-aws: the KMS for tests did not start" >&2; exit 1; }
	sleep 0.1
done
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$work/addresses"; }
VAULT_KMS_KEY_ID=$(field key) AWS_ENDPOINT_URL_KMS=$(field kms)
export VAULT_KMS_KEY_ID AWS_ENDPOINT_URL_KMS

# The credentials of the KMS for tests, and nothing else that the SDK might find.
export SEALKEEP_TEST_KMS=aws AWS_REGION=eu-central-1 AWS_EC2_METADATA_DISABLED=true \
	AWS_ACCESS_KEY_ID=AKIAKMSSERVERFORTEST AWS_SECRET_ACCESS_KEY=this-secret-key-is-known-to-everyone-who-tests \
	AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
unset AWS_PROFILE AWS_SESSION_TOKEN

status=0
"$root/scripts/test.sh" . "$@" 9>&- || status=1
"$root/scripts/test.sh" test -short "$@" 9>&- || status=1
exit "$status"
