"""`runner new-model`: its templates run as they are, and CONTRIBUTING's example is followed word by word."""

import os
import re
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
    with pytest.raises(UserError, match="has 'lenet' already"):
        create("lenet", print)
    text = (folder / "zoo" / "tiny_net.py").read_text()
    (folder / "zoo" / "tiny_net.py").write_text(text.replace("1_498", "1_499"))
    code, said = call(*CONTRACTS, "-k", "tiny_net or cards_say or left")
    assert code == 1
    for line in (
        "tiny_net on mnist declares parameters=1,499, it has 1,498",
        "no digest for mnist/tiny_net: run python tests/test_zoo.py tiny_net",
        "run: runner models --write-cards (stale, missing or of no model: tiny_net)",
        "benchmarks/papers/tiny_net.toml:1: still to write: title",
        "zoo/tiny_net.py:1: still to write",
    ):
        assert line in said


@pytest.mark.slow  # a process for each command, each loading torch
def test_the_example_of_contributing_is_followed_word_by_word(clone, checkout):
    folder, call = clone
    example = (checkout / "CONTRIBUTING.md").read_text().split("### An example, word by word")[1].split("\n## ")[0]
    steps = re.findall(r"(?:In `([^`]+)`:\n\n)?```\w*\n(.*?)```", example, flags=re.DOTALL)
    assert [path for path, _ in steps] == ["", "zoo/cnn2.py", "benchmarks/papers/cnn2.toml", ""]
    for path, block in steps:
        if path:
            assert (folder / path).exists(), f"runner new-model didn't write {path}"
            (folder / path).write_text(block)
            continue
        for line in block.splitlines():
            words = re.findall(r'"[^"]*"|\S+', line)
            words = ["-m", "runner", *words[1:]] if words[0] == "runner" else words[1:]
            code, said = call(*(word.strip('"') for word in words))
            assert code == 0, f"{line}\n{said}"
    assert '"cnn2"' in (folder / "results" / "cards" / "cnn2.json").read_text()
