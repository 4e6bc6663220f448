# make lab   opens the course in JupyterLab        make test  runs every check, the notebooks too
# make test-browser  opens notebooks in JupyterLab with Chromium: NOTEBOOKS="00 03" unless others, or all, are named
# make lock  renews requirements.lock              make bench prints the comparisons of speed and memory
# make setup installs the course and fetches the first model, as make lab does, and opens nothing
# make install-cells  writes the cell that installs the course into every notebook (see pyproject.toml, project.urls)
# make gpu   measures on a CUDA card, in six minutes, what only a card can show: data/results/gpu-CARD.json
# make gpu-dry runs the same program on the CPU with tiny shapes
#
# make gpu builds no .venv: it runs with PYTHON, whose torch knows the card, and which needs labkit's packages.
# What needs the extras quant and peft is skipped where they aren't installed.
#
# PYTHON=python3.12      another interpreter (3.11 or newer)
# TORCH_INDEX=ADDRESS    where torch comes from, such as the CPU-only index named on pytorch.org
# LOCK=                  the newest releases of everything, not those of the lock: make unit LOCK= VENV=.venv-newest
# UV=                    pip, even where uv is installed

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
LOCKED := $(if $(LOCK),--constraint $(LOCK))
TORCH := $(if $(LOCK),$(shell grep -m1 '^torch==' $(LOCK)),torch)
# uv is fast, but knows nothing of pip's settings, such as a school's mirror: where it fails, pip takes over.
# Without the lock it must not read pyproject.toml's tool.uv, which holds torch at the lock's release.
UV := $(shell command -v uv 2>/dev/null)
install = $(if $(UV),$(UV) pip install $(if $(LOCK),,--no-config) --python $(BIN)/python --quiet $(1) ||) \
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(1)
EXTRAS := lab,quant,peft,curation,serve,llama,trade
# Jupyter refuses to run as root, who is the only user in many containers, unless told so.
ROOT_FLAG := $(if $(filter 0,$(shell id -u)),--allow-root)
NBVAL := $(BIN)/python -m pytest --nbval --nbval-kernel-name python3 --nbval-cell-timeout 900 -p no:cacheprovider -x \
	-p tests.notebooks.peak
NOTEBOOKS ?= 00 03

.PHONY: lab setup test check unit notebooks test-browser install-cells lock bench gpu gpu-dry clean

lab: setup
	$(BIN)/jupyter lab $(ROOT_FLAG) --notebook-dir . --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

setup: $(VENV)/.lab
	$(BIN)/labkit fetch

test: check unit notebooks test-browser

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

unit: $(VENV)/.test
	$(BIN)/labkit fetch --all
	$(BIN)/python -m pytest tests -n 2 --dist worksteal

notebooks: $(VENV)/.test
	$(BIN)/labkit fetch --all
	$(NBVAL) notebooks

# -s shows how fast the widgets answer.
test-browser: $(VENV)/.browser
	$(BIN)/labkit fetch --all
	NOTEBOOKS="$(NOTEBOOKS)" $(BIN)/python -m pytest tests/browser -s -p no:cacheprovider

install-cells: $(VENV)/.test
	$(BIN)/python tools/install_cell.py

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/train_speed.py
	$(BIN)/python benchmarks/load_million.py
	$(BIN)/python benchmarks/curation_speed.py
	$(BIN)/python benchmarks/quant_speed.py
	$(BIN)/python benchmarks/generation_speed.py
	$(BIN)/python benchmarks/rl_speed.py
	$(BIN)/python benchmarks/serving_load.py
	$(BIN)/python benchmarks/memory_error.py

gpu:
	$(PYTHON) benchmarks/gpu.py

gpu-dry: $(VENV)/.test
	$(BIN)/python benchmarks/gpu.py --dry

lock: $(VENV)/.test
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--upgrade --no-header --no-annotate --quiet | grep -vE '^(nvidia|cuda|triton)' > $(LOCK).new
	mv $(LOCK).new $(LOCK)

# torch goes first and alone, so that a CPU build can be chosen before anything else asks for torch.
$(VENV)/.torch: $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "The course needs Python 3.11 or newer: make PYTHON=python3.12 names another one."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(call install,$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH))
	touch $@

$(VENV)/.lab: $(VENV)/.torch pyproject.toml
	$(call install,$(LOCKED) --editable ".[$(EXTRAS)]")
	touch $@

$(VENV)/.test: $(VENV)/.lab
	$(call install,$(LOCKED) --editable ".[test]")
	touch $@

$(VENV)/.browser: $(VENV)/.test
	$(call install,$(LOCKED) --editable ".[browser]")
	touch $@

$(VENV)/.bench: $(VENV)/.test
	$(call install,$(LOCKED) --editable ".[bench]")
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
