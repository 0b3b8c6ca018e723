# make run: serves the embedded store over mTLS with development certificates.   make test: everything that is checked.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml $(wildcard constraints.txt protos/fetch/*/*.proto protos/*.py)

RUST := $(wildcard transport/Cargo.* transport/pyproject.toml transport/src/*.rs transport/src/*/*.rs transport/fetch_transport/*.py)
RUST_IS_NEW_ENOUGH := rustc --version 2>/dev/null | awk '{ split($$2, v, "."); exit !(v[1] > 1 || v[2] >= 85) } END { if (!NR) exit 1 }'
PIP := $(BIN)/pip --quiet --disable-pip-version-check
# the versions that were tested together; make LOCKED= installs the newest that pyproject.toml allows
LOCKED := $(addprefix --constraint ,$(wildcard constraints.txt))
# what fetch-etcd was called before: its entry points beside the new ones would be two interceptors of each name
UNINSTALL_OLD := $(BIN)/pip uninstall --quiet --yes fetch 2>/dev/null || true

.PHONY: run test test-kube simulate peers bench certs observe docs lock wheels clean

run: $(VENV)/installed $(VENV)/transport certs
	$(BIN)/fetch serve --cert-file certs/server.crt --key-file certs/server.key --trusted-ca-file certs/ca.crt --data-dir data

certs: $(VENV)/installed
	@$(BIN)/fetch certs >/dev/null

# everything on both transports, what clients see also with two workers; TEST names parts: make test TEST='lint grpcio'
test: $(VENV)/installed-test $(VENV)/transport
	@$(BIN)/python -m tests $(TEST)

# a real kube-apiserver, with every transport that is installed, with one worker and with two
test-kube: $(VENV)/installed-test $(VENV)/transport
	@$(BIN)/python -m tests --minutes 240 kube

# FoundationDB, daemons and clients in one process, with whatever may befall them: SEEDS of it, from SEED on
simulate: $(VENV)/installed-test
	@$(BIN)/python -m tests.simulation $(or $(SEED),0) $(or $(SEEDS),1000)

# the documentation as a site, in dist/site; links and code in it are checked
docs: $(VENV)/installed-test
	@$(PIP) install $(LOCKED) --editable '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict && echo 'dist/site/index.html'
	@$(BIN)/python -m pytest -q tests/docs

# the real programs that tests and the benchmark use, as PEERS names them or all, built with Go outside of the tree
peers:
	@$(PYTHON) -m tests.peers $(PEERS)

# beside etcd and kine where there are any, with Go; BENCH are options: make bench BENCH="table neighbours"
bench: $(VENV)/installed $(VENV)/transport
	$(BIN)/python -m bench $(BENCH)

# fetch under a real Prometheus, and a real collector where there is one
observe: $(VENV)/installed-test
	$(BIN)/python -m tests.observability.prometheus

# pip comes last into a virtual environment: without it one is half made, as Debian's is without python3-venv
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'fetch needs Python 3.11 or newer: PYTHON=… names one' >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) && test -x $@ || { rm -rf $(VENV); \
	  echo 'no virtual environment could be made; on Debian: apt install python3-venv, then make again' >&2; exit 1; }

$(VENV)/installed: $(SOURCES) | $(BIN)/pip
	@echo 'installing fetch and what it needs into $(VENV): less than a minute'
	@$(UNINSTALL_OLD)
	@$(PIP) install $(LOCKED) --editable .
	@touch $@

$(VENV)/installed-test: $(SOURCES) | $(BIN)/pip
	@echo 'installing fetch and what its tests need into $(VENV): a minute or less'
	@$(UNINSTALL_OLD)
	@$(PIP) install $(LOCKED) --editable '.[test]'
	@touch $@ $(VENV)/installed

# without a Rust toolchain, or where the build fails, fetch runs on grpcio's own server; the next make tries again
$(VENV)/transport: $(RUST) | $(BIN)/pip
	@if ! { $(RUST_IS_NEW_ENOUGH); }; then echo 'no Rust toolchain (1.85 or newer): fetch runs on grpcio'; \
	elif echo 'building the native transport with Rust: about a minute on two cores' && \
	  $(PIP) install $(LOCKED) './transport[test]' >$(VENV)/transport.log 2>&1; then touch $@; \
	else tail -n 20 $(VENV)/transport.log; $(PIP) uninstall --yes fetch-transport 2>/dev/null; \
	  echo 'THE NATIVE TRANSPORT COULD NOT BE BUILT (all that was said: $(VENV)/transport.log): fetch runs on grpcio'; fi

# constraints.txt anew: the newest versions that pyproject.toml allows, for what runs fetch and what tests it
lock: | $(BIN)/pip
	@$(PIP) install --dry-run --ignore-installed --report $(VENV)/resolved.json '.[docs,fdb,test]' './transport[test]'
	@$(BIN)/python -m tests.lock $(VENV)/resolved.json > $(VENV)/constraints.txt && mv $(VENV)/constraints.txt constraints.txt

wheels: | $(BIN)/pip
	$(PIP) wheel --no-deps --wheel-dir dist . ./transport

# what is made anew by the next make; never data/, which is what fetch has stored
clean:
	rm -rf $(VENV) dist transport/target .mypy_cache .pytest_cache .ruff_cache .hypothesis fetch/*/*_pb2.py fetch/*/*_pb2.pyi
