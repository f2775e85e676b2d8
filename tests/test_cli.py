"""The commands as a user types them: a mistake is one line and exit code 2, and nothing changes on the disk."""

import json
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from helpers import make_record, run_locally

from benchmarks.checkout import root
from benchmarks.datasets import get_dataset
from benchmarks.records import Job
from runner.files import append_line
from runner.jobs.find import record_submission
from runner.jobs.paths import JobPaths, runs_folder

# More of them, where a job was submitted, stand in test_bad_input.py.
MISTAKES = [
    (["submit"], "--suite"),
    (["submit", "--suite", "cifar10", "--model", "maxout"], "(it is in cifar10-full, all)"),
    (["submit", "--suite", "quickstart", "--seeds", "0"], "--seeds is 0"),
    (["submit", "--suite", "quickstart", "--seeds", "2", "--seed", "1"], "can't be combined"),
    (["doctor", "--engine", "slrm"], "did you mean 'slurm'"),
    (["status", "--suite", "nine"], "unknown suite 'nine'"),
    (["logs", "digits/lenet"], "no job has been submitted"),
    (["stop"], "nothing to stop: expected"),
    (["retry"], "nothing to retry: expected"),
    (["retry", "--failed"], "nothing to retry"),
    (["models", "lenet", "--dataset", "cifar10"], "unknown data set of lenet"),
    (["reproduce", "digits/lenet"], "no record is published"),
    (["submit", "--suite", "mnist", "--until-decided", "--seeds", "3"], "leave out --seeds"),
    (["submit", "--suite", "mnist", "--until-decided", "--epochs", "1"], "leave out --seeds"),
    (["submit", "--suite", "mnist", "--until-decided", "--max-seeds", "4"], "--max-seeds is 4, expected 5 to 20"),
    (["bench", "--model", "nin_dropot"], "did you mean 'nin_dropout'"),
    (["bench", "--model", "lenet"], "no recipe for 'cifar10', only for mnist, digits"),
    (["bench", "--dataset", "cifar11"], "did you mean 'cifar10'"),
    (["bench", "--seconds", "0"], "--seconds is 0, expected more than 0"),
    (["bench", "--repeats", "0"], "--repeats is 0, expected 1 or more"),
    (["bench", "--profile", "faster"], "--profile"),
    (["bench", "--format", "xml"], "--format"),
    (["bench", "--seeds", "3"], "--seeds needs --equivalence"),
    (["bench", "--dry-run"], "--dry-run needs --equivalence"),
    (["bench", "--engine", "local"], "--engine needs --equivalence"),
    (["bench", "--slots-per-gpu", "2"], "--slots-per-gpu needs --equivalence"),
    (["bench", "--equivalence", "--model", "nin", "--json"], "--json can't be combined with --equivalence"),
    (["bench", "--equivalence"], "expected once"),
    (["bench", "--equivalence", "--model", "nin", "--seeds", "1"], "--seeds is 1, expected 2 or more"),
    (["bench", "--equivalence", "--model", "nn"], "did you mean 'nin'"),
    (["try"], "argument 'model'"),
    (["try", "nin_dropot"], "did you mean 'nin_dropout'"),
    (["try", "vgg_a"], "it is for analysis only"),
    (["try", "lenet", "--dataset", "cifar10"], "no recipe for 'cifar10', only for mnist, digits"),
    (["try", "lenet", "--dataset", "digit"], "did you mean 'digits'"),
    (["try", "lenet", "--steps", "0"], "--steps is 0, expected 1 or more"),
    (["try", "lenet", "--every", "0"], "--every is 0, expected 1 or more"),
    (["try", "lenet", "--seed", "-1"], "-1"),
    (["try", "lenet", "--set", "epochs=x"], "epochs is 'x'"),
    (["new-model", "My-Net"], "can't be a model's name"),
    (["new-model", "lambda"], "can't be a model's name"),
    (["new-model", "tiny"], "is not a checkout"),
]


