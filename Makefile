# Two commands do all the set-up on a machine with python3 (3.11+), venv and make:
# `make demo` and `make test`. Second runs start at once: the stamps below depend on what was locked.
PYTHON ?= python3
ARGS ?=
export PYTHON

.PHONY: help demo test check fix docs evidence clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

demo: .venv/demo.stamp ## set up, then start the demo (ARGS="--port 0 --no-browser")
	@.venv/bin/shipworthy demo $(ARGS)

test: .venv/dev.stamp ## set up, start the services there are, run every test (ARGS="tests/web -x")
	@scripts/test $(ARGS)

check: .venv/dev.stamp ## what must hold besides the tests: format, types, layers, docs, coverage
	@scripts/check

fix: .venv/dev.stamp ## format, sort imports, write the generated pages and api.txt anew
	@scripts/fix

docs: .venv/dev.stamp ## build the documentation into docs/_build/html
	@scripts/docs

evidence: .venv/dev.stamp ## the long runs, whose results are committed (ARGS="real_apps")
	@scripts/evidence $(ARGS)

clean: ## remove what the targets above made
	@rm -rf .venv .uv docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*

.venv/demo.stamp .venv/dev.stamp: pyproject.toml uv.lock scripts/environment
	@scripts/environment $(basename $(@F))
