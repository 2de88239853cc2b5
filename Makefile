# Limelight. `make help` lists what there is; CI, hooks and the README call these targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Torch on a CPU spends most of a training step on page faults without these.
MALLOC := MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TOP_PAD_=256000000

.PHONY: help
help: ## Show this help
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(READY) ## Make .venv with everything: services, both engines, developer tools

# Written last, so that an install that was interrupted is made again.
$(READY): pyproject.toml docker/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c docker/constraints.txt -e '.[dev]'
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

.PHONY: test
test: $(READY) ## Run every test
	$(BIN)/pytest

.PHONY: lint
lint: $(READY) ## Check style, types, the protos and the generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf lint protos
	$(MAKE) --no-print-directory protos-check

.PHONY: format
format: $(READY) ## Format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

PROTOC = $(BIN)/python -m grpc_tools.protoc -Iprotos --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc
MESSAGES := $(wildcard protos/limelight/v1/*.proto)
SERVICES := $(addprefix protos/limelight/v1/,limelight.proto planner.proto segmenter.proto)

define generate
	$(PROTOC) --python_out=$(1) --mypy_out=quiet:$(1) $(MESSAGES)
	$(PROTOC) --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(SERVICES)
endef

.PHONY: protos
protos: $(READY) ## Generate the Python code of the protos
	rm -rf protos/python/limelight/v1
	$(call generate,protos/python)

.PHONY: protos-check
protos-check: $(READY) ## Fail if the generated code is not what the protos give
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	$(MAKE) --no-print-directory .generate-into DIR="$$fresh" && \
	diff -r -x __pycache__ "$$fresh/limelight/v1" protos/python/limelight/v1 \
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
	$(MALLOC) $(BIN)/python -m services.stickers.segmenter.train

.train-planner:
	$(MALLOC) $(BIN)/python -m services.stickers.planner.train

.PHONY: eval
eval: $(READY) ## Measure the shipped checkpoints through the public API: every figure, into out/eval
	@mkdir -p out/eval
	set -o pipefail; $(BIN)/python -m services.stickers.evaluation --json out/eval/figures.json \
	  --sheet out/eval/worst.png --confusion out/eval/confusion.png \
	  --reliability out/eval/reliability.png | tee out/eval/figures.txt

.PHONY: eval-gate
eval-gate: $(READY) ## Measure a small fixed part of it, and fail when a figure is below its floor
	$(BIN)/python -m services.stickers.evaluation --gate

.PHONY: bench
bench: $(READY) ## Measure throughput, latency and their shares against a plain loop
	$(BIN)/python -m loadtest

.PHONY: clean
clean: ## Remove what the other targets make, but for .venv and training runs
	rm -rf out dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
