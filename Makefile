# Everything here needs Python 3.11 or newer and pip; each target builds .venv itself when it is missing or old.
PYTHON ?= python3
BIN := .venv/bin
# `venv --without-pip` and the machine's own pip: Debian's python3 has no ensurepip unless python3-venv is installed.
INSTALL := $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --root-user-action ignore

.PHONY: help setup up test harness check bench requirements clean

help:
	@echo 'make up            a world on this machine: three regions, eight edge cities; until Ctrl-C'
	@echo 'make test          all tests'
	@echo 'make harness       whole worlds written to while their parts are killed; SEEDS=7 or 1-50, SECONDS_EACH=60'
	@echo 'make check         formatting, types, imports, templates'
	@echo 'make bench         figures beside nginx, Varnish, Envoy and others (docs/benchmarks.md)'
	@echo 'make setup         only install into .venv'
	@echo 'make requirements  pin newer versions of what it stands on'
	@echo 'make clean         remove .venv'

.venv/run.stamp: requirements/run.txt pyproject.toml
	@echo "Installing Nearpoint into .venv (once) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Nearpoint needs Python 3.11 or newer: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip .venv
	@$(INSTALL) --require-hashes -r requirements/run.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/run.stamp
	@echo "Installing what the tests need ..."
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

setup: .venv/run.stamp

up: .venv/run.stamp
	@$(BIN)/nearpoint up

test: .venv/dev.stamp
	@$(BIN)/pytest -q

SEEDS ?= $(shell date +%s)
SECONDS_EACH ?= 20

harness: .venv/dev.stamp
	@NEARPOINT_SEEDS=$(SEEDS) NEARPOINT_FOREIGN_SEEDS=$(SEEDS) NEARPOINT_HARNESS_S=$(SECONDS_EACH) \
	  $(BIN)/pytest -q -s -n 0 tests/replication/test_harness.py

check: .venv/dev.stamp
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/cfn-lint --regions us-east-1 --include-checks I -- examples/*/template.yaml

bench: .venv/dev.stamp
	@$(BIN)/python -m bench

requirements: .venv/dev.stamp
	UV_CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 requirements/run.in -o requirements/run.txt
	UV_CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 requirements/dev.in -o requirements/dev.txt

clean:
	rm -rf .venv
