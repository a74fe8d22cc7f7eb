# Two commands are the whole set-up: `make report` and `make test`. Everything else is a variation; `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Set-up. An active environment that satisfies pyproject.toml is used as it is; with CONDA=1 and conda or mamba on the
# PATH the environment is made from environment.yml; otherwise .venv is made with uv or pip. It is made again, with the
# reason, where the checkout was copied or renamed, its Python went away, or what it must hold changed.
export CONDA_ENV_NAME ?= capitulation
ENVIRONMENT := $(shell bash lib/find-environment.sh)
PYTHON := $(word 2,$(ENVIRONMENT))
STAMP := $(if $(word 3,$(ENVIRONMENT)),environment)
# A user's settings of Python that would break it, or skip the asserts by which the notebooks check themselves.
unexport PYTHONHOME PYTHONOPTIMIZE PYTHONSAFEPATH PYTHONWARNINGS PYTHONINSPECT
# Where nothing can be kept in the home folder, matplotlib's list of fonts stays in the checkout.
ifndef MPLCONFIGDIR
export MPLCONFIGDIR := $(shell [ "$${HOME:-/}" != / ] && [ -w "$$HOME" ] || echo "$(CURDIR)/.cache/matplotlib")
endif
# One thread per numeric library, as there is a process for each core; large arrays are made again in the memory of
# earlier ones, where the C library (glibc) can be told so.
LEAN := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
LEAN += MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=536870912
CLI := $(LEAN) PYTHONHASHSEED=0 $(PYTHON) -m capitulation # a fixed order of sets, so that reports repeat

# Text from the user goes to the program through the environment only, so that no shell ever interprets it; and letter by
# letter, so that neither does make: DATA='$(shell …)' names a file.
export RUN PARAMS SET AS_OF DATA SOURCE LICENCE NODE_URL MEMPOOL_URL JOBS FORCE ENGINE CELL_TIMEOUT JSON A B DASK REPETITIONS
$(foreach name,RUN PARAMS SET AS_OF DATA SOURCE LICENCE NODE_URL MEMPOOL_URL JOBS FORCE ENGINE CELL_TIMEOUT JSON A B DASK REPETITIONS,\
	$(eval override $(name) := $$(value $(name))))

.PHONY: help setup environment report test test-slow fetch status watch register lab compare bundle reproduce check-data check-live \
	calibrate open bench screenshots docs lint format clean

help: ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1mmake %-12s\033[0m %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "  options: RUN=name PARAMS=file|name SET=\"name=value ...\" AS_OF=YYYY-MM-DD DATA=file.csv SOURCE=name LICENCE=commercial NODE_URL=address MEMPOOL_URL=address JOBS=n FORCE=1 ENGINE=kernel CELL_TIMEOUT=s"

setup: $(STAMP) ## make the Python environment, nothing else

environment:
	@bash lib/make-environment.sh

report: $(STAMP) ## run every notebook and render reports/<run>/index.html (main job)
	@$(CLI) report

open: $(STAMP) ## open a report in the browser: RUN=name
	@$(CLI) show

test: $(STAMP) ## run the tests (real data are read from CAPITULATION_TEST_DATA, default ../shared/data)
	@$(LEAN) $(PYTHON) -m pytest -n auto --dist loadgroup -m "not slow"

test-slow: $(STAMP) ## the long part: kills and faults at random moments
	@$(LEAN) $(PYTHON) -m pytest -m slow

fetch: $(STAMP) ## store a new snapshot of the data under data/raw/
	@$(CLI) fetch

status: $(STAMP) ## where do we stand now? JSON=1 for programs
	@$(CLI) status

watch: $(STAMP) ## the same for scripts: fails (status 10: capitulation, 11: recovering) unless hash rate expands
	@$(CLI) status --watch 1

register: $(STAMP) ## open forecasts and how those that are decided came out
	@$(CLI) register

lab: $(STAMP) ## open JupyterLab at the project's root, on 127.0.0.1 with a token
	@$(CLI) lab

compare: $(STAMP) ## what changed between two reports: A=run1 B=run2
	@$(CLI) compare

bundle: $(STAMP) ## zip a report with its tables: RUN=name
	@$(CLI) bundle

reproduce: $(STAMP) ## rebuild RUN=name from its recorded snapshot and parameters and compare every table
	@$(CLI) reproduce

check-data: $(STAMP) ## verify every stored snapshot and the chain of the register of forecasts
	@$(CLI) check-data

check-live: $(STAMP) ## do the services still answer as documented? one small request each, nothing is stored
	@$(CLI) check-live

calibrate: $(STAMP) ## measure every test on simulated markets (2,000: some 10 minutes on 2 cores; resumes): REPETITIONS=n DASK=tcp://host:port
	@$(CLI) calibrate

bench: $(STAMP) ## time the suite against its peers; writes benchmarks/results.md
	@$(PYTHON) benchmarks/run.py

docs: $(STAMP) ## rewrite docs/ and the README's figures and tables from the report RUN=name
	@$(PYTHON) docs/build.py docs

screenshots: $(STAMP) ## pictures of the report RUN=name in docs/screenshots/ (needs Chromium)
	@$(PYTHON) docs/build.py screenshots

lint: $(STAMP) ## ruff, notebooks included
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check .

format: $(STAMP) ## let ruff put things in order
	@$(PYTHON) -m ruff check --fix . ; $(PYTHON) -m ruff format .

clean: ## remove the environment and caches; data and reports stay
	@rm -rf .venv .pytest_cache .ruff_cache .hypothesis
