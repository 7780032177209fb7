# Two commands for a fresh machine: `make compare` and `make test`. Each makes its own virtual environment first.
# `make docs` builds the site.

PYTHON ?= python3
VENV ?= .venv
BLEURT_VENV ?= .venv-bleurt
ARGS ?=

.PHONY: compare test lint docs install reference bleurt-reference clean

compare: install  ## LoRA, the game and its control on built-in records, in one table (ARGS="--seeds 0 1 2" adds options)
	$(VENV)/bin/python -m benchmarks.compare --preset data-to-text-short $(ARGS)

test: install  ## the whole suite
	$(VENV)/bin/python -m pytest $(ARGS)

lint: install  ## style and likely mistakes
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

docs: install  ## the site, in build/site; fails on a link that leads nowhere
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --quiet --strict $(ARGS)

install: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable .[dev,docs]
	touch $@

reference: install  ## the plan of remaking results/reference; ARGS="--all", or names of parts, does it
	$(VENV)/bin/python -m benchmarks.reference $(ARGS)

bleurt-reference:  ## remake tests/fixtures/bleurt with bleurt-pytorch itself, which needs an older transformers
	$(PYTHON) -m venv $(BLEURT_VENV)
	$(BLEURT_VENV)/bin/python -m pip install --quiet transformers==4.57.6 bleurt-pytorch==0.0.1 torch==2.13.0 \
		sentencepiece==0.2.3 protobuf==7.36.2
	HF_HUB_OFFLINE=1 $(BLEURT_VENV)/bin/python -m benchmarks.built_in.bleurt_reference
	chmod 644 tests/fixtures/bleurt/*/*

clean:  ## remove the environments; results stay
	rm -rf $(VENV) $(BLEURT_VENV)
