# Every target works on a fresh machine with Python 3.11 or 3.12, git and make: it first sets up what it needs.
PYTHON ?= python3
VENV := .venv
LOCK := requirements/default.txt
ROCM_LOCK := requirements/rocm.txt
READY := $(VENV)/.ready
# Left out of the lock file: a CUDA build of torch installs its own, and a CPU or ROCm build must not get them.
TORCH_BRINGS := cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx
# Left out of the ROCm lock as well: AMD's image has its own torch and Triton, which are kept; xformers' wheel is CUDA code,
# and nvidia-ml-py asks NVIDIA's driver.
ROCM_LEAVES_OUT := torch triton xformers nvidia-ml-py
RESOLVE = env -u UV_FIND_LINKS uv pip compile pyproject.toml --extra dev --extra docs --extra server --universal --python-version 3.11 \
	--no-annotate --no-header --quiet $(foreach package,$(TORCH_BRINGS),--no-emit-package $(package))

# uv does not read pip's settings, so pip's folder of wheels is passed on.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
# Nothing leaves this machine.
export AXOLOTL_DO_NOT_TRACK ?= 1
export DO_NOT_TRACK ?= 1
export DVC_NO_ANALYTICS ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
# Its line "View run ... at:" has the address with the password in it.
export MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT ?= true
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
# Nothing is imported from the current folder, where a datasets.py would stand in for the package.
export PYTHONSAFEPATH := 1
# Compiled modules are kept, whatever the shell says: without them the tools take twice as long to import, every time.
export PYTHONDONTWRITEBYTECODE :=
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help setup demo test test-all lint docs ui clean lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv from the lock file, when it is missing or older

$(READY): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 13); sys.exit(0 if ok else f"Python 3.11 or 3.12 is needed, this is {sys.version.split()[0]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --requirement $(LOCK) --editable .
	@echo "the tools are imported once, and their answers about the demo's config are cached: half a minute"
	@$(VENV)/bin/tunetrail plan >/dev/null
	@touch $@

demo: $(READY) ## run the demo through `mlflow run` and show its scores
	@test -s mlflow.db || python -m tunetrail.tracking.connection
	mlflow run . --env-manager local --experiment-name tunetrail -P experiment=demo

test: $(READY) ## run the tests, except the slow ones
	python -m pytest -n 2 --dist loadfile -m "not slow"

test-all: $(READY) ## run every test
	python -m pytest -n 2 --dist loadfile

lint: $(READY) ## check style, imports and files
	pre-commit run --all-files

docs: $(READY) ## build the site of docs/ in work/site
	python docs/write_tables.py
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet
	@echo "python -m http.server --directory work/site    and then http://127.0.0.1:8000"

ui: $(READY) ## open the MLflow UI on http://127.0.0.1:5000
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_BACKEND_STORE_URI="$$MLFLOW_TRACKING_URI" mlflow ui --workers 1 --host 127.0.0.1 --port 5000

lock: $(READY) ## resolve pyproject.toml into new lock files
	$(RESOLVE) --output-file $(LOCK)
	$(RESOLVE) --constraints $(LOCK) $(foreach package,$(ROCM_LEAVES_OUT),--no-emit-package $(package)) --output-file $(ROCM_LOCK)

clean: ## remove the files of runs (data, models, reports, DVC's cache), but not the MLflow record
	rm -rf data outputs eval_results report work .dvc/cache .dvc/tmp .pytest_cache .ruff_cache
