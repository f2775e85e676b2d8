"""Publishing copies what may be published and no more; verifying finds whatever was changed since."""

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from helpers import make_record, publish_records, run_locally

from benchmarks.errors import UserError
from benchmarks.leaderboard import curve_path, read
from benchmarks.records import DataFacts, RunRecord, Source, load
from runner.jobs.find import all_jobs, of_models
from runner.jobs.paths import runs_folder
from runner.reporting import publish as publishing
from runner.reporting import verify as verifying
from runner.reporting.publish import publish
from runner.reporting.verify import verify
from zoo import load_models

RECIPE = load_models()["nin_dropout"].variants["cifar10"].recipe.to_dict()


def own_record(error: float = 10.4, **changes: Any) -> RunRecord:
    """A record of the zoo's own nin_dropout on CIFAR-10: nothing about it is wrong."""
    return make_record(error, **({"recipe": RECIPE} | changes))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def edit(path: Path, **changes: Any) -> None:
    """Change fields of a record's file by hand; dots lead into nested objects."""
    data = json.loads(path.read_text())
    for name, value in changes.items():
        *parents, last = name.split("__")
        inner = data
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    path.write_text(json.dumps(data))


def publish_one(results: Path, record: RunRecord | None = None) -> Path:
    record = record or own_record()
    publish_records(results, record)
    return results / record.job.dataset / record.job.model / f"{record.file_stem}.json"


# --- publish -------------------------------------------------------------------------------------------------------------


def test_whole_recipes_and_held_out_runs_are_published_others_are_not(results: Path) -> None:
    whole = [
        own_record(),
        own_record(90.0, seed=1, outcome="collapsed"),
        own_record(seed=2, outcome="diverged"),
    ]
    held_out = own_record(12.0, overrides={"holdout": 10_000, "optimizer.learning_rate": 0.2})
    short = own_record(50.0, overrides={"epochs": 1, "optimizer.learning_rate": 0.5})
    run_locally(runs_folder(), *whole, held_out, short)
    done = publish(all_jobs(), results)
    assert sorted(item.key for item in done if item.action == "published") == sorted(r.key for r in [*whole, held_out])
    [skipped] = [item for item in done if item.action == "skipped"]
    assert (skipped.key, skipped.reason) == (
        short.key,
        "the recipe was changed (epochs=1, optimizer.learning_rate=0.5)",
    )
    for item in done:
        if item.path:
            assert load(item.path).run[:8] in item.path.name
            assert curve_path(item.path).exists()
    assert verify(results) == ([], [])


def test_publishing_twice_changes_nothing(results: Path) -> None:
    run_locally(runs_folder(), own_record())
    publish(all_jobs(), results)
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert [item.action for item in publish(all_jobs(), results)] == ["already"]
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


def test_a_torn_copy_is_written_again(results: Path) -> None:
    run_locally(runs_folder(), own_record())
    [first] = publish(all_jobs(), results)
    first.path.write_text("{")
    curve_path(first.path).unlink()
    assert [item.action for item in publish(all_jobs(), results)] == ["published"]
    assert verify(results) == ([], [])


def test_another_run_under_the_same_name_is_never_overwritten(results: Path) -> None:
    record = own_record()
    run_locally(runs_folder(), record)
    theirs = publish_one(results, own_record(run=record.run8 + "0" * 24))
    before = theirs.read_bytes()
    [item] = publish(all_jobs(), results)
    assert item.action == "skipped"
    assert "holds another run" in item.reason
    assert theirs.read_bytes() == before


def test_a_job_without_record_or_with_another_curve_is_skipped(results: Path) -> None:
    run_locally(runs_folder(), own_record(), own_record(seed=1), own_record(seed=2))
    first, second, third = all_jobs()
    first.record.unlink()
    second.curve.write_text("epoch\n")
    third.curve.unlink()
    reasons = [item.reason for item in publish(all_jobs(), results)]
    assert "has not ended" in reasons[0]
    assert "has changed since" in reasons[1]
    assert "can't be read" in reasons[2]
    assert not results.exists()