@pytest.mark.parametrize(("words", "says"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_on_an_empty_checkout_is_one_line_and_changes_nothing(runner, words, says):
    before = sorted(root().rglob("*"))
    code, out, err = runner(*words)
    assert code == 2
    assert out == ""
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(root().rglob("*")) == before


def test_missing_data_end_a_submit_before_anything_starts(runner):
    code, out, err = runner("submit", "--suite", "mnist", "--data-dir", "/nowhere/at/all")
    assert code == 2
    assert re.match(r"(\d+) jobs: 0 done, \1 to run", out)
    assert "runner data prepare" in err
    assert len(err.strip().splitlines()) == 1
    assert not runs_folder().exists()


COMMANDS = [
    *["submit", "status", "logs", "stop", "retry", "sync", "doctor", "site"],
    *["report", "publish", "verify", "reproduce", "suites", "models", "new-model", "data", "bench", "try"],
    *["quickstart", "show"],
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(runner, command):
    code, out, _ = runner(command, "--help")
    assert code == 0
    assert f"runner {command}" in out
    assert len(out.splitlines()) > 4


def test_the_list_of_commands_cuts_no_sentence_off(runner):
    code, out, _ = runner("--help")
    assert code == 0
    assert "..." not in out.partition("Commands:")[2]
    assert max(len(line) for line in out.splitlines()) <= 80


def test_a_plan_says_roughly_how_long_it_keeps_a_cpu_busy(runner, own_root, checkout, monkeypatch):
    """By the models' cards; `runner bench` found 68 h 40 min for a seed of NiN on CIFAR-10, on one core like this."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    shutil.copytree(checkout / "results" / "cards", own_root / "results" / "cards")
    words = ["--dry-run", "--engine", "inline", "--model"]
    for suite, model, roughly in (("cifar10", "nin", range(54, 84)), ("mnist", "lenet", None)):
        code, out, _ = runner("submit", "--suite", suite, "--seed", "0", *words, model)
        assert code == 0
        [line] = [line for line in out.splitlines() if line.startswith("1 job: ")]
        if roughly is None:
            assert line == "1 job: 0 done, 1 to run on 1 CPU slot"
        else:
            days = re.fullmatch(
                r"1 job: 0 done, 1 to run, roughly (\d+) days on 1 CPU slot \(for a measurement: runner bench\)", line
            )
            assert 24 * int(days[1]) in roughly


def test_a_plan_says_how_long_by_what_ran_here(runner, own_root, monkeypatch):
    """Ten minutes for 20 epochs: 40 epochs take twice as long, whatever a card says."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    record = make_record(dataset="digits", model="lenet", recipe={"epochs": 20}, train_seconds=600.0)
    on_cpu = record.environment.model_copy(update={"device": "cpu"})
    run_locally(own_root / ".runs", record.model_copy(update={"environment": on_cpu}))
    words = ["--suite", "quickstart", "--seed", "7", "--epochs", "40", "--dry-run", "--engine", "inline"]
    _, out, _ = runner("submit", *words, "--model", "lenet")
    assert out.splitlines()[-1] == "1 job: 0 done, 1 to run, about 20 min on 1 CPU slot"
    _, out, _ = runner("submit", *words)  # two others never ran here
    assert out.splitlines()[-1] == "3 jobs: 0 done, 3 to run on 1 CPU slot"


def test_a_plan_names_the_data_that_are_missing_and_their_size(runner, tmp_path, monkeypatch):
    monkeypatch.setenv("REPROZOO_DATA", str(tmp_path / "empty"))
    words = ["submit", "--suite", "mnist", "--model", "lenet", "--seed", "0", "--dry-run", "--engine", "inline"]
    code, out, _ = runner(*words)
    assert code == 0
    assert (
        "mnist: data missing, 11.6 MB to download; get it with: runner data prepare --dataset mnist" in out.splitlines()
    )
    _, out, _ = runner(*words, "--json")
    assert json.loads(out)["missing_data"] == {"mnist": sum(file.size for file in get_dataset("mnist").files)}
    _, out, _ = runner("submit", "--suite", "quickstart", "--dry-run", "--engine", "inline")
    assert "data missing" not in out  # digits come with scikit-learn


def test_one_models_json_holds_its_card_too(runner, checkout):
    _, out, _ = runner("models", "nin", "--dataset", "mnist", "--json")
    [row] = json.loads(out)
    card = json.loads((checkout / "results" / "cards" / "nin.json").read_text())
    assert row["parameters"] == {"mnist": 349_674}
    assert row["datasets"] == {"mnist": card["datasets"]["mnist"]}


def test_dry_run_prints_the_documented_object_and_writes_nothing(runner):
    code, out, _ = runner("submit", "--suite", "quickstart", "--dry-run", "--json", "--set", "batch_size=32")
    assert code == 0
    plan = json.loads(out)
    assert plan["counts"] == {
        "total": 6, "to_run": 6, "done": 0, "running": 0, "failed": 0, "interrupted": 0, "killed": 0, "pending": 6,
    }  # fmt: skip
    assert set(plan["jobs"][0]) == {"key", "dataset", "model", "seed", "profile", "overrides", "fingerprint", "state"}
    assert plan["jobs"][0]["overrides"] == {"batch_size": 32}
    assert not runs_folder().exists()


@pytest.fixture
def submitted():
    """One job laid down here as a submit does, without running it."""
    job = Job(dataset="digits", model="lenet", revision=1, recipe={"epochs": 3}, seed=0)
    paths = JobPaths.of(job)
    paths.write_job(job)
    record_submission({"suite": "quickstart", "fingerprints": [job.fingerprint]})
    return paths


def test_status_json_has_the_documented_keys(runner, submitted):
    code, out, _ = runner("status", "--json")
    assert code == 0
    found = json.loads(out)
    assert set(found["jobs"][0]) == {
        "key", "dataset", "model", "seed", "profile", "overrides", "fingerprint", "state", "epoch", "epochs", "test_error",
        "outcome", "attempts",
    }  # fmt: skip
    assert found["counts"]["pending"] == 1
    assert (found["jobs"][0]["epochs"], found["jobs"][0]["test_error"]) == (3, None)


def test_status_is_for_people_too(runner, submitted):
    assert "digits/lenet/reference-seed0" in runner("status")[1]
    assert json.loads(runner("status", "--suite", "mnist", "--json")[1])["jobs"] == []


def test_status_without_jobs_says_what_to_type(runner):
    assert "runner submit --suite quickstart" in runner("status")[1]


def test_stop_marks_waiting_jobs_and_retry_takes_only_failed_ones(runner, submitted):
    assert "1 stopped; 0 of them still running" in runner("stop", "--all")[1]
    assert submitted.stop.exists()
    assert runner("retry", "--failed")[0] == 2


def test_stop_takes_several_keys_or_the_jobs_of_a_model(runner, submitted):
    job = submitted.read_job()
    others = [job.model_copy(update=changes) for changes in ({"seed": 1}, {"seed": 2}, {"model": "nin"})]
    seed1, seed2, nin = map(JobPaths.of, others)
    for paths, other in zip((seed1, seed2, nin), others, strict=True):
        paths.write_job(other)
    assert "2 stopped" in runner("stop", job.key, others[0].key, job.key)[1]
    assert [paths.stop.exists() for paths in (submitted, seed1, seed2, nin)] == [True, True, False, False]
    assert "1 stopped" in runner("stop", "--model", "nin")[1]
    assert [paths.stop.exists() for paths in (seed2, nin)] == [False, True]
    assert "did you mean 'lenet'" in runner("stop", "--model", "lennet")[2]
    code, _, err = runner("stop", job.key, "--model", "lenet")
    assert (code, "expected KEYs, or --suite S" in err) == (2, True)


def test_logs_prints_the_log(runner, submitted):
    submitted.log.write_text("first line\nlast line\n")
    append_line(submitted.attempts, {"event": "start"})
    assert runner("logs", "digits/lenet")[1] == "first line\nlast line\n"
    assert runner("logs", "digits/lenet", "--follow")[1].endswith("last line\n")


def test_models_json_has_the_documented_keys(runner):
    rows = json.loads(runner("models", "--json")[1])
    assert set(rows[0]) == {"name", "paper", "family", "suites", "parameters", "macs"}
    by_name = {row["name"]: row for row in rows}
    assert by_name["nin_dropout"]["parameters"]["cifar10"] == 966_986
    assert by_name["lenet"]["parameters"]["mnist"] == 61_706


def test_suites_lists_every_suite(runner):
    rows = json.loads(runner("suites", "--json")[1])
    assert {row["name"] for row in rows} >= {"quickstart", "mnist", "cifar10", "cifar10-full", "nin_ablation"}
    assert "quickstart" in runner("suites")[1]


def test_a_reader_that_leaves_early_is_no_error():
    """As `head` does; `true` is gone before the first line is written. This command needs no torch."""
    shell = f"{sys.executable} -m runner data status --json | true"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.stderr == ""


def test_the_version_is_pyprojects_with_the_commit(runner, checkout):
    number = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["version"]
    code, out, _ = runner("--version")
    assert code == 0
    assert re.fullmatch(rf"reprozoo ({re.escape(number)}|not installed), commit (unknown|[0-9a-f]+\+?)\n", out)
