# Two commands matter: `make audit` edits a model, asks, and judges; `make test` tests this repository.
# Both make the environment first, once: the stamp file says that pyproject.toml and constraints.txt are installed.

VENV ?= .venv
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$python" && break; done)
RUN := $(VENV)/bin/python -m
INSTALLED := $(VENV)/.installed
MODEL ?= pocket-llama
AUDIT_FLAGS ?=
TEST_FLAGS ?=
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help install audit test lint format docs real-models

# Which real models `make real-models` fetches; all where it is empty.
MODELS ?=

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Every install reads constraints.txt: without it a wide range may pull a newer torch, with gigabytes of CUDA behind it.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer with venv was found; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing into $(VENV) (minutes the first time, then not again) ..."
	@$(RUN) pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv "$(VENV)"
	@$(RUN) pip install -qq --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	@touch $@

install: $(INSTALLED)  ## make the environment

# Only `make docs` needs these packages (120 MB).
$(INSTALLED)-docs: $(INSTALLED)
	@$(RUN) pip install -qq --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# Both runs are judged at the margins of the suites. Exit code 1 of pytest means that tests failed, and here they must.
audit: $(INSTALLED)  ## edit a pocket model with MEMIT, once and ten times, and judge eight abilities (MODEL=pocket-gpt2, AUDIT_FLAGS="...")
	$(RUN) pytest suites/ --editor memit --edit-count 1 --model $(MODEL) $(AUDIT_FLAGS)
	$(RUN) pytest suites/ --editor memit --edit-count 10 --model $(MODEL) $(AUDIT_FLAGS); test $$? -eq 1
	@echo "As README.md says: one edit passes, ten edits do harm and end in FAIL."

test: $(INSTALLED)  ## run all tests of this repository, in parallel and offline
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false \
	$(RUN) pytest tests/ -q -n $(WORKERS) --maxprocesses 8 --dist worksteal $(TEST_FLAGS)

lint: $(INSTALLED)  ## check style, format, types, and the files for continuous integration
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) check_jsonschema --builtin-schema vendor.github-actions action.yml
	$(RUN) check_jsonschema --builtin-schema vendor.github-workflows examples/ci/github-*.yml
	$(RUN) check_jsonschema --builtin-schema vendor.gitlab-ci examples/ci/gitlab-ci.yml
	$(VENV)/bin/shellcheck .ci/run

format: $(INSTALLED)  ## put the code into its one format
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

docs: $(INSTALLED)-docs  ## build the pages of docs/ as a site in build/site, offline; a warning or a dead link is an error
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict

real-models: $(INSTALLED)  ## fetch two small real models into models/ (330 MB; MODELS=SmolLM2-135M-Instruct-Q4 for one)
	$(RUN) models.fetch $(MODELS)