def test_publishing_says_what_it_did(own_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publishing.show([])
    assert "runner submit" in capsys.readouterr().out
    run_locally(runs_folder(), own_record(), own_record(50.0, overrides={"epochs": 1}))
    publishing.show(all_jobs())
    out = capsys.readouterr().out
    assert f"published {own_root / 'results'}" in out
    assert "1 published, 0 already published, 1 skipped" in out


# --- verify ------------------------------------------------------------------------------------------------------------


def test_good_records_have_no_problem(results: Path) -> None:
    good = [own_record(10.0 + seed / 10, seed=seed) for seed in range(3)]
    publish_records(
        results, *good, own_record(90.0, seed=3, outcome="collapsed"), own_record(seed=4, outcome="diverged")
    )
    publish_records(results, own_record(11.0, overrides={"holdout": 10_000}))
    assert verify(results) == ([], [])
    assert verify(results / "cifar10") == ([], [])
    assert verify(next(results.rglob("*.json"))) == ([], [])


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"fingerprint": "a" * 64}, "fingerprint", "from the record's job"),
        ({"key": "cifar10/nin_dropout/reference-seed7"}, "key", "from the record's job"),
        ({"recipe_sha256": "a" * 64}, "recipe_sha256", "from the record's job"),
        ({"job__seed": 7}, "fingerprint", "from the record's job"),
        (
            {"job__recipe__optimizer__learning_rate": 0.2},
            "job.recipe.optimizer.learning_rate",
            "expected 0.1, as in the zoo at revision 1",
        ),
        ({"job__recipe__optimizer__momentum": 1}, "job.recipe.optimizer.momentum", "is 1, expected 0.9"),
        ({"job__revision": 99}, "job.revision", "expected at most the zoo's 1"),
        ({"job__model": "nin_dropuot"}, "job.model", "did you mean 'nin_dropout'"),
        ({"job__dataset": "cifar01"}, "job.dataset", "did you mean 'cifar10'"),
        (
            {"job__overrides": {"optimizer.learning_rate": 0.1}},
            "job.overrides.optimizer.learning_rate",
            "the recipe's own",
        ),
        (
            {"job__overrides": {"learning_rate": 0.2}},
            "job.overrides.learning_rate",
            "expected the whole name 'optimizer.learning_rate'",
        ),
        ({"job__overrides": {"learning_rat": 0.2}}, "job.overrides.learning_rat", "mean 'learning_rate'"),
        ({"job__overrides": {"optimizer.momentum": 2.0}}, "job.overrides", "optimizer.momentum is 2.0"),
        ({"protocol__augmentation": "flip"}, "protocol.augmentation", "expected 'none' from the recipe"),
        ({"protocol__training_images": 40_000}, "protocol.training_images", "expected 50000"),
        ({"protocol__evaluation": "validation"}, "protocol.evaluation", "expected test"),
        ({"parameters": 1}, "parameters", "expected 966,986"),
        ({"test_images": 5_000, "test_error": 20.8}, "test_images", "expected 10000"),
        ({"wrong": 900, "test_error": 9.0}, "test_error", "the last row"),
        ({"wrong": 900}, "record", "test_error is 10.4, but wrong / test_images gives 9.0"),
        ({"final_train_loss": 0.5}, "final_train_loss", "the last row"),
        ({"outcome": "collapsed"}, "outcome", "which contradicts"),
        ({"chance_loss": 0.05, "outcome": "collapsed"}, "chance_loss", "or a little less"),
        ({"chance_loss": 2.4}, "chance_loss", "expected 2.302585 (for 10 equally frequent classes)"),
        (
            {"chance_loss": 2.25, "final_train_loss": 2.2056},
            "outcome",
            "which contradicts the final training loss of 2.2056 (chance: 2.2050)",
        ),
        ({"best_epoch": 2, "best_test_error": 1.0}, "best_epoch", "is 25.0, expected"),
        ({"curve_sha256": "a" * 64}, "curve_sha256", "is aaaaaaaa..."),
        ({"started": "2199-01-01T00:00:00Z", "finished": "2199-01-02T00:00:00Z"}, "finished", "in the future"),
        ({"train_seconds": 1e7}, "train_seconds", "after it started"),
        ({"data__verified": False}, "data.provenance", "is missing"),
        ({"wrong": -1, "test_error": -0.01}, "wrong", "greater than or equal to 0"),
        ({"extra": 1}, "extra", "not permitted"),
        ({"schema_version": 2}, "schema_version", "is 2"),
    ],
)
def test_whatever_was_changed_by_hand_is_found(results: Path, change: dict, field: str, problem: str) -> None:
    path = publish_one(results)
    edit(path, **change)
    errors, _ = verify(results)
    assert any(f"{path}: {field}" in line and problem in line for line in errors), errors


def test_a_changed_missing_or_foreign_curve_is_found(results: Path) -> None:
    path = publish_one(results)
    curve = curve_path(path)
    good = curve.read_text()
    for text, problem in (
        (good.replace(",1.5,", ",1.6,"), "curve_sha256: is"),
        (good.replace("learning_rate", "rate"), "does not have the columns"),
        ("\n".join(good.splitlines()[:-1]), "has 259 rows, expected one for each epoch from 1 to 260"),
        (good.replace(",1.5,", ",nan,"), "has an infinity or NaN"),
        (good.replace(",1.5,", ",x,"), "isn't a table of numbers"),
        ("", "does not have the columns"),
        (good.replace(",1.5,", ",-1.5,"), "an impossible value in epoch 1"),
        (good.replace(",60.0,", ",160.0,"), "an impossible value in epoch 1"),
    ):
        curve.write_text(text)
        assert any(problem in line for line in verify(results)[0]), problem
    curve.unlink()
    assert any("curve: " in line and "can't be read" in line for line in verify(results)[0])


