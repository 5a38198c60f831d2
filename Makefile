# Every target works from a bare clone with only Python (3.11 or newer), pip and make: the first one
# that is asked for makes .venv, and a change of pyproject.toml renews it.

PYTHON ?= python3
SEEDS ?= 1000
SEED ?= 1
FRAMES ?= 1000000
BASE ?=
QUICK ?=
SECONDS ?=
HOSTS ?=
JOBS ?= 4

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# A test starts thousands of processes: without bytecode each would compile the farm anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help http demo test check bench sim chaos soak fuzz commits

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## run a real job on a farm on this machine (under a minute)
	@$(BIN)/farm demo

test: $(READY) ## run all tests, JOBS=4 at a time: they wait more than they work
	@$(BIN)/python -m tests.tools
	@$(BIN)/python -m tests.rewritten
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: $(READY) ## lint, format, types and house rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_house_rules.py

bench: $(READY) ## measure against the standard library (BASE=<ref>: against a commit; QUICK=1: try it)
	$(BIN)/python -m tests.benchmarks $(if $(BASE),--base $(BASE)) $(if $(QUICK),--quick --rounds 1) $(if $(SECONDS),--size overload=$(SECONDS))

sim: $(READY) ## run the simulator over SEEDS=1000 seeds
	$(BIN)/python -m tests.sim --seeds $(SEEDS)
	$(BIN)/python -m tests.sim.schedulers --seeds $$(( ($(SEEDS) + 9) / 10 ))

chaos: $(READY) ## kill and stop real processes for SECONDS=120 by SEED=1, and judge (HOSTS=1: cut cables, too)
	$(BIN)/python -m tests.chaos $(if $(HOSTS),--hosts) --seconds $(or $(SECONDS),120) --seed $(SEED)

http: $(READY) ## random requests and too many of them at the HTTP gateway, SECONDS=60 by SEED=1
	$(BIN)/python -m tests.gateway --seconds $(or $(SECONDS),60) --seed $(SEED)

soak: $(READY) ## run at half the top speed for SECONDS=600, and measure what grows
	$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),600)

fuzz: $(READY) ## FRAMES=1000000 mutated frames, records and pipe messages by SEED=1
	$(BIN)/python -m tests.fuzz --frames $(FRAMES) --seed $(SEED)

commits: $(READY) ## stop at every commit, fail the power, fill the disk, by SEED=1
	$(BIN)/python -m tests.commits --seed $(SEED)

# .ready is written last, so an interrupted installation is done again.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'compute-farm needs Python 3.11 or newer, and "$(PYTHON)" is not:' \
	       '$(shell $(PYTHON) --version 2>&1). Try: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)' >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
