# The targets are short. All of them need `make setup`, except help and lock.
.PHONY: help asked quickstart test test-slurm test-gpu lint format lock setup check-pr site results docs picture
BIN := .venv/bin
# Without cached bytecode, each process would compile torch again, which takes seconds.
unexport PYTHONDONTWRITEBYTECODE
# uv if it is installed, else a private copy from pip in .tools (some systems do not let pip change their environment).
UV := $(shell command -v uv || echo .tools/bin/uv)

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "make %-12s %s\n", $$1, $$2 }'

quickstart: setup  ## train small models on real digits and a classic on MNIST, and print errors with verdicts
	$(BIN)/runner quickstart

test: setup  ## run all tests that need no GPU, network or real data; others: make test ARGS="-m realdata"
	$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

test-slurm: setup  ## run the SLURM tests on a one-node SLURM that they start: needs root and Debian's slurmctld slurmd slurm-client munge
	$(BIN)/pytest -m slurm tests/test_slurm.py $(ARGS)

test-gpu: setup  ## run the tests that need a GPU, in about ten minutes, and print what to report
	$(BIN)/pytest -p no:xdist -m gpu $(ARGS)

lint: setup  ## run ruff (rules and format) and mypy; `make format` fixes most findings
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: setup  ## let ruff fix what it can
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

check-pr: setup  ## check what a pull request changes: contract tests of its models, its records; BASE=COMMIT
	$(BIN)/python .ci/check_pr.py "$(BASE)"

lock:  ## pin the newest versions that pyproject.toml admits
	$(UV) pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	    --no-header --no-annotate --quiet -o requirements.lock

site: setup  ## show the leaderboard in the browser
	$(BIN)/runner site

docs: setup  ## write docs/commands.md from the help texts
	$(BIN)/python .ci/commands_page.py

results: setup  ## write the README's results from results/
	$(BIN)/python .ci/readme_table.py

picture: setup  ## take the README's picture of the leaderboard from results/ (needs Chromium)
	REPROZOO_PICTURE=$(CURDIR)/.github/board.png $(BIN)/pytest -m browser tests/test_site_browser.py -k picture

# TORCH=cpu, cu126, ... or auto (by the driver) is uv's torch backend; the choice is kept in .venv. The CUDA libraries of the
# lock file are then left out, because torch requires those of its own build.
TORCH := $(shell cat .venv/.torch 2>/dev/null)
OTHER_TORCH = --torch-backend $(TORCH) --reinstall-package torch --reinstall-package torchvision -r -
setup: .venv/.installed  ## install the pinned versions into .venv: 6 GB, most of it torch; TORCH=cpu takes less
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