def test_a_diverged_runs_curve_ends_where_the_loss_did(results: Path) -> None:
    path = publish_one(results, own_record(outcome="diverged"))
    edit(path, diverged_epoch=17)
    assert any("expected one for each epoch from 1 to 17" in line for line in verify(results)[0])


def test_a_record_in_another_folder_or_under_another_name_is_found(results: Path) -> None:
    path = publish_one(results)
    moved = results / "cifar10" / "nin" / "reference-seed0.json"
    moved.parent.mkdir()
    path.rename(moved)
    curve_path(path).rename(curve_path(moved))
    [line] = verify(results)[0]
    assert line.startswith(f"{moved}: file: is at cifar10/nin/reference-seed0.json")


def test_a_run_twice_is_an_error_and_equal_weights_are_a_warning(results: Path) -> None:
    record = own_record()
    publish_records(results, record, own_record(10.4, seed=1, run=record.run))
    errors = verify(results)[0]
    assert len(errors) == 2
    assert all("run: is also the run of" in error for error in errors), "each of the two files is named"
    publish_records(results, own_record(10.4, seed=2, weights_sha256=record.weights_sha256))
    assert any("weights_sha256: is the same as in" in line for line in verify(results)[1])


def test_equal_weights_count_once_in_a_row_and_are_mentioned_elsewhere(results: Path) -> None:
    """As on the board, where `reference`, `fast` and unverified data are three rows."""
    same = {"weights_sha256": "b" * 64}
    rows = [own_record(**same), own_record(profile="fast", **same), own_record(verified=False, **same)]
    publish_records(results, *rows, own_record(overrides={"holdout": 10_000}, **same))
    equal = [line for line in verify(results)[1] if "weights_sha256: is the same as in" in line]
    assert (len(equal), [line for line in equal if "counted once" in line]) == (3, [])
    assert list(read(results).runs["standing"].value_counts()[["counted", "validation"]]) == [3, 1]
    publish_records(results, own_record(profile="fast", seed=1, **same))
    [once] = [line for line in verify(results)[1] if "the two runs are counted once" in line]
    assert "fast-seed1" in once.partition("weights_sha256")[0]
    assert "fast-seed0" in once.partition("weights_sha256")[2]


def test_official_data_has_one_digest(results: Path) -> None:
    publish_records(results, own_record(), own_record(seed=1), own_record(seed=2, verified=False))
    assert verify(results)[0] == []
    edit(sorted(results.rglob("*seed1*.json"))[0], data__sha256="a" * 64)
    errors = verify(results)[0]
    assert len(errors) == 2
    assert all("data.sha256: differs from that of" in error for error in errors)


def test_runs_on_unofficial_data_that_a_board_pools_have_one_digest(results: Path) -> None:
    """Otherwise a mean is of runs on two data sets. Held-out runs and older revisions are in no such mean."""
    other = DataFacts(sha256="a" * 64, verified=False, provenance="Another copy.")
    publish_records(results, own_record(verified=False), own_record(seed=1, verified=False))
    publish_records(results, own_record(overrides={"holdout": 10_000}, verified=False, data=other))
    assert verify(results)[0] == []
    publish_records(results, own_record(12.0, profile="fast", verified=False, data=other))
    errors = verify(results)[0]
    assert len(errors) == 4
    assert sum("data.sha256: differs" in line and "same unofficial data" in line for line in errors) == 4


def test_digits_are_those_that_the_data_set_is_defined_by(results: Path) -> None:
    lenet = load_models()["lenet"].variants["digits"]
    facts = {"dataset": "digits", "model": "lenet", "recipe": lenet.recipe.to_dict(), "parameters": lenet.parameters}
    publish_one(results, own_record(5.0, test_images=360, training_images=1_437, **facts))
    assert any("data.sha256: is" in line and "expected bc1e4b0a..." in line for line in verify(results)[0])


def test_seeds_that_a_row_lacks_are_a_warning(results: Path) -> None:
    """Records must not be chosen by their result, and a crashed seed is easily forgotten."""
    publish_records(results, *(own_record(seed=seed) for seed in (0, 1)), own_record(outcome="diverged", seed=2))
    publish_records(results, own_record(overrides={"holdout": 10_000}, seed=7))
    assert verify(results)[1] == []
    last = publish_one(results, own_record(seed=5))
    [line] = verify(results)[1]
    assert line.startswith(f"{last}: job.seed: is 5, but this row has no record of 2 lower seeds (3, 4)")
    assert verify(last)[1] == [], "one record is no row"
    publish_one(results, own_record(seed=2**31 - 1, profile="fast"))
    assert any("(0, 1, 2, 3, 4, ...)" in line for line in verify(results)[1])


