"""`runner show KEY`: which record a text means, and what is said of it."""

import json
from pathlib import Path

import pytest
from helpers import make_record, make_seeds, publish_records, run_locally
from rich.console import Console

from benchmarks.errors import UserError
from benchmarks.records import RunRecord
from runner.reporting.showing import facts, find, show


def test_a_key_its_beginning_and_a_files_name_mean_one_record(tmp_path: Path) -> None:
    results, runs = tmp_path / "results", tmp_path / ".runs"
    published = make_seeds([10.0, 11.0])
    local = make_record(12.0, seed=7)
    publish_records(results, *published)
    run_locally(runs, local)
    for text in ("cifar10/nin_dropout/reference-seed1", f"cifar10/nin_dropout/{published[1].file_stem}"):
        assert find(text, results, runs)[1] == published[1]
    assert find("cifar10/nin_dropout/reference-seed7", results, runs)[1] == local
    with pytest.raises(UserError, match=r"matches 3 records: .*; give one of them"):
        find("cifar10/nin", results, runs)
    with pytest.raises(
        UserError, match="unknown record 'cifar10/nin_dropot/reference-seed1': did you mean 'cifar10/nin_dropout"
    ):
        find("cifar10/nin_dropot/reference-seed1", results, runs)
    with pytest.raises(UserError, match="no job has ended in this checkout"):
        find("x", tmp_path / "no", tmp_path / "nothing")


def test_a_run_that_is_local_and_published_is_one_record(tmp_path: Path) -> None:
    results, runs = tmp_path / "results", tmp_path / ".runs"
    record = make_record(10.0)
    publish_records(results, record)
    run_locally(runs, record)
    path, found = find(record.key, results, runs)
    assert (found, path.is_relative_to(results)) == (record, True)


def test_a_record_is_shown_as_a_table_and_as_json(own_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_record(10.4, overrides={"holdout": 10_000}, submitted_by="A\x1b[31m")
    publish_records(own_root / "results", record)
    show(record.key, False, Console(width=120))
    text = capsys.readouterr().out
    assert "10.40 %, 1,040 of 10,000 held-out training images wrong" in text
    assert "holdout=10000" in text
    assert "NVIDIA H200, 8 threads" in text
    assert "\x1b[31m" not in text
    show(record.key, True, Console())
    assert RunRecord.model_validate(json.loads(capsys.readouterr().out)) == record


def test_a_run_that_diverged_has_no_error(tmp_path: Path) -> None:
    said = dict(facts(make_record(outcome="diverged"), tmp_path))
    assert said["error"] == "none: the loss was not finite"
    assert said["outcome"] == "diverged in epoch 3"
    assert said["training time"].endswith(", 1 attempt")
