"""Seeds until decided: which seeds a look asks for, where it stops, and that records tell of it."""

import json

import pytest
from helpers import make_record, make_seeds, publish_records, run_locally

from benchmarks.records import Job, load
from runner.jobs.find import all_jobs, sequential_jobs
from runner.jobs.paths import JobPaths, runs_folder
from runner.submit import sequential
from runner.submit.sequential import Row, decide
from zoo import load_models

JOB = Job(dataset="cifar10", model="nin", revision=1, recipe={"epochs": 3}, seed=0)
WIDE = [9.0, 10.0, 11.0, 10.5, 12.0]  # around NiN's 10.41: too wide to tell


def seeds_of(step: sequential.Decision) -> list[int]:
    return [job.seed for job in step.jobs]


def step_of(
    row: Row, *, unavailable: set[int] = frozenset(), failed: int = 0, max_seeds: int = 20
) -> sequential.Decision:
    return decide(JOB, row, set(unavailable), failed, max_seeds)


def test_a_row_is_taken_to_five_then_ten_fifteen_and_twenty() -> None:
    assert seeds_of(step_of(Row("not run"))) == [0, 1, 2, 3, 4]
    for n, look in ((1, 5), (4, 5), (5, 10), (7, 10), (10, 15), (19, 20)):
        word = "more seeds" if n < 5 else "inconclusive"
        step = step_of(Row(word, n, n, frozenset(range(n))))
        assert seeds_of(step) == list(range(n, look))
        assert f"to judge it at {look}" in step.why
    assert seeds_of(step_of(Row("inconclusive", 20, 20))) == []


@pytest.mark.parametrize("word", ["reproduced", "better", "worse", "not comparable", "not judged"])
def test_a_decided_row_needs_nothing(word: str) -> None:
    assert seeds_of(step_of(Row(word, 5, 5))) == []


def test_seeds_that_are_here_or_on_the_board_are_not_run_again() -> None:
    row = Row("more seeds", 2, 2, frozenset({0, 3}))
    assert seeds_of(step_of(row, unavailable={1, 3})) == [2, 4, 5]


def test_no_row_gets_more_seeds_than_allowed_counting_failed_ones() -> None:
    assert seeds_of(step_of(Row("inconclusive", 5, 5), max_seeds=9)) == []  # the next look is at 10
    assert seeds_of(step_of(Row("more seeds", 3, 8), max_seeds=10)) == [0, 1]
    assert seeds_of(step_of(Row("more seeds", 3, 8), failed=1, max_seeds=10)) == []  # one more would not be judged
    assert seeds_of(step_of(Row("inconclusive", 15, 15), max_seeds=20)) == [0, 1, 2, 3, 4]
    at_fifteen = step_of(Row("inconclusive", 15, 16), max_seeds=20)  # 19 finished seeds would be no verdict
    why = "still inconclusive at 15 seeds: the next number that is judged is 20, and at most 20 seeds are run"
    assert (seeds_of(at_fifteen), at_fifteen.why) == ([], f"{why}, failed ones included")
    assert seeds_of(step_of(Row("more seeds", 3, 20))) == []
    never = step_of(Row("more seeds", 0, 5))
    assert (seeds_of(never), never.why) == ([], "none of 5 seeds trained")
    assert step_of(Row("more seeds", 1, 1)).why == "more seeds at 1 seed, 4 more planned, to judge it at 5"
    assert step_of(Row("more seeds", 1, 20)).why.startswith("still more seeds at 1 seed: the next number")
    assert (
        step_of(Row("inconclusive", 20, 20)).why == "still inconclusive at 20 seeds, the largest number that is judged"
    )


# --- the command ---------------------------------------------------------------------------------------------------------


def plan(runner, *words) -> dict[str, list[int]]:
    code, out, err = runner("submit", "--suite", "nin_ablation", "--until-decided", "--dry-run", "--json", *words)
    assert code == 0, err
    seeds: dict[str, list[int]] = {}
    for row in json.loads(out)["jobs"]:
        seeds.setdefault(row["model"], []).append(row["seed"])
    return seeds


