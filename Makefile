# limner: `make demo` and `make test` need nothing but Python 3.11+ and make.

PYTHON ?= python3
VENV := .venv
PIP_OPTIONS ?=
# Another build of torch: make demo TORCH_INDEX=https://…/whl/cu130
TORCH_INDEX ?=
# Every how many file events make chaos stops a run
EVERY ?= 1
BIN := $(VENV)/bin
SOURCES := src tests miniature bench

.PHONY: help demo install dev test check chaos mutations format settings clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: install ## Install limner and run the demo; prints where the report is
	$(BIN)/limner demo --out runs/demo

install: $(VENV)/installed ## Install limner into .venv
dev: $(VENV)/installed-dev ## Install limner and what its tests need

# Each process of the tests takes one core and up to 1.5 GiB
test: check ## Every check and every test
	$(BIN)/python -m pytest -n auto --maxprocesses 4

check: dev ## Formatting, lint, types, layers
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

chaos: dev ## Stop a tiny study at its file events in seven ways and see that nothing is lost (hours; EVERY=8: half an hour)
	$(BIN)/python -m tests.chaos --every $(EVERY)

mutations: dev ## See that the tests notice when the code goes wrong (an hour or so)
	$(BIN)/python -m tests.mutations

format: dev ## Format the code and mend what lint can mend
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

settings: dev ## Write docs/settings.md from the settings
	$(BIN)/python -m limner.config.reference > docs/settings.md

run-folder: dev ## Write docs/run-folder.md and its JSON Schema from the records
	$(BIN)/python -m limner.records.reference > docs/run-folder.md
	$(BIN)/python -m limner.records.reference --schema > docs/run-folder.schema.json

clean: ## Remove the virtual environment and caches (never runs/)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/python-checked:
	@command -v $(PYTHON) >/dev/null || { echo "limner needs Python 3.11 or newer, and there is no $(PYTHON); try make PYTHON=/path/to/python3.12"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "limner needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module; on Debian or Ubuntu: apt install python3-venv"; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/python-checked pyproject.toml constraints.txt
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install $(PIP_OPTIONS) torch --index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install $(PIP_OPTIONS) --quiet --disable-pip-version-check -e . $(if $(TORCH_INDEX),,-c constraints.txt)
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install $(PIP_OPTIONS) --quiet --disable-pip-version-check -e '.[dev]' $(if $(TORCH_INDEX),,-c constraints.txt)
	@touch $@
