# One command for each thing one does with a checkout; `make help` lists them.
# Everything Python needs goes into .venv, made on demand and renewed when pyproject.toml changes.

PYTHON ?= python3
CC ?= cc
VENV := .venv
BIN := $(VENV)/bin
# The name holds what was installed, so that an unchanged pyproject.toml costs nothing.
STAMP := $(VENV)/.installed-$(shell sha256sum pyproject.toml build_native.py 2>/dev/null | sha256sum | cut -c1-16)
SOURCES := src tests tools build_native.py
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help run test test-long check bench conformance wheel clean distclean native examples tools-present format compiled
.NOTPARALLEL:

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(STAMP) native examples compiled ## build an example enclave, measure, sign, load and enter it, with an exception inside
	@$(BIN)/python tools/first_light.py

test: $(STAMP) native examples compiled ## run the tests
	$(PYTEST) -n auto

# Sizes of the long runs; each can be given: `make test-long SWSGX_KILLS=5000`.
SWSGX_GHOST_STEPS ?= 120000
SWSGX_KILLS ?= 300
SWSGX_URTS_RUNS ?= 2
SWSGX_PAGING_SECONDS ?= 60
SWSGX_PAGING_EPC ?= 64
SWSGX_PAGING_ENCLAVE ?= 96
SWSGX_PAGING_PROCESSES ?= 4
LONG := SWSGX_LONG=1 SWSGX_HYPOTHESIS=thorough $(foreach name,GHOST_STEPS KILLS URTS_RUNS PAGING_SECONDS PAGING_EPC \
  PAGING_ENCLAVE PAGING_PROCESSES,SWSGX_$(name)=$(SWSGX_$(name)))

test-long: $(STAMP) native examples compiled ## run the tests that take any number of steps, with very many
	$(LONG) $(PYTEST) -n auto --timeout 7200 tests/lsm/test_ghost.py tests/lsm/test_state_machine.py \
	  tests/linux/test_state_machine.py tests/linux/test_sgx2_state_machine.py tests/linux/test_paging_machine.py
	$(LONG) $(PYTEST) -n auto --timeout 7200 tests/supervisor/test_kills.py tests/supervisor/test_urts.py \
	  tests/supervisor/test_paging.py

check: $(STAMP) ## what CI checks besides the tests: format, lint, types, imports, spelling, C warnings, headers
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy --strict $(SOURCES)
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/codespell
	$(BIN)/python tools/gen_headers.py --check
	$(MAKE) -C native check

format: $(STAMP) ## let ruff format the code and fix what it can
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(STAMP) native examples compiled ## print the budgets: NAME measured RATIO bound BOUND ok|SHORT
	@$(BIN)/python tools/bench.py

conformance: $(STAMP) native examples compiled ## run the kernel's own test enclave and measuring code against ours
	$(PYTEST) tests/conformance -m conformance

wheel: $(STAMP) ## build the wheel, with the C images in it, into dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist

native: tools-present ## build the C images
	@$(MAKE) --no-print-directory --silent -C native

# Each `swsgx run` in a test is a new Python, and some environments let it write no byte code.
compiled: $(STAMP)
	@$(BIN)/python -m compileall -q src

examples: tools-present ## build the example enclaves
	@$(MAKE) --no-print-directory --silent -C examples

clean: ## remove what was built, but not .venv
	$(MAKE) -C native clean
	$(MAKE) -C examples clean
	rm -rf build dist src/swsgx/native/images .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf $(VENV)

# What a fresh machine may lack is said in full, with the way to get it.
tools-present:
	@command -v $(firstword $(CC)) >/dev/null || { \
	  echo "swsgx: there is no C compiler ($(CC)); on Debian and Ubuntu: apt-get install gcc libc6-dev" >&2; exit 1; }
	@echo '#include <stddef.h>' | $(CC) -E - >/dev/null 2>&1 || { \
	  echo "swsgx: the C compiler ($(CC)) cannot compile; on Debian and Ubuntu: apt-get install gcc libc6-dev" >&2; \
	  exit 1; }

# The images first: a compiler error is easier to read here than out of pip.
$(STAMP): | native
	@command -v $(PYTHON) >/dev/null || { \
	  echo "swsgx: there is no $(PYTHON); on Debian and Ubuntu: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "swsgx: needs Python 3.11 or newer, $(PYTHON) is `$(PYTHON) --version 2>&1`;" \
	    "name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "swsgx: $(PYTHON) cannot make virtual environments;" \
	    "on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "swsgx: making $(VENV) (once; again when pyproject.toml changes)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@rm -f $(VENV)/.installed-*
	@touch $@
