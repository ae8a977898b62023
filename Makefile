# Two commands do everything on a machine with Python (>= 3.10) and make:
#   make quickstart [DATA=fer2013.csv] [MODEL=name]     the main job, from faces to a benched INT8 engine
#   make test                                           lint, types and tests
#   make wheel                                          dist/edgefer-….whl, for machines without this repository
# and on a machine with an NVIDIA GPU and TensorRT:
#   make test-gpu [PYTHON=edgefer-env/bin/python] [MODELS='a.onnx …', or a folder of --prepare] [DATA=faces.npz]
# and on one with PyTorch, nvcc and cuda-bindings, without TensorRT:
#   make gpu-smoke [PYTHON=…]                           benchmarks/results/gpu.json
# With a C++ compiler, and with apt where something is missing (make says what to install where it may not):
#   make cpp            the C++ library and camera app, in cpp_demo/build/cpu
#   make test-cpp       these and their tests
#   make test-aarch64   the library's tests, cross-built for 64-bit ARM and run under qemu

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS := constraints/python$(VERSION).txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.PHONY: quickstart wheel test test-all test-gpu gpu-smoke lint install clean cpp test-cpp test-cpp-all test-aarch64 cpp-vectors

quickstart: $(VENV)/.run
	$(BIN)/edgefer quickstart $(if $(DATA),--data '$(DATA)') $(if $(MODEL),--model '$(MODEL)')

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

test-all: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile
	$(MAKE) test-cpp-all test-aarch64

# In $(PYTHON) as it is: TensorRT comes from the system on a Jetson, and the environment in $(VENV) does not see it.
test-gpu:
	@$(PYTHON) -c 'import edgefer.cli, pytest' || { echo 'error: $(PYTHON) lacks what edgefer or its tests need: $(PYTHON) -m pip install -e . pytest'; exit 2; }
	PYTHONPATH=. $(PYTHON) benchmarks/gpu.py --check
	-PYTHONPATH=. $(PYTHON) benchmarks/gpu.py --quick $(MODELS) $(if $(DATA),--data '$(DATA)')
	-PYTHONPATH=. EDGEFER_GPU_MODEL='$(firstword $(MODELS))' $(PYTHON) -m pytest -rs tests/engines/tensorrt/test_gpu.py
	PYTHONPATH=. $(PYTHON) benchmarks/gpu.py $(MODELS) $(if $(DATA),--data '$(DATA)')

# Eight minutes at most; DRY=FILE.json tries it on the CPU.
gpu-smoke:
	PYTHONPATH=. $(PYTHON) benchmarks/gpu_smoke.py $(if $(DRY),--dry --output '$(DRY)')

wheel: $(VENV)/bin/python
	$(INSTALL) build
	@rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist . >/dev/null
	@for wheel in dist/*.whl; do echo "$$wheel: pip install '$$wheel[cpu,camera]'"; done

lint: $(VENV)/.dev
	$(BIN)/ruff check edgefer tests benchmarks cpp_demo
	$(BIN)/ruff format --check edgefer tests benchmarks cpp_demo
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

# The packages' names are Debian's and Ubuntu's. CPP_JOBS=2 builds faster where there is memory for it.
CPP_JOBS ?= 1
CPP_NEEDS := cmake g++ make nlohmann-json3-dev libcli11-dev doctest-dev opencv-data \
	$(foreach part,core imgproc imgcodecs videoio highgui objdetect,libopencv-$(part)-dev)
CPP_FLAGS := -DPython3_EXECUTABLE=$(abspath $(BIN)/python)
OPENVINO = $(shell $(BIN)/python -c 'import importlib.util as u; print(u.find_spec("openvino").submodule_search_locations[0])')

define build_cpp
cd cpp_demo && OpenVINO_DIR='$(OPENVINO)/cmake' cmake --preset $(1) $(CPP_FLAGS) && cmake --build --preset $(1) -j$(CPP_JOBS)
endef

cpp: $(VENV)/.run
	@cpp_demo/needs.sh $(CPP_NEEDS)
	$(call build_cpp,cpu)

cpp-vectors: $(VENV)/.run
	$(BIN)/python cpp_demo/tests/make_vectors.py cpp_demo/build/vectors

test-cpp: cpp cpp-vectors
	cd cpp_demo && ctest --preset cpu -LE slow

test-cpp-all: cpp cpp-vectors
	cd cpp_demo && ctest --preset cpu
	$(call build_cpp,asan)
	cd cpp_demo && ctest --preset asan -LE slow

test-aarch64: $(VENV)/.run
	@cpp_demo/needs.sh cmake make nlohmann-json3-dev libcli11-dev doctest-dev g++-aarch64-linux-gnu qemu-user-static
	$(BIN)/python cpp_demo/tests/make_vectors.py cpp_demo/build/vectors --only-geometry
	cd cpp_demo && cmake --preset aarch64-cross && cmake --build --preset aarch64-cross -j$(CPP_JOBS)
	cd cpp_demo && ctest --preset aarch64-cross

clean:
	rm -rf $(VENV) quickstart dist build cpp_demo/build
