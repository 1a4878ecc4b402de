# Two commands for a newcomer: `make demo` and `make test`. Everything they need, they install.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Three workers for two cores, since many tests wait for processes. Tests of one file stay on one worker,
# since they share servers; in the order of tests/conftest.py.
PYTEST := $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check bench bench-peers faults soak stubs lock clean real replicate wheel sbom
.DEFAULT_GOAL := help

help:
	@echo "make demo    watch requests move between grids (about two minutes, no network needed)"
	@echo "make test    every check and test"
	@echo "make check   lint, types, import contracts, generated stubs"
	@echo "make bench   the benchmarks, with the machine named"
	@echo "make bench-peers  the same beside Envoy, vllm-router, sglang-router and LiteLLM (installs 1.2 GB)"
	@echo "make replicate  published studies re-run, their figures beside ours (DATA=folder, docs/evidence.md)"
	@echo "make sbom    a wheel, its hash, and what it and the image consist of (CycloneDX, out/sbom)"
	@echo "make faults  a million steps of random faults, every outage over real processes, many random cases"

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "carbon-router needs Python >= 3.11; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e '.[demo]'
	@touch $@

# Not compiled: most of it is never imported.
$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --no-compile -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/carbon-router demo

# What downloads and what computes go on side by side.
test:
	$(MAKE) -j2 check real
	$(PYTEST)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/generate_stubs --check
	$(BIN)/python tools/config_reference.py --check
	$(BIN)/python tools/metrics_reference.py --check
	$(BIN)/python tools/scenario_reference.py --check
	$(BIN)/python tools/ledger_reference.py --check
	$(BIN)/python tools/licences.py --check
	$(BIN)/python tools/audit.py

# Servers and clients that nobody here wrote, each in a virtual environment of its own.
real:
	tests/real/install || echo "REAL PARTS NOT INSTALLED: their tests will say so"

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.decide
	$(BIN)/python -m benchmarks.start
	$(BIN)/python -m benchmarks.gateway_cost
	$(BIN)/python -m benchmarks.http_cost

# Other routers, each in a virtual environment of its own, that the script fills; never part of `make test`.
bench-peers: $(VENV)/.dev
	$(BIN)/python -m benchmarks.peers

# Without the folder of data (docs/evidence.md) only what needs none is run, and the rest is named.
replicate: $(VENV)/.dev
	$(BIN)/carbon-router replicate $(if $(DATA),--data $(DATA))

# More of what `make test` does in part: faults in virtual time, and real processes that break.
faults: $(VENV)/.dev
	RANDOM_FAULT_STEPS=1100000 $(BIN)/pytest --timeout 900 tests/director/test_random_faults.py
	LEASE_HISTORIES=1000000 $(BIN)/pytest --timeout 900 tests/core/test_lease.py
	CREDENTIAL_EXAMPLES=150000 TOKEN_EXAMPLES=150000 $(BIN)/pytest --timeout 3600 tests/identity
	EXAMPLES_FACTOR=20 $(PYTEST) --timeout 3600 $$(grep -rl '^from tests.examples import' tests)
	RANDOM_ENDINGS=100000 $(BIN)/pytest --timeout 3600 tests/planes/envoy/test_random_endings.py
	FUZZ_INPUTS=10000000 $(BIN)/pytest --timeout 3600 tests/planes/envoy/test_fuzz.py
	ALL_FAULTS=1 $(BIN)/pytest --timeout 3600 tests/deferral/redis/test_killed.py
	ALL_FAULTS=1 $(BIN)/pytest tests/e2e tests/planes/envoy tests/lab/demo/test_demo.py tests/real/test_demo_openai.py

# Ends with code 1 where a promise was broken; tables, plot and logs: out/soak.
soak: $(VENV)/.dev
	$(BIN)/python -m tests.e2e.faults.soak --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

stubs: $(VENV)/.dev
	$(BIN)/python tools/generate_stubs

# Pins for every Python from 3.11 on; run after changing a dependency. constraints.txt has no hashes:
# with them pip installs neither `-e .` nor anything that is not pinned itself. What is installed by
# its hashes is in the other files, in the same versions (tests/supply_chain).
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header
HASHED := $(LOCK) --generate-hashes -c constraints.txt
# What the image serves with: every setting of a gateway that needs an extra.
IMAGE_EXTRAS := --extra fast --extra jwt --extra kubernetes --extra dns --extra otel --extra ledger
BUILD_REQUIRES := 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))'
lock: $(VENV)/.dev
	$(PIP) install uv
	$(LOCK) --all-extras pyproject.toml -o constraints.txt
	$(HASHED) $(IMAGE_EXTRAS) pyproject.toml -o docker/requirements.lock
	$(BIN)/python -c $(BUILD_REQUIRES) | $(HASHED) - -o docker/build.lock
	echo cyclonedx-bom | $(HASHED) - -o tools/sbom.lock
	$(BIN)/python tools/licences.py

# The same bytes from the same commit, with what builds it held to its hashes.
wheel:
	$(PYTHON) -m venv out/build
	out/build/bin/pip --disable-pip-version-check --quiet install --require-hashes --only-binary=:all: -r docker/build.lock
	rm -rf dist
	env -u SOURCE_DATE_EPOCH out/build/bin/pip --disable-pip-version-check --quiet wheel --no-deps --no-index --no-build-isolation -w dist .
	cd dist && sha256sum *.whl | tee SHA256SUMS

# IMAGE=folder: files of a built image, for the Python and the C libraries in it (SECURITY.md).
sbom: wheel
	$(PYTHON) -m venv out/sbom/tool
	out/sbom/tool/bin/pip --disable-pip-version-check --quiet install --require-hashes --only-binary=:all: -r tools/sbom.lock
	out/sbom/tool/bin/python tools/sbom.py dist/*.whl $(IMAGE)

clean:
	rm -rf $(VENV) .venv-real .venv-kserve .venv-carbon .venv-ray .venv-llm .venv-kube .venv-if .venv-peers-* out dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
