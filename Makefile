# Two commands for a fresh machine: `make compare` and `make test`. Each makes its own virtual environment first.

PYTHON ?= python3
VENV ?= .venv
BLEURT_VENV ?= .venv-bleurt
ARGS ?=

.PHONY: compare test lint install bleurt-reference clean

compare: install  ## tune the built-in model by GAN and by LoRA, print one table (ARGS="--seeds 0 1 2" adds options)
	$(VENV)/bin/python -m benchmarks.compare --methods gan lora $(ARGS)

test: install  ## the whole suite
	$(VENV)/bin/python -m pytest $(ARGS)

lint: install  ## style and likely mistakes
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

install: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable .[dev]
	touch $@

clean:  ## remove the environments; results stay
	rm -rf $(VENV) $(BLEURT_VENV)
