# These commands do everything on a fresh machine with Python 3.11, make and a C compiler:
#   make demo      aligned generation on the embedded models, next to plain sampling
#   make quick     tests that start no engine: architecture, laws, core, chains, selectors, words
#   make test      ruff, mypy, import contracts and all tests but those marked nightly
#   make matrix    tries each release of vLLM, and writes the table of docs/versions.md (an hour)
#   make nightly   all tests, with many more examples of each property
#   make families  fetches the tokenizers of model families (with npm), runs the tests of families
#                  that are too long for `make test`, and writes docs/families.md
#   make docs      the documentation as a site, in build/site; broken links are errors
#   make dist      wheel and source distribution of a release, checked, in build/dist
#   make v2        tests on vLLM's second model runner, the GPUs' default (docs/v2.md); about an hour

PYTHON ?= python3.11
# processes that run tests; each starts engines of its own
WORKERS ?= 2
# Python caches what it compiles, even where the environment says otherwise: without, each of the
# many processes that tests start would compile vLLM, torch and transformers anew, for 12 seconds
unexport PYTHONDONTWRITEBYTECODE
# what `make quick` runs, without tests that start an engine or import vLLM
QUICK := $(addprefix tests/,architecture chains core laws selectors words)
QUICK += --ignore=tests/core/test_detokenization.py -m "not engine and not vllm and not nightly"
# what `make v2` runs, and where it installs Triton (1 GB), which nothing else needs
V2 := $(wildcard tests/v2/test_*.py) $(addprefix tests/,$(addprefix engine/test_,segment_end.py token_statistics_on_the_engine.py guided.py \
	arithmetic_on_the_engine.py hooks_beside_this_process.py laws_on_the_engine.py cards_on_the_engine.py \
	qalign_on_the_engine.py errors_on_the_engine.py parts_conform.py) \
	$(addprefix serve/test_,hooks_over_http.py openai_client.py disconnects.py))
TRITON ?= $(HOME)/.cache/rsalign/triton-3.9.0
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo quick test nightly families v2 matrix lint laws surface venv models real docs dist clean

demo: venv
	$(BIN)/rsalign demo

quick: venv
	$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder $(QUICK)

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder

nightly: lint
	$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder -m "" --hypothesis-profile=nightly

families: venv
	$(BIN)/python -m tests.families.fetch
	$(BIN)/python -m tests.families.table -n $(WORKERS) --no-loadscope-reorder

# file by file, each into its row of the table of docs/v2.md, also where a test fails: after an interruption make
# goes on with the files that are not yet run on this code. Tests take minutes, and to show where one is after two
# of them (faulthandler) can end a process whose other threads run on
v2: $(V2:tests/%.py=build/v2/%.xml)
	$(BIN)/python tests/v2/table.py $^

build/v2/%.xml: tests/%.py $(shell find rsalign tests/v2 -name "*.py") | venv $(TRITON)/triton
	mkdir -p $(@D)
	PYTHONPATH=$(CURDIR):$(CURDIR)/tests/v2/harness:$(TRITON) TRITON_INTERPRET=1 VLLM_USE_V2_MODEL_RUNNER=1 \
		$(BIN)/python -m pytest --timeout=1800 -o faulthandler_timeout=1800 --junitxml=$@ $< || test -f $@
	PYTHONPATH=$(TRITON) $(BIN)/python tests/v2/table.py --write docs/v2.md $@

$(TRITON)/triton:
	$(BIN)/python -m pip install --quiet --no-deps --target $(TRITON) triton==3.9.0

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

# a real model, and two rewards trained on top of it, about 25 minutes on one core: docs/real_model.md.
# REVIEWS and DIALOGUES are the data: a file, a folder or a Hugging Face id
REVIEWS ?= stanfordnlp/imdb
DIALOGUES ?= Anthropic/hh-rlhf
real: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/real.txt
	$(BIN)/python -m eval.real --reviews $(REVIEWS) --dialogues $(DIALOGUES)

# mkdocs has an environment of its own, behind which the one of `make venv` is found
docs: venv
	test -x build/mkdocs/bin/python || $(BIN)/python -m venv build/mkdocs
	build/mkdocs/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > "$$(build/mkdocs/bin/python -c \
		"import sysconfig; print(sysconfig.get_path('purelib'))")/rsalign.pth"
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=$(CURDIR) build/mkdocs/bin/python -m mkdocs build --strict

dist:
	test -x build/tools/bin/python || $(PYTHON) -m venv build/tools || python3 -m venv build/tools
	build/tools/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/dist.txt
	rm -rf build/dist build/lib
	build/tools/bin/python -m build --outdir build/dist
	build/tools/bin/python -m twine check --strict build/dist/*

# not compiled: most modules of so many packages are never imported, and the rest are when they are
venv: $(READY)

$(READY): requirements/cpu.txt setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv || python3 -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r requirements/cpu.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
