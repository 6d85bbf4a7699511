PYTHON ?= python3
VENV ?= .venv
PLUGIN ?= frets
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
SOURCES = pyproject.toml constraints.txt
LOCK = requirements-ci.txt

.PHONY: help demo test acceptance compare lint types bench gpu docs sbom lock clean

help:
	@echo "make demo        train, report, register, serve and score on the embedded dataset"
	@echo "make test        run every test"
	@echo "make acceptance  full runs on real data: PLUGIN=$(PLUGIN)"
	@echo "make compare     every plugin with ten architectures and its baselines, on embedded data"
	@echo "make lint types  ruff and mypy"
	@echo "make bench       benchmarks, peers and us side by side"
	@echo "make gpu         smoke runs and benchmarks on a CUDA device"
	@echo "make docs        regenerate the generated parts of the documentation"
	@echo "make sbom        sbom.json: every dependency with version, licence and checksum (CycloneDX)"
	@echo "make lock        requirements-ci.txt anew, after a change of constraints.txt"
	@echo "make clean       remove what these commands made"

$(VENV)/.demo: $(SOURCES)
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "installing applied-papers into $(VENV) (once; a few minutes)"
	@$(PIP) "setuptools>=77"
	@$(PIP) --no-build-isolation -e ".[all]"
	@touch $@

# where the lock fits (CI says so), every archive is checked against its published sha256 before it is used
ifdef HASHED
$(VENV)/.dev: $(SOURCES) $(LOCK)
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked development environment into $(VENV) (once; a few minutes)"
	@$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r $(LOCK)
	@$(PIP) --no-build-isolation --no-deps --no-index -e .
	@$(VENV)/bin/python -m pip check
	@touch $(VENV)/.demo $@
else
$(VENV)/.dev: $(VENV)/.demo
	@$(PIP) --no-build-isolation -e ".[dev]"
	@touch $@
endif

demo: $(VENV)/.demo
	@$(VENV)/bin/python examples/demo.py

test: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --max-worker-restart 0 $(PYTEST)

acceptance: $(VENV)/.dev
	$(VENV)/bin/python -m benchmarks.acceptance $(PLUGIN)

compare: $(VENV)/.dev
	$(VENV)/bin/python -m benchmarks.compare_all
	$(VENV)/bin/python -m benchmarks.docs --text

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.dev
	$(VENV)/bin/mypy

bench: $(VENV)/.dev
	$(VENV)/bin/python benchmarks/cli_startup.py
	$(VENV)/bin/python benchmarks/frets_step.py
	$(VENV)/bin/python -m benchmarks.finalmlp_speed

gpu: $(VENV)/.dev
	$(VENV)/bin/python -m benchmarks.gpu

docs: $(VENV)/.dev
	$(VENV)/bin/python -m benchmarks.docs

sbom: $(VENV)/.dev
	$(VENV)/bin/python -m benchmarks.sbom --output sbom.json

lock: $(VENV)/.dev
	$(VENV)/bin/python -m benchmarks.lock

clean:
	rm -rf demo-output comparison comparison-suite runs mlruns build dist sbom.json *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find appliedpapers benchmarks tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
