# The way in: make help.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Pinned in a module of their own, so that the product depends on none of them.
TOOL := go tool -modfile=tools/go.mod

SCENARIO ?= scenarios/quickstart.yaml
# Each campaign has a number of its own.
faults:  N ?= 50
survive: N ?= 20
stalls:  N ?= 20
catch faults survive: PARALLEL ?= 2
kills:   N ?= 100
proofs:  N ?= 50
recovery bench-load frontier: N ?= 5
bench-report: N ?= 3
N        ?= 10
HISTORIES ?= 1000000
FUZZTIME ?= 30s
DURATION ?= 10m
RATE     ?= 5000
BENCH    ?= .
LOADTIME ?= 10s
OPS      ?= 10000000
SEEDS    ?= 10000
PAIRS    ?= 20

.PHONY: help run test check build e2e e2e-kubernetes catch faults survive kills proofs recovery stalls soak differential sim bench bench-lag bench-load bench-report throughput frontier fuzz fmt vet lint imports vuln k6 stall-k6 noise bench-view docs bench-paint

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## build, run SCENARIO (quickstart) and print the verdict
	bin/statequake run $(SCENARIO)

build: ## build bin/statequake
	@echo "building; the first time takes some minutes, since etcd is built too"
	go build -trimpath -o bin/statequake ./cmd/statequake

# A module and a program of its own, since k6 is AGPL-3.0.
k6: ## build bin/statequake-k6: k6 with the module k6/x/statequake, for scenarios with a script
	cd loadgen/k6 && go build -trimpath -o ../../bin/statequake-k6 ./statequake-k6

# One package at a time: many start clusters, and runs of a starved generator
# prove nothing.
test: ## the tests
	go build ./...
	go test -p 1 ./...

check: fmt vet lint imports ## format, vet, staticcheck and import rules; changes nothing
	@echo "check: all clean"

e2e: build k6 ## the tests that start real clusters and kill real processes, but for make docs
	go test -count=1 -timeout 30m -tags e2e -skip '^TestDocBlocks$$' ./...
	cd loadgen/k6 && go test -count=1 -timeout 10m -tags e2e ./...

docs: ## run every sh block of every document in a clean clone; DOC=docs/tutorial for one, SLOW=1 for the slow ones, too
	STATEQUAKE_SLOW=$(SLOW) go test -count=1 -timeout 90m -tags e2e -v -run '^TestDocBlocks$$/$(DOC)' ./cmd/statequake

# The API server takes some minutes to build the first time. etcd is the one that
# the product embeds.
e2e-kubernetes: build ## chaos/mesh against a real Kubernetes API server, built from its modules
	cd tools/kubernetes && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o ../../bin/kubernetes/ k8s.io/kubernetes/cmd/kube-apiserver
	go build -trimpath -o bin/kubernetes/etcd go.etcd.io/etcd/server/v3
	go test -count=1 -timeout 30m -tags e2e_kubernetes ./chaos/mesh

catch: build ## every planted bug N times (10), with the bug and without it
	go run ./scripts/catch -n $(N) -parallel $(PARALLEL) $(ARGS) $(BUGS)

faults: build ## every fault N times (50): evidence, delays, what is left; FAULTS=KIND/ACTION for one
	go run ./scripts/faults -n $(N) -parallel $(PARALLEL) -only "$(FAULTS)" $(ARGS)

survive: build ## every bundled fault N times (20) against ack durable, and losses of power against ack memory; ARGS=domains: every workload
	go run ./scripts/survive -n $(N) -parallel $(PARALLEL) $(ARGS)

kills: build ## SIGKILL the harness N times (100) in a run full of faults: nothing may be left
	STATEQUAKE_KILLS=$(N) STATEQUAKE_REQUIRE_NAMESPACES=1 go test -count=1 -timeout 60m -tags e2e -v -run '^TestKilledHarness$$' ./cmd/statequake

proofs: ## N losses of power (50) under small programs, N one-way partitions between two
	STATEQUAKE_TIMES=$(N) STATEQUAKE_REQUIRE_FUSE=1 STATEQUAKE_REQUIRE_NAMESPACES=1 go test -count=1 -p 1 -timeout 30m -v \
		-run '^(TestAck|TestRename|TestOneWayBetweenPrograms)$$' ./chaos/disk ./chaos/network

recovery: build ## outages as measured against a scripted server's own log, N runs (5) of each of six scripts
	STATEQUAKE_TIMES=$(N) go test -count=1 -timeout 60m -tags e2e -v -run '^TestRecoveryLive$$' ./cmd/statequake

differential: ## every fast checker against a search on HISTORIES random small histories (1000000)
	STATEQUAKE_HISTORIES=$(HISTORIES) go test -count=1 -timeout 120m -v -run '^(TestRegister|TestCounter|TestSet|TestBank|TestWitnessAgainstPorcupine)$$' ./reports/check/differential ./reports/check

stalls: build ## stops of the load generator and of nodes, N times (20) each: whom runs blame; CASES="generator node" for some
	go run ./scripts/stalls -n $(N) $(ARGS) $(CASES)

noise: build ## how far a comparison can be trusted: PAIRS (20) A/A pairs, planted slowdowns, lost writes; goes on where it was interrupted
	go run ./scripts/noise -pairs $(PAIRS) -resume $(ARGS)

