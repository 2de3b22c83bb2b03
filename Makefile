# Everything here sets itself up: the only needs are make, bash and Python 3.11 or later with venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
# The one that is named is for all steps, not for the first one only.
ifneq ($(origin PYTHON),file)
export UV_PYTHON := $(PYTHON)
endif
ARGS ?=
TOOLS := .tools
UV := $(TOOLS)/bin/uv
BIN := .venv/bin

# A service account may have no home, or one that it cannot write to.
ifeq ($(shell test -n "$$HOME" && test -w "$$HOME" && echo yes),)
export UV_CACHE_DIR ?= $(CURDIR)/$(TOOLS)/cache
endif
unexport VIRTUAL_ENV
# Set for containers on some machines: then each process that a test starts would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
# The machine's own certificate store: behind a company proxy uv's built-in list is not enough.
export UV_SYSTEM_CERTS ?= true

# How many tests run at the same time.
JOBS ?= 5

.PHONY: help autoscale-demo browser dev screenshots test check lint types fault bench bench-peers rehearsal migrate format imports dockerfile sync sync-dev

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

dev: sync-dev ## Run it here, with PostgreSQL and an inbox; ARGS="--redis --port 0"
	@exec $(BIN)/gateway dev $(ARGS)

migrate: sync-dev ## Bring the database in DATABASE_URL to this version; ARGS="status"
	@exec $(BIN)/gateway migrate $(ARGS)

# Most tests wait for processes: more at a time than there are processors lose nothing. Each worker has servers of its
# own, unless yours are named: then one after the other. In the order of the files: xdist's own, those with the fewest
# tests last, leaves the slowest for the end.
test: sync ## All tests on real servers that it starts itself; ARGS="-k name"
	@$(BIN)/pytest -n $(if $(TEST_DATABASE_URL)$(TEST_REDIS_URL),0,$(JOBS)) --dist loadfile --no-loadscope-reorder $(ARGS)

fault: sync ## Kill, stop and cut servers: the tests, random histories, then random faults; RUNS=200, SEED=1 for these alone
	@$(if $(SEED),,$(BIN)/pytest -m fault $(ARGS))
	@$(if $(SEED),,MODEL_EXAMPLES=500 $(BIN)/pytest tests/conformance/test_state_machine.py)
	@$(if $(SEED),,FUZZ_EXAMPLES=15 $(BIN)/pytest tests/acceptance/test_openapi_fuzz.py)
	@RUNS=$(RUNS) SEED=$(SEED) $(BIN)/python -m tests.fault.chaos

browser: sync ## The dashboard in a real browser, all of it; ARGS="-k tabs"
	@$(BIN)/pytest -m 'fault or not fault' tests/browser $(ARGS)

screenshots: sync ## Photograph the dashboard again, for README and docs
	@$(BIN)/python -m tests.browser.screenshots

bench: sync ## Measure; one JSON line each; ARGS="submit"
	@$(BIN)/python -m bench $(ARGS)

bench-peers: sync ## Measure beside BullMQ (needs node) and Procrastinate; ARGS="--rounds 1"
	@$(BIN)/python -m bench.peers --uv $(UV) $(ARGS)

rehearsal: sync ## Upgrade, fail over, grow and leave under load and a real Prometheus, in 90 seconds; one JSON line each
	@$(BIN)/python -m tests.fault.rehearsal

autoscale-demo: sync ## Watch real processes being scaled by what they show at /metrics
	@$(BIN)/python -m tests.acceptance.autoscale_demo

check: lint types imports dockerfile test ## What CI runs

lint: sync ## Format and lint
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }
	@$(BIN)/ruff check --quiet .

format: sync ## Write the format, and fix what can be fixed
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

types: sync ## mypy, strict
	@$(BIN)/mypy

imports: sync ## Imports point down
	@$(BIN)/lint-imports --no-logo

dockerfile: sync
	@$(BIN)/hadolint Dockerfile

sync: $(UV)
	@$(UV) sync --locked --quiet --all-extras

# The product and its development servers only: the first `make dev` downloads no linters.
sync-dev: $(UV)
	@$(UV) sync --locked --quiet --inexact --no-default-groups --group dev

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or later is needed, and $(PYTHON) is not that. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot create virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Setting up (once) ..." >&2
	@$(PYTHON) -m venv --clear $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-cache-dir 'uv>=0.13,<1'
