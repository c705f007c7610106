# Ledgerfeed. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

MODULES  := proto pkg services/ingress services/processor services/reconciler services/ledgerfeed services/ledgerfeed/bench docs/examples/inventory
# Modules that nobody outside the repository needs.
UNRELEASED := services/ledgerfeed/bench docs/examples/inventory
SERVICES := ingress processor reconciler ledgerfeed
# Of the tags of a release, vX.Y.Z is that of the programs, PATH/vX.Y.Z that of a module.
VERSION  ?= $(shell git describe --tags --match 'v[0-9]*' --always --dirty 2>/dev/null || echo dev)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X github.com/ledgerfeed/ledgerfeed/pkg/lifecycle.version=$(VERSION)

# Tools are pinned here and built by the Go toolchain; nothing is downloaded prebuilt.
BUF           := github.com/bufbuild/buf/cmd/buf@v1.75.0
PROTOC_GEN_GO := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
GOVULNCHECK   := golang.org/x/vuln/cmd/govulncheck@v1.9.0
GOLANGCI      := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

DOCKER    ?= docker
ARGS      ?=
FUZZTIME  ?= 60s
BENCHTIME ?= 1s
BENCH_TIME   ?= 20s
BENCH_ROUNDS ?= 3
SEQUENCES ?= 10000
RUNS ?= 50
SEED ?= 1
# The version that `make skew` runs beside this one.
PREVIOUS ?= $(shell git describe --tags --match 'v[0-9]*' --abbrev=0 2>/dev/null || git rev-list --first-parent --max-count=1 --skip=20 HEAD 2>/dev/null)
CHAOS_SEED ?= 1
SOAK_TIME ?= 60m

# How many packages are tested at a time: most of their tests wait rather than compute.
PACKAGES ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ "$$n" -gt 3 ] && echo "$$n" || echo 3)

# How many tests of a package run at a time, for the same reason.
TESTS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ "$$n" -gt 3 ] && echo "$$n" || echo 3)

# Those that take longest begin first, so that none is left alone in the end.
LONGEST := ./services/processor ./services/reconciler ./services/ledgerfeed/e2e

.PHONY: help
help: ## print this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: dev
dev: bin/ledgerfeed ## run everything in one process against a simulated QuickBooks (ARGS="--rate 50" adds flags)
	@trap : INT; bin/ledgerfeed dev $(ARGS) || { code=$$?; [ $$code -eq 130 ] || exit $$code; }

.PHONY: bin/ledgerfeed
bin/ledgerfeed:
	@[ -e $@ ] || echo "building $@ (the first time takes a minute or two)"
	@go build -ldflags '$(LDFLAGS)' -o $@ ./services/ledgerfeed/cmd/ledgerfeed

.PHONY: build
build: ## build every binary into bin/
	@for s in $(SERVICES); do echo "build bin/$$s"; CGO_ENABLED=0 go build -tags grpcnotrace -trimpath -ldflags '$(LDFLAGS)' -o bin/$$s ./services/$$s/cmd/$$s; done

.PHONY: servers
servers:
	@.ci/servers

.PHONY: test
test: servers ## run every test (installs redis-server, PostgreSQL and PgBouncer from Debian's packages when missing)
	go test -p $(PACKAGES) -parallel $(TESTS) $(LONGEST) work
	cd deploy && GOWORK=off go test ./k8s ./observe ./release

.PHONY: property
property: servers ## try SEQUENCES (10000) random interleavings of events and crashes on three replicas
	go test -count=1 -v -timeout 12h -run '^TestReplicas_' ./services/processor -args -replicas.random -replicas.clusters=$$(( ($(SEQUENCES) + 99) / 100 )) -test.parallel=9 -rapid.checks=100

.PHONY: gapless
gapless: ## play RUNS (50) scripts of each kind of chaos against the books, and against the naive rule
	go test -count=1 -v -timeout 12h -run '^TestGapless_' ./services/reconciler -args -gapless.runs=$(RUNS) -gapless.seed=$(SEED)

# What takes minutes under the detector and runs what other tests of its package do: the
# simulated days, the random scripts, and a wait for longer than the probes of a pod; and the
# attacks, which are judged by the memory and the time they take.
LONG := ^(TestAttacks$$|TestDay_|TestRefuse_ADayOfTheSchedule$$|TestOutage_OfADayOverManyRealms$$|TestProperty_AnySetOfLostEvents|TestGapless_AnyChaos|TestContainers_NoOutageRestartsAPod$$)
.PHONY: race
race: servers ## run the tests under the race detector, but for the longest
	go test -race -timeout 20m -p $(PACKAGES) -skip '$(LONG)' $(LONGEST) work

