# These commands do everything on a fresh machine with Python 3.11, make and a C compiler:
#   make demo      aligned generation on the embedded models, next to plain sampling
#   make quick     tests that start no engine: architecture, laws, core, chains, selectors, words
#   make test      ruff, mypy, import contracts and all tests but those marked nightly
#   make matrix    tries each release of vLLM, and writes the table of docs/versions.md (an hour)
#   make nightly   all tests, with many more examples of each property

PYTHON ?= python3.11
# processes that run tests; each starts engines of its own
WORKERS ?= 2
# Python caches what it compiles, even where the environment says otherwise: without, each of the
# many processes that tests start would compile vLLM, torch and transformers anew, for 12 seconds
unexport PYTHONDONTWRITEBYTECODE
# what `make quick` runs, without tests that start an engine or import vLLM
QUICK := $(addprefix tests/,architecture chains core laws selectors words)
QUICK += --ignore=tests/core/test_detokenization.py -m "not engine and not vllm and not nightly"
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo quick test nightly matrix lint laws surface venv models clean

demo: venv
	$(BIN)/rsalign demo

quick: venv
	$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder $(QUICK)

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder

nightly: lint
	$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder -m "" --hypothesis-profile=nightly

# environments of the releases are below ~/.cache/rsalign/matrix, or $RSALIGN_MATRIX
matrix: venv
	PYTHONPATH=$(CURDIR)/tests:$(CURDIR) $(BIN)/python -m matrix

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
