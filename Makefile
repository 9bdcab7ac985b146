# `make demo` shows the package at work, `make test` checks it (`make test-slow` the rest), `make docs` makes its site, `make bench` measures it. Each makes what it needs in .venv, once.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
PROJECT := settings.ini setup.py pyproject.toml

.PHONY: demo test test-slow bench readme docs clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed
	$(BIN)/enmap-sharpener demo --output demo --overwrite

test: $(VENV)/.installed-dev
	$(BIN)/python tests/notebooks.py --which quick
	$(BIN)/pytest -n 2 --reruns 1 -m "not slow"

test-slow: $(VENV)/.installed-dev
	$(BIN)/python tests/notebooks.py --which slow
	$(BIN)/pytest -n 2 --reruns 1 -m slow

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/run_all.py

readme: $(VENV)/.installed-dev
	$(BIN)/python tests/readme.py

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/build.py

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.10, 3.11, 3.12 or 3.13 is needed, and python3 is none of them; name one: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(PROJECT) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[simulate]'
	@touch $@

$(VENV)/.installed-dev: $(PROJECT) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-docs

$(VENV)/.installed-docs: $(PROJECT) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo _docs