.PHONY: e2e
e2e: servers ## run the whole feed as a user would, longer than `make test` does
	go test -count=1 -timeout 20m ./services/ledgerfeed/e2e -args -e2e.for=20s

.PHONY: attack
attack: servers ## attack the services from outside, with full force: every attack has to fail
	go test -count=1 -v -timeout 20m ./services/ledgerfeed/attack -args -attack.full

.PHONY: e2e-ui
e2e-ui: bin/ledgerfeed ## drive the console in headless Chromium: every page and action, two sizes, axe (needs node and Debian's chromium)
	@.ci/e2e-ui

.PHONY: outage
outage: servers ## stop each server the processor stands on for 3 minutes under load
	go test -count=1 -v -timeout 30m -run '^TestOutage$$' ./services/processor -args -outage=3m

.PHONY: soak
soak: servers ## ten minutes of a processor with a stuck sink: memory, goroutines and descriptors stay flat
	go test -count=1 -v -timeout 30m -run '^TestSoak$$' ./services/processor -args -soak=10m

.PHONY: chaos
chaos: servers bin/ledgerfeed ## ten minutes of the real feed while everything fails (CHAOS_SEED=42 starts elsewhere)
	bin/ledgerfeed chaos --seed $(CHAOS_SEED) --runs 5 --for 1m $(ARGS)

.PHONY: skew
skew: servers bin/ledgerfeed ## run the services of PREVIOUS (the last tag, or 20 commits ago) beside these, upgraded and rolled back under load
	bin/ledgerfeed chaos --seed $(CHAOS_SEED) --runs 3 --for 1m --beside $(PREVIOUS) --faults restart-ingress,restart-processor,restart-reconciler,kill-ingress,kill-processor,kill-reconciler $(ARGS)

