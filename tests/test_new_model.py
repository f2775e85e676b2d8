"""`runner new-model`: its templates run unchanged, and CONTRIBUTING's example is followed exactly."""

import os
import shutil
import subprocess
import sys

import pytest

from benchmarks.errors import UserError
from runner.new_model import create

FOLDERS = ("benchmarks", "runner", "zoo", "tests", "results")
CONTRACTS = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_zoo.py"]


@pytest.fixture
def clone(checkout, tmp_path):
    """A copy of this checkout's sources: `call(words)` runs a command in it, returns (exit code, all that was printed)."""
    folder = tmp_path / "clone"
    for name in FOLDERS:
        shutil.copytree(checkout / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(checkout / "pyproject.toml", folder)
    environment = os.environ | {"PYTHONPATH": str(folder), "REPROZOO_ROOT": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}

    def call(*words):
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return folder, call


@pytest.mark.slow  # it runs pytest over the new model
def test_the_templates_run_and_the_contract_tests_name_what_is_to_be_written(clone, monkeypatch):
    folder, call = clone
    monkeypatch.setenv("REPROZOO_ROOT", str(folder))
    create("tiny_net", lambda _: None)
    with pytest.raises(UserError, match=r"tiny_net\.py exists"):
        create("tiny_net", print)
    with pytest.raises(UserError, match="the zoo already has 'lenet'"):
        create("lenet", print)
    text = (folder / "zoo" / "tiny_net.py").read_text()
    (folder / "zoo" / "tiny_net.py").write_text(text.replace("1_498", "1_499"))
    code, said = call(*CONTRACTS, "-k", "tiny_net or cards_match or left")
    assert code == 1
    for line in (
        "tiny_net on mnist declares parameters=1,499, it has 1,498",
        "no digest for mnist/tiny_net: run: runner check tiny_net",
        "run: runner models --write-cards (stale, missing or of no model: tiny_net)",
        "benchmarks/papers/tiny_net.toml:1: still to write: title",
        "zoo/tiny_net.py:1: still to write",
    ):
        assert line in said


def test_two_models_may_be_of_one_paper(own_root):
    for folder in ("zoo", "benchmarks/papers"):
        (own_root / folder).mkdir(parents=True)
    lines = []
    create("one_net", lines.append, paper="someone2000")
    source = own_root / "benchmarks" / "papers" / "someone2000.toml"
    before = source.read_text()
    create("other_net", lines.append, paper="someone2000")
    assert source.read_text() == before
    assert f"kept: {source}, which exists already; name the model in its [[reported]] rows" in lines
    assert all(
        'paper="someone2000"' in (own_root / "zoo" / f"{name}.py").read_text() for name in ("one_net", "other_net")
    )
    with pytest.raises(UserError, match="'Lin 2013' can't be the key of a source"):
        create("third_net", print, paper="Lin 2013")
