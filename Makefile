# The front door. On a fresh machine: `make demo`, then `make test`.
VENV ?= .venv
PYTHON := $(VENV)/bin/python
SOURCES := $(shell git ls-files 'csrc/*' CMakeLists.txt 'cmake/*' setup.py pyproject.toml 2>/dev/null)
CXX_SOURCES := $(shell git ls-files '*.cc' '*.cu' '*.h' '*.inc' 2>/dev/null)

# By file, in the order of tests/conftest.py: those that take longest begin.
PARALLEL = -n $(or $(JOBS),2) --dist loadfile --no-loadscope-reorder
# Values and gradients on both paths, the layers, bits, messages and the house rules.
CHECKED = core core_bits core_half core_plan core_activations core_selective core_cancellation shared_matmul gradients \
	repeated_tensors selective layer branches transposed_dense shared paths errors layer_errors source

.PHONY: help setup build demo test check fuzz exports sanitize callgrind cuda wheel lint format docs bench bench-full bench-cuda clean

help: ## Shows the targets.
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

setup: $(VENV)/.installed ## Makes the virtual environment and installs the pinned tools.

$(VENV)/.installed: tools/setup.sh requirements-dev.txt
	@bash tools/setup.sh $(VENV)

build: $(VENV)/.built ## Builds the extension in place (an editable install).

$(VENV)/.built: $(VENV)/.installed $(SOURCES)
	@echo "Building the extension (half a minute; minutes where there is an nvcc) ..."
	@PATH="$(abspath $(VENV))/bin:$$PATH" CMAKE_CXX_COMPILER_LAUNCHER="$(abspath tools/compile_once.py)" \
		$(PYTHON) -m pip install -q --no-build-isolation --no-deps -e .
	@touch $@

demo: build ## Trains a Siamese network on real digits, with the op and without.
	@$(PYTHON) examples/siamese_digits.py

test: build ## Runs all tests, JOBS=2 at a time (a quarter of an hour on two cores).
	@$(PYTHON) -m pytest $(PARALLEL)

check: build ## Runs what shows most faults soonest (two minutes): nothing that compiles or starts processes.
	@$(PYTHON) -m pytest $(PARALLEL) -m "not builds" $(CHECKED:%=tests/test_%.py)

fuzz: build ## Runs random programs against plain TensorFlow (CASES=200000, SEED=0, SECONDS=...; JOBS=2).
	@cd tests && $(abspath $(PYTHON)) -m fuzz --seed $(or $(SEED),0) --jobs $(or $(JOBS),2) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(CASES)$(if $(SECONDS),,1),--cases $(or $(CASES),200000))

exports: build ## Runs exported models in ONNX Runtime, LiteRT and OpenVINO, in an environment of their own.
	@bash tools/exports.sh $(VENV)

sanitize: setup ## Runs the core's tests under address, undefined and thread sanitizers (7 minutes).
	@bash tools/sanitize.sh $(PYTHON)

cuda: setup ## Builds with the GPU kernels (needs an nvcc, or installs pip's) and runs their tests.
	@bash tools/cuda.sh $(VENV)

callgrind: setup ## Counts the core's instructions against bench/instructions.json (UPDATE=1 writes it).
	@$(PYTHON) -m bench.instructions $(if $(UPDATE),--update)

wheel: setup ## Builds an sdist and, from it, a manylinux wheel in dist/, and tests both.
	@$(PYTHON) tools/build_wheel.py dist
	@SHARED_DENSE_DIST=dist $(PYTHON) -m pytest tests/test_wheel.py

lint: setup ## Checks format and style; changes nothing.
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(VENV)/bin/clang-format --dry-run -Werror $(CXX_SOURCES)

format: setup ## Formats the sources.
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .
	@$(VENV)/bin/clang-format -i $(CXX_SOURCES)

docs: build ## Writes docs/api.md from the docstrings.
	@$(PYTHON) tools/api_docs.py

bench: build ## Times the op against plain reuse, Keras, concat, stack and XLA; writes out/bench.json (a quarter of an hour).
	@$(PYTHON) -m bench

bench-full: build ## All of it, in bfloat16 and compiled by XLA too, and maps; writes out/bench-full.json (an hour on 2 cores).
	@$(PYTHON) -m bench --full --out out/bench-full.json

bench-cuda: ## Checks and times the GPU kernels beside cuBLASLt; needs a GPU and an nvcc, no TensorFlow.
	@$(or $(wildcard $(PYTHON)),python3) -m bench.cuda

clean: ## Removes everything that was built.
	rm -rf $(VENV) $(VENV)-exports build dist out python/*.egg-info python/shared_dense/_build_info.json
	rm -f python/shared_dense/*.so
