# Two commands do everything, each from a clean clone: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
# What pip downloads, as it does, and its last line, cut.
PIP_LINES := sed -nu -e 's/^ *Downloading \([^ ]*\).*/    \1/p' -e 's/^\(Successfully .\{,58\}\).*/    \1/p'

# exporter/demo/machine.py has all rules of this kind, and needs a Python that can read it.
TOO_OLD := import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python3.12" if sys.version_info < (3, 9) else 0)

# A pipe fails with its first command, not only with its last.
SHELL := bash
.SHELLFLAGS := -o pipefail -ec

# Where it is set, as in many images, each process that a test starts would compile every module again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast check format e2e soak gpu sbom release site reference bench bench-quick dashboards pictures clean

help:
	@echo "make demo    a real Triton with sample models, probed by the daemon: prints where to look, runs until Ctrl-C"
	@echo "make test-fast  lint and most tests that need no server, in 90 seconds"
	@echo "make test    lint, type-check, import contracts and all tests"
	@echo "make check   the same without the tests"
	@echo "make e2e     longer proofs end to end, with a real Prometheus"
	@echo "make soak    ten minutes of scrapes by a real Prometheus, added up against the archive; ten minutes with servers of"
	@echo "             all kinds in one daemon, one of which dies and comes back; make test on a plain Debian; two hours of"
	@echo "             restarts, reloads and faults, every figure compared with a model; then all parsers, fuzzed (SOAK_SECONDS=90 FUZZ_SECONDS=60: a trial)"
	@echo "make gpu     NVML's figures against nvidia-smi's, and CUDA shared memory, where there is an NVIDIA driver"
	@echo "make sbom    the bills of materials of both images, by CycloneDX: build/sbom.cdx.json, build/sbom-dask.cdx.json"
	@echo "make release wheel, source archive, chart and bills of materials, in dist/; publishes nothing (RELEASING.md)"
	@echo "make site    the documentation site, in build/site"
	@echo "make reference  writes the generated pages of docs/"
	@echo "make format  formats the code"
	@echo "make dashboards  writes the dashboards' JSON from dashboards/generate/"
	@echo "make pictures    draws the status page and the dashboards for docs/ (needs node, npm, chromium with its driver and prometheus;
	@echo "                 a quarter of an hour)"
	@echo "make bench   against perf_analyzer (PERF_ANALYZER=its path), wrk and tritonclient: docs/performance.md"
	@echo "             (MEMORY_REQUESTS=5000000: the memory section at full length, 10 minutes more)"
	@echo "make bench-quick  its main sections in two minutes, printed only; the machine itself is measured first"

# The product alone. Written last, so that an interrupted installation is done again.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "==> virtual environment in $(VENV) (once; half a minute)"
	@$(PYTHON) -c '$(TOO_OLD)'
	@$(PYTHON) -m exporter.demo.machine product
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m exporter.demo.machine index
	@$(PIP) install --progress-bar off -c constraints.txt -e . | $(PIP_LINES)
	@$(BIN)/triton-canary --version
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "==> tools for tests and checks (once)"
	@$(PIP) install --progress-bar off -c constraints.txt -e '.[dev]' | $(PIP_LINES)
	@touch $@

# What this machine lacks is reported before the first download.
demo: PYTHON := $(if $(wildcard $(VENV)/.installed),$(BIN)/python,$(PYTHON))
demo:
	@$(PYTHON) -c '$(TOO_OLD)'
	@$(PYTHON) -m exporter.demo.machine demo
	@$(MAKE) -s --no-print-directory $(VENV)/.installed PYTHON=$(PYTHON)
	@exec $(BIN)/triton-canary demo

check: $(VENV)/.installed-dev
	@echo "==> lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "==> types"
	@$(BIN)/mypy
	@echo "==> import contracts"
	@$(BIN)/lint-imports --no-logo
	@echo "==> spelling and wording"
	@$(BIN)/codespell exporter docs examples bench packaging dashboards/rules helm .github *.md
	@$(BIN)/python packaging/check_wording.py
	@echo "==> workflows and templates"
	@packaging/check-repository.sh $(BIN)

# Starts no server, and nothing is type-checked: for the time between two changes. tests/conftest.py says what is fast.
test-fast: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/pytest -m fast --durations=5 --durations-min=2

test: check
	@echo "==> tests (some seven minutes; the first run makes the environments of real servers: two minutes more)"
	@tests/parallel "not e2e and not soak and not gpu"

# The walk through the documents, the plain systems and the image take long each, and begin first: tests/conftest.py.
e2e: $(VENV)/.installed-dev
	@echo "==> longer proofs, end to end (a quarter of an hour)"
	@tests/parallel e2e

# On any machine with an NVIDIA driver; needs no network once `make check` ran.
gpu: $(VENV)/.installed-dev
	@if $(BIN)/python -c 'import pynvml; pynvml.nvmlInit()' 2>/dev/null; then \
		echo "==> NVML and CUDA shared memory (some minutes)"; \
		timeout 300 $(BIN)/pytest -m gpu -rs tests/gpu; \
	else \
		echo "no NVIDIA driver on this machine: nothing to show here"; \
	fi

FUZZ_SECONDS ?= 1200

soak: $(VENV)/.installed-dev
	@echo "==> ten minutes of scrapes, ten with servers of all kinds, and two hours of faults"
	@$(BIN)/pytest -m soak
	@echo "==> every parser, guided by coverage ($(FUZZ_SECONDS) s)"
	@$(PIP) install --progress-bar off -c constraints.txt -e '.[fuzz]' | awk '/^ *Downloading/ {print "    " $$2; fflush()}'
	@$(BIN)/python -m tests.fuzz.run $(FUZZ_SECONDS)

sbom: $(VENV)/.installed-dev
	@packaging/sbom.sh $(BIN) build

# Strictly: a broken link or an unknown reference fails.
site: $(VENV)/.installed-dev
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html -d build/doctrees -c docs . build/site
	@echo "build/site/index.html"

reference: $(VENV)/.installed-dev
	@$(BIN)/python docs/generate.py

release: $(VENV)/.installed-dev
	@packaging/release.sh

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

dashboards: $(VENV)/.installed-dev
	@$(BIN)/python -m dashboards.generate

pictures: $(VENV)/.installed-dev
	@echo "==> the status page"
	@$(BIN)/python -m dashboards.pictures.status_page
	@echo "==> Grafana's chart components (once: some 700 MB below dashboards/pictures/node_modules)"
	@npm install --prefix dashboards/pictures --no-package-lock --legacy-peer-deps --ignore-scripts --no-audit --no-fund --loglevel error
	@echo "==> Triton, daemon and Prometheus for 12 minutes, then the pictures"
	@$(BIN)/python -m dashboards.pictures

bench: $(VENV)/.installed-dev
	@$(BIN)/python -m bench.compare $(if $(PERF_ANALYZER),--perf-analyzer "$(PERF_ANALYZER)") \
		$(if $(MEMORY_REQUESTS),--memory-requests $(MEMORY_REQUESTS))

bench-quick: $(VENV)/.installed-dev
	@$(BIN)/python -m bench.compare --quick $(if $(PERF_ANALYZER),--perf-analyzer "$(PERF_ANALYZER)")

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
