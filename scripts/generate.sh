#!/bin/sh
# Writes everything that is generated: the query code from internal/postgres/queries, and what go:generate lines make.
set -eu
cd -- "$(dirname -- "$0")/.."

sqlc generate
# sqlc leaves behind what it made of a query file that is gone.
for made in internal/postgres/db/*.sql.go; do
	[ -f "internal/postgres/queries/$(basename -- "$made" .go)" ] || rm -f "$made"
done
go generate ./...
