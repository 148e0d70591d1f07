# Every target sets up what it needs: git, make, g++ and python3 (3.11 or newer, with venv) are all that must be there.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check --constraint constraints.txt
NATIVE := $(wildcard runtime/native/*)

.PHONY: setup test lint demo bench soak clean
setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt $(NATIVE) | check-tools
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup: installing the pinned packages into $(VENV)"
	@$(BIN)/python -m pip install $(PIP_FLAGS) scikit-build-core cmake ninja
	@$(BIN)/python -m pip install $(PIP_FLAGS) --no-build-isolation --editable '.[dev]'
	@touch $@

.PHONY: check-tools
check-tools:
	@command -v $(PYTHON) >/dev/null || { echo "setup: '$(PYTHON)' was not found: install Python 3.11 or newer, or name one: make PYTHON=…" >&2; exit 69; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: $(PYTHON) is $$($(PYTHON) -V), firstspike needs 3.11 or newer: make PYTHON=…" >&2; exit 69; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "setup: $(PYTHON) has no venv module: on Debian, apt-get install python3-venv" >&2; exit 69; }
	@command -v $${CXX:-g++} >/dev/null || { echo "setup: no C++ compiler: on Debian, apt-get install g++" >&2; exit 69; }

test: setup
	@$(BIN)/python -m pytest

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

clean:
	rm -rf build $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: schemas
schemas: setup
	@$(BIN)/firstspike schemas --out docs/schemas
