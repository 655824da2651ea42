# Two commands do everything on a bare clone with Python 3.11, git and make:
#   make demo   installs into .venv and runs the quickstart campaign
#   make test   installs into .venv, lints, type-checks and runs every test
# A third also installs Slurm on the machine, where it may: make test-integration
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
CAMPAIGN ?= examples/quickstart.yaml

.PHONY: help install demo lint test test-integration test-lowest docs clean

help:
	@echo "make demo   install into .venv, run $(CAMPAIGN), print where its report is"
	@echo "make test   install into .venv, lint, type-check, check imports, run every test"
	@echo "make test-integration  a campaign through real mongod, Slurm and qlaunch; as root it"
	@echo "            installs Slurm by apt-get; where there is none it skips and says why"
	@echo "make test-lowest  the tests with the oldest dependencies that pyproject.toml allows"
	@echo "make docs   build the documentation into site/ (also checks its links)"
	@echo "make lint   only the static checks"
	@echo "make clean  remove .venv and caches; campaigns stay"

# torch first and by itself: as a dependency it would be resolved to its newest build.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[embedded,dev]'
	touch $@

install: $(VENV)/installed

demo: install
	$(BIN)/defect-mf run $(CAMPAIGN)

lint: install
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/defect-mf validate examples/quickstart.yaml
	$(BIN)/defect-mf validate examples/zns.yaml
	$(BIN)/defect-mf validate examples/alloy.yaml
	$(BIN)/pytest --numprocesses 2 --dist loadfile --durations 40

test-integration: install
	tests/integration/install_slurm.sh
	$(BIN)/pytest -m 'slurm or long or mongod' tests

# torch keeps its pin: its oldest builds are for other machines.
LOWEST := .venv-lowest/bin
test-lowest:
	test -x $(LOWEST)/python || $(PYTHON) -m venv .venv-lowest
	$(LOWEST)/python -m pip install --quiet uv
	grep '^torch==' constraints.txt > .venv-lowest/torch.txt
	$(LOWEST)/uv pip install --quiet --python $(LOWEST)/python --resolution lowest-direct \
	  --constraint .venv-lowest/torch.txt --editable '.[embedded,dev]'
	$(LOWEST)/pytest --numprocesses 2 --dist loadfile -m 'not slow and not slurm and not long'

docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --clean

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
