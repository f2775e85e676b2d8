"""`runner check`: which tests it takes, what it writes, and what it says is missing."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from benchmarks.errors import UserError
from runner.reporting import check, digests
from zoo import load_models

MODELS = load_models()


@pytest.fixture
def results(own_root: Path, checkout: Path) -> Path:
    """Return the results folder of a checkout that has the linear network's card and digest, and nothing else."""
    for path in ("results/cards/linear.json", "tests/digests/linear.json"):
        (own_root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(checkout / path, own_root / path)
    return own_root / "results"


def test_a_card_and_a_digest_that_are_right_stay(results: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in results.parent.rglob("*.json")}
    lines = [check.card_line(MODELS["linear"], False), check.digest_line(MODELS["linear"], False)]
    assert not any(line.wrong for line in lines)
    assert {path: path.stat().st_mtime_ns for path in results.parent.rglob("*.json")} == before


def test_what_is_missing_is_written_or_with_dry_run_named(results: Path, checkout: Path) -> None:
    spec = MODELS["linear"]
    for path in ("results/cards/linear.json", "tests/digests/linear.json"):
        (results.parent / path).unlink()
    planned = [check.card_line(spec, True), check.digest_line(spec, True)]
    assert all(line.wrong and "runner check linear" in line.text for line in planned)
    assert not list(results.parent.rglob("*.json"))
    written = [check.card_line(spec, False), check.digest_line(spec, False)]
    assert [line.text for line in written] == [
        "written: results/cards/linear.json",
        "written: tests/digests/linear.json (mnist)",
    ]
    assert (results / "cards" / "linear.json").read_text() == (checkout / "results/cards/linear.json").read_text()


def test_a_digest_follows_the_model_until_records_are_published(results: Path) -> None:
    """Then the revision has to be raised: the old digest stays, and the contract test fails."""
    file = digests.digest_file("linear")
    other = json.loads(file.read_text())
    other["mnist"]["losses"][0] *= 2
    file.write_text(json.dumps(other))
    folder = results / "mnist" / "linear"
    folder.mkdir(parents=True)
    (folder / "reference-seed0-00000000.json").write_text("{}")
    assert digests.refresh(MODELS["linear"], results) == (other, [])
    raised = {"mnist": dataclasses.replace(MODELS["linear"].variants["mnist"], revision=9)}
    assert digests.refresh(dataclasses.replace(MODELS["linear"], variants=raised), results)[1] == ["mnist"]
    shutil.rmtree(folder)
    fresh, changed = digests.refresh(MODELS["linear"], results)
    assert changed == ["mnist"]
    assert fresh["mnist"]["losses"][0] == pytest.approx(other["mnist"]["losses"][0] / 2, rel=1e-3)


def test_the_tests_of_a_model_are_its_own_and_those_of_its_file() -> None:
    wants = check.Contracts(["nin"], ["zoo/nin.py"]).wants
    assert check.file_of(MODELS["nin_dropout"]) == "zoo/nin.py"
    for test in (
        "tests/test_zoo.py::test_state_dict_round_trip[digits/nin]",
        "tests/test_zoo.py::test_suites_exist_and_have_a_recipe_for_the_model[nin]",
        "tests/test_architecture.py::test_arrows[zoo/nin.py]",
    ):
        assert wants(test), test
    for test in (
        "tests/test_zoo.py::test_state_dict_round_trip[digits/nin_dropout]",
        "tests/test_architecture.py::test_arrows[runner/cli.py]",
        "tests/test_zoo.py::test_cards_match_the_code",
    ):
        assert not wants(test), test


def test_tests_of_all_models_that_are_cheap_run_for_each(checkout: Path) -> None:
    text = "".join((checkout / name).read_text() for name in check.FILES)
    assert text.count("@pytest.mark.contract\ndef test_") >= 4
    assert check.Contracts(["nin"], ["zoo/nin.py"]).wants("tests/test_papers.py::test_x", marked=True)


def test_records_and_figures_are_counted_and_faults_are_the_models_own(results: Path) -> None:
    spec = MODELS["linear"]
    own, other = results / "mnist" / "linear" / "a.json", results / "mnist" / "linear2" / "a.json"
    assert "runner submit --suite" in check.record_lines(spec, [], [])[0].text
    lines = check.record_lines(spec, [f"{own}: run: is wrong", f"{other}: run: is wrong"], [f"{own}: is dirty"])
    assert [(line.wrong, line.text) for line in lines[1:]] == [
        (True, "results/mnist/linear/a.json: run: is wrong"),
        (False, "warning: results/mnist/linear/a.json: is dirty"),
    ]
    assert check.source_line(spec).text == "lecun1998: 1 printed error, all of kind context, so there is no verdict"
    assert check.source_line(dataclasses.replace(spec, paper="nowhere")).wrong


def test_an_unknown_model_and_a_folder_without_tests_are_one_line(own_root: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'linear'"):
        check.run(["linaer"], dry_run=True)
    with pytest.raises(UserError, match=r"has no tests/test_zoo\.py: run this command in a checkout"):
        check.run(["linear"], dry_run=True)
