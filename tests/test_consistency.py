"""Records whose fields can't all be true, or are larger than any real one: `runner verify` names the field."""

import dataclasses
import json
from pathlib import Path

import pytest
from helpers import make_record, publish_records
from pydantic import ValidationError

from benchmarks.records import MAX_BYTES, RecordError, RunRecord, load, record_json, save
from runner.reporting.consistency import images_trained
from runner.reporting.verify import verify
from runner.training.batches import batch_bounds
from zoo import load_models
from zoo.recipe import Fixed, Shuffled

NIN = load_models()["nin_dropout"].variants["cifar10"].recipe
HERE = {"hardware": "NVIDIA H200", "torch": "2.11.0", "threads": 8, "numpy": "2.3.0"}


def own_record(**changes) -> RunRecord:
    return make_record(**({"recipe": NIN.to_dict()} | changes))


def trail_of(record: RunRecord, *stretches: dict) -> list[dict]:
    own = {"sources_sha256": record.source.sha256, "data_sha256": record.data.sha256}
    return [HERE | own | stretch for stretch in stretches]


def errors_of(results: Path, record: RunRecord) -> str:
    publish_records(results, record)
    return "\n".join(verify(results)[0])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"images_per_second": 1e308}, "images_per_second"),
        ({"train_seconds": 1e308}, "train_seconds"),
        ({"parameters": 10**400}, "parameters"),
        ({"attempts": 10**400}, "attempts"),
        ({"wrong": 10**400, "test_images": 10**400}, "wrong"),
        ({"key": "x" * 1001}, "key"),
        ({"environment__threads": 10**400}, "threads"),
        ({"environment__device": "abacus"}, "device"),
        ({"environment__hardware": "x" * 1001}, "hardware"),
        ({"environment__precision": {"tf32": "x" * 1001}}, "precision"),
        ({"environment__precision": {"arithmetic": "x" * 20_001}}, "precision"),
        ({"environment__precision": {f"p{i}": True for i in range(101)}}, "precision"),
        ({"data__provenance": "x" * 1001}, "provenance"),
        ({"protocol__training_images": 10**400}, "training_images"),
        ({"test_error": 1.0, "wrong": 10**800, "test_images": 1}, "test_error"),
    ],
)
def test_what_no_machine_has_is_refused_by_the_schema(tmp_path, changes, field):
    data = json.loads(record_json(own_record()))
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = data
        for parent in parents:
            place = place[parent]
        place[last] = value
    with pytest.raises(ValidationError, match=field):
        RunRecord.model_validate(data)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(data))
    with pytest.raises(RecordError, match=field):
        load(path)


def test_a_record_of_fifty_megabytes_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(" " * (MAX_BYTES + 1))
    with pytest.raises(RecordError, match=r"has 1,000,001 bytes, expected at most 1,000,000"):
        load(path)


@pytest.mark.parametrize("factor", [0.5, 0.98, 1.02, 1e6])
def test_a_speed_is_the_images_of_the_epochs_over_the_seconds(tmp_path, factor):
    """260 epochs of 50,000 images, in the helper's 600 s."""
    good = own_record()
    assert good.images_per_second == round(260 * 50_000 / 600, 1)
    assert errors_of(tmp_path / "good", good) == ""
    errors = errors_of(tmp_path / "bad", own_record(images_per_second=good.images_per_second * factor))
    assert "images_per_second: is" in errors
    assert "expected 21666.7 for 260 epochs of this recipe in 600 s" in errors


def test_images_of_an_epoch_are_those_of_its_batches():
    for order in (Shuffled(), Shuffled(drop_last=True), Fixed(), Fixed(file_images=30), Fixed(updates=7)):
        recipe = dataclasses.replace(NIN, order=order, batch_size=16)
        assert recipe.images_per_epoch(100) == sum(stop - start for start, stop in batch_bounds(100, recipe))


def test_a_second_stage_reads_the_images_that_the_first_left_out():
    variant = load_models()["maxout_mlp"].variants["mnist"]
    first = variant.recipe.epochs
    record = make_record(dataset="mnist", model="maxout_mlp", recipe=variant.recipe.to_dict(), training_images=60_000)
    left_out = variant.recipe.second_stage.images
    assert images_trained(record, first + 3) == first * (60_000 - left_out) + 3 * 60_000


def test_the_best_epoch_is_the_curves(tmp_path):
    """The helper's curve falls as 50 / epoch to its last but one, and ends at 10.4 %."""
    lowest = round(50 / 259, 6)
    for changes, says in (
        ({"best_epoch": 259, "best_test_error": lowest}, ""),
        ({"best_epoch": 3, "best_test_error": round(50 / 3, 6)}, "best_test_error: is 16.666667, expected 0.193"),
        ({"best_epoch": 260}, "best_epoch: is 260, best_test_error None: expected both or neither"),
        ({"best_epoch": 999, "best_test_error": 10.4}, "best_epoch: is 999, whose test error in"),
    ):
        errors = errors_of(tmp_path / str(changes), own_record(**changes))
        assert says in errors
        assert bool(says) == bool(errors)


def test_a_trail_agrees_with_its_record(tmp_path):
    good = own_record()
    for number, (stretches, changes, says) in enumerate(
        (
            ([{}], {}, ""),
            ([{"host": "one"}, {"host": "two"}], {"attempts": 2}, ""),
            ([{"host": "one"}, {"host": "two"}], {}, "trail: has 2 entries, expected at most 1"),
            ([{"hardware": "a toaster"}], {}, "trail: has no entry with the record's own hardware"),
            (
                [{"torch": "2.12.0"}, {}],
                {"attempts": 2},
                "forced_resume: is false, but torch changed along the trail",
            ),
            (
                [{"numpy": "2.0.0"}, {}],
                {"attempts": 2},
                "forced_resume: is false, but numpy changed along the trail",
            ),
            ([{"torch": "2.12.0"}, {}], {"attempts": 2, "forced_resume": True}, ""),
        )
    ):
        errors = errors_of(tmp_path / str(number), own_record(trail=trail_of(good, *stretches), **changes))
        assert says in errors
        assert bool(says) == bool(errors)


def test_a_trail_from_before_numpy_was_recorded_keeps_its_bytes(tmp_path):
    record = own_record(trail=[{"hardware": "NVIDIA H200"}])
    save(record, tmp_path / "r.json")
    assert "numpy" not in (tmp_path / "r.json").read_text()
    assert "numpy" in record_json(own_record(trail=[HERE]))
    assert load(tmp_path / "r.json") == record


@pytest.mark.parametrize(
    ("switch", "value"), [("float32", "tf32"), ("autocast", "bfloat16"), ("compiled", True), ("deterministic", False)]
)
def test_a_reference_run_with_switches_of_fast_is_found(tmp_path: Path, switch: str, value: object) -> None:
    record = own_record()
    plain = {"float32": "ieee", "autocast": "off", "compiled": False, "deterministic": "where it can be"}
    here = record.environment.model_copy(update={"precision": plain | {"channels_last": True}})
    assert errors_of(tmp_path / "good", own_record(environment=here)) == ""
    other = here.model_copy(update={"precision": plain | {switch: value}})
    assert f"environment.precision.{switch}: is {value}" in errors_of(tmp_path / "bad", own_record(environment=other))
    fast = own_record(profile="fast", environment=other)
    assert errors_of(tmp_path / "fast", fast) == ""
