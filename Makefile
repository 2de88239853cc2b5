# Limelight. `make help` lists what there is; CI, hooks and the README call these targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Torch on a CPU spends most of a training step on page faults without the allocator's settings.
WITH_ALLOCATOR = settings=$$($(BIN)/python -m services.local.runtime --print allocator) && exec env $$settings

.PHONY: help
help: ## Show this help
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(READY) ## Make .venv with everything: services, both engines, developer tools

# Written last, so that an install that was interrupted is made again.
$(READY): pyproject.toml protos/python/pyproject.toml docker/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c docker/constraints.txt \
	  -e protos/python -e '.[dev]'
	touch $@

.PHONY: demo
demo: $(READY) ## Segment a few pictures from plain words; results in out/demo
	$(BIN)/limelight demo

.PHONY: up
up: $(READY) ## Start the local stack
	$(BIN)/limelight up

.PHONY: down
down: $(READY) ## Stop the local stack
	$(BIN)/limelight down

# Two workers, one thread of torch each; tests/conftest.py says what shares a worker. Bytecode is
# written even where it is turned off: the tests start hundreds of processes.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 2 --dist loadscope --no-loadscope-reorder \
  --ignore tests/cluster

.PHONY: test
test: $(READY) ## Run every test but those that need a cluster
	$(PYTEST)

.PHONY: test-fast
test-fast: $(READY) ## Run the tests that take no more than a moment each
	$(PYTEST) -m "not serve and not slow"

.PHONY: odd
odd: $(READY) ## Try odd inputs as users have them: a table of input, what is right, what was seen
	$(BIN)/python -m tests.odd

# FUZZ_ARGS: `--requests 500` for fewer, `--first 500` for those after them, `--minutes 9` to end then,
# `--seconds 600` a target for longer, `--seed 7` for others.
.PHONY: fuzz
fuzz: $(READY) ## Fuzz every parser of what strangers send; 10,000 hostile requests, with their cost
	$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

.PHONY: door
door: $(READY) ## Beset the gateway: 3,000 calls at once, 20,000 resets, endless uploads, mute connections
	LIMELIGHT_DOOR=full $(BIN)/pytest tests/gateway/door --durations 0

.PHONY: lint
lint: $(READY) ## Check style, types, the protos and the generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against $(BASELINE)
	$(MAKE) --no-print-directory protos-check subject

.PHONY: subject
subject: ## Fail if the last commit's subject is longer than 72 characters (or MESSAGE=FILE's)
	@$(if $(MESSAGE),head -1 $(MESSAGE),git log -1 --no-merges --format=%s) | awk 'length > 72 \
	  { print "the commit subject has " length " characters, of at most 72: " $$0; exit 1 }' >&2

.PHONY: format
format: $(READY) ## Format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

