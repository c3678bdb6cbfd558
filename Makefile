# make demo   plays the example's year; SEED=N moves its faults, CI or NO_UI keeps the pages closed
# make test   everything CI runs; REQUIRE=all fails where something is missing instead of skipping
# make clients  the tracking door with four versions of the stock client
# make bench  benchmarks, one JSON line each; ONLY=area picks some
PYTHON ?= python3
BIN := .venv/bin
OLDER := 3.16 3.15 3.14
CHECKS := check-style check-types check-imports
SIDE_BY_SIDE := @$(MAKE) --no-print-directory -j 2 -O
## What one process has compiled the next need not
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test clients lint bench lock format env-demo env-test env-clients clean $(CHECKS)

help:
	@sed -n 's/^# //p' Makefile

env-demo:
	@$(PYTHON) tools/environment.py demo

env-test:
	@$(PYTHON) tools/environment.py test

env-clients:
	@$(PYTHON) tools/environment.py client mlflow

demo: env-demo
	$(BIN)/loopline demo $(if $(SEED),--seed $(SEED))

check-style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-types:
	$(BIN)/mypy

check-imports:
	$(BIN)/lint-imports

lint: env-test
	$(SIDE_BY_SIDE) $(CHECKS)

test: env-test
	$(SIDE_BY_SIDE) check-types check-style check-imports env-clients
	$(BIN)/pytest -n 2 --durations=25 --durations-min=5 --dist worksteal $(ONLY)

clients: env-test env-clients
	@for version in $(OLDER); do $(PYTHON) tools/environment.py client mlflow $$version || exit 1; done
	REQUIRE=all $(BIN)/pytest tests/protocols/test_mlflow_client.py tests/protocols/test_mlflow_registry.py tests/protocols/test_exchange.py

format: env-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: env-test
	$(BIN)/python benchmarks/run.py $(ONLY)

lock: env-test
	$(BIN)/python tools/lock.py $(if $(UPGRADE),--upgrade)

clean:
	rm -rf .venv .clients dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
