# make setup    .venv with everything, from the locked and hashed requirements
# make demo     fit, serve, feed and listen on real data
#               (DATA=my.csv TARGETS=a,b for your own; N_STEPS=24 HORIZON=4 for a short one)
# make test     lint, types, tests
#               (TIMES=10 for the tests ten times or until one fails, JOBS=8 for a machine that is loaded by them,
#               AGAIN=1 for a second try, one by one, of those that failed)
# make soak     the long fault campaigns on real servers (SHARE=0.1 for a tenth, FLAVOUR=redis, JOBS=4)
# make bench    speed, latency, memory beside ONNX Runtime alone, a bare relay and peers; about 25 minutes
#               (QUICK=1 for one minute, WRITE=1 into docs/benchmarks.md, JSON=file, ONLY="rates latency")
# make accuracy DATA=folder   fits the published tables' rows and replays them live, into docs/accuracy.md; about
#               half an hour (SEEDS=3, ONLY="ETTh1 taxi" without writing)
# make cases CASES=folder   looks at, fits and feeds each file of a folder, and compares it with plain.csv there
# make mutants  makes 300 small mistakes in the trainer and the worker's core and tells which no test finds; well
#               over half an hour (SEED=2 for others, SAMPLE=20, ONLY="worker/pipeline trainer/fit.py", JOBS=4)
# make image-test   the container images and the compose file, built and run for real on a Docker engine,
#               its own where none runs (as root, on Debian); five minutes
# make audit    known weaknesses of the locked packages, by their public database
# make sbom     the worker's packages as CycloneDX, into sbom.json
# make format   rewrite to the project's format
# make lock     resolve the newest versions into requirements*.lock
# make .venv-peers/.ready   the environment of the programs that the benchmark compares with
# make .venv-checks/.ready  the environment of what checks containers, manifests and packages
SEEDS ?= 3
.PHONY: setup demo test lint types tests soak bench accuracy cases mutants image-test audit sbom format lock clean

# TensorFlow has no packages for Python 3.14 yet.
usable = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,\
  $(if $(shell $(p) -c '$(usable)' 2>/dev/null && echo yes),$(p))) python3)
BIN := .venv/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Tests start hundreds of processes, each of which would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

setup: .venv/.ready

# What takes pip minutes takes uv seconds; but uv knows none of pip's settings, such as an index of your own. It
# compiles when it is told to, as pip does; else TensorFlow's modules are compiled at their first import, or at each
# one where Python may write no bytecode: eight seconds in place of three.
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check
define install
	$(PYTHON) -m venv $(1)
	{ $(1)/bin/python $(PIP_INSTALL) --require-hashes -r requirements-uv.lock \
	  && $(1)/bin/uv pip install --quiet --compile-bytecode --python $(1) --require-hashes -r $(2); } \
	  || $(1)/bin/python $(PIP_INSTALL) --require-hashes -r $(2)
endef

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c '$(usable)' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed, and '$(PYTHON)' is none; make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "'$(PYTHON)' has no venv module; Debian and Ubuntu keep it in the package python3-venv" >&2; exit 2; }
	@echo "installing the locked packages (about 3 GB on disk)"
	$(call install,.venv,requirements.lock)
	$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

# Bytewax has no packages for Python 3.13 yet.
peers_usable = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PEERS_PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.11,\
  $(if $(shell $(p) -c '$(peers_usable)' 2>/dev/null && echo yes),$(p))) python3)

.venv-peers/.ready: PYTHON = $(PEERS_PYTHON)
.venv-peers/.ready: requirements-peers.lock
	@$(PEERS_PYTHON) -c '$(peers_usable)' || \
	  { echo "the peers need Python 3.11 or 3.12, and '$(PEERS_PYTHON)' is neither; make $@ PEERS_PYTHON=python3.12" >&2; exit 2; }
	$(call install,.venv-peers,requirements-peers.lock)
	@touch $@

.venv-checks/.ready: requirements-checks.lock
	$(call install,.venv-checks,requirements-checks.lock)
	@touch $@

demo: setup
	@$(BIN)/python deploy/demo.py $(if $(DATA),--data "$(DATA)") $(if $(TARGETS),--targets "$(TARGETS)") \
	  $(if $(N_STEPS),--n-steps "$(N_STEPS)") $(if $(HORIZON),--horizon "$(HORIZON)")

# Types are checked beside the tests, which wait now and then.
test: lint
	@$(MAKE) --no-print-directory --jobs 2 types tests

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy tidecast tests deploy

tests: setup .venv-checks/.ready
	@for turn in $$(seq $(or $(TIMES),1)); do \
	  $(BIN)/pytest --numprocesses $(or $(JOBS),auto) --dist loadgroup || \
	  { [ $$? = 1 ] && [ -n "$(AGAIN)" ] && echo "those that failed, once more and one by one:" && \
	    $(BIN)/pytest --last-failed --last-failed-no-failures none; } || exit 1; done

soak: setup
	$(BIN)/python -m tests.redis.soak --share $(or $(SHARE),1) --flavour $(or $(FLAVOUR),valkey) --jobs $(or $(JOBS),4)

bench: setup .venv-peers/.ready
	$(BIN)/python -m tests.benchmarks $(if $(QUICK),--quick) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(ONLY),--only $(ONLY)) $(if $(WRITE),--write) $(if $(JSON),--json $(JSON))

accuracy: setup
	@test -n "$(DATA)" || { echo 'which records? make accuracy DATA=folder-with-ETTh1.csv-and-others' >&2; exit 2; }
	$(BIN)/python -m tests.accuracy --data "$(DATA)" --seeds $(SEEDS) $(if $(ONLY),--only $(ONLY),--write) \
	  $(if $(JSON),--json $(JSON))

cases: setup
	@test -n "$(CASES)" || { echo 'which files? make cases CASES=folder-with-plain.csv-and-others' >&2; exit 2; }
	$(BIN)/python -m tests.cases "$(CASES)"

mutants: setup
	$(BIN)/python -m tests.mutants --sample $(or $(SAMPLE),300) --seed $(or $(SEED),1) --jobs $(or $(JOBS),2) \
	  $(if $(ONLY),--only $(ONLY))

image-test: setup
	$(BIN)/python -m tests.deploy.images

# An index without the database would let every package pass, so --strict makes that an error.
audit: .venv-checks/.ready
	@.venv-checks/bin/pip-audit --strict --require-hashes --disable-pip -r requirements-worker.lock \
	  -r requirements-trainer.lock || { echo "audit: a weakness, or no database to ask (see above)" >&2; exit 1; }

sbom: .venv-checks/.ready
	.venv-checks/bin/cyclonedx-py requirements requirements-worker.lock --outfile sbom.json
	@echo "sbom.json lists what the worker is made of"

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

COMPILE = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links

# The peers are measured with the worker's own versions of what both use.
lock: setup
	$(COMPILE) pyproject.toml --extra embedded --extra trainer --extra dev -o requirements.lock
	$(COMPILE) pyproject.toml --extra peers --constraint requirements.lock -o requirements-peers.lock
	$(COMPILE) pyproject.toml --constraint requirements.lock -o requirements-worker.lock
	$(COMPILE) pyproject.toml --extra trainer --constraint requirements.lock -o requirements-trainer.lock
	echo setuptools | $(COMPILE) - --constraint requirements.lock -o requirements-build.lock
	$(COMPILE) --group pyproject.toml:checks -o requirements-checks.lock
	echo uv | $(COMPILE) - -o requirements-uv.lock

clean:
	rm -rf .venv .venv-peers .venv-checks .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info demo-output
