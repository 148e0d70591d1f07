# Every target sets up what it needs: git, make, g++ and python3 (3.11 or newer, with venv) are all that must be there.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check --constraint constraints.txt
NATIVE := $(wildcard runtime/native/*)

.PHONY: setup test lint demo bench soak clean install uninstall deb
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

# Two files at a time: many tests wait for processes rather than compute.
test: setup
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# A recording of our own, replayed by the daemon, and what a subscriber receives: three programs, as in real use.
# PLAN=openvino puts another back end before the emulator; what it needs is installed first. See docs/workers.md.
MODEL ?= models/nmnist
PLAN ?= emulator
demo: setup
	@mkdir -p build/demo
	@for name in $(filter-out emulator,$(subst +, ,$(PLAN))); do $(BIN)/firstspike workers install $$name || exit; done
	@$(BIN)/firstspike simulate build/demo/digits.aedat4
	@$(BIN)/firstspike info build/demo/digits.aedat4
	@folder=$$(mktemp -d); daemon=; trap 'kill $$daemon 2>/dev/null || true; rm -rf "$$folder"' EXIT; \
	$(BIN)/firstspike run --config config.toml --plan $(PLAN) --set model.path=$(MODEL) --set source.kind=recording \
	  --set 'source.recording.paths=["build/demo/digits.aedat4"]' --set "publish.endpoint=ipc://$$folder/demo" \
	  --set publish.wait_for_subscriber_s=20 & daemon=$$!; \
	$(BIN)/firstspike watch "ipc://$$folder/demo" --until-stop --timeout 60; wait $$daemon

bench: $(VENV)-bench/.done
	@$(VENV)-bench/bin/python bench/all.py

# The peers that the benchmarks stand beside are large: they get an environment of their own.
$(VENV)-bench/.done: pyproject.toml constraints.txt bench/requirements.txt bench/constraints.txt $(NATIVE) | check-tools
	@test -x $(VENV)-bench/bin/python || $(PYTHON) -m venv $(VENV)-bench
	@echo "setup: installing the benchmarks' peers into $(VENV)-bench"
	@$(VENV)-bench/bin/python -m pip install $(PIP_FLAGS) scikit-build-core cmake ninja
	@$(VENV)-bench/bin/python -m pip install $(PIP_FLAGS) --constraint bench/constraints.txt -r bench/requirements.txt
	@$(VENV)-bench/bin/python -m pip install $(PIP_FLAGS) --no-build-isolation .
	@touch $@

# Long runs, and what Hypothesis finds when it draws anew.
soak: setup
	@$(BIN)/python -m pytest -m soak
	@HYPOTHESIS_PROFILE=new $(BIN)/python -m pytest -k "not golden" tests/unit tests/fuzz

# For the whole machine: a virtual environment in $(PREFIX)/lib/firstspike, systemd units, udev rules, models, manual. See
# docs/service.md. With DESTDIR nothing of this machine is touched.
PREFIX ?= /usr
SYSTEM_PYTHON ?= /usr/bin/python3
install: setup
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" PYTHON="$(SYSTEM_PYTHON)" packaging/install.sh $(BIN)/python

uninstall:
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" packaging/uninstall.sh

deb: setup
	@PYTHON="$(SYSTEM_PYTHON)" packaging/deb.sh $(BIN)/python

# What faults cost, as a table: the quick forms, or with LONG=1 those of `make soak` too (an hour).
.PHONY: faults
FIGURES := build/faults.jsonl
FAULTS := tests/faults tests/fuzz tests/replay tests/unit/test_camera.py tests/unit/test_camera_child.py $(addprefix tests/system/test_,reload.py reload_streams.py systemd.py)
faults: setup
	@mkdir -p build && rm -f $(FIGURES)
	@FIRSTSPIKE_FIGURES=$(FIGURES) $(BIN)/python -m pytest -q $(if $(LONG),-m "soak or not soak") $(FAULTS)
	@$(BIN)/python tests/support/figures.py $(FIGURES)

clean:
	rm -rf build $(VENV) $(VENV)-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: schemas
schemas: setup
	@$(BIN)/firstspike schemas --out docs/schemas

.PHONY: golden
golden: setup
	@FIRSTSPIKE_WRITE_GOLDEN=1 $(BIN)/python -m pytest -q tests/replay -k golden

# Train models/nmnist from the data, in an environment of its own: see models/forge/README.md.
FORGE := $(VENV)-forge
FORGE_RUN := PYTHONPATH=.:runtime $(FORGE)/bin/python -m models.forge.nmnist
.PHONY: forge forge-check
forge: $(FORGE)/.done
	@$(FORGE_RUN) base
	@$(FORGE_RUN) develop
	@$(FORGE_RUN) folds
	@$(FORGE_RUN) final

forge-check: setup
	@PYTHONPATH=. $(BIN)/python -m models.forge.check
	@PYTHONPATH=. $(BIN)/python -m models.forge.mnist_check
	@PYTHONPATH=. $(BIN)/python -m models.forge.objects_check
	@PYTHONPATH=. $(BIN)/python -m models.forge.hybrid_check

# Train the networks of models/mnist-lenet*, three seeds of each (of T = 16 one), and write the one that is chosen of each.
MNIST_RUN := PYTHONPATH=.:runtime $(FORGE)/bin/python -m models.forge.mnist
.PHONY: forge-mnist
forge-mnist: $(FORGE)/.done
	@$(MNIST_RUN) pool
	@$(MNIST_RUN) teacher
	@for seed in 1 2 3; do for stage in base twin t8 t4 sparse; do $(MNIST_RUN) $$stage $$seed; done; done
	@$(MNIST_RUN) t16 1
	@for seed in 1 2 3; do for stage in t8 t4 sparse; do $(MNIST_RUN) trial $$stage $$seed; done; done
	@$(MNIST_RUN) trial t16 1
	@$(MNIST_RUN) choose

# Train the network of models/dvs128-objects: leave recordings out, then the one that ships.
OBJECTS_RUN := PYTHONPATH=.:runtime $(FORGE)/bin/python -m models.forge.objects
.PHONY: forge-objects
forge-objects: $(FORGE)/.done
	@$(OBJECTS_RUN) folds
	@$(OBJECTS_RUN) final

# Train the ANN, the SNN and the hybrids of the DVS128 objects, SEEDS networks of each, print their table, and write
# models/dvs128-hybrid. On a GPU if there is one; else some six minutes a network and core.
SEEDS := 3
HYBRID_RUN = PYTHONPATH=.:runtime FIRSTSPIKE_LIBRARY=$$(find $(VENV)/lib -name libfirstspike.so) $(FORGE)/bin/python -m models.forge.hybrid
.PHONY: forge-hybrid
forge-hybrid: setup $(FORGE)/.done
	@$(HYBRID_RUN) pool
	@$(HYBRID_RUN) train --seeds $(SEEDS)
	@$(HYBRID_RUN) table
	@$(HYBRID_RUN) write

# SLAYER's blocks run with the forge's versions, whatever lava-dl asks for: see models/forge/hybrid_slayer.py.
FORGE_PIP := --quiet --disable-pip-version-check --constraint models/forge/constraints.txt
$(FORGE)/.done: models/forge/requirements.txt models/forge/constraints.txt | check-tools
	@test -x $(FORGE)/bin/python || $(PYTHON) -m venv $(FORGE)
	@echo "setup: installing the forge's packages into $(FORGE)"
	@$(FORGE)/bin/python -m pip install $(FORGE_PIP) -r models/forge/requirements.txt
	@rm -rf $(FORGE)/slayer
	@$(FORGE)/bin/python -m pip install $(FORGE_PIP) --no-deps --ignore-requires-python --target $(FORGE)/slayer lava-dl
	@touch $@
