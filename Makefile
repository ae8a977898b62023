# Two commands do everything on a machine with Python (>= 3.10) and make:
#   make quickstart [DATA=fer2013.csv] [MODEL=name]     the main job, from faces to a benched INT8 engine
#   make test                                           lint, types and tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS := constraints/python$(VERSION).txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.PHONY: quickstart test test-all lint install clean

quickstart: $(VENV)/.run
	$(BIN)/edgefer quickstart $(if $(DATA),--data '$(DATA)') $(if $(MODEL),--model '$(MODEL)')

test: lint
	$(BIN)/python -m pytest -m 'not slow'

test-all: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check edgefer tests benchmarks
	$(BIN)/ruff format --check edgefer tests benchmarks
	$(BIN)/mypy

install: $(VENV)/.run

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("error: edgefer needs Python 3.10 or newer, this is %s" % sys.version.split()[0] if sys.version_info < (3, 10) else 0)'
	@test -f $(CONSTRAINTS) || { echo 'error: no $(CONSTRAINTS): tested versions are those in constraints/; choose one with make PYTHON=python3.12'; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@echo 'installing edgefer and what it needs into $(VENV) (once)'
	$(INSTALL) --editable '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(INSTALL) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) quickstart dist build
