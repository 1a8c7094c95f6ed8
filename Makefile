.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
DEV := .venv/.installed-dev
DEMO := .venv/.installed-demo

.PHONY: help demo test slow check bench bench-sql bench-scale lint types contracts template install wheel clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(DEMO) ## install, start the sandbox, refresh real bars into S3, read them back through DuckDB
	@$(BIN)/alchemiser-duck demo

test: $(DEV) ## run every test
	$(BIN)/python -m pytest -n 2 -m "not slow"

slow: $(DEV) ## run the tests that take minutes
	$(BIN)/python -m pytest -n 2 -m slow

bench: $(DEV) ## measure whole workloads beside polars, pyarrow and pandas, S3 20 ms away
	$(BIN)/python tests/benchmarks/workloads.py --json bench.json
	$(BIN)/python tests/benchmarks/qlib_shape.py

bench-sql: $(DEV) ## measure indicators beside polars, and what adjustment costs, in memory
	$(BIN)/python tests/benchmarks/indicators.py
	$(BIN)/python tests/benchmarks/adjustment.py

bench-scale: $(DEV) ## measure W1 with 5,000 symbols, and how backfill and reads grow, up to 11,000
	$(BIN)/python tests/benchmarks/workloads.py --symbols 5000 --years 10 --workloads w1,w1_again \
		--contenders "alchemiser-duck|polars|pyarrow + TA-Lib"
	$(BIN)/python tests/benchmarks/scale.py

check: lint types contracts template test slow ## lint, types, import contracts, template, all tests: what CI runs

lint: $(DEV) ## ruff: style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV) ## mypy, strict
	$(BIN)/mypy

contracts: $(DEV) ## import-linter: which module may import which
	$(BIN)/lint-imports

template: $(DEV) ## cfn-lint: the CloudFormation template
	$(BIN)/cfn-lint alchemiser_duck/deploy/template.yaml

install: $(DEMO) ## create .venv with the package and the sandbox

wheel: $(DEV) ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## remove the virtual environment and everything built
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it: make demo PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv

$(DEMO): pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[sandbox]'
	@$(BIN)/python -c 'from alchemiser_duck.query.connection import install_httpfs; install_httpfs()'
	@touch $@

$(DEV): pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python -c 'from alchemiser_duck.query.connection import install_httpfs; install_httpfs()'
	@touch $@ $(DEMO)
