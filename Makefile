# `make check` is what CI runs. Every target makes its virtual environment first.
SHELL = bash
.SHELLFLAGS = -o pipefail -c
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
DATABASES ?= sqlite postgresql

BIN = $(VENV)/bin
SOURCES = certctl notifications benchmarks
STAMP = $(VENV)/.installed
# The demo needs a fifth of what development does; where that is installed, it is used.
DEMO_VENV = $(if $(wildcard $(STAMP)),$(VENV),.venv-demo)
DEMO_STAMP = $(DEMO_VENV)/.installed
BENCH_VENV = .venv-bench
BENCH_STAMP = $(BENCH_VENV)/.installed
MUTANTS_VENV = .venv-mutants
MUTANTS_STAMP = $(MUTANTS_VENV)/.installed
COMPILE = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
EXTRAS = --extra apprise --extra celery --extra mcp --extra project --extra tasks

# What a long first step is doing: $(call install,VENV,REQUIREMENTS).
define install
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "Python 3.11 or later is needed: say PYTHON=python3.11 after make"; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' \
	|| { echo "$(PYTHON) cannot make virtual environments: install its venv package (python3-venv)"; exit 1; }
@echo "Installing what $(2) names into $(1), once:"
@$(PYTHON) -m venv $(1)
@$(1)/bin/python -m pip install --disable-pip-version-check --progress-bar off --require-hashes -r $(2) \
	| awk '/^Collecting/ {print "  " $$2; fflush()} /^Installing collected/ {print "Unpacking them ..."; fflush()}'
endef

# Management commands that only look at the code work on no database at all.
OFFLINE = DATABASE_URL=sqlite://:memory:
DEPLOYED = CERTCTL_ALLOWED_HOSTS=certctl.example.com CERTCTL_BASE_URL=https://certctl.example.com \
	CERTCTL_SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(50))')

.DEFAULT_GOAL := help
.PHONY: help venv demo test check lint format migrations deployable lock bench mutants clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.13 VENV=.venv-3.13 chooses another Python; ARGS='-k sweep -n 4' is passed on to pytest."

venv: $(STAMP) ## Make the virtual environment from the pinned, hashed requirements

$(STAMP): requirements/dev.txt pyproject.toml
	$(call install,$(VENV),requirements/dev.txt)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(DEMO_STAMP) ## Show the main job in one go (PORT=8000; DEMO_EXIT=1: play the operator too, then exit)
	@$(DEMO_VENV)/bin/python demo/run.py

.venv-demo/.installed: requirements/demo.txt
	$(call install,.venv-demo,requirements/demo.txt)
	@touch $@

test: venv ## Run all tests on PostgreSQL, and those that open a database on SQLite too
ifneq (,$(filter sqlite,$(DATABASES)))
	TEST_DATABASE=sqlite $(BIN)/python -m pytest $(if $(filter postgresql,$(DATABASES)),--only-database) $(ARGS)
endif
ifneq (,$(filter postgresql,$(DATABASES)))
	TEST_DATABASE=postgresql $(BIN)/python -m pytest $(ARGS)
endif

check: lint migrations deployable test ## Everything that CI checks, then the tests

lint: venv ## Ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy $(SOURCES)
	$(BIN)/lint-imports

migrations: venv ## Fail when a model has changed without a migration
	$(OFFLINE) CERTCTL_DEBUG=1 $(BIN)/python manage.py makemigrations --check --dry-run

deployable: venv ## Fail when the settings of a deployment draw a warning
	$(OFFLINE) $(DEPLOYED) $(BIN)/python manage.py check --deploy --fail-level WARNING

format: venv ## Format the code and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: venv ## Write the requirements anew from pyproject.toml
	$(COMPILE) --group dev $(EXTRAS) pyproject.toml -o requirements/dev.txt
	$(COMPILE) --extra project pyproject.toml -o requirements/project.txt
	$(COMPILE) --extra project --group demo pyproject.toml -o requirements/demo.txt
	$(COMPILE) --extra project --group bench pyproject.toml -o requirements/bench.txt
	$(COMPILE) --group mutants pyproject.toml -o requirements/mutants.txt

bench: $(BENCH_STAMP) ## Run the benchmarks in an environment of their own (ARGS='at-once --quick')
	$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

$(BENCH_STAMP): requirements/bench.txt
	$(call install,$(BENCH_VENV),requirements/bench.txt)
	@touch $@

mutants: venv $(MUTANTS_STAMP) ## Break the rules one at a time: does a test notice? (ARGS='--sample 50 --minutes 5')
	$(BIN)/python -m tests.mutants --maker $(MUTANTS_VENV)/bin/python $(ARGS)

$(MUTANTS_STAMP): requirements/mutants.txt
	$(call install,$(MUTANTS_VENV),requirements/mutants.txt)
	@touch $@

clean: ## Remove what builds and tests left behind, but no virtual environment
	rm -rf build dist staticfiles .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .mutants
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
