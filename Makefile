# Two commands do everything on a fresh machine with Python 3.11, make and a C compiler:
#   make demo   aligned generation on the embedded models, next to plain sampling
#   make test   ruff, mypy, import contracts and all tests

PYTHON ?= python3.11
# processes that run tests; each starts engines of its own
WORKERS ?= 2
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint laws surface venv models clean

demo: venv
	$(BIN)/rsalign demo

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

laws: venv
	$(BIN)/python -m pytest tests/laws

# writes docs/public_interface.txt, and shows how it differs from the last release's
surface: venv
	$(BIN)/python tests/architecture/surface.py --write
	$(BIN)/python tests/architecture/surface.py --since-release

# trains the embedded models from nothing, about half an hour on one core
models: venv
	$(BIN)/python -m rsalign.embedded.training

# not compiled: most modules of so many packages are never imported, and the rest are when they are
venv: $(READY)

$(READY): requirements/cpu.txt setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv || python3 -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r requirements/cpu.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
