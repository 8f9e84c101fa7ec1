# SPDX-License-Identifier: GPL-3.0-or-later
# Everything a developer and the CI run. "make" alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.SUFFIXES:

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export LC_ALL := C.UTF-8
export PYTHONDONTWRITEBYTECODE := 1
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.build/tree
export ANSIBLE_HOME := $(CURDIR)/.build/ansible

TREE := .build/tree/ansible_collections/excloud/diskengine
PYTEST = python -m pytest $(PYTEST_ARGS)

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# --- setting up -------------------------------------------------------------

$(TREE):
	@mkdir -p $(@D) && ln -sfn ../../../.. $@

.PHONY: venv venv-run
venv-run: $(TREE)
	@.ci/venv run
venv: $(TREE)  ## the virtual environment with all that the tests need
	@.ci/venv dev

.PHONY: demo
demo: venv-run  ## provision a sample estate, twice, against simulated (or SPDK_TGT=...) targets
	@python tests/demo/run.py

# --- tests ------------------------------------------------------------------

.PHONY: unit
unit: venv  ## unit tests and tests of conventions
	@$(PYTEST) tests/unit

.PHONY: sanity
sanity: venv  ## ansible-test sanity, without docker (SANITY_ARGS="--test pylint")
	@python tests/sanity/run.py $(SANITY_ARGS)
