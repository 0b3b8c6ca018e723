# make run: serves the embedded store over mTLS with development certificates.   make test: everything that is checked.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml $(wildcard protos/fetch/api/*.proto protos/*.py)

RUST := $(wildcard transport/Cargo.* transport/pyproject.toml transport/src/*.rs transport/fetch_transport/*.py)
RUST_IS_NEW_ENOUGH := rustc --version 2>/dev/null | awk '{ split($$2, v, "."); exit !(v[1] > 1 || v[2] >= 85) } END { if (!NR) exit 1 }'

.PHONY: run test test-kube bench certs observe wheels clean

run: $(VENV)/installed $(VENV)/transport certs
	$(BIN)/fetch serve --cert-file certs/server.crt --key-file certs/server.key --trusted-ca-file certs/ca.crt --data-dir data

certs: $(VENV)/installed
	@$(BIN)/fetch certs >/dev/null

# everything on both transports, what clients see also with two workers
WITH_WORKERS := tests/contract tests/property --without-etcd

test: $(VENV)/installed-test $(VENV)/transport
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	FETCH_TRANSPORT=grpcio $(BIN)/pytest --ignore tests/kube
	FETCH_TRANSPORT=grpcio FETCH_WORKERS=2 $(BIN)/pytest $(WITH_WORKERS)
	@if $(BIN)/python -c 'import fetch_transport' 2>/dev/null; then set -ex; \
	  FETCH_TRANSPORT=native $(BIN)/pytest --ignore tests/kube --without-etcd; \
	  FETCH_TRANSPORT=native FETCH_WORKERS=2 $(BIN)/pytest $(WITH_WORKERS); \
	  $(BIN)/pytest -c transport/pyproject.toml transport/tests; \
	else echo 'NOT RUN on the native transport: no Rust toolchain (1.85 or newer) has built it'; fi

# a real kube-apiserver, with every transport that is installed, with one worker and with two
test-kube: $(VENV)/installed-test $(VENV)/transport
	@set -ex; for transport in $(TRANSPORTS); do for workers in 1 2; do \
	  FETCH_TRANSPORT=$$transport FETCH_WORKERS=$$workers $(BIN)/pytest tests/kube; \
	done; done

TRANSPORTS = grpcio $(shell $(BIN)/python -c 'import fetch_transport' 2>/dev/null && echo native)

# beside etcd and kine where they are on the PATH; LOADGEN is the path of the load generator, BENCH are further options
bench: $(VENV)/installed $(VENV)/transport
	LOADGEN='$(LOADGEN)' $(BIN)/python -m bench $(BENCH)

# fetch under a real Prometheus, and a real collector where there is one
observe: $(VENV)/installed-test
	$(BIN)/python -m tests.observability.prometheus

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(SOURCES) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-test: $(SOURCES) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/installed

# without a Rust toolchain fetch runs on grpcio's own server
$(VENV)/transport: $(RUST) | $(BIN)/python
	@if $(RUST_IS_NEW_ENOUGH); then echo 'building the native transport' && $(BIN)/pip install --quiet --disable-pip-version-check './transport[test]'; \
	else echo 'no Rust toolchain (1.85 or newer): fetch runs on grpcio'; fi
	@touch $@

wheels: | $(BIN)/python
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist . ./transport

clean:
	rm -rf $(VENV) data fetch/api/*_pb2.py fetch/api/*_pb2.pyi
