# SPDX-License-Identifier: GPL-3.0-or-later
# Every target sets up what it needs; none needs another to be typed first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

BIN := .venv/bin
# Tools find each other (ansible-lint calls ansible, molecule calls ansible-playbook) when the environment is in front.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Hundreds of short Pythons run here. Each would compile the collection anew where its bytecode may not be kept.
unexport PYTHONDONTWRITEBYTECODE
# How many test processes. A file stays in one: its tests may share a labnode, and tell a story in their order.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile
RESULTS := .build/results

.PHONY: help
help: ## Show this list
	@echo "pvelab.proxmox: Proxmox VE as code, with a node to try it on. Start with 'make demo'."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---------------------------------------------------------------------------------------------- to use it

.PHONY: demo demo-down image
demo: run-env ## Start the embedded node, provision the example lab, break it twice, tear it down (KEEP=1: leave it up)
	@tools/demo

demo-down: ## Stop what `make demo KEEP=1` left running and remove it
	@tools/demo-down

.PHONY: lab lab-down lab-env
lab-env:
	@tools/system lab
	@tools/venv run
	@tools/collection-tree

lab: lab-env ## Start the lab machine: a Debian host under QEMU with nested KVM (NODE=pve: with Proxmox VE itself)
	@labnode/image/build
	@$(if $(filter pve,$(NODE)),ansible-playbook -i inventories/lab lab/pve.yml,lab/lab up)

lab-down: ## Stop the lab machine and remove it; the cache stays
	@[ ! -x $(BIN)/python ] || lab/lab down

.PHONY: drill
DRILL ?=
drill: ## Break the lab machine and prove that it recovers: DRILL=storage_full (CHECK=1: only show; CONFIRM=pve1)
	@[ -n "$(DRILL)" ] || { echo "Which one? make drill DRILL=storage_full; roles/drill/README.md lists them all."; exit 1; }
	@$(MAKE) --no-print-directory lab
	@lab/lab api GET /nodes/pve1/qemu/103/config >/dev/null 2>&1 || ansible-playbook -i inventories/lab playbooks/site.yml
	@ansible-playbook -i inventories/lab lab/drill.yml -e drill_name=$(DRILL) $(if $(CONFIRM),-e drill_confirm=$(CONFIRM)) $(if $(CHECK),--check)

.PHONY: ee
EE ?= quay.io/pvelab/pvelab-ee:$(shell sed -n 's/^version: //p' galaxy.yml)
ee: dev ## Build the execution environment for AWX, from this tree (needs podman or docker; EE=NAME:TAG)
	@ansible-galaxy collection build --force --output-path .build/dist
	@ansible-builder build --file execution-environment.yml --context .build/ee --tag $(EE)

image: run-env ## Build the guest image that the demo's guests boot, and the one that is a boot sector
	@labnode/image/build
	@labnode/image/build-bootsector

# ---------------------------------------------------------------------------------------------- to work on it

.PHONY: run-env dev
run-env:
	@tools/system run
	@tools/venv run
	@tools/collection-tree

dev: ## Make .venv (tools and tests) and .build (the collection under its own name)
	@tools/system test
	@tools/venv test
	@tools/collection-tree

# ---------------------------------------------------------------------------------------------- to test it

# The longest first: two run at a time. More of them only get into each other's way
# (528 s with two lanes, 669 s with three, on two processors).
# `unit` is not among them because `sanity` runs the same tests, with each Python.
PARTS := sanity-other sanity-own integration labnode lint molecule architecture contract build

.PHONY: test unit sanity $(PARTS)
test: dev ## Run everything below, and show one summary
	@python tools/test_all.py $(PARTS)

.PHONY: test-all nested storage network
LABS ?= nested stories drills storage network node
test-all: dev lab-env ## `make test`, then the scenarios that need a lab machine (LABS), and one summary
	@python tools/test_all.py $(PARTS) --then $(LABS)

nested: dev lab-env ## Scenario `nested`: the host's half on a real kernel, in a lab machine of its own (builds it once)
	@labnode/image/build
	@lab/lab build
	@env -u ANSIBLE_CONFIG molecule test --scenario-name nested

.PHONY: stories stories-drills stories-rest drills
# STORIES chooses among them by their markers, as pytest's -m does. Two parts, so that they may run side by side.
STORIES_DRILLS := $(wildcard tests/stories/test_d*.py) tests/stories/test_embedded_node.py
STORIES_REST := labnode/tests/stories $(filter-out $(STORIES_DRILLS),$(wildcard tests/stories/test_*.py))
stories: ## Whole stories, minutes each: the demo, whoever is killed in the middle, failure drills on the embedded node
stories-drills: STORY_FILES = $(STORIES_DRILLS)
stories-rest: STORY_FILES = $(STORIES_REST)
stories stories-drills stories-rest: dev
	@labnode/image/build
	@mkdir -p $(RESULTS)
	@$(PYTEST) -n 0 --junit-xml=$(RESULTS)/$@.xml $(if $(STORIES),-m "$(STORIES)") $(or $(STORY_FILES),$(STORIES_REST) $(STORIES_DRILLS))

