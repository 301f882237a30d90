# Python 3.11 or 3.12 and make are all that has to be there; everything else comes with `setup`.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup bytecode demo test test-slow lint lock seeds kept-serving comes-back kills bench-load memory-edge study study-history gpu-pieces examples clean

help:  ## these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make .venv/ with everything that is locked

$(STAMP): requirements.lock requirements-torch.lock requirements-torch-cuda.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@tests/pytorch.sh $(PYTHON)
	touch $@

demo: setup  ## FP16 against FP8 of a real language model on a real Triton, on the GPU where there is one: minutes
	$(BIN)/triton-canary run fp8-canary

# Where PYTHONDONTWRITEBYTECODE is set, each of the hundreds of processes of the tests would compile the harness anew.
bytecode: setup
	$(BIN)/python -m compileall -q harness locustfiles

# Most of these wait for a Triton that loads or for a load that lasts: three at a time keep two cores at work.
test: bytecode  ## the tests (15 minutes at most on 2 cores)
	tests/system-packages.sh
	$(BIN)/python -m pytest -m "not slow" -n 3 --dist loadfile

test-slow: bytecode  ## the slow tail (25 minutes at most)
	tests/system-packages.sh
	$(BIN)/python -m pytest -m "slow and not alone" -n 3 --dist loadfile
	$(BIN)/python -m pytest -m "slow and alone"

lint: setup  ## ruff, mypy, import-linter
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

TORCH := 2.13.0
COMPILE := uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --no-annotate -p 3.11

# All extras but torch, which has locks of its own: one with the CPU's build, which pip must be able to find, and one
# with CUDA.
lock:  ## resolve the requirements' locks anew (needs uv, and UV_FIND_LINKS with the CPU's build of PyTorch)
	$(COMPILE) pyproject.toml $(foreach extra,embedded gpu s3 k8s dev,--extra $(extra)) --group weights \
	  -o requirements.lock
	echo torch==$(TORCH)+cpu | $(COMPILE) - -c requirements.lock --no-emit-find-links -o requirements-torch.lock
	echo torch==$(TORCH) | env -u UV_FIND_LINKS $(COMPILE) - -c requirements.lock -o requirements-torch-cuda.lock

seeds: setup  ## campaign: the verdicts of fp8-canary over seeds and builds; resumable
	$(BIN)/python tests/campaigns/seeds.py

kept-serving: setup  ## campaign: requests at v1 while v2 comes and goes, through models and through the naive calls
	$(BIN)/python -m tests.campaigns.kept_serving

comes-back: setup  ## campaign: the split moved under traffic, rollbacks, blue-green, on HAProxy and Envoy; resumable
	tests/system-packages.sh
	$(BIN)/python -m tests.campaigns.comes_back

kills: setup  ## campaign: SIGKILL before and after every line of the journal, of five scenarios
	tests/system-packages.sh
	TRITON_CANARY_KILLS=all $(BIN)/python -m pytest -m slow tests/run/test_kills.py tests/run/test_kills_switch.py

memory-edge: setup  ## campaign: where memory ends, foretold and measured, under three limits; resumable
	$(BIN)/python -m tests.campaigns.memory_edge

bench-load: setup  ## benchmark: this load generator beside perf_analyzer, tritonclient, Locust, wrk, k6, AIPerf
	tests/bench/load/peers.sh
	$(BIN)/python -m tests.bench.load

# Many small matrices: threads of their own would only wait for each other.
study: setup  ## campaign: the judge's error rates and its power in simulated worlds; resumable; QUICK=1: a minute
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.campaigns.study

study-history: setup  ## campaign: what a history of runs tells, true and false, in simulated histories; QUICK=1: seconds
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.campaigns.study_history

gpu-pieces: setup  ## what a GPU machine that reaches no registry needs, in pieces below 50 MiB, into .gpu/
	$(BIN)/python -m tests.campaigns.gpu.pack

examples: setup  ## campaign: a real run of each of the twelve scenarios, with its page; resumable
	tests/system-packages.sh
	$(BIN)/python -m tests.campaigns.examples

clean:
	rm -rf .venv build dist
