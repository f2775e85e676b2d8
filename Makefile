# One or two lines a target; `make setup` is what the others stand on.
.PHONY: help asked quickstart test test-slurm test-gpu lint format lock setup check-pr site results docs picture
BIN := .venv/bin
# Without bytecode kept, each of the processes would compile torch anew: seconds every time.
unexport PYTHONDONTWRITEBYTECODE
# uv where it is installed, else a private copy from pip in .tools (pip refuses its own environment on some systems).
UV := $(shell command -v uv || echo .tools/bin/uv)

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "make %-12s %s\n", $$1, $$2 }'

quickstart: setup  ## train small models on real digits and a classic on MNIST, and print the board with verdicts
	$(BIN)/runner quickstart

test: setup  ## every test that needs no GPU, network or real data; others: make test ARGS="-m realdata"
	$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

test-slurm: setup  ## against a SLURM of one node, which the tests start: as root, with Debian's slurmctld slurmd slurm-client munge
	$(BIN)/pytest -m slurm tests/test_slurm.py $(ARGS)

test-gpu: setup  ## on a machine with a GPU: what only a GPU can settle, in about ten minutes, and what to report of it
	$(BIN)/pytest -p no:xdist -m gpu $(ARGS)

lint: setup  ## ruff, rules and format, then mypy; `make format` mends most of it
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: setup  ## let ruff mend what it can
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

check-pr: setup  ## what a pull request is checked for: its models' contract tests, its records; BASE=COMMIT
	$(BIN)/python .ci/check_pr.py "$(BASE)"

lock:  ## choose the newest versions that pyproject.toml admits
	$(UV) pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	    --no-header --no-annotate --quiet -o requirements.lock

site: setup  ## the leaderboard in the browser
	$(BIN)/runner site

docs: setup  ## the list of commands in docs/commands.md, from their help texts
	$(BIN)/python .ci/commands_page.py

results: setup  ## the README's finding and table, from results/ alone
	$(BIN)/python .ci/readme_table.py

picture: setup  ## the README's picture of the board, from results/ (needs Chromium)
	REPROZOO_PICTURE=$(CURDIR)/.github/board.png $(BIN)/pytest -m browser tests/test_site_browser.py -k picture

# TORCH=cpu, cu126, ... or auto (what the driver knows) is uv's torch backend; the choice is kept in .venv. The lock's own
# libraries of CUDA are left out then: torch brings those of its build.
TORCH := $(shell cat .venv/.torch 2>/dev/null)
OTHER_TORCH = --torch-backend $(TORCH) --reinstall-package torch --reinstall-package torchvision -r -
setup: .venv/.installed  ## .venv with the pinned versions: 6 GB, most of it torch; TORCH=cpu takes less
.venv/.installed: requirements.lock pyproject.toml $(if $(filter command,$(firstword $(origin TORCH))),asked)
	command -v $(UV) >/dev/null || PYTHONPATH= python3 -m pip install --quiet --target .tools uv
	$(UV) venv --quiet --allow-existing --python '>=3.11' .venv
ifeq ($(TORCH),)
	VIRTUAL_ENV=.venv $(UV) pip install --quiet -r requirements.lock
else
	grep -vE '^(cuda-|triton|nvidia-[^m])' requirements.lock | VIRTUAL_ENV=.venv $(UV) pip install --quiet $(OTHER_TORCH)
	echo $(TORCH) > .venv/.torch
endif
	VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps --editable .
	touch $@
asked: ;
