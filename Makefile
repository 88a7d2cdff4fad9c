# Everything is driven from here. It needs Go, git and make; what else a target needs, it fetches or names.

TOOLS := $(CURDIR)/.tools

# What the environment asks of the go command is kept, except -mod, which a workspace refuses.
override GOFLAGS := $(filter-out -mod=%,$(GOFLAGS))
export GOFLAGS

# Empty in an archive without git's history, which then calls itself "dev".
VERSION  = $(or $(shell git describe --always --dirty 2>/dev/null),dev)
LDFLAGS  = -X github.com/sealkeep/sealkeep/internal/process.Version=$(VERSION)
# Go's runtime/secret erases what ciphers keep of keys and plaintext (internal/sensitive); these platforms alone have it.
SECRET   = $(if $(filter linux/amd64 linux/arm64,$(shell go env GOOS)/$(shell go env GOARCH)),runtimesecret)
# Compiled by the profile of a vault under load, which `make profile` takes.
GO_BUILD = CGO_ENABLED=0 GOEXPERIMENT="$${GOEXPERIMENT:+$$GOEXPERIMENT,}$(SECRET)" go build -trimpath -buildvcs=false -pgo=$(CURDIR)/cmd/api/default.pgo -ldflags '$(LDFLAGS)'

.DEFAULT_GOAL := help
.PHONY: dev test lint e2e chaos bench bench-secret profile soak build generate clean help test-pg18 test-aws pg tools

dev: ## Start a whole vault with its own PostgreSQL (ARGS="--dir DIR" and the like are passed on)
	@scripts/postgres.sh >/dev/null && mkdir -p bin && $(GO_BUILD) -o bin/sealkeep ./cmd/sealkeep && \
	exec bin/sealkeep dev $(ARGS)

test: ## Run the tests, with the race detector where a C compiler works (GOTESTFLAGS="-run X" and the like), and count allocations
	@status=0; \
	scripts/test.sh . $(GOTESTFLAGS) || status=1; \
	scripts/test.sh test -short $(GOTESTFLAGS) || status=1; \
	scripts/allocations.sh || status=1; \
	exit $$status

e2e: ## Run the test module's long tests too: end to end, faults, load
	@scripts/test.sh test $(GOTESTFLAGS)

chaos: ## Rotate 20,000 secrets while rotators and the database die, and 1,000 times under applications that log in all the while
	@SEALKEEP_TEST_CHAOS=1 scripts/test.sh test -count=1 -timeout 60m -v -run '^(TestChaos_|TestI9_ApplicationsWithTwoRoles)' $(GOTESTFLAGS)

bench: ## Measure the vault beside reference servers (ARGS="-quick", ARGS="-scale" and the like are passed on)
	@exec scripts/bench.sh $(ARGS)

bench-secret: ## Measure what erasing keys and plaintext with runtime/secret costs
	@scripts/bench-secret.sh

profile: ## Take the profile anew by which the programs are compiled (cmd/api/default.pgo)
	@scripts/profile.sh

soak: ## Run what takes too long for every change: the nonces of ten million seals
	@go test -buildvcs=false -tags soak -count=1 -timeout 60m -v -run '^TestNonces_NoneRepeats$$' ./internal/envelope

test-pg18: ## Run the tests on PostgreSQL 18
	@unset SEALKEEP_TEST_POSTGRES_URL; SEALKEEP_POSTGRES_BIN="$$(scripts/postgres18.sh)" && export SEALKEEP_POSTGRES_BIN && \
	$(MAKE) --no-print-directory test

test-aws: ## Run the tests with AWS KMS, played by a server for tests, in the place of the local master key
	@scripts/test-aws.sh $(GOTESTFLAGS)

lint: tools ## Check style, import walls, generated code, go.mod files and scripts
	@PATH="$(TOOLS):$$PATH" scripts/lint.sh

generate: $(TOOLS)/sqlc ## Generate the code and the documents that are generated
	@PATH="$(TOOLS):$$PATH" scripts/generate.sh

build: ## Build every program of cmd/ into bin/, static
	@mkdir -p bin && $(GO_BUILD) -o bin/ ./cmd/...

pg: ## Find a PostgreSQL server, or fetch one into .tools/pg, and say which
	@scripts/postgres.sh

clean: ## Remove bin/ and .tools/ (the data of `make dev` stays)
	@rm -rf bin .tools

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

tools: $(TOOLS)/golangci-lint $(TOOLS)/sqlc $(TOOLS)/gofumpt

# The tools are a module of their own, so that they add nothing to what the product depends on. They are built again
# when their versions change.
$(TOOLS)/golangci-lint: TOOL = github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(TOOLS)/sqlc:          TOOL = github.com/sqlc-dev/sqlc/cmd/sqlc
$(TOOLS)/gofumpt:       TOOL = mvdan.cc/gofumpt

$(TOOLS)/golangci-lint $(TOOLS)/sqlc $(TOOLS)/gofumpt: tools/go.mod tools/go.sum
	@echo "building $(notdir $@) (once)"
	@mkdir -p $(TOOLS) && cd tools && GOWORK=off CGO_ENABLED=0 go build -trimpath -buildvcs=false -o $@ $(TOOL) && touch $@
