# SPDX-License-Identifier: GPL-3.0-or-later
# Everything a developer and the CI run. "make" alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.SUFFIXES:

ifneq ($(firstword $(subst :, ,$(PATH))),$(CURDIR)/.venv/bin)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
endif
export LC_ALL := C.UTF-8
unexport PYTHONDONTWRITEBYTECODE
export ANSIBLE_HOME := $(CURDIR)/.build/ansible

TREE := .build/tree/ansible_collections/excloud/diskengine
PYTEST = python -m pytest $(PYTEST_ARGS)

# Not for the tests: each of them says where the collection is that it means.
lint docs-lint docs: export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.build/tree

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

.PHONY: test
test: venv  ## everything that CI runs
	@python .ci/test.py

.PHONY: check
check: lint types changelog docs-lint build  ## the static checks

.PHONY: lint
lint: venv  ## ruff (rules and format), yamllint, shellcheck and ansible-lint (profile production)
	@failed=; ruff check . || failed=1; ruff format --check -q . || failed=1; yamllint --strict . || failed=1; shellcheck .ci/run .ci/venv || failed=1; \
		ansible-lint -q || failed=1; test -z "$$failed"

.PHONY: types
types: venv  ## mypy, on what users get
	@mypy $(TREE)/plugins

.PHONY: changelog
changelog: venv  ## lint the changelog fragments
	@antsibull-changelog lint

.PHONY: docs-lint
docs-lint: venv  ## lint the documentation of modules, plugins and roles
	@antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs self .

.PHONY: sanity
sanity: venv  ## ansible-test sanity, without docker (SANITY_ARGS="--test pylint")
	@python tests/sanity/run.py $(SANITY_ARGS)

.PHONY: unit
unit: venv  ## unit tests and tests of conventions
	@$(PYTEST) -n 2 --dist worksteal tests/unit

.PHONY: conformance
conformance: venv  ## the simulator against recordings of the real SPDK
	@$(PYTEST) tests/conformance

.PHONY: integration
integration: venv  ## ansible-playbook against PostgreSQL and the simulator, or the SPDK_TGT named
	@$(PYTEST) -n $(if $(SPDK_TGT),2,3) --dist worksteal tests/integration

.PHONY: molecule
molecule: venv  ## the scenarios of the roles, but for the one of a host
	@molecule test --all --exclude host

.PHONY: test-vm
test-vm: venv  ## the scenario of a host, in a virtual machine with NVMe drives; needs root
	@python tests/vm/run.py

.PHONY: bench
bench: venv  ## what a run costs, beside the same number of no-op tasks
	@python tests/benchmark/run.py $(BENCH_ARGS)

# --- what comes out ---------------------------------------------------------

.PHONY: build
build: venv  ## the tarball, in .build/dist
	@ansible-galaxy collection build --force --output-path .build/dist

.PHONY: docs
docs: venv  ## the documentation as HTML, in .build/html
	@rm -rf .build/docs .build/html && mkdir -p .build/docs && chmod og-w .build/docs
	@antsibull-docs --config-file docs/antsibull-docs.cfg collection --use-current --squash-hierarchy --fail-on-error \
		--dest-dir .build/docs excloud.diskengine
	@mv .build/docs/index.rst .build/docs/collection.rst
	@cp docs/*.rst .build/docs
	@cp --parents -t .build/docs $(shell git ls-files '*.md' LICENSE examples playbooks plugins ':!tests')
	@sphinx-build -W -q -c docs .build/docs .build/html
	@echo "Open .build/html/index.html"

.PHONY: clean
clean:  ## remove all that make made
	@rm -rf .venv .build .ansible .hypothesis tests/output