PROTOC = $(BIN)/python -m grpc_tools.protoc -Iprotos --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc
MESSAGES := $(wildcard protos/limelight/v1/*.proto protos/limelight/internal/v1/*.proto)
SERVICES := $(shell grep -l '^service ' $(MESSAGES))
GENERATED := limelight/v1 limelight/internal
# The contract as last released: what `make lint` holds every change of it against.
BASELINE := protos/baseline.binpb

define generate
	$(PROTOC) --python_out=$(1) --mypy_out=quiet:$(1) $(MESSAGES)
	$(PROTOC) --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(SERVICES)
endef

.PHONY: protos
protos: $(READY) ## Generate the Python code of the protos
	rm -rf $(addprefix protos/python/,$(GENERATED))
	$(call generate,protos/python)

.PHONY: protos-baseline
protos-baseline: $(READY) ## Release the contract: later changes must not break this one
	$(BIN)/buf build protos --exclude-source-info -o $(BASELINE)

.PHONY: protos-check
protos-check: $(READY) ## Fail if the generated code is not what the protos give
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	$(MAKE) --no-print-directory .generate-into DIR="$$fresh" && \
	diff -r -x __pycache__ "$$fresh/limelight/v1" protos/python/limelight/v1 \
	  && diff -r -x __pycache__ "$$fresh/limelight/internal" protos/python/limelight/internal \
	  && echo "generated code is up to date" \
	  || { echo "the generated code differs from the protos: run 'make protos'" >&2; exit 1; }

.PHONY: .generate-into
.generate-into:
	$(call generate,$(DIR))

.PHONY: train-tiny
train-tiny: $(READY) ## Train both tiny checkpoints from nothing, at once, a core each (3 hours; resumes)
	$(MAKE) --no-print-directory --jobs=2 .train-segmenter .train-planner

.PHONY: .train-segmenter .train-planner
.train-segmenter:
	$(WITH_ALLOCATOR) $(BIN)/python -m training.segmenter.train

.train-planner:
	$(WITH_ALLOCATOR) $(BIN)/python -m training.planner.train

.PHONY: train-tracker
train-tracker: $(READY) ## Train a tracker, for videos, around the shipped detector (resumes)
	$(WITH_ALLOCATOR) $(BIN)/python -m training.tracker.train

.PHONY: eval
eval: $(READY) ## Measure the shipped checkpoints through the public API: every figure, into out/eval
	@mkdir -p out/eval
	set -o pipefail; $(BIN)/python -m training.evaluation --json out/eval/figures.json \
	  --sheet out/eval/worst.png --confusion out/eval/confusion.png \
	  --reliability out/eval/reliability.png | tee out/eval/figures.txt

.PHONY: eval-clips
eval-clips: $(READY) ## Measure how the shipped tracker tracks, through the public API, into out/eval
	@mkdir -p out/eval
	set -o pipefail; $(BIN)/python -m training.evaluation.clips --json out/eval/clips.json \
	  --sheet out/eval/worst-clips.png | tee out/eval/clips.txt

.PHONY: eval-gate
eval-gate: $(READY) ## Measure a small fixed part of it, and fail when a figure is below its floor
	$(BIN)/python -m training.evaluation --gate

.PHONY: bench
bench: $(READY) ## Measure throughput, latency and their shares against a plain loop
	$(BIN)/python -m loadtest

# Where the tracker is, if not where the shipped one belongs; QUICK=--quick for a short look.
TRACKER ?=
.PHONY: bench-video
bench-video: $(READY) ## Measure videos: time by stage, 3,000 frames, eight sessions at once
	$(BIN)/python -m loadtest.video $(QUICK) $(if $(TRACKER),--tracker-model $(TRACKER))

.PHONY: loadtest
loadtest: $(READY) ## Ask for more than can be answered: goodput, refusals, recovery (out/loadtest.html)
	$(BIN)/python -m loadtest.overload

.PHONY: chaos
chaos: $(READY) ## End and halt parts of a local stack under calls (out/chaos.html; the table in docs/faults.md)
	$(BIN)/python -m loadtest.chaos --document docs/faults.md

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
# What builds images, and what else it is to be told: `--network host`, a CA bundle for a package
# index behind a proxy (`--secret id=pip_ca,src=FILE`), `--build-arg TORCH_INDEX=URL`.
DOCKER ?= docker
DOCKER_BUILD_ARGS ?=
VARIANT ?= cpu
BUILD = DOCKER_BUILDKIT=1 $(DOCKER) build $(DOCKER_BUILD_ARGS) --build-arg VERSION=$(VERSION) \
  --build-arg REVISION=$(REVISION)

# The local stack is built on the models for CPUs, which VARIANT=cuda does not make.
.PHONY: images
images: image-gateway image-models $(if $(filter cuda,$(VARIANT)),,image-local) ## Build the container images (VARIANT=cuda: the models for GPUs)

.PHONY: image-gateway image-models image-local
image-gateway:
	$(BUILD) -f docker/gateway.Dockerfile -t limelight-gateway:$(VERSION) .

image-models:
	$(BUILD) --build-arg VARIANT=$(VARIANT) -f docker/models.Dockerfile \
	  -t limelight-models:$(VERSION)$(if $(filter cuda,$(VARIANT)),-cuda) .

image-local: image-models
	$(BUILD) --build-arg MODELS_IMAGE=limelight-models:$(VERSION) -f docker/local.Dockerfile \
	  -t limelight-local:$(VERSION) .

TOOLS := .tools
NODE_MODULES := $(TOOLS)/node/node_modules/.package-lock.json
.PHONY: tools
tools: $(READY) $(if $(shell command -v npm),$(NODE_MODULES)) ## Put helm and kubectl, and with npm what Node's example needs, into .tools
	@test -x $(TOOLS)/helm || $(BIN)/python helm/tools.py $(TOOLS)

$(NODE_MODULES): examples/node/package.json examples/node/package-lock.json
	mkdir -p $(TOOLS)/node && cp $^ $(TOOLS)/node
	npm ci --prefix $(TOOLS)/node --ignore-scripts --no-audit --no-fund
	touch $@

.PHONY: chart-files
chart-files: $(READY) ## Write the runtime profile and the dashboard into the chart
	$(BIN)/python -m services.local.runtime --print allocator --print ray --format json \
	  > helm/limelight/files/runtime.json
	$(BIN)/python -m services.local.runtime --print servicers --format json \
	  > helm/limelight/files/servicers.json
	$(BIN)/python helm/dashboard.py
	$(BIN)/python helm/values_table.py

.PHONY: chart-golden
chart-golden: tools ## Take what the chart's templates make now as what they should make
	LIMELIGHT_REWRITE_GOLDEN=1 $(BIN)/pytest tests/chart/test_manifests.py -k reviewed

.PHONY: chart-test
chart-test: tools ## Test the chart; with KUBECONFIG and LOAD_IMAGE set, on that cluster too
	$(BIN)/pytest tests/chart tests/cluster --ignore tests/cluster/test_chaos.py -rs -s

.PHONY: cluster-chaos
cluster-chaos: tools ## End parts of a release on that cluster under load; the table in docs/faults.md
	LIMELIGHT_FAULTS=docs/faults.md $(BIN)/pytest tests/cluster/test_chaos.py -rs -s

.PHONY: docker-requirements
docker-requirements: $(READY) ## Write the images' pins from what the tests run with
	$(BIN)/python docker/requirements.py

.PHONY: clean
clean: ## Remove what the other targets make, but for .venv and training runs
	rm -rf out dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
