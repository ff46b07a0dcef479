# make setup    .venv with everything, from the locked and hashed requirements
# make demo     fit, serve, feed and listen on real data
#               (DATA=my.csv TARGETS=a,b for your own; N_STEPS=24 HORIZON=4 for a short one)
# make test     lint, types, tests
# make soak     the long fault campaigns on real servers (SHARE=0.1 for a tenth, FLAVOUR=redis, JOBS=4)
# make bench    speed, latency, memory beside ONNX Runtime alone, a bare relay and peers; about 25 minutes
#               (QUICK=1 for one minute, WRITE=1 into docs/benchmarks.md, JSON=file, ONLY="rates latency")
# make accuracy DATA=folder   fits the published tables' rows and replays them live, into docs/accuracy.md; about
#               half an hour (SEEDS=3, ONLY="ETTh1 taxi" without writing)
# make mutants  makes 300 small mistakes in the trainer and the worker's core and tells which no test finds; about
#               half an hour (SEED=2 for others, SAMPLE=20, ONLY="worker/pipeline trainer/fit.py", JOBS=4)
# make image-test   the container images, built and run for real with buildah, and the compose file on a Docker
#               engine, its own where none runs (as root, on Debian); ten minutes
# make audit    known weaknesses of the locked packages, by their public database
# make sbom     the worker's packages as CycloneDX, into sbom.json
# make format   rewrite to the project's format
# make lock     resolve the newest versions into requirements*.lock
# make .venv-peers/.ready   the environment of the programs that the benchmark compares with
# make .venv-checks/.ready  the environment of what checks containers, manifests and packages
SEEDS ?= 3
.PHONY: setup demo test lint types tests soak bench accuracy mutants image-test audit sbom format lock clean

# TensorFlow has no packages for Python 3.14 yet.
usable = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,\
  $(if $(shell $(p) -c '$(usable)' 2>/dev/null && echo yes),$(p))) python3)
BIN := .venv/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c '$(usable)' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed, and '$(PYTHON)' is none; make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "'$(PYTHON)' has no venv module; Debian and Ubuntu keep it in the package python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	@echo "installing the locked packages (about 3 GB on disk)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Bytewax has no packages for Python 3.13 yet.
peers_usable = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PEERS_PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.11,\
  $(if $(shell $(p) -c '$(peers_usable)' 2>/dev/null && echo yes),$(p))) python3)

.venv-peers/.ready: requirements-peers.lock
	@$(PEERS_PYTHON) -c '$(peers_usable)' || \
	  { echo "the peers need Python 3.11 or 3.12, and '$(PEERS_PYTHON)' is neither; make $@ PEERS_PYTHON=python3.12" >&2; exit 2; }
	$(PEERS_PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-peers.lock
	@touch $@

.venv-checks/.ready: requirements-checks.lock
	$(PYTHON) -m venv .venv-checks
	.venv-checks/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-checks.lock
	@touch $@

demo: setup
	@$(BIN)/python deploy/demo.py $(if $(DATA),--data "$(DATA)") $(if $(TARGETS),--targets "$(TARGETS)") \
	  $(if $(N_STEPS),--n-steps "$(N_STEPS)") $(if $(HORIZON),--horizon "$(HORIZON)")

test: setup lint types tests

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy tidecast tests deploy

tests: setup .venv-checks/.ready
	$(BIN)/pytest --numprocesses auto --dist loadgroup

soak: setup
	$(BIN)/python -m tests.redis.soak --share $(or $(SHARE),1) --flavour $(or $(FLAVOUR),valkey) --jobs $(or $(JOBS),4)

bench: setup .venv-peers/.ready
	$(BIN)/python -m tests.benchmarks $(if $(QUICK),--quick) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(ONLY),--only $(ONLY)) $(if $(WRITE),--write) $(if $(JSON),--json $(JSON))

accuracy: setup
	@test -n "$(DATA)" || { echo 'which records? make accuracy DATA=folder-with-ETTh1.csv-and-others' >&2; exit 2; }
	$(BIN)/python -m tests.accuracy --data "$(DATA)" --seeds $(SEEDS) $(if $(ONLY),--only $(ONLY),--write) \
	  $(if $(JSON),--json $(JSON))

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
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) pyproject.toml --extra embedded --extra trainer --extra dev -o requirements.lock
	$(COMPILE) pyproject.toml --extra peers --constraint requirements.lock -o requirements-peers.lock
	$(COMPILE) pyproject.toml --constraint requirements.lock -o requirements-worker.lock
	$(COMPILE) pyproject.toml --extra trainer --constraint requirements.lock -o requirements-trainer.lock
	echo setuptools | $(COMPILE) - --constraint requirements.lock -o requirements-build.lock
	$(COMPILE) --group pyproject.toml:checks -o requirements-checks.lock

clean:
	rm -rf .venv .venv-peers .venv-checks .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info demo-output