.PHONY: chaos-soak
chaos-soak: servers bin/ledgerfeed ## an hour of faults at 100 changes a second; what each process took is drawn into docs/images/soak.svg
	rm -rf build/soak && mkdir -p build/soak
	bin/ledgerfeed chaos --seed $(CHAOS_SEED) --for $(SOAK_TIME) --rate 100 --keep --dir $(CURDIR)/build/soak $(ARGS)
	go test -count=1 -run '^TestPlot' ./services/ledgerfeed/bench -args -bench.usage=$$(ls $(CURDIR)/build/soak/*/usage.jsonl) -bench.plot=$(CURDIR)/docs/images/soak.svg

.PHONY: chaos-ci
chaos-ci: servers bin/ledgerfeed
	bin/ledgerfeed chaos --seed 3 --runs 2 --for 20s

.PHONY: chaos-points
chaos-points: servers ## kill a process exactly between any two steps of the flow
	go test -count=1 -v -timeout 30m -run '^TestPoints_' ./services/ledgerfeed/chaos -args -chaos.points

.PHONY: chaos-mutants
chaos-mutants: servers ## plant each bug of pkg/sabotage and require that the chaos run catches it
	go test -count=1 -v -timeout 3h -run '^TestMutants_AreCaught$$' ./services/ledgerfeed/chaos -args -chaos.mutants

.PHONY: broker-check
broker-check: ## kill three nats-servers of the pinned version in turn: what a compressed stream loses, and an uncompressed one keeps
	go test -count=1 -v -timeout 20m -run '^TestCompression_' ./pkg/stream -args -stream.broker

.PHONY: scale
scale: servers ## the reconciler with 10,000 realms and with 5,000,000 records: memory, bytes in Redis, spread and takeover over three replicas, scans a second
	go test -count=1 -v -timeout 90m -run '^TestScale_' -parallel 1 ./services/reconciler -args -scale.realms=10000 -scale.records=5000000
	go test -count=1 -v -timeout 30m -run '^TestScale_' ./services/ledgerfeed/audit -args -scale.records=5000000
	go test -run '^$$' -bench QuietScans -benchtime 3x -timeout 30m ./services/reconciler -args -scale.realms=10000

.PHONY: lint
lint: ## import rules, gofmt, vet, staticcheck and friends, commit messages
	@.ci/commits
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); [ -z "$$bad" ] || { echo "not gofmt'ed:"; echo "$$bad"; exit 1; }
	go vet work
	go test -count=1 ./pkg/internal/archtest
	@for m in $(MODULES); do echo "golangci-lint $$m"; (cd $$m && go run $(GOLANGCI) run ./...); done
	@echo "golangci-lint deploy"; cd deploy && GOWORK=off go run $(GOLANGCI) run ./...

.PHONY: generate
generate: ## make the generated files anew (protobuf code, docs/configuration.md, docs/responses.md)
	@mkdir -p bin && GOBIN=$(CURDIR)/bin go install $(PROTOC_GEN_GO)
	@cd proto && PATH="$(CURDIR)/bin:$$PATH" go run $(BUF) generate
	go test -count=1 ./services/ledgerfeed/docs -update

.PHONY: verify
verify: ## fail on generated code, go.mod files or docs that are out of date; build each module alone
	@.ci/verify "$(BUF)" "$(PROTOC_GEN_GO)" $(MODULES) deploy

.PHONY: vuln
vuln: ## look for known vulnerabilities in the code that is called (needs https://vuln.go.dev, or GOVULNDB)
	@.ci/vuln "$(GOVULNCHECK)" $(MODULES) deploy

.PHONY: pins
pins: ## name the images of others that are not pinned by a digest
	@.ci/images

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (60s, or a number of inputs: 10000x)
	@.ci/fuzz $(FUZZTIME)

.PHONY: bench
bench: servers ## run the benchmarks; the figures go to build/bench/
	@mkdir -p build/bench
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) work | tee build/bench/go.txt

.PHONY: bench-ingress
bench-ingress: servers ## compare the ingress with a bare limit and two peers (BENCH_TIME=3s shortens); writes build/bench/ingress.json
	go test -count=1 -v -timeout 3h -run '^TestIngress$$' ./services/ledgerfeed/bench -args -bench.window=$(BENCH_TIME) -bench.rounds=$(BENCH_ROUNDS) -bench.out=$(CURDIR)/build/bench

.PHONY: bench-processor
bench-processor: servers ## compare the processor with a bare limit and River (BENCH_TIME=3s shortens); writes build/bench/processor.json
	go test -count=1 -v -timeout 90m -run '^TestProcessor$$' ./services/ledgerfeed/bench -args -bench.window=$(BENCH_TIME) -bench.rounds=$(BENCH_ROUNDS) -bench.out=$(CURDIR)/build/bench

.PHONY: bench-doc
bench-doc: ## put the figures of the last bench-ingress and bench-processor into docs/benchmarks.md
	go test -count=1 -run '^TestDocument' ./services/ledgerfeed/bench -args -bench.update -bench.out=$(CURDIR)/build/bench

.PHONY: images
images: ## build the container images, ledgerfeed/SERVICE:VERSION, and print digests and sizes (ARGS=-check builds twice and compares)
	@cd deploy && GOWORK=off go run ./images -root .. -docker $(DOCKER) -version $(VERSION) -revision $(REVISION) $(ARGS)

.PHONY: release
release: ## try a release of VERSION=vX.Y.Z: modules, programs, images, SBOMs, checksums in build/release; pushes and tags nothing
	@cd deploy && GOWORK=off go run ./release -root .. -version '$(VERSION)' -unreleased '$(UNRELEASED)' -docker $(DOCKER)

.PHONY: release-write
release-write: ## have the modules require VERSION=vX.Y.Z of each other, for the commit that is tagged
	@cd deploy && GOWORK=off go run ./release -root .. -version '$(VERSION)' -unreleased '$(UNRELEASED)' -write

.PHONY: e2e-compose
e2e-compose: servers ## build the images and run the stack of docker-compose.yml under load, restarts and a cut network (needs a container engine)
	@.ci/engine
	@cd deploy && GOWORK=off go build -o ../bin/images ./images
	@[ "$$(uname)" != Linux ] || deploy/docker/standins $(DOCKER)
	@bin/images -root . -docker $(DOCKER) -version dev -revision $(REVISION) -modcache -check
	cd deploy && GOWORK=off go test -count=1 -v -timeout 40m -run '^TestCompose$$' ./e2e

.PHONY: up
up: ## start the stack with docker compose, the simulated QuickBooks included
	docker compose --profile demo up --build --detach

.PHONY: down
down: ## stop the stack; its data stays in the volumes
	docker compose --profile demo down

.PHONY: ci
ci: ## what CI runs: test, lint, verify, attack, race, two short chaos runs, and each fuzz target for 10,000 inputs
	$(MAKE) test
	$(MAKE) lint
	$(MAKE) verify
	$(MAKE) attack
	$(MAKE) race
	$(MAKE) chaos-ci
	$(MAKE) fuzz FUZZTIME=10000x
