"""Every command with what nobody should type, and every reader with bytes that nobody should have written.

A mistake is one line on stderr and exit code 2, and nothing changes on the disk. A damaged file gives its reader's own
error, or is passed over with a warning where one bad file must not hide the good ones.
"""

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import make_record, publish_records, run_locally
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmarks.errors import UserError
from benchmarks.papers import PaperError, load_attempts, load_papers
from benchmarks.published import load_all
from benchmarks.records import RecordError, load, record_json
from runner.files import append_line, read_json, read_lines
from runner.jobs.attempts import Attempts, Failure
from runner.jobs.find import all_jobs, record_submission, sequential_jobs, suites_of_jobs
from runner.jobs.paths import JobPaths, PlannedJob
from runner.jobs.state import STATES, JobView, progress_of, state_of
from runner.submit.plan import parse_override

QUICK = ["submit", "--suite", "quickstart"]

# (words, what the line says). {file}: a file where a folder should be; {key}: a job that is done here.
MISTAKES = [
    # unknown names, with the nearest valid one
    (["sumbit"], "submit"),
    (["submit", "--suit", "quickstart"], "--suit"),
    (["submit", "--suite", "cifar1"], "did you mean 'cifar10'"),
    ([*QUICK, "--model", "nin_droput"], "did you mean 'nin_dropout'"),
    ([*QUICK, "--model", "vgg16"], "is not in the suite"),
    ([*QUICK, "--profile", "Fast"], "--profile"),
    ([*QUICK, "--engine", "inlin"], "did you mean 'inline'"),
    ([*QUICK, "--set", "epoch=3"], "did you mean 'epochs'"),
    ([*QUICK, "--set", "preprocessing=gcn_zac"], "did you mean 'gcn_zca'"),
    (["status", "--suite", "quickstrat"], "did you mean 'quickstart'"),
    (["stop", "--suite", "quickstrat"], "did you mean 'quickstart'"),
    (["retry", "--failed", "--suite", "quickstrat"], "did you mean 'quickstart'"),
    (["report", "--suite", "quickstrat"], "did you mean 'quickstart'"),
    (["publish", "--suite", "quickstrat"], "did you mean 'quickstart'"),
    (["sync", "--suite", "quickstrat"], "did you mean 'quickstart'"),
    (["data", "prepare", "--suite", "quickstrat"], "did you mean 'quickstart'"),
    (["data", "prepar"], "prepar"),
    (["models", "lenett"], "did you mean 'lenet'"),
    (["models", "--dataset", "cifar"], "did you mean 'cifar10'"),
    (["logs", "digits/lennet/reference-seed0"], "did you mean 'digits/lenet/reference-seed0'"),
    (["stop", "digits/lennet/reference-seed0"], "did you mean 'digits/lenet/reference-seed0'"),
    (["retry", "digits/lennet/reference-seed0"], "did you mean 'digits/lenet/reference-seed0'"),
    (["reproduce", "digits/lennet/reference-seed0"], "no record is published"),
    # wrong types and values out of range
    ([*QUICK, "--seed", "-1"], "-1"),
    ([*QUICK, "--seed", "1.5"], "--seed"),
    ([*QUICK, "--seed", str(2**31)], "2147483648"),
    ([*QUICK, "--seeds", "-2"], "--seeds is -2"),
    ([*QUICK, "--seeds", "many"], "--seeds"),
    ([*QUICK, "--epochs", "0"], "epochs is 0"),
    ([*QUICK, "--epochs", "-1"], "epochs is -1"),
    ([*QUICK, "--epochs", "1e3"], "--epochs"),
    ([*QUICK, "--set", "epochs"], "expected FIELD=VALUE"),
    ([*QUICK, "--set", "epochs=1.5"], "epochs is 1.5, expected a whole number"),
    ([*QUICK, "--set", "batch_size=0"], "batch_size is 0"),
    ([*QUICK, "--set", "batch_size=lots"], "batch_size is 'lots', expected a whole number"),
    ([*QUICK, "--set", "learning_rate=NaN"], "learning_rate"),
    ([*QUICK, "--set", "learning_rate=-0.1"], "learning_rate is -0.1"),
    ([*QUICK, "--set", "momentum=1e999"], "momentum is inf"),
    ([*QUICK, "--set", "after=3"], "after is 3"),
    ([*QUICK, "--set", "flip=perhaps"], "flip is 'perhaps'"),
    ([*QUICK, "--set", "init=[[1,2"], "init is '[[1,2', expected a list"),
    ([*QUICK, "--set", "holdout=-1"], "holdout is -1"),
    ([*QUICK, "--set", "holdout=1437"], "holdout is 1437"),
    ([*QUICK, "--slots-per-gpu", "-1"], "--slots-per-gpu is -1"),
    ([*QUICK, "--slots-per-gpu", "half"], "--slots-per-gpu"),
    ([*QUICK, "--max-seeds", "10"], "--max-seeds needs --until-decided"),
    (["retry", "--failed", "--slots-per-gpu", "0"], "--slots-per-gpu is 0"),
    (["retry", "--failed", "--engine", "x"], "unknown engine 'x'"),
    (["reproduce", "x", "--engine", "x"], "unknown engine 'x'"),
    (["report", "--format", "word"], "--format"),
    (["status", "extra"], "extra"),
    (["new-model", "../evil"], "can't be a model's name"),
    # folders that are files, or aren't there
    (["data", "prepare", "--suite", "quickstart", "--data-dir", "{file}"], "is a file"),
    (["data", "status", "--data-dir", "{file}"], "is a file"),
    (["submit", "--suite", "quickstart", "--seed", "7", "--data-dir", "{file}"], "is a file"),
    (["verify", "{file}/none"], "none"),
    (["verify", "/nowhere/at/all"], "/nowhere/at/all"),
]


