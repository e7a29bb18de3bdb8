.DEFAULT_GOAL := help
.PHONY: help setup run test unit lint format lock clean bench bench-full
SAMPLE := output/sample
ADCLICK := .venv/bin/adclick

help: ## List these targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv from requirements.lock; costs nothing the second time
	@./bootstrap.sh

run: setup ## Do the main job on sample data: from CSVs and images to a served model
	@$(ADCLICK) sample-data --output $(SAMPLE)
	@$(ADCLICK) run --config $(SAMPLE)/config.yaml --compare
	@$(ADCLICK) predict --config $(SAMPLE)/config.yaml

test: lint ## Run every check and test
	@.venv/bin/python -m pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder

unit: setup ## Run the tests that take seconds
	@.venv/bin/python -m pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not end_to_end"

lint: setup ## Check format, style and types
	@.venv/bin/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy --no-error-summary

format: setup ## Format the code
	@.venv/bin/ruff format --quiet .
	@.venv/bin/ruff check --quiet --fix .

lock: setup ## Resolve the dependencies of both stacks anew into requirements.lock
	@.venv/bin/uv lock --quiet --upgrade
	@.venv/bin/uv export --quiet --format requirements-txt --no-emit-project --no-header --output-file requirements.lock

clean: ## Remove what make run wrote
	@rm -rf output

bench: setup ## Measure against stock TFX, Keras, LightGBM and DeepCTR, the short form
	@.venv/bin/python -m benchmarks $(if $(REAL_DATA),--real-data $(REAL_DATA))

bench-full: setup ## The same in full size, hours
	@.venv/bin/python -m benchmarks --full $(if $(REAL_DATA),--real-data $(REAL_DATA))
