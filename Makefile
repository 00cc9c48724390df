# `make help` lists the targets. Each one makes the environment it needs: see .ci/environment.
# Paths stay relative and reach the shell quoted, so the checkout may lie in a folder with spaces.

DIR ?= examples/site
PORT ?= 8081
VENV = .venv
ARGS =
export VENV PYTHON WHEEL_PYTHON

environment = @sh .ci/environment
python = "$$VENV"/bin/python
# Silent unless it fails.
quietly = @quietly() { said=$$("$$@" 2>&1) || { printf '%s\n' "$$said"; return 1; }; }; quietly
# Without the current folder on sys.path: what is tested is what is installed.
run = $(python) -P -m

.PHONY: help serve test test-all test-bound clauses clients mutants fuzz check check-format check-lint check-types check-fragments check-wheel check-docs \
	check-trio-typing check-fuzz docs screenshots bench coverage format wheel clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## list the targets
	@echo 'make TARGET [PYTHON=python3.12] [ARGS="more arguments"]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile
	@echo '  test-3.12        run the tests on that Python (any version, 3.11 and newer)'

serve: export SERVE_DIR = $(DIR)
serve: export SERVE_PORT = $(PORT)
serve: ## serve DIR=examples/site on http://127.0.0.1:8081 (PORT=8081)
	$(environment)
	@exec "$$VENV"/bin/ktrio serve "$$SERVE_DIR" --port "$$SERVE_PORT" $(ARGS)

test: ## run the tests, but for the exhaustive ones, property tests briefly (ARGS="-k name")
	$(environment) test
	@$(run) pytest -m "not exhaustive" --hypothesis-profile everyday $(ARGS)

test-all: ## run all tests
	$(environment) test
	@$(run) pytest $(ARGS)

test-bound: export KTRIO_TEST_BOUND = 1
test-bound: ## run the tests of servers and protocols once more, on bound queues
	$(environment) test
	@$(run) pytest tests/server tests/protocols $(ARGS)

# What atheris cannot be had for is fuzzed without it, and says so.
SECONDS = 60
fuzz: ## fuzz the parsers and whole connections, SECONDS=60 each (ARGS="head chunks")
	$(environment) test
	@sh .ci/environment fuzz || echo 'skipped: atheris cannot be had'
	@$(python) -m tests.fuzz --seconds $(SECONDS) $(ARGS)

clauses: ## write the table of the RFCs' clauses and their tests into docs/spec/supported-http.md
	$(environment) test
	@$(python) -m tests.rfc

# What is not installed is skipped, and the page says so.
clients: ## let real clients fetch from ktrio serve, and write docs/spec/real-clients.md
	$(environment) test
	@sh .ci/environment clients || echo 'aiohttp cannot be had'
	@$(python) -m tests.real_clients.record

mutants: ## put known mistakes into copies of the source, and see whether the tests notice (ARGS="ROW ...")
	$(environment) test
	@$(python) -m tests.mutation $(ARGS)

test-%:
	@$(MAKE) --no-print-directory test-all VENV=build/venv-$* PYTHON="$${PYTHON:-python$*}"

check: check-format check-lint check-types check-fragments check-docs check-trio-typing check-fuzz check-wheel ## everything CI runs

check-format:
	$(environment) check
	@$(run) ruff format --check .

check-lint:
	$(environment) check
	@$(run) ruff check .

check-types:
	$(environment) check
	@$(run) mypy
	@$(run) pyright --pythonpath $(python)

# A fragment whose name or type is wrong would silently be left out of the history.
check-fragments:
	$(environment) check
	$(quietly) $(run) towncrier build --draft --version check

wheel: ## build the wheel into build/wheel
	$(environment) check
	@rm -rf build/wheel
	$(quietly) $(run) build --wheel --outdir build/wheel .

# The suite runs from a copy that has no src/, so nothing but the installed wheel can be imported. WHEEL_PYTHON may be
# another version than the one that builds the wheel.
check-wheel: wheel
	@WHEEL="$$(echo build/wheel/*.whl)" VENV=build/wheel-venv PYTHON="$${WHEEL_PYTHON:-$$PYTHON}" sh .ci/environment test
	@rm -rf build/wheel-suite && mkdir -p build/wheel-suite
	@for each in *.md LICENSE* Makefile pyproject.toml .ci .github tests docs examples benchmarks newsfragments; do \
		test ! -e "$$each" || cp -R "$$each" build/wheel-suite/; done
	@cd build/wheel-suite && KTRIO_INSTALLED=1 ../wheel-venv/bin/python -P -m pytest $(ARGS)

# Its stubs shadow Trio's types: it must not come near the other checks.
check-trio-typing: wheel
	@WHEEL="$$(echo build/wheel/*.whl)[trio-typing]" VENV=build/trio-typing-venv sh .ci/environment trio-typing
	@build/trio-typing-venv/bin/python -P -m pytest tests/test_trio_typing.py

# Two seconds a target: enough to see that the fuzzers work, and to find again what was mended.
check-fuzz:
	@$(MAKE) --no-print-directory fuzz SECONDS=2

check-docs: docs

docs: ## build the documentation into docs/_build/html
	$(environment) docs
	@$(run) sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo 'docs/_build/html/index.html'

screenshots: export KTRIO_UPDATE_SCREENSHOTS = 1
screenshots: ## take the pictures in the documents anew: of ktrio top, and of a folder in a browser
	$(environment) test
	@$(run) pytest --quiet tests/cli/test_top_screenshot.py tests/cli/test_listing_in_a_browser.py $(ARGS)
	@tail -n +1 docs/how-to/ktrio-top*.txt

bench: ## measure, beside other servers (ARGS=...)
	$(environment) bench
	@$(python) benchmarks/run.py $(ARGS)

coverage: ## run the tests and show which branches they miss
	$(environment) test
	@$(run) coverage erase
	@$(run) coverage run -m pytest $(ARGS)
	@$(run) coverage combine --quiet
	@$(run) coverage report --skip-covered --show-missing

format: ## format the code and mend what lint can mend
	$(environment) check
	@$(run) ruff format .
	@$(run) ruff check --fix .

clean: ## remove all that make and the tools have made
	rm -rf .venv build dist docs/_build .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
