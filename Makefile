# Everything here works on a machine that has only make and python3 with its venv module. Nothing needs root.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?= -n 2
BENCH_ARGS ?=
CHAOS_ARGS ?=

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt
CHECKED := swamp workers tests examples bench

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test checks tests compose-test faults bench format clean attacks-bite pictures

help: ## show this list
	@echo "make <target>, where <target> is one of:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## perform the tutorial with real processes: orchestrator, worker, and a step run from one on the other
	@$(BIN)/python examples/demo.py

test: checks tests ## run every check: format, lint, types, import contracts, tests

checks: $(VENV)/.installed-dev ## run every check but the tests
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

tests: $(VENV)/.installed-dev ## run the tests; PYTEST_ARGS="-k token" runs some of them
	@$(BIN)/python -m tests.faults.debian_redis
	$(BIN)/pytest $(PYTEST_ARGS)

faults: $(VENV)/.installed-dev ## let networks, Redis servers and disks fail for FAULTS_OUTAGE=600 seconds, and see that all comes right by itself
	@$(BIN)/python -m tests.faults.debian_redis
	FAULTS_OUTAGE=$${FAULTS_OUTAGE:-600} $(BIN)/pytest $(PYTEST_ARGS) tests/faults/*.py

attacks-bite: $(VENV)/.installed-dev ## take out each defence in turn, and what keeps each promise, and see the test for it fail
	@$(BIN)/python -m tests.attacks.bite

compose-test: $(VENV)/.installed-dev ## run docker-compose.yml for real: crash, cut, scale, stop and start it (root; Debian; installs its engine)
	$(BIN)/pytest -vv -x -rs --durations=0 tests/compose/story.py

bench: $(VENV)/.installed ## measure Swamp next to stock RQ and Huey; BENCH_ARGS="--only a,c --repeat 3" measures less
	@$(BIN)/python -m bench $(BENCH_ARGS)

chaos: $(VENV)/.installed-dev ## kill everything at every point, for long, and judge each promise; CHAOS_ARGS="--seed 7 --minutes 30"
	@$(BIN)/python -m tests.faults.debian_redis
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

pictures: $(VENV)/.installed-dev ## make the pictures of rq-dashboard in docs/ again; needs Chromium
	@$(BIN)/python -m tests.contracts.pictures

format: $(VENV)/.installed-dev ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

clean: ## remove what make made: the virtual environments, caches, build output
	rm -rf $(VENV) .venv-tools .venv-bench build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# A stamp file is written last, so an install that was interrupted starts again.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Swamp needs Python 3.11 or newer. Name one: make PYTHON=python3.12 <target>" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "python3 has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing Swamp into $(VENV) ..." >&2
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the development tools into $(VENV) ..." >&2
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@
