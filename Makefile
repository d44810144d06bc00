# Every target sets up what it needs: a Python 3.11 and a C compiler are all that must be there before.
PYTHON ?= python3.11
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
DOCS   := .venv-docs
# Test files run on so many workers, all tests of Ray on one of them; 0: one after the other.
TEST_WORKERS ?= 2
TOOLKITS := $(or $(PANOFORGE_TOOLKITS),.toolkits)
PYTEST := $(PY) -m pytest -q -n $(TEST_WORKERS)
export SAM2_BUILD_CUDA := 0
# Where this is set, every process compiles torch and Ray anew: 16 to 25 CPU seconds for one of Ray's instead of 8.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-video demo-annotate test test-real test-all test-fast toolkits lint style docs gallery bench bench-gpu lock clean

help:            ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create .venv with everything pinned in requirements.lock
# sam2 ships as source only; its build must see the installed torch, so it comes second and without build isolation.
# Nothing is compiled to bytecode here: Python does that for what it really imports.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else "panoforge needs Python 3.11 (bpy 4.2 is built for it), found %d.%d: set PYTHON=/path/to/python3.11" % v)'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	grep -v '^sam2==' requirements.lock > $(VENV)/lock-wheels.txt
	grep '^sam2==' requirements.lock > $(VENV)/lock-source.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-compile -r $(VENV)/lock-wheels.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --no-build-isolation -r $(VENV)/lock-source.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup      ## from a bare machine to a scored model: Infinigen rooms to reports, minutes on 2 cores
	$(VENV)/bin/pano demo

demo-video: setup ## 360° videos end to end: two rooms and flying things, rendered, packed, verified by rays, on a page, trained on, scored
	$(VENV)/bin/pano render configs/video.yaml
	$(VENV)/bin/pano pack runs/video 'splits={train: 0.67, test: 0.33}'
	$(VENV)/bin/pano verify runs/video/dataset
	$(VENV)/bin/pano verify runs/video --rays 20000
	$(VENV)/bin/pano stats runs/video/dataset --out runs/video/stats
	$(VENV)/bin/pano train configs/video.yaml
	$(VENV)/bin/pano eval configs/video.yaml

demo-annotate: setup ## clips of two rooms rendered, and labelled in A3360V's phases; truth stands in for teachers and SAM2; minutes
	$(VENV)/bin/pano render configs/video.yaml run=runs/annotate scenes=2 video.frames=8 samples=1
	$(VENV)/bin/pano pack runs/annotate 'splits={train: 1.0}'
	$(VENV)/bin/pano annotate runs/annotate/dataset --config configs/annotate_demo.yaml --out runs/annotate/labels
	$(VENV)/bin/pano stats runs/annotate/labels/dataset --out runs/annotate/labels/stats

test: lint       ## lint, types and the tests, renders and clusters included; 7 to 12 minutes
	$(PYTEST) -m "not slow and not real" $(PYTEST_ARGS)

test-real: setup ## what meets a heavy real counterpart: Infinigen 1 and 2, Ray Train, chaos, Ctrl-C; minutes
	$(PYTEST) -m "real and not slow" $(PYTEST_ARGS)

test-all: lint   ## everything: those, and the slow ones: long chaos runs, several nodes, several ranks
	$(PYTEST) $(PYTEST_ARGS)

test-fast: setup ## tests that render nothing and start no cluster
	$(PYTEST) -m "not render and not ray and not browser and not slow and not real" $(PYTEST_ARGS)

toolkits: setup  ## readers and evaluators of other formats that PyPI has, into .toolkits: their tests run then
# One folder each, without what they require: that would change our versions. tests/toolkits.py says who looks there.
	@get() { name=$$1; shift; $(PY) -m pip install -q --no-deps --upgrade --target "$(TOOLKITS)/$$name" "$$@" || \
	  echo "$$name cannot be had here: its tests are skipped" >&2; }; \
	get panopticapi panopticapi-lite==0.2.0; \
	get ultralytics ultralytics==8.4.190; \
	get labelme labelme==6.3.1 imgviz==2.1.0 cmap==0.8.0 loguru==0.7.3 tifffile==2026.3.3

lint: setup      ## check style, import directions and types; changes nothing
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/mypy

style: setup     ## fix what the linter can fix, and write anew what the docs say of the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(PY) tests/layout_tree.py
	$(PY) tests/reference_pages.py
	$(PY) docs/_site/figures.py
	$(PY) docs/_site/gallery.py --page

# The site has tools of its own, so that they change nothing for what renders and trains.
docs: $(DOCS)/.installed ## build the site into site/: strict, offline; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict
	@echo "open site/index.html"

$(DOCS)/.installed: docs/_site/requirements.txt
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r docs/_site/requirements.txt
	@touch $@

gallery: setup   ## make the pictures of docs/gallery.md anew: all, or ONLY="lake reports"; what is rendered already is taken
	$(PY) docs/_site/gallery.py $(ONLY)

bench: setup     ## every benchmark at its smallest honest size, peers included
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r bench/peers.txt
	@for file in bench/[a-z]*.py; do name=$$(basename $$file .py); \
	  case $$name in common|maps|sleep_scene|gpu|gpu_day|panorama|round_room) ;; *) echo "== $$name"; $(PY) -m bench.$$name --quick || exit 1;; esac; done

bench-gpu: setup ## everything that a GPU changes, 10 minutes a call; QUICK=1 rehearses it on CPUs
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r bench/peers.txt || \
	  echo "bench/peers.txt could not be installed: parts whose peer is missing will say so" >&2
	$(PY) -m bench.gpu_day $(if $(QUICK),--toy)

lock:            ## resolve requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile --prerelease=if-necessary --python-version 3.11 --extra datagen --extra train --extra label --extra dev \
	  pyproject.toml --no-header --output-file requirements.lock

clean:           ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) $(DOCS) site .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