def own(errors: list[float], model: str, **changes) -> list:
    recipe = load_models()[model].variants["cifar10"].recipe
    return make_seeds(errors, model=model, recipe=recipe.to_dict(), augmentation=str(recipe.augmentation), **changes)


def test_the_plan_holds_what_each_row_lacks_and_writes_nothing(runner, own_root) -> None:
    publish_records(own_root / "results", *own(WIDE, "nin_dropout"), *own([14.4, 14.5, 14.6, 14.5, 14.5], "nin"))
    run_locally(own_root / ".runs", *own([8.8, 8.9], "nin_augmentation"))
    before = sorted(own_root.rglob("*"))
    found = plan(runner)
    assert found["nin_dropout"] == [5, 6, 7, 8, 9]  # inconclusive: to the look at ten
    assert "nin" not in found  # reproduced
    assert found["nin_augmentation"] == [2, 3, 4]
    assert found["nin_fc"] == [0, 1, 2, 3, 4]
    assert plan(runner, "--model", "nin_dropout", "--max-seeds", "5") == {}
    assert plan(runner, "--model", "nin", "--profile", "fast") == {"nin": [0, 1, 2, 3, 4]}
    assert sorted(own_root.rglob("*")) == before


def test_what_was_trained_short_or_failed_for_good_takes_no_row_further(runner, own_root) -> None:
    run_locally(own_root / ".runs", *own([50.0], "nin_fc", overrides={"epochs": 1}))
    failed = own([11.0], "nin_fc")[0].job
    paths = JobPaths.of(failed)
    paths.write_job(failed)
    paths.failure.write_text('{"kind": "model"}')
    assert plan(runner, "--model", "nin_fc") == {"nin_fc": [1, 2, 3, 4, 5]}


def test_where_no_paper_reports_anything_there_is_nothing_to_decide(runner) -> None:
    pytest.importorskip("sklearn")
    code, out, _ = runner("submit", "--suite", "quickstart", "--until-decided")
    assert code == 0
    assert "digits/lenet: not judged" in out
    assert "Nothing to run" in out
    assert not runs_folder().exists()


@pytest.mark.slow
def test_seeds_are_added_until_decided_and_their_records_say_so(runner, own_root, monkeypatch) -> None:
    """Real trainings on digits, against a figure that a test's own source reports of them."""
    pytest.importorskip("sklearn")
    from benchmarks import reading
    from benchmarks.papers import load_papers

    folder = own_root / "papers"
    folder.mkdir()
    text = 'title = "A"\nauthors = ["B, C"]\nyear = 2020\nvenue = "D"\nurl = "https://example.org"\nread = "E"\n'
    text += (
        '[[reported]]\ndataset = "digits"\nlabel = "L"\nmodel = "lenet"\nerror = 4.00\nwhere = "T"\nkind = "target"\n'
    )
    (folder / "one.toml").write_text(text)
    monkeypatch.setattr(reading, "load_papers", lambda _: load_papers(folder))
    lenet = load_models()["lenet"].variants["digits"]
    spread = [make_record(e, dataset="digits", model="lenet", seed=100 + i, revision=lenet.revision,
                          recipe=lenet.recipe.to_dict(), test_images=360)
              for i, e in enumerate([0.0, 8.0, 0.0, 8.0, 4.0, 3.0, 5.0, 4.0, 3.0])]  # fmt: skip
    publish_records(own_root / "results", *spread)
    words = ("submit", "--suite", "quickstart", "--model", "lenet", "--until-decided", "--engine", "inline")
    code, out, err = runner(*words, "--max-seeds", "14", "--json")
    assert code == 0, err
    [only] = json.loads(out)["jobs"]  # nine were there: one for the look at ten; fifteen is past the limit
    assert (only["seed"], only["state"]) == (0, "done")
    [paths] = all_jobs()
    assert load(paths.record).sequential
    assert sequential_jobs() == {only["fingerprint"]}
    assert "the next number that is judged is 15, and at most 14 seeds are run" in err
