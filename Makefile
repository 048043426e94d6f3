# make build   bin/dime
# make run     build, then the whole city on this machine; with BROKER=rabbitmq, with
#              STORE=postgres or with both, over private servers that end with it
# make test    everything that CI runs
.DEFAULT_GOAL := build
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

GO ?= go
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
KILLS ?= 200
RUNS ?= 100000
FAULTS ?= 60
BROKER ?= embedded
STORE ?= embedded
SOAK ?= 30m
SOAK_ON = $(if $(filter rabbitmq,$(BROKER))$(filter postgres,$(STORE)),servers,embedded)
FUZZTIME ?= 30s
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unversioned)

.PHONY: need need-test build run test test-browser lint fmt gen check-gen bench chaos soak fuzz clean

need: ## says which prerequisite is missing
	@./.ci/need

build: need
	$(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/dime ./cmd/dime

run: build
	@./.ci/need run $(BROKER) $(STORE)
	@case '$(BROKER) $(STORE)' in \
	'embedded embedded') exec ./bin/dime serve --city embedded ;; \
	'rabbitmq embedded') servers=rabbit ;; \
	'embedded postgres') servers=postgres ;; \
	'rabbitmq postgres') servers=both ;; \
	*) echo 'BROKER is embedded or rabbitmq, STORE is embedded or postgres' >&2; exit 2 ;; \
	esac; \
	$(GO) build -o bin/cluster ./test/cluster/cmd; \
	echo "starting $$servers"; \
	exec ./bin/cluster $$servers -- sh -ec '\
	  [ -z "$$OWNER_STORE" ] || ./bin/dime migrate --store "$$OWNER_STORE"; \
	  exec ./bin/dime serve --city embedded'

need-test: ## says which prerequisite of the tests is missing
	@./.ci/need test

test: need-test build
	$(GO) vet ./...
	$(GO) test -race -timeout 15m ./...
	@$(MAKE) lint
	./bin/dime lint
	./bin/dime test
	@$(MAKE) test-browser
	@$(MAKE) check-gen

test-browser: need-test build ## the pages in Chromium: axe, a phone's width, no JavaScript, keyboard
	cd test/browser && npm ci --no-audit --no-fund --silent && node --test browser.test.mjs

lint: need
	$(GO) run $(GOLANGCI) run ./...

fmt: need
	gofmt -l -w $$(git ls-files '*.go')

gen: need
	$(GO) run ./cmd/dime docs --out docs/reference

check-gen: need ## fails if docs/reference is stale
	@made=$$(mktemp -d); trap 'rm -rf "$$made"' EXIT; \
	$(GO) run ./cmd/dime docs --out "$$made"; \
	diff -r docs/reference "$$made" || { echo 'docs/reference is stale: run make gen and commit what it writes' >&2; exit 1; }

bench: build
	$(GO) run ./bench

chaos: build ## KILLS of one process, RUNS on a fleet under FAULTS, every control, 100 restarts; about an hour and a half
	@set -o pipefail; $(GO) test -count=1 -v -timeout 4h ./test/kill -args -kills $(KILLS) -runs $(RUNS) -faults $(FAULTS) -control all -restarts 100 -handovers 20 | tee bin/chaos.log
	@{ grep -oE '(^ *---|^ok) .*|[0-9]+ (kills|faults|requests|runs|jobs|broken promises)[ ,].*' bin/chaos.log; grep -m1 'model name' /proc/cpuinfo | cut -d: -f2-; nproc | sed 's/$$/ cores/'; date +%F; } > bench/chaos.txt

soak: build ## half an hour at half of what the city takes: memory, goroutines and files stay flat; BROKER=rabbitmq STORE=postgres on those
	@set -o pipefail; $(GO) test -count=1 -v -timeout 0 ./test/kill -run 'TestSoak$$' -args -steady $(SOAK) -on $(SOAK_ON) | tee bin/soak.log
	@{ grep -oE 'soak o[nf] .*|^(---|ok) .*' bin/soak.log; grep -m1 'model name' /proc/cpuinfo | cut -d: -f2-; nproc | sed 's/$$/ cores/'; date +%F; } > bench/soak-$(SOAK_ON).txt

fuzz: need ## every fuzz target, FUZZTIME each
	@./.ci/fuzz $(FUZZTIME)

clean:
	rm -rf bin
	$(GO) clean -testcache
