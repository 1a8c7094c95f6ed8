.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
DEV := .venv/.installed-dev
DEMO := .venv/.installed-demo
DUCKDB2_BIN := .venv-duckdb2/bin
DUCKDB2 := .venv-duckdb2/.installed

.PHONY: help demo test slow duckdb2 constraints check bench bench-sql bench-scale lint types contracts template install wheel clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(DEMO) ## install, start the sandbox, refresh real bars into S3, read them back through DuckDB
	@$(BIN)/alchemiser-duck demo

test: $(DEV) ## run every test
	$(BIN)/python -m pytest -n 2 -m "not slow"

duckdb2: $(DUCKDB2) ## run the tests of reading, indicators and panels on DuckDB 2.0
	$(DUCKDB2_BIN)/python -m pytest -n 2 -m "not slow" tests/doors/test_adapter.py tests/panel tests/indicators

constraints: $(DEV) ## write down the versions that the tests have passed with
	$(BIN)/python -m pip freeze --exclude-editable --disable-pip-version-check > .ci/constraints.txt

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

check: lint types contracts template test slow duckdb2 ## lint, types, import contracts, template, all tests: what CI runs

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
	rm -rf .venv .venv-duckdb2 dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it: make demo PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv

$(DEMO): pyproject.toml .ci/constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt --editable '.[sandbox,shell]'
	@$(BIN)/python -c 'from alchemiser_duck.query.connection import install_httpfs; install_httpfs()'
	@touch $@

$(DEV): pyproject.toml .ci/constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt --editable '.[dev]'
	@$(BIN)/python -c 'from alchemiser_duck.query.connection import install_httpfs; install_httpfs()'
	@touch $@ $(DEMO)

# everything of the other environment, and in front of it DuckDB 2.0
$(DUCKDB2): $(DEV)
	$(BIN)/python -m venv .venv-duckdb2
	$(DUCKDB2_BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'duckdb==2.0.*'
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' \
		> $$($(DUCKDB2_BIN)/python -c 'import site; print(site.getsitepackages()[0])')/environment.pth
	@touch $@
