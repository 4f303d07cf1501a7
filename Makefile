# make demo: segment a photograph by words.   make test: every check.   make docs: the site.
# Each sets up .venv itself.
PYTHON ?= python3
VENV := .venv
FUZZ_SECONDS ?= 180
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test slow lint docs mutations fuzz clean

demo: $(VENV)/.core
	$(BIN)/lexiseg segment examples/photos/truck.jpg \
		--labels "truck, wheel, road, red wall|building, window" --out lexiseg_out

test: lint
	$(BIN)/python -m pytest -q

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m slow

mutations: $(VENV)/.dev
	$(BIN)/python -m tests.mutations

fuzz: $(VENV)/.dev
	$(PIP) atheris
	$(BIN)/python tests/fuzz/pictures.py -max_total_time=$(FUZZ_SECONDS)
	$(BIN)/python tests/fuzz/checkpoints.py -max_total_time=$(FUZZ_SECONDS)

docs: $(VENV)/.dev
	$(BIN)/zensical build --strict

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and "lexiseg needs Python 3.11 or newer; this is %d.%d. Try: make PYTHON=python3.11" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) lexiseg_out site .cache
