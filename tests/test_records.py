"""The record file: saved records load again, and invalid ones are refused with file and field."""

import hashlib
import json
from pathlib import Path

import pytest
from helpers import RECIPE, make_record, publish_records
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmarks.canonical import canonical_json, sha256_of
from benchmarks.published import load_all
from benchmarks.records import Job, RecordError, load, record_json, save

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


def test_a_saved_record_loads_equal_and_is_readable(tmp_path: Path) -> None:
    record = make_record(10.41)
    path = tmp_path / "new" / "record.json"
    save(record, path)
    assert load(path) == record
    text = path.read_text()
    data = json.loads(text)
    assert data["test_error"] == 10.41
    assert list(data) == sorted(data)
    assert text.endswith("}\n")
    assert len(text) < 4_000
    assert list(path.parent.iterdir()) == [path]  # no temporary file stays


def test_a_jobs_fingerprint_is_the_digest_of_its_canonical_text() -> None:
    job = make_record().job
    assert hashlib.sha256(job.canonical().encode()).hexdigest() == job.fingerprint
    assert Job.model_validate_json(job.canonical()) == job
    assert job.recipe_sha256 == sha256_of(RECIPE)


@settings(max_examples=50)
@given(values)
def test_canonical_json_survives_reading_and_writing(value: object) -> None:
    text = canonical_json({"a": value})
    assert canonical_json(json.loads(text)) == text


@pytest.mark.parametrize("field", [{"seed": 1}, {"revision": 2}, {"profile": "fast"}, {"overrides": {"epochs": 2}}])
def test_every_field_of_a_job_changes_its_fingerprint(field: dict) -> None:
    assert make_record(**field).fingerprint != make_record().fingerprint


def test_keys_are_readable_and_safe_as_paths() -> None:
    job = make_record(overrides={"learning_rate": 0.25, "milestones": [10, 15], "preprocessing": "../x y"}).job
    assert job.key == ("cifar10/nin_dropout/reference+learning_rate=0.25+milestones=10,15+preprocessing=.._x_y-seed0")
    assert make_record().file_stem == f"reference-seed0-{make_record().run[:8]}"


@pytest.mark.parametrize("name", ["../evil", "A", "", "a" * 65, "a/b", "a.b"])
def test_names_that_are_not_safe_as_paths_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        make_record(model=name)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"test_error": 10.4', '"test_error": 9.4', "test_error is 9.4, but wrong / test_images gives 10.4"),
        ('"wrong": 1040', '"wrong": null', "test_error"),
        ('"outcome": "finished"', '"outcome": "diverged"', "null if and only if the outcome is 'diverged'"),
        ('"outcome": "finished"', '"outcome": "great"', "outcome: "),
        ('"seed": 0', '"seed": -1', "job.seed: "),
        ('"learning_rate": 0.1', '"learning_rate": NaN', "job.recipe: "),
        ('"learning_rate": 0.1', '"learning_rate": 1e999', "job.recipe: "),
        ('"learning_rate": 0.1', '"learning_rate": ' + "1" * 5_000, "can't be read"),
        ('"learning_rate": 0.1', '"learning_rate": ' + "[" * 9_000, "can't be read"),
        ('"attempts": 1', '"attempts": 1, "colour": "red"', "colour: "),
        ('"schema_version": 1', '"schema_version": 7', "schema_version is 7, expected 1"),
        ('"finished": "2026', '"finished": "2025', "finished is before started"),
    ],
)
def test_the_message_for_a_wrong_value_names_file_and_field(tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = record_json(make_record(10.4))
    assert old in text
    path = tmp_path / "record.json"
    path.write_text(text.replace(old, new))
    with pytest.raises(RecordError) as caught:
        load(path)
    assert problem in str(caught.value)
    assert all(line.startswith(str(path)) for line in str(caught.value).splitlines())


def test_a_diverged_run_has_an_epoch_and_no_error() -> None:
    record = make_record(outcome="diverged")
    assert (record.test_error, record.wrong, record.diverged_epoch) == (None, None, 3)
    with pytest.raises(ValidationError, match="diverged_epoch"):
        make_record(outcome="diverged", diverged_epoch=None)


def test_all_valid_published_records_are_read_and_each_broken_one_gives_a_line(tmp_path: Path) -> None:
    publish_records(tmp_path, make_record(), make_record(seed=1))
    (tmp_path / "cifar10" / "nin_dropout" / "torn.json").write_text("{")
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "nin_dropout.json").write_text("{}")
    records, problems = load_all(tmp_path)
    assert [record.job.seed for record in records] == [0, 1]
    assert len(problems) == 1
    assert "torn.json" in problems[0]
