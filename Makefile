# poolwright: the commands a developer or a user needs. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
ARGS ?=
TESTS ?=
FEATURES ?= highs

##@ Use
run: toolchain ## Build and start the demo: a simulated fleet being scaled, in the terminal and on a page. ARGS="--for 60s"
	@echo "building poolwright (release); the first build takes some minutes"
	$(CARGO) build --release --locked
	$(CARGO) run --release --locked --quiet -- demo $(ARGS)

build: toolchain ## Build the release binary.
	$(CARGO) build --release --locked

##@ Develop
test: toolchain ## All tests a change must pass; no cluster, no Prometheus needed.
	$(CARGO) test --locked

cluster-test: toolchain ## Tests against a real Kubernetes control plane and KEDA, built from Go modules once; skipped without Go. TESTS="hold"
	@scripts/cluster-test $(TESTS)

cluster-demo: toolchain ## The whole chain: simulated vLLM servers, real Prometheus, poolwright, real HPA; then faults. 16 minutes; CLUSTER_DEMO_SECONDS=240 makes it 9.
	@scripts/cluster-test chain::

engine-test: toolchain ## Predictions against a real vLLM on the CPU, installed outside the tree once (6.2 GB); about 30 minutes. ARGS="--quick"
	@scripts/engine-test $(ARGS)

highs-test: toolchain ## Plans against HiGHS as a second opinion, on hundreds of small instances; installs cmake and libclang where they are missing.
	@scripts/highs
	$(CARGO) test --release --locked --features highs --lib plan::highs

lint: toolchain ## Format, clippy with warnings as errors, licences and bans.
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --test cluster -- -D warnings # not among the targets above: no plain test
	scripts/deny

generated: toolchain ## Write generated files again: the JSON Schema of policies, manifests/, expected texts of tests.
	POOLWRIGHT_UPDATE_EXPECTED=1 $(CARGO) test --locked --test it policy
	POOLWRIGHT_UPDATE_EXPECTED=1 $(CARGO) test --locked --test it manifests_files

accuracy: toolchain ## How far predictions are from the shipped measured points, each group left out in turn. ARGS="--seed 2"
	$(CARGO) run --release --locked --quiet -- accuracy data/latency/measured_points.csv.gz --leave-out group --calibrate 8 $(ARGS)

constants: toolchain ## Fit the constants of the estimates again on the shipped points; changes a file that is compiled in.
	$(CARGO) run --release --locked --quiet -- accuracy data/latency/measured_points.csv.gz --fit-constants src/perf/roofline/constants.json > /dev/null

bench: toolchain ## All gates: recorded weeks against the best of other rules in hindsight; writes docs/EVIDENCE.md; hours. ARGS="--only 1,3 --cache DIR"
	$(CARGO) bench --locked --bench gates -- $(ARGS)

bench-quick: toolchain ## The same gates on short windows, printed; minutes. ARGS="--only 1 --write FILE"
	$(CARGO) bench --locked --bench gates -- --quick $(ARGS)

bench-tick: toolchain ## Time one tick of a 200-pool fleet, room by room, and the memory of the demo.
	$(CARGO) bench --locked --bench tick
	scripts/bench-memory

bench-serve: toolchain ## Time lists over TLS at 2,000 requests/s, beside a bare route as the floor.
	$(CARGO) bench --locked --bench serve

bench-capacity: toolchain ## Time the capacities of 1,000 pools, from scratch and remembered.
	$(CARGO) bench --locked --bench capacity

bench-plan: toolchain ## Plans of up to 2,000 pools against their marks, HiGHS and the rules of other projects. FEATURES= leaves HiGHS out; ARGS="--only T1,M2"
	@[ -z "$(FEATURES)" ] || scripts/highs
	$(CARGO) bench --locked --bench plan $(if $(FEATURES),--features $(FEATURES)) -- $(ARGS)

bench-forecast: toolchain ## Upper bounds of the next minutes' peak on recorded services, beside the published rules. ARGS="--brief"
	$(CARGO) bench --locked --bench forecast -- $(ARGS)

bench-simulate: toolchain ## Requests per second that the simulated fleet serves on one core.
	$(CARGO) bench --locked --bench simulate

bench-percentiles: toolchain ## Predicted percentiles of TTFT and ITL against an iteration-by-iteration server.
	$(CARGO) bench --locked --bench percentiles

##@ Set-up
toolchain: ## Check for what a build needs and install what is missing.
	@scripts/toolchain

help: ## List the commands.
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*##/ {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run build test cluster-test cluster-demo engine-test highs-test lint generated accuracy constants bench bench-quick bench-tick bench-serve bench-capacity bench-percentiles bench-plan bench-forecast bench-simulate toolchain help
