# Everything happens in .venv; nothing else has to be installed but Python 3.11+, pip and make.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check docs floors bench format generate clean

demo: .venv/.cpu  ## the main job, end to end, on a real server
	$(BIN)/oneglance demo

test: .venv/.dev  ## every test, on all processors
	$(BIN)/pytest --numprocesses auto --dist loadfile

check: .venv/.dev  ## style, types, generated code, the contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy proto/oneglance core/oneglance_core index/oneglance_index exporter/oneglance_exporter server/oneglance_server apps/oneglance_apps tests benchmarks scripts
	cd proto && ../$(BIN)/buf lint
	scripts/check-generated
	$(BIN)/hadolint deploy/images/Dockerfile

docs: .venv/.docs  ## the site of README, docs/, the Python client and the contract, in build/docs/site
	$(BIN)/python scripts/docs_site.py

floors: .venv/.dev  ## the lowest versions that pyproject.toml allows, installed and tried
	scripts/check-floors

bench: .venv/.dev  ## measure against bare ONNX Runtime and bare FAISS
	$(BIN)/python -m benchmarks

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate:  ## after a change to proto/ or to the async client
	scripts/generate

clean:
	rm -rf .venv .venv-floors .venv-gen

.venv/bin/pip:
	@echo "1 of 2: an environment of Python's own in .venv (seconds)"
	$(PYTHON) -m venv .venv

.venv/.cpu: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "2 of 2: oneglance[cpu] into .venv: about 100 MB to download, 350 MB of disk; a minute, several on a slow machine"
	$(PIP) --editable '.[cpu]'
	@touch $@

.venv/.docs: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "2 of 2: oneglance[docs] into .venv (a minute)"
	$(PIP) --editable '.[docs]'
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "2 of 2: oneglance[dev] into .venv: torch and what tests need, 3 GB of disk; many minutes the first time"
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/.cpu
