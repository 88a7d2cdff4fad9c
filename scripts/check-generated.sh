#!/bin/sh
# Generates everything again in a copy of the tree and fails, showing the difference, if anything changes. The copy
# makes the answer the same whatever else is uncommitted.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$root"
# Listed are also files that were just removed; they are absent from the copy, as they should be.
git ls-files --cached --others --exclude-standard | while IFS= read -r file; do
	[ ! -e "$file" ] || printf '%s\n' "$file"
done | tar -T - -cf - | tar -xf - -C "$work"

cd "$work"
git init -q .
git add -A -f .
scripts/generate.sh
if [ -n "$(git status --porcelain --untracked-files=all | grep -v '^A  ' || true)" ]; then
	git --no-pager diff
	git ls-files --others --exclude-standard
	echo "check-generated: what is committed is not what \`make generate\` makes" >&2
	exit 1
fi