soak: build ## memory and CPU of the harness over DURATION (10m) at RATE (5000) operations a second, bytes per operation
	go run ./scripts/soak -duration $(DURATION) -rate $(RATE) $(ARGS)

sim: ## simulate SEEDS clusters (10000) of the reference runtime on all CPUs
	go run ./runtime/sim/cmd -seeds $(SEEDS)

bench: ## Go benchmarks matching BENCH (all), in the format that benchstat reads
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

bench-view: build ## what a frame, a status and an operation with --metrics cost, and N pairs (10) of loads of 5,000/s with and without a terminal
	go test -count=5 -run '^$$' -bench '^Benchmark(Frame|Status|Observe)$$' ./cmd/statequake ./scenarios
	go run ./scripts/viewbench -n $(N)

bench-lag: ## how late operations are sent and arrive at 1,000/s and 5,000/s, N rounds (10), and the CPU it costs
	go run ./loadgen/lagbench -n $(N)

bench-load: build ## CPU time per request of statequake load, wrk and vegeta, in N rounds (5) of LOADTIME (10s) each
	go build -trimpath -o bin/loadbench ./scripts/loadbench
	bin/loadbench -n $(N) -d $(LOADTIME) $(ARGS)

bench-report: build ## size of report.html, time and memory of the reports of a run of OPS operations (10000000; 4 GB in TMPDIR), N times (3)
	go run ./scripts/benchreport -ops $(OPS) -n $(N) $(ARGS)

bench-paint: build ## how soon Chromium shows the report of a run of OPS operations (10000000; 4 GB in TMPDIR), N browsers (10)
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	go run ./scripts/bighistory -ops $(OPS) "$$dir/run" && bin/statequake report "$$dir/run" >&2 && \
	STATEQUAKE_REPORT="$$dir/run/report.html" STATEQUAKE_TIMES=$(N) go test -count=1 -timeout 30m -tags e2e -v -run '^TestReportPaint$$' ./cmd/statequake

throughput: build ## five runs each of durable-throughput and memory-throughput, in the same format
	@runs=$$(mktemp -d); for ack in durable memory; do \
		bin/statequake run $$ack-throughput --runs 5 --out "$$runs/$$ack" >&2; \
		cat "$$runs/$$ack"/*/results.bench; \
	done; echo "runs: $$runs" >&2

# In turns, so that a machine that drifts does so for all of them alike. Runs that
# prove nothing are left out of the picture, which says so.
frontier: build ## docs/frontier.* and docs/recovery.*: latency against loss of ack durable and memory when the power fails on all nodes, N runs (5) each of three stores
	@runs=runs/frontier-$$(date +%Y%m%d-%H%M%S); worst=0; groups=(); \
	for run in $$(seq $(N)); do for delay in 0 20 100; do for ack in durable memory; do \
		name=$$ack; [ $$delay = 0 ] || name="$$ack +$$delay ms"; mkdir -p "$$runs/$$name"; \
		[ $$run != 1 ] || groups+=("$$runs/$$name"); expect=; [ $$ack = memory ] || expect=0; status=0; \
		bin/statequake run power-loss-all --seed $$((41 + run)) --set system.ack=$$ack --set system.store_delay=$${delay}ms \
			--set expect.lost_acks=$$expect --out "$$runs/$$name/$$run" >"$$runs/$$name/$$run.log" 2>&1 || status=$$?; \
		echo "$$name, run $$run of $(N): exit $$status, $$(grep -m1 -E '^(PASS|VIOLATION|UNKNOWN)' "$$runs/$$name/$$run.log" || tail -1 "$$runs/$$name/$$run.log")"; \
		case $$status in 0|2) ;; 1) worst=1 ;; *) exit $$status ;; esac; \
	done; done; done; \
	bin/statequake plot frontier "$${groups[@]}" -o docs; \
	bin/statequake plot recovery "$$runs/durable" "$$runs/memory" -o docs; echo "runs: $$runs"; exit $$worst

stall-k6: ## p99 of a script with ten users after a stall of 1 s, N runs (10): the pacer's and k6's own
	cd loadgen/k6 && STATEQUAKE_TIMES=$(N) go test -count=1 -timeout 60m -tags e2e -v -run '^TestStall$$' .

# Shrinking each input that is merely new would take nearly all of the time.
fuzz: ## every fuzz target for FUZZTIME (30s)
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "fuzz: $$package $$target for $(FUZZTIME)"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$package; \
		done; \
	done

fmt:
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then \
		echo "not formatted (gofmt -w mends it):"; echo "$$unformatted"; exit 1; \
	fi

vet:
	go vet -tags e2e,e2e_kubernetes ./...
	cd loadgen/k6 && go vet -tags e2e ./...

lint:
	$(TOOL) staticcheck -tags e2e,e2e_kubernetes ./...
	cd loadgen/k6 && go tool -modfile=../../tools/go.mod staticcheck -tags e2e ./...

# Not cached: the test cache does not see that an import has changed.
imports:
	go test -count=1 -run '^(TestImports|TestImportsOfK6|TestForbidden)$$' .

vuln: ## known vulnerabilities in what is used; needs the network
	@status=0; report=$$($(TOOL) govulncheck ./... 2>&1) || status=$$?; echo "$$report"; \
	if grep -q '^govulncheck: fetching vulnerabilities' <<<"$$report"; then \
		echo "vuln: the vulnerability database cannot be reached, so nothing was checked"; \
	fi; exit $$status
