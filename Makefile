# make run is all that a newcomer needs: it makes .venv, installs, and serves. Everything else is for whoever works on it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

# Programs that tests drive: clients, a PostgreSQL server, a PKCS#11 module.
SYSTEM := strongswan-pki libstrongswan-standard-plugins libstrongswan-extra-plugins postgresql softhsm2 opensc openssl curl \
          nginx-light haproxy gcc libc6-dev lego caddy acme-tiny uacme dehydrated apache2-bin ca-certificates

.PHONY: install run test lint bench system clean

install: $(VENV)/.installed

run: install
	@$(BIN)/muster serve $(ARGS)

test: system lint
	@# A thousand processes are started, and each would compile what it imports where bytecode is not written by the way.
	$(BIN)/python -m compileall -q bench gateway protocols signer
	$(BIN)/python -m pytest --numprocesses=$$(nproc) --cov --cov-report=term $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# One table of every number of the performance plan, in about eight minutes; `make bench ARGS=--full` takes hours.
# `python -m bench --help` lists the benches behind it, each with options of its own.
bench: $(VENV)/.dev
	$(BIN)/python -m bench $(ARGS)

# As root on Debian or Ubuntu what is missing is installed; anyone else is told, and the tests that need it say so.
# Offline, systemd starts none of them: Caddy and PostgreSQL come as services, and the tests start their own.
system:
	@missing=; for package in $(SYSTEM); do \
	  dpkg-query --show --showformat='$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed \
	    || missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  SYSTEMD_OFFLINE=1 DEBIAN_FRONTEND=noninteractive \
	    apt-get install --yes --quiet --no-install-recommends $$missing; \
	else \
	  echo "some tests need these packages:$$missing"; \
	fi

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Muster needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@# Debian packs venv's pip apart from Python.
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet python3-venv; } \
	  || { echo "this Python has no venv: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps are written last, so that an interrupted installation is taken up again; a second run finds them and starts at once.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo 'installing Muster and its libraries into $(VENV); half a minute or so, once'
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