@pytest.fixture
def submitted(own_root):
    """A checkout with one job that is done."""
    record = make_record(dataset="digits", model="lenet", recipe={"epochs": 3})
    run_locally(own_root / ".runs", record)
    record_submission({"suite": "quickstart", "fingerprints": [record.fingerprint]})
    return record


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes; folders with None."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(("words", "says"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_line_and_changes_nothing(runner, submitted, tmp_path, words, says):
    (tmp_path / "file").write_text("not a folder")
    before = tree(tmp_path)
    code, _, err = runner(*(word.replace("{file}", str(tmp_path / "file")) for word in words))
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (0, ["status"]),  # what only reads finds nothing there
        (2, ["submit", "--suite", "quickstart", "--seed", "9"]),
        (0, ["stop", "--all"]),
    ],
)
def test_a_root_that_is_a_file_is_one_line(runner, tmp_path, monkeypatch, expected, words):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REPROZOO_ROOT", str(tmp_path / "file"))
    monkeypatch.setenv("REPROZOO_DATA", str(tmp_path / "data"))
    code, _, err = runner(*words)
    assert code == expected
    assert len(err.strip().splitlines()) == (1 if code else 0)
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("threads", ["0", "-1", "two", ""])
def test_a_variable_that_makes_no_sense_is_one_line(runner, own_root, monkeypatch, threads):
    monkeypatch.setenv("REPROZOO_THREADS", threads)
    code, _, err = runner("submit", "--suite", "quickstart", "--seed", "9")
    assert code == 2
    assert "REPROZOO_THREADS" in err
    assert not (own_root / ".runs").exists()


@pytest.mark.parametrize(
    "content", ["", "{", "\xef\xbb\xbf{}", "[]", '{"dataset": 3}', "\xff", '{"dataset": "digits", "seed": -1}']
)
def test_a_broken_job_file_is_one_line_that_names_it_and_hides_no_other_job(runner, submitted, own_root, content):
    [paths] = all_jobs()
    other = make_record(dataset="digits", model="nin", recipe={"epochs": 3})
    run_locally(own_root / ".runs", other)
    paths.job.write_bytes(content.encode("latin-1"))
    for words in (["status"], ["status", "--json"]):
        code, out, err = runner(*words)
        assert code == 0
        assert other.key in out
        assert submitted.key not in out
        assert f"runner: {paths.job}: " in err
        assert "the same submit command writes it again" in err
        assert len(err.strip().splitlines()) == 1
    code, _, err = runner("retry", "--failed")
    assert (code, len(err.splitlines())) == (2, 1)
    for words in (["report"], ["stop", "--all"])[bool(content) :]:  # a report takes half a second: once
        assert runner(*words)[0] == 0
    assert paths.job.read_bytes() == content.encode("latin-1")
    paths.write_job(submitted.job)
    assert paths.read_job() == submitted.job


# --- every reader ----------------------------------------------------------------------------------------------------------

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
RECORD = record_json(make_record(10.4)).encode()
PAPER = next(Path(load_papers.__globals__["FOLDER"]).glob("lin2013.toml")).read_bytes()
ATTEMPT = next(iter(sorted(Path(load_papers.__globals__["ATTEMPTS"]).glob("*.toml")))).read_bytes()
LINES = b'{"event":"start","run":"r","submission":"s","checkpoint":0,"time":5}\n{"event":"end","outcome":"infrastructure"}\n'


def refusal(kind: type[Exception], read: Callable[[], Any]) -> str:
    """What the reader says in its own exception; empty where it takes the file. Any other exception is a failure."""
    try:
        read()
    except kind as error:
        return str(error) or "(silent)"
    return ""


def damaged(valid: bytes):
    """Arbitrary bytes, or a valid file with a stretch of it cut out, doubled or replaced."""

    def change(at: float, length: int, put: bytes) -> bytes:
        start = int(at * len(valid))
        return valid[:start] + put + valid[start + length :]

    stretch = st.builds(change, st.floats(0, 1), st.integers(0, 40), st.binary(max_size=20))
    words = st.sampled_from(
        [b"null", b"-1", b"1e999", b"NaN", b"[]", b"{}", b'"x"', b"true", b"9" * 400, b"\x00", b"[" * 5000]
    )
    return st.one_of(st.binary(max_size=200), stretch, st.builds(change, st.floats(0, 1), st.integers(0, 30), words))


