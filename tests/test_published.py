"""Which files of a results folder count: boards read no file that `runner verify` does not look at."""

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from helpers import make_record, publish_records
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.leaderboard import read
from benchmarks.published import listing
from benchmarks.reading import files_of
from benchmarks.records import record_json
from runner.reporting.verify import verify
from zoo import load_models

RECIPE = load_models()["nin_dropout"].variants["cifar10"].recipe.to_dict()
RECORD = make_record(recipe=RECIPE)
NAME = f"{RECORD.file_stem}.json"
PLACE = f"cifar10/nin_dropout/{NAME}"
FORGERIES = [
    f"cifar10/cards/{NAME}",
    f".evil/nin_dropout/{NAME}",
    f"cifar10/.evil/{NAME}",
    f"cards/nin_dropout/{NAME}",
    f"cifar10/{NAME}",
    NAME,
    f"cifar10/nin_dropout/deep/{NAME}",
    f"cifar10/nin_dropout/.{NAME}",
    "cifar10/nin_dropout/another-name.json",
    f"mnist/nin_dropout/{NAME}",
    f"Cifar10/nin_dropout/{NAME}",
]


def lay(results: Path, place: str, text: str = record_json(RECORD)) -> Path:
    path = results / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def counted(results: Path) -> set[str]:
    return {str(Path(path).relative_to(results)) for path in read(results).runs["path"]}


def named_by_verify(results: Path) -> set[str]:
    errors, _ = verify(results)
    return {line.split(": ")[0].removeprefix(f"{results}/") for line in errors}


@pytest.mark.parametrize("place", FORGERIES)
def test_a_record_at_the_wrong_path_is_an_error_and_on_no_board(tmp_path: Path, place: str) -> None:
    lay(tmp_path, place)
    assert counted(tmp_path) == set()
    assert place in named_by_verify(tmp_path)


@pytest.mark.parametrize("link", ["cifar10", "cifar10/nin_dropout", PLACE])
def test_a_record_behind_a_link_is_an_error_and_on_no_board(tmp_path: Path, link: str) -> None:
    results, elsewhere = tmp_path / "results", tmp_path / "elsewhere"
    target = lay(elsewhere, PLACE)
    inner = Path(PLACE).relative_to(link)
    (results / link).parent.mkdir(parents=True)
    (results / link).symlink_to(target.parents[len(inner.parts) - 1] if inner.parts else target)
    assert (results / PLACE).exists()
    assert counted(results) == set()
    assert link in named_by_verify(results)


def test_a_pipe_instead_of_a_record_blocks_nothing(tmp_path: Path) -> None:
    (tmp_path / PLACE).parent.mkdir(parents=True)
    os.mkfifo(tmp_path / PLACE)
    assert counted(tmp_path) == set()
    assert named_by_verify(tmp_path) == {PLACE}


names = st.sampled_from(["cifar10", "nin_dropout", "cards", ".evil", "Upper", NAME, "x.json", ".x.json", "README.md"])
places = st.lists(names, min_size=1, max_size=4).map("/".join)


@settings(max_examples=15, deadline=None)
@given(files=st.lists(st.tuples(places, st.sampled_from(["file", "link to a file", "link to a folder"])), max_size=6))
def test_boards_read_only_files_that_are_verified(files) -> None:
    with TemporaryDirectory() as folder:
        results, elsewhere = Path(folder) / "results", Path(folder) / "elsewhere"
        results.mkdir()
        target = lay(elsewhere, PLACE)
        for place, kind in [(PLACE, "file"), *files]:
            path = results / place
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if kind == "file":
                    path.write_text(record_json(RECORD))
                else:
                    path.symlink_to(target if kind == "link to a file" else elsewhere)
            except OSError:
                continue  # a file where this place needs a folder, or the reverse
        files_there = {
            path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_symlink() or path.is_file()
        }
        known = listing(results)
        verified = {path.relative_to(results).as_posix() for path in known.records}
        stray = {path.relative_to(results).as_posix() for path in known.strays}
        on_boards = counted(results)
        assert on_boards <= verified & {PLACE}
        assert {Path(path).relative_to(results).as_posix() for path in files_of(results) if "results" in path} <= (
            verified | {path.relative_to(results).as_posix() for path in known.cards}
        )
        good = {PLACE, "README.md"} | {path.relative_to(results).as_posix() for path in known.cards}
        assert files_there - good <= named_by_verify(results), "everything else is an error"
        assert stray | verified | good >= files_there


def test_the_check_of_a_pull_request_refuses_forged_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also refuse a copy under another seed: a duplicate run is an error of both files."""
    spec = spec_from_file_location("check_pr", Path(__file__).parent.parent / ".ci" / "check_pr.py")
    check_pr = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "check_pr", check_pr)
    spec.loader.exec_module(check_pr)
    monkeypatch.setattr(check_pr, "ROOT", tmp_path)

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    late = make_record(seed=9, recipe=RECIPE)
    publish_records(tmp_path / "results", late)
    git("add", "-A")
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "base")
    early = make_record(seed=3, recipe=RECIPE, run=late.run)
    publish_records(tmp_path / "results", early)
    for place in FORGERIES:
        lay(tmp_path / "results", place)
    (tmp_path / "x").mkdir()
    (tmp_path / "results" / "cifar10" / "link").symlink_to("../../x")
    checks = check_pr.plan(check_pr.changed_files(tmp_path, "main"), {})
    problems = check_pr.problems_of(checks.records)
    for place in [*FORGERIES, "cifar10/link", early.place]:
        assert any(line.startswith(f"{tmp_path}/results/{place}: ") for line in problems), place
    assert not any(late.place in line.split(": ")[0] for line in problems)
    assert json.loads((tmp_path / "results" / early.place).read_text())["run"] == late.run
