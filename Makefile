# Two commands on a machine with python3, pip and make: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
TESTS ?= tests

.DEFAULT_GOAL := help
.PHONY: help run test chaos check lint types fix docs bench clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $(READY)

run: $(READY) ## Start the simulator and the example application; prints one URL
	@exec $(BIN)/python -m example_app

test: $(READY) ## Run every test (those that need something missing are skipped and listed)
	$(BIN)/python -m pytest $(TESTS)

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: $(READY)
	$(BIN)/python -m mypy

check: lint types test docs ## Lint, types, tests and documentation: the gate

fix: $(READY) ## Format, and mend what can be mended automatically
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

docs: $(READY) ## Build the documentation into docs/_build (warnings are errors)
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build

bench: $(READY) ## Compare the speed with other libraries, measured in the same run (takes half an hour)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	-@command -v npm >/dev/null && npm install --silent --no-audit --no-fund --prefix .bench nodemailer
	$(BIN)/python -m bench

chaos: $(READY) ## Kill workers, servers and networks while mail leaves (takes long; see tests/chaos)
	$(BIN)/python -m tests.chaos

clean: ## Remove the environment and everything built
	rm -rf $(VENV) .bench build dist docs/_build instance *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
