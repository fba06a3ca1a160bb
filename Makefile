# Everything a newcomer needs: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := outputs/demo
PARALLEL := -n 2 --dist loadscope # tests of one file that share a run stay in one process

# Some containers switch this off; every start of Python would then compile torch and lightning again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test test-all lint format clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | column -t -s '|'

setup: $(VENV)/.done ## make .venv with the pinned packages

$(VENV)/.done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian: python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup ## paint a photograph; train three methods on rendered scenes for some minutes, and compare them
	$(BIN)/lit-ghibli stylize lit_ghibli/photographs/mountains.jpg --out $(DEMO)_painted.jpg overwrite=true
	@echo "a painted photograph: $(DEMO)_painted.jpg"; echo
	$(BIN)/lit-ghibli sweep experiments/demo jobs=2 --out $(DEMO)
	$(BIN)/lit-ghibli scenes --out $(DEMO)/scenes count=4 size=256 first=100000
	$(BIN)/lit-ghibli stylize $(DEMO)/scenes/photo --out $(DEMO)/stylized checkpoint="$$(ls -d $(DEMO)/cells/*CycleGAN*)" overwrite=true
	@echo; echo "picture grid:   $(DEMO)/report/pictures.png"; echo "stylised image: $$(ls $(DEMO)/stylized/* | head -1)"
	@echo "page to open:   $(DEMO)/report/compare/compare.html"

test: setup ## lint, and the default tests
	$(BIN)/pytest $(PARALLEL) -m 'not slow'

test-all: setup ## all tests, with the long ones
	$(BIN)/pytest $(PARALLEL)

lint: setup ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## ruff, mending what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and all caches; outputs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
