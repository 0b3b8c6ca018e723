# make run: serves the embedded store over mTLS with development certificates.   make test: everything that is checked.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml $(wildcard protos/fetch/api/*.proto protos/*.py)

.PHONY: run test test-kube certs clean

run: $(VENV)/installed certs
	$(BIN)/fetch serve --cert-file certs/server.crt --key-file certs/server.key --trusted-ca-file certs/ca.crt --data-dir data

certs: $(VENV)/installed
	@$(BIN)/fetch certs >/dev/null

test: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --ignore tests/kube --ignore tests/bench

test-kube: $(VENV)/installed-test
	$(BIN)/pytest tests/kube -v

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(SOURCES) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-test: $(SOURCES) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) data fetch/api/*_pb2.py fetch/api/*_pb2.pyi
