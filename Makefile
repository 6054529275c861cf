# Everything lives in .venv; `make demo` and `make test` need Python >= 3.10 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.NOTPARALLEL:
.PHONY: demo test install install-dev lint slow bench clean

demo: install
	$(BIN)/selftaught compare digits --methods ce,ls,cp,le --trials 5

# Stealing work leaves a module's tests together, whose fixtures are then made once.
test: install-dev lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

slow: install-dev
	$(BIN)/python -m pytest -m slow

# One after another, since they would slow each other down; the pages go to docs/benchmarks/.
BENCHMARKS := step_cost heads saliency_speed throughput studies sharing architectures
bench: install-dev
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# Compiling all of every library takes two minutes, what is used of it a few seconds at its first start: it is kept.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL := -m pip install -q --disable-pip-version-check --no-compile -c constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) -e '.[dev]'
	@touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
