# Every target does all of its own set-up: nothing but make and Python >= 3.11 is needed.
#   make test    run the tests             make demo    corpus, training, evaluation, report
#   make lint    style and type hints      make clean   remove the environment and caches
# PYTHON=/path/to/python chooses the interpreter that the environment is made with.

PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: setup lint test demo clean
.DELETE_ON_ERROR:

setup: $(STAMP)

# The build tools are installed first, pinned too, and the package is built without isolation: one set of versions only.
# --clear: an environment that was half made (interrupted download) is made again from nothing.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 found: install one or run make PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: PYTHON=$(PYTHON) is not Python >= 3.11" >&2; exit 2; }
	@echo "setting up $(VENV) with $(PYTHON) (a few minutes, once)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) setuptools wheel
	@$(PIP) --no-build-isolation -e '.[test]'
	@touch $@

lint: $(STAMP)
	$(BIN)/ruff check .

test: $(STAMP)
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -q -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder --durations=15 tests

demo: $(STAMP)
	$(BIN)/python -m experiments.demo

clean:
	rm -rf $(VENV) .jax_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
