# Two commands do everything on a bare machine with Python >= 3.11: `make demo` and `make test`.
# Each sets up first what it needs, in .venv, with the versions of constraints.txt; a second call sets up nothing.
#
#   make demo PYTHON=/path/to/python                                   another interpreter
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu         the small CPU build of torch

VENV    ?= .venv
PYTHON  ?=
BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --constraint constraints.txt
RUN     := $(VENV)/.run-is-set-up
DEV     := $(VENV)/.dev-is-set-up
SAY     := @printf '\n==> %s\n'

.DEFAULT_GOAL := help
.PHONY: help demo test test-app test-nightly bench lint format clean

help:  ## this list
	@echo "FlowProfile. Every target sets up what it needs first."
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s%s\n", $$1, $$2}'

demo: $(RUN)  ## sample a first profile, measure it, draw it; the second time it only says so
	$(SAY) "the first profile"
	@$(BIN)/flowprofile demo --into out/first-profile

test: lint  ## everything CI runs: style, types, import layers, tests (some twelve minutes)
	$(SAY) "pytest: laws, stories and the house rules"
	@$(BIN)/python -m pytest -q

test-app: $(DEV)  ## the interface in a real browser (Chromium must be installed; five minutes)
	$(SAY) "pytest: the interface in Chromium"
	@$(BIN)/python -m pytest -q -m browser tests/app

test-nightly: $(DEV)  ## the long tests, and every law on 1000 random examples (hours)
	$(SAY) "pytest: everything, the tests marked nightly too, and 1000 examples of every law"
	@HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -q -m "" --timeout 7200 -o faulthandler_timeout=7100

bench: $(DEV)  ## the benchmarks: every line is a ratio measured side by side, beside its target
	$(SAY) "benchmarks"
	@$(BIN)/python -m benchmarks

lint: $(DEV)  ## style, types and import layers
	$(SAY) "ruff check: likely mistakes"
	@$(BIN)/ruff check .
	$(SAY) "ruff format: layout"
	@$(BIN)/ruff format --check .
	$(SAY) "mypy --strict: types"
	@$(BIN)/mypy --strict
	$(SAY) "import-linter: imports go down only, and reading a profile needs no torch"
	@$(BIN)/lint-imports

format: $(DEV)  ## lay the code out, and mend what can be mended mechanically
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

clean:  ## remove the environment and every cache; out/ holds your results and is kept
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks .import_linter_cache dist
	find flowprofile tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A version-manager's shim may exist and still fail, so every candidate is run before it is believed.
$(VENV)/pyvenv.cfg:
	@found=; for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "FlowProfile needs Python >= 3.11. Found: $$($(or $(PYTHON),python3) --version 2>&1 | head -n 1)."; \
	  echo "Nothing was installed."; \
	  echo "To mend it: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; \
	  exit 1; \
	fi; \
	printf '\n==> creating %s with %s (%s)\n' "$(VENV)" "$$found" "$$("$$found" --version)"; \
	"$$found" -m venv "$(VENV)" || { \
	  rm -rf "$(VENV)"; \
	  echo "To mend it: this Python comes without venv; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

# hatchling comes first and by hand: with build isolation pip would fetch an unpinned one.
$(RUN): pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(SAY) "installing flowprofile and what it needs (torch is large: minutes on a slow line)"
	@$(if $(TORCH_INDEX),$(INSTALL) --quiet --index-url $(TORCH_INDEX) torch)
	@$(INSTALL) --quiet hatchling
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(DEV): $(RUN)
	$(SAY) "installing what the tests and the linters need"
	@$(INSTALL) --no-build-isolation --editable ".[test,lint,train]"
	@touch $@
