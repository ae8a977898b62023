# Two commands do everything on a machine with Python (>= 3.10) and make:
#   make quickstart [DATA=fer2013.csv] [MODEL=name]     the main job, from faces to a benched INT8 engine
#   make test                                           lint, types and tests
# and on a machine with an NVIDIA GPU and TensorRT:
#   make test-gpu [PYTHON=edgefer-env/bin/python] [MODELS='a.onnx …'] [DATA=faces.npz]

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS := constraints/python$(VERSION).txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.PHONY: quickstart test test-all test-gpu lint install clean

quickstart: $(VENV)/.run
	$(BIN)/edgefer quickstart $(if $(DATA),--data '$(DATA)') $(if $(MODEL),--model '$(MODEL)')

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

test-all: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# In $(PYTHON) as it is: TensorRT comes from the system on a Jetson, and the environment in $(VENV) does not see it.
test-gpu:
	@$(PYTHON) -c 'import edgefer.cli, pytest' || { echo 'error: $(PYTHON) lacks what edgefer or its tests need: $(PYTHON) -m pip install -e . pytest'; exit 2; }
	PYTHONPATH=. $(PYTHON) benchmarks/gpu.py --check
	PYTHONPATH=. EDGEFER_GPU_MODEL='$(firstword $(MODELS))' $(PYTHON) -m pytest -rs tests/engines/tensorrt/test_gpu.py
	PYTHONPATH=. $(PYTHON) benchmarks/gpu.py $(MODELS) $(if $(DATA),--data '$(DATA)')

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
