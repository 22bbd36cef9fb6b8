# Two commands on a machine with python3, pip and make: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
TESTS ?= tests
LOWEST := .venv-lowest
LOWEST_PYTHON ?= python3.10
FUZZ_SECONDS ?= 600

.DEFAULT_GOAL := help
.PHONY: help run test chaos check lint types fix docs pictures bench clean coverage lowest dist audit pyright mutants fuzz scan

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $(READY)

run: $(READY) ## Start the simulator and the example application; prints one URL
	@exec $(BIN)/python -m example_app

# Three at a time on two cores, as most of them wait for a server or a browser. Compiled files are kept, whatever the
# environment says: they start a great many processes.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(READY) ## Run every test (those that need something missing are skipped and listed)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(TESTS)

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: $(READY)
	$(BIN)/python -m mypy

# A second checker, only over code as users write it. It brings its own node, which nobody else needs to wait for.
pyright: $(READY) ## Read the public API as a user's editor does
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'basedpyright>=1.20'
	$(BIN)/basedpyright

check: lint types pyright test docs ## Lint, types, tests and documentation: the gate

fix: $(READY) ## Format, and mend what can be mended automatically
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

docs: $(READY) ## Build the documentation into docs/_build (warnings are errors)
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build

pictures: $(READY) ## Every page in every state as pictures into docs/_build/pictures, to look at after a change of styles
	$(BIN)/python docs/screenshots.py --all docs/_build/pictures

bench: $(READY) ## Compare the speed with other libraries, measured in the same run (takes half an hour)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	-@command -v npm >/dev/null && npm install --silent --no-audit --no-fund --prefix .bench nodemailer
	$(BIN)/python -m bench

coverage: export PYTHONDONTWRITEBYTECODE :=
coverage: $(READY) ## Which lines and branches no test reaches, a page in htmlcov (takes twice as long as the tests)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage html -q
	$(BIN)/python -m coverage report --skip-covered

mutants: $(READY) ## Change one thing at a time, and list the changes that no test notices (takes minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'mutmut>=3.8'
	$(BIN)/python -m mutmut run --max-children 1
	$(BIN)/python -m mutmut results

fuzz: $(READY) ## Grow inputs for headers, SMTP replies and Graph's errors, FUZZ_SECONDS=600 for each
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris>=2.3'
	$(BIN)/python -m tests.fuzz $(FUZZ_SECONDS)

lowest: ## Test the lowest allowed versions on the lowest Python (LOWEST_PYTHON=python3.10)
	@$(LOWEST_PYTHON) --version || { echo "There is no $(LOWEST_PYTHON) here: give LOWEST_PYTHON=/path/to/python3.10"; exit 1; }
	$(LOWEST_PYTHON) -m venv $(LOWEST)
	$(LOWEST_PYTHON) tests/package/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(LOWEST)/constraints.txt -e '.[dev]'
	$(LOWEST)/bin/python -m pytest -q tests/unit tests/contract tests/integration

dist: $(READY) ## Build the sdist and the wheel into dist: the same bytes on every machine
	$(BIN)/python -m tests.package.dist dist

audit: $(READY) ## Ask the public databases for known weaknesses of what is installed (needs the internet)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.7'
	$(BIN)/python -m pip freeze --exclude-editable > $(VENV)/audit.txt
	$(BIN)/python -m pip_audit --strict --no-deps --disable-pip -r $(VENV)/audit.txt

chaos: $(READY) ## Kill workers, servers and networks while mail leaves (takes long; see tests/chaos)
	$(BIN)/python -m tests.chaos

scan: $(READY) ## Attack the example application's pages with a scanner, logged in (takes half an hour)
	$(PYTHON) -m venv .scan
	.scan/bin/python -m pip install --quiet --disable-pip-version-check 'wapiti3>=3.2'
	$(BIN)/python -m tests.security.scan --wapiti .scan/bin/wapiti --minutes 1

clean: ## Remove the environment and everything built
	rm -rf $(VENV) $(LOWEST) .bench .scan .fuzz mutants htmlcov .coverage* build dist docs/_build instance *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