@quick
@given(damaged(RECORD))
def test_a_record_is_read_or_refused_in_the_readers_own_words(tmp_path, content):
    path = tmp_path / "cifar10" / "m" / "r.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    refused = refusal(RecordError, lambda: load(path))
    assert all(line.startswith(str(path)) for line in refused.splitlines())
    found, problems = load_all(tmp_path)
    assert len(found) == 1 or problems


@quick
@given(damaged(PAPER))
def test_a_source_is_read_or_refused_with_its_file(tmp_path, content):
    (tmp_path / "lin2013.toml").write_bytes(content)
    refused = refusal(PaperError, lambda: load_papers(tmp_path))
    assert all("lin2013.toml" in line for line in refused.splitlines())


@quick
@given(damaged(ATTEMPT))
def test_attempts_are_read_or_refused_with_their_file(tmp_path, content):
    (tmp_path / "x.toml").write_bytes(content)
    refused = refusal(PaperError, lambda: load_attempts(tmp_path))
    assert all("x.toml" in line for line in refused.splitlines())


@pytest.mark.parametrize("read", [load_papers, load_attempts])
def test_brackets_nested_by_the_thousand_are_refused_with_their_file(tmp_path, read):
    """They exhaust a reader that calls itself for each."""
    (tmp_path / "x.toml").write_text("attempt = " + "[" * 5000)
    with pytest.raises(PaperError, match=r"x\.toml: can't be read as TOML"):
        read(tmp_path)


@quick
@given(damaged(make_record().job.canonical().encode()))
def test_a_job_file_is_read_or_refused_in_one_line(tmp_path, content):
    paths = JobPaths(tmp_path)
    paths.job.write_bytes(content)
    refused = refusal(UserError, paths.read_job)
    assert "\n" not in refused
    assert not refused or "job.json" in refused


@quick
@given(attempts=damaged(LINES), lease=damaged(b'{"host":"h","time":5,"epoch":1}'), failure=damaged(b'{"kind":"model"}'))
def test_a_job_has_a_state_whatever_its_folder_contains(tmp_path, attempts, lease, failure):
    job = make_record(dataset="digits", model="lenet").job
    paths = JobPaths.of(job, tmp_path)
    paths.write_job(job)
    for path, content in ((paths.attempts, attempts), (paths.lease, lease), (paths.failure, failure)):
        path.write_bytes(content)
    paths.metrics.write_bytes(attempts)
    paths.record.unlink(missing_ok=True)
    state = state_of(paths)
    assert state in STATES
    assert json.dumps(progress_of(JobView(job, paths, state)))
    Attempts.read(paths).given_up_by("s")
    Failure.read(paths)
    append_line(paths.attempts, {"event": "start"})
    assert read_lines(paths.attempts)[-1] == {"event": "start"}
    paths.record.write_bytes(failure)
    assert json.dumps(progress_of(JobView.of(PlannedJob(job, paths))))
    shutil.rmtree(paths.folder)


@quick
@given(st.one_of(st.binary(max_size=300), damaged(b'{"suite":"mnist","fingerprints":["a"],"sequential":["a"]}\n')))
def test_submissions_are_passed_over_where_they_make_no_sense(own_root, content):
    path = own_root / ".runs" / "submissions.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    assert isinstance(suites_of_jobs(), dict)
    assert isinstance(sequential_jobs(), set)
    assert read_json(path) is None or isinstance(read_json(path), dict)


@settings(quick, max_examples=30)
@given(
    st.one_of(
        st.text(max_size=40), st.builds("{}={}".format, st.sampled_from(["epochs", "init", "flip", "x"]), st.text())
    )
)
@example("a\nb")
@example("a\nb=3")
def test_an_override_is_parsed_or_refused_in_one_line(text):
    assert len(refusal(UserError, lambda: parse_override(text)).splitlines()) <= 1


@settings(quick, max_examples=20)
@given(damaged(b"epoch,learning_rate,train_loss,train_error,test_loss,test_error\n1,0.1,2.0,60.0,1.5,50.0\n"))
def test_a_curve_is_checked_or_refused(tmp_path, content):
    from runner.reporting.verify import verify

    shutil.rmtree(tmp_path / "results", ignore_errors=True)
    publish_records(tmp_path / "results", make_record(10.4))
    next((tmp_path / "results").glob("*/*/*.curve.csv")).write_bytes(content)
    errors, _ = verify(tmp_path / "results")
    assert errors  # it isn't the curve that the record was written with


@settings(quick, max_examples=25)
@given(damaged(bytes(range(256)) * 4))
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    from runner.training.checkpoint import Checkpoint

    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile):
        Checkpoint.load(path)


class Evil:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_checkpoint_never_runs(tmp_path):
    import torch

    from runner.training.checkpoint import Checkpoint

    torch.save({"model": Evil(tmp_path / "ran")}, tmp_path / "checkpoint.pt")
    with pytest.raises(pickle.UnpicklingError):
        Checkpoint.load(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "checkpoint.pt", weights_only=False)
    assert (tmp_path / "ran").exists()  # so the file is as hostile as it looks