def test_sequential_seeds_train_whole_recipes(results: Path) -> None:
    publish_one(results, own_record(sequential=True))
    assert verify(results) == ([], [])
    publish_one(results, own_record(12.0, overrides={"holdout": 10_000}, sequential=True))
    assert any("sequential: is true" in line for line in verify(results)[0])


def test_diverged_runs_share_their_nan_weights_without_a_warning(results: Path) -> None:
    publish_records(results, own_record(outcome="diverged"), own_record(seed=1, outcome="diverged"))
    assert verify(results) == ([], [])


def test_what_is_merely_unusual_is_a_warning(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = publish_one(results)
    edit(path, source__commit=None, source__dirty=True, forced_resume=True)
    (results / "cifar10" / "nin_dropout" / "alone.curve.csv").write_text("")
    errors, warnings = verify(results)
    assert errors == []
    assert [line.split(": ")[1] for line in warnings] == ["source.commit", "source.dirty", "forced_resume", "file"]


def test_a_commit_that_nobody_else_has_is_a_warning(tmp_path: Path) -> None:
    """The code was clean there, but it may have been changed in a commit that was never shown."""

    def git(*words: str) -> str:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    results = tmp_path / "results"
    git("init")
    git("commit", "--allow-empty", "-m", "shared")
    shared = {"commit": git("rev-parse", "HEAD"), "dirty": False, "sha256": "c" * 64}
    publish_one(results, own_record(source=Source(**shared)))
    assert verify(results)[1] == []
    own = publish_one(results, own_record(seed=1, source=Source(**shared | {"commit": "b" * 40})))
    publish_one(results, own_record(seed=2, source=Source(**shared | {"commit": "--all"})))
    [line, of_no_commit] = verify(results)[1]
    assert line.startswith(f"{own}: source.commit: bbbbbbbbbbbb is not in this clone")
    assert "source.commit: --all is not in this clone" in of_no_commit, "it is not taken for an option of git"


def test_an_older_revision_is_a_note_and_its_recipe_is_its_own(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_one(results, own_record(recipe=RECIPE | {"epochs": 3}))
    assert any("job.recipe.epochs" in line for line in verify(results)[0])
    raised = dict(load_models())
    spec = raised["nin_dropout"]
    raised["nin_dropout"] = replace(spec, variants={"cifar10": replace(spec.variants["cifar10"], revision=2)})
    monkeypatch.setattr("zoo.load_models", lambda: raised)
    errors, warnings = verify(results)
    assert errors == []
    assert ["job.revision: is 1, the zoo's is 2" in line for line in warnings] == [True]


def test_every_problem_of_a_folder_is_named_in_one_go(results: Path) -> None:
    for seed in range(3):
        edit(publish_one(results, own_record(seed=seed)), parameters=1, fingerprint="a" * 64)
    (results / "cifar10" / "nin_dropout" / "torn.json").write_text("{")
    assert len(verify(results)[0]) == 7


def test_dates_may_be_off_by_two_clocks(results: Path) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=1)
    publish_one(results, own_record(started=soon - timedelta(hours=1), finished=soon))
    assert verify(results) == ([], [])


def test_the_exit_code_is_one_for_errors_only(own_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verifying.show(None) == 0
    assert "0 records" in capsys.readouterr().out
    path = publish_one(own_root / "results")
    edit(path, source__commit=None)
    assert verifying.show(None) == 0
    assert "warning: " in capsys.readouterr().out
    edit(path, parameters=1)
    assert verifying.show(path) == 1
    assert "1 record: 1 error, 1 warning" in capsys.readouterr().out
    with pytest.raises(UserError, match="no such file or folder"):
        verify(own_root / "nowhere")


def test_one_models_jobs_are_published_and_a_rehearsal_writes_nothing(
    own_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_locally(runs_folder(), own_record(), own_record(9.0, seed=1), make_record(14.0, model="nin"))
    chosen = of_models(all_jobs(), ["nin"])
    assert [paths.model for paths in chosen] == ["nin"]
    assert of_models(all_jobs(), []) == all_jobs()
    with pytest.raises(UserError, match="unknown model with a job in this checkout 'nim': did you mean 'nin'"):
        of_models(all_jobs(), ["nim"])
    publishing.show(chosen, dry_run=True)
    out = capsys.readouterr().out
    assert "would publish" in out
    assert "1 to publish, 0 already published, 0 skipped" in out
    assert not list((own_root / "results").rglob("*.json"))
    publishing.show(chosen)
    assert [path.parent.name for path in (own_root / "results").rglob("*.json")] == ["nin"]