drills: dev lab-env ## Scenario `drills`: failure drills on a lab's guests, each for real
	@labnode/image/build
	@env -u ANSIBLE_CONFIG molecule test --scenario-name drills

storage: dev lab-env ## Scenario `storage`: pools and swap space on real disks, broken and taken away
	@env -u ANSIBLE_CONFIG molecule test --scenario-name storage

network: dev lab-env ## Scenario `network`: mistakes that cut the line to a host, each undone by the host itself
	@env -u ANSIBLE_CONFIG molecule test --scenario-name network

.PHONY: node
node: dev lab-env ## Scenario `node`: a plain Debian becomes a node, with stand-ins for Proxmox's packages
	@env -u ANSIBLE_CONFIG molecule test --scenario-name node

lint: dev ## ruff, mypy, yamllint, ansible-lint, shellcheck, changelog
	@tools/lint

unit: dev ## Architecture rules and module cases: seconds, for while you work
	@mkdir -p $(RESULTS)
	@$(PYTEST) --junit-xml=$(RESULTS)/unit.xml tests/architecture tests/unit

architecture: dev ## The rules of the house: who imports whom, how long things are, what belongs to what
	@mkdir -p $(RESULTS)
	@$(PYTEST) -n 0 --junit-xml=$(RESULTS)/architecture.xml tests/architecture

labnode: dev ## labnode's own tests, and those of the lab machine's tool
	@labnode/image/build
	@mkdir -p $(RESULTS)
	@$(PYTEST) --junit-xml=$(RESULTS)/labnode.xml labnode/tests lab/tests --ignore labnode/tests/stories

sanity: sanity-own sanity-other ## ansible-test sanity and units, for each supported Python on this machine

sanity-own sanity-other: sanity-%: dev
	@PYTHONS=$* tools/ansible-test

contract: dev ## labnode against recordings from a real Proxmox VE node
	@mkdir -p $(RESULTS)
	@$(PYTEST) --junit-xml=$(RESULTS)/contract.xml tests/contract

# One process more than the others, because much of what it does is waiting for guests and nodes; and what takes longest
# first, so that no process ends long after the others.
LONGEST := $(addprefix tests/integration/test_,$(addsuffix .py,inventory drill_runner drill_remedy guests vm_config))
integration: dev ## The collection against a running labnode
	@mkdir -p $(RESULTS)
	@$(PYTEST) -n 3 --no-loadscope-reorder --junit-xml=$(RESULTS)/integration.xml $(LONGEST) tests/integration tests/bench

molecule: dev ## Scenario `default`: create, converge, idempotence, check, verify, destroy
	@env -u ANSIBLE_CONFIG molecule test

build: dev ## Build the collection's archive, install it offline elsewhere, use it from there
	@mkdir -p $(RESULTS) .build/dist
	@$(PYTEST) -n 0 --junit-xml=$(RESULTS)/build.xml tests/build
	@ansible-galaxy collection build --force --output-path .build/dist

# Not a part of `test`: it takes minutes, because it types the guides, and an environment of its own.
.PHONY: docs docs-pages docs-site docs-type
docs: docs-site docs-type ## Build the guides and the reference as a site, look at its links, type what the guides show

docs-site: dev
	@tools/venv docs .venv-docs
	@python tools/docs.py check
	@python tools/docs.py agree
	@python tools/docs.py site
	@echo "the site: .build/docs/html/index.html"

docs-type: dev
	@python tools/docs.py type $(PAGES)

docs-pages: dev ## Write the pages that are made: of drills, of community.proxmox, of labnode
	@python tools/docs.py pages

.PHONY: bench
bench: ## Time lists of guests: ours, a loop of community.proxmox, a bare client (BENCH_GUESTS="20 100"; MARKDOWN=1: write the page)
	@tools/system run
	@tools/venv bench
	@tools/collection-tree
	@PYTHONPATH=.build $(BIN)/python -m ansible_collections.pvelab.proxmox.tests.bench.run $(if $(MARKDOWN),--markdown)

.PHONY: clean
clean: ## Remove everything that make made (not the demo's state: see demo-down)
	rm -rf .venv .venv-* .build .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .ansible tests/output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf labnode/src/*.egg-info pvelab-proxmox-*.tar.gz
