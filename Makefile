# `make` alone lists what there is. Everything runs from .venv/, which `make setup` lays.
.DEFAULT_GOAL := help
SHELL := /bin/bash
OTELBPF := .venv/bin/otelbpf
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env)

.PHONY: help setup run test lint format unit integration kernels bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what otelbpf needs (Debian packages, .venv/) and nothing else
	@scripts/setup

run: setup ## Trace this host: spans on the terminal, /metrics on 127.0.0.1:9464 (ARGS="--port 8080" adds options)
	@$(SUDO) $(OTELBPF) run $(ARGS)

test: ## Install what the tests need and run everything: linters, tests/, integration/
	@scripts/setup --test
	@.venv/bin/python scripts/test

lint: ## Only the linters
	@scripts/setup --test
	@.venv/bin/python scripts/test lint

unit: ## Only tests/: no kernel, no root, seconds
	@scripts/setup --test
	@.venv/bin/python scripts/test unit

integration: ## Only integration/: real programs on the running kernel; needs root
	@scripts/setup --test
	@.venv/bin/python scripts/test integration

format: ## Put all Python into the project's format
	@scripts/setup --test
	@.venv/bin/ruff check --fix --quiet otelbpf tests integration benchmarks examples hatch_build.py scripts/test
	@.venv/bin/ruff format otelbpf tests integration benchmarks examples hatch_build.py scripts/test

kernels: ## integration/ again, in guests with kernels 5.10, 6.1 and 6.12, where kprobes exist; takes half an hour
	@scripts/setup --test
	@.venv/bin/python scripts/test kernels

bench: ## Measure: cost per span, throughput kept, losses, memory; needs root and some minutes
	@$(SUDO) scripts/bench $(ARGS)

clean: ## Remove .venv/ and everything that was built or cached
	rm -rf .venv .cache dist build *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
