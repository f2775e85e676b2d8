"""What `runner bench` says: its floors against torch's own counter, its predictions and tables against plain arithmetic."""

import ctypes
import dataclasses
import io
import json
import os
import subprocess
import sys

import pytest
import torch
from helpers import models_of_every_kind
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.datasets import get_dataset
from benchmarks.records import Job
from benchmarks.suites import SUITES
from runner.bench import command as bench
from runner.bench import concurrency, throughput
from runner.bench.concurrency import ConcurrentRuns
from runner.bench.request import BenchRequest, choose
from runner.bench.subject import plain_recipe, subject_of
from runner.bench.throughput import bytes_per_image, fitting_batch, flops_per_image, measure
from runner.bench.turns import UsualLoop, bare_turn
from runner.jobs.paths import runs_folder
from runner.training import profiles
from runner.training.step import UPDATES_A_CALL, Step
from runner.worker.options import RunOptions
from zoo import load_models
from zoo.anatomy import layers_of

MODELS = load_models()


KINDS = models_of_every_kind()
# Each model once: the data set changes no kind of layer.
NETWORKS = [
    pytest.param(spec, dataset, id=f"{spec.name}-{dataset}", marks=[pytest.mark.slow] * (spec.name not in KINDS))
    for spec in MODELS.values()
    for dataset in list(spec.variants)[:1]
]


# --- the floors ------------------------------------------------------------------------------------------------------------


def layers(spec, dataset):
    with torch.device("meta"):
        return layers_of(spec.variants[dataset].build(), get_dataset(dataset).shape)


@pytest.mark.parametrize(("spec", "dataset"), NETWORKS)
def test_the_arithmetic_is_what_torch_counts(spec, dataset):
    facts = get_dataset(dataset)
    with torch.device("meta"):
        if any(hasattr(layer, "weights_at_a_place") for layer in spec.variants[dataset].build().modules()):
            pytest.skip(
                "torch counts the zeros of a connection table; tests/test_lecun.py counts the connections by hand"
            )
        model, images = spec.variants[dataset].build().train(), torch.zeros(2, *facts.shape)
        labels = torch.zeros(2, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        spec.loss(model(images), labels).backward()
    ours, counted = flops_per_image(layers(spec, dataset)), counter.get_total_flops() / 2
    if spec.family == "GoogLeNet":  # its auxiliary heads are there in training alone
        assert ours < counted < 1.1 * ours
    else:
        assert ours == counted


def test_the_bytes_of_lenet_by_hand():
    """Two convolutions and three dense layers; what lies between them rides along."""
    outputs = 6 * 28 * 28 + 16 * 10 * 10 + 120 + 84 + 10
    expected = 5 * 4 * outputs + 8 * 4 * 61_706 / 128
    assert bytes_per_image(layers(MODELS["lenet"], "mnist"), 128) == pytest.approx(expected)


def test_a_batch_is_halved_until_a_step_fits():
    assert fitting_batch(128, 1.0, 2.0) == 128
    assert fitting_batch(128, 4.0, 2.0) == 64
    assert fitting_batch(128, 1000.0, 0.1) == 32
    assert fitting_batch(8, 1000.0, 0.1) == 8


# --- measured --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured_row(tmp_path_factory):
    """A row measured in this process, on real digits; images without workers of a DataLoader."""
    pytest.importorskip("sklearn", reason="the digits ship inside scikit-learn")
    threads, folder = torch.get_num_threads(), tmp_path_factory.mktemp("bench")
    resolve, seconds, precisions = profiles.resolve, UsualLoop.seconds, set()

    def watched(loop, steps):
        precisions.update(part.fp32_precision for part in (torch.backends.cuda.matmul, torch.backends.cudnn.conv))
        return seconds(loop, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROZOO_ROOT", str(folder))
        patch.setenv("REPROZOO_DATA", str(folder / "data"))
        patch.setattr("runner.bench.turns.WORKERS", 0)
        patch.setattr(profiles, "resolve", lambda *args: resolve(*args) | {"float32": "tf32"})  # as `fast` on a GPU
        patch.setattr(UsualLoop, "seconds", watched)
        row = measure(BenchRequest(model="lenet", dataset="digits", seconds=1.0, repeats=3))
    profiles.apply(profiles.resolve("fast", torch.device("cpu")))
    torch.set_num_threads(threads)
    assert not (folder / ".runs").exists(), "a measurement leaves no run behind"
    assert precisions == {"ieee"}, "the usual loop is float32 as torch's defaults, whatever the profile"
    return row


@pytest.fixture
def row(measured_row):
    return dict(measured_row)


KEYS = {"model", "dataset", "profile", "device", "bare_step", "loop", "dataloader", "loop_ratio", "speedup"}


def test_the_command_prints_the_rows_that_its_children_print(runner, row, monkeypatch):
    child = f"import sys; print('a message', file=sys.stderr); print({json.dumps(row)!r})"
    monkeypatch.setattr("runner.bench.command.python", lambda *words: [sys.executable, "-c", child])
    code, out, err = runner("bench", "--dataset", "digits", "--model", "lenet", "--json")
    assert code == 0, err
    assert json.loads(out) == [row]
    assert row.keys() >= KEYS
    assert (row["model"], row["dataset"], row["profile"], row["images"]) == ("lenet", "digits", "reference", "real")
    assert "1/1 digits/lenet" in err
    assert "a message" in err


@pytest.mark.slow
def test_the_command_prints_the_documented_keys(tmp_path):
    """As a user types it: with processes for one job and for two at once."""
    pytest.importorskip("sklearn", reason="the digits ship inside scikit-learn")
    words = ["bench", "--dataset", "digits", "--model", "lenet", "--seconds", "1", "--repeats", "3", "--json"]
    environment = {"REPROZOO_ROOT": str(tmp_path), "REPROZOO_DATA": str(tmp_path / "data"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "runner", *words, "--concurrent", "2"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    assert row.keys() >= KEYS
    assert "1/1 digits/lenet" in done.stderr
    assert not (tmp_path / ".runs").exists()
    alone, two = row["concurrent"]
    assert (alone["jobs"], alone["gain"], two["jobs"]) == (1, 1.0, 2)
    assert 0.2 * row["loop"] < alone["images_per_second"] < 5 * row["loop"], "the same loop, measured another way"
    assert two["gain"] > 0
    assert "  2 concurrent jobs: " in done.stderr


def test_the_numbers_of_a_row_agree_with_each_other(row):
    for name in ("bare_step", "loop", "dataloader"):
        low, high = row["spread"][name]
        assert 0 < low <= row[name] <= high
    low, high = row["spread"]["loop_ratio"]
    assert 0 < low <= row["loop_ratio"] <= high
    assert row["gflops"] == pytest.approx(row["loop"] * row["flops_per_image"] / 1e9, abs=1e-3)
    assert row["arithmetic_share"] == pytest.approx(row["gflops"] / row["matrix_gflops"], rel=0.05, abs=1e-4)
    moved = row["loop"] * row["bytes_per_image"] / 1e9
    assert row["memory_share"] == pytest.approx(moved / row["memory_gbytes"], rel=0.05, abs=1e-4)
    assert row["overhead_microseconds"] >= 0
    assert row["overhead_share"] >= row["overhead_microseconds"] * row["bare_step"] / 1e6 * 0.999
    assert min(row[name] for name in ("arithmetic_share", "memory_share", "cpu_share")) > 0
    assert (row["batch_size"], row["recipe_batch_size"], row["repeats"]) == (64, 64, 3)


def test_a_row_is_computed_from_the_turns(monkeypatch):
    """On one thread the ratios are of processor time, turn by turn; everything else is by the clock."""
    clock = {
        "bare_step": [100.0, 200.0, 400.0],
        "loop": [90.0, 190.0, 300.0],
        "dataloader": [40.0, 50.0, 70.0],
        "evaluation": [500.0, 600.0, 700.0],
        "matrix": [2e9, 2e9, 2e9],
        "memory": [1e9, 1e9, 1e9],
    }
    processor = clock | {"loop": [95.0, 180.0, 300.0], "dataloader": [50.0, 90.0, 100.0]}
    rates = throughput.Rates(clock, processor, core_shares=[0.5, 0.9, 1.0], checkpoint_seconds=0.3)
    first = throughput.FirstCalls(startup_seconds=2.0, step_seconds=0.01, peak_bytes=500_000_000, arithmetic="torch")
    monkeypatch.setattr(throughput, "first_calls", lambda *_: first)
    monkeypatch.setattr(throughput, "overhead_seconds", lambda *_: 1e-4)
    monkeypatch.setattr(throughput, "rates_by_turns", lambda *_: rates)
    monkeypatch.setattr(throughput, "CHECKPOINT_SECONDS", 30.0)
    row = throughput.measure(BenchRequest(model="lenet", dataset="digits", repeats=3, options=RunOptions(threads=1)))
    assert (row["bare_step"], row["loop"], row["dataloader"], row["evaluation"]) == (200.0, 190.0, 50.0, 600.0)
    assert (row["loop_ratio"], row["spread"]["loop_ratio"]) == (0.9, [0.75, 0.95])
    assert row["speedup"] == 2.0
    assert (row["overhead_microseconds"], row["overhead_share"]) == (100.0, 0.03)  # 2 % of a step, and 0.3 s in 30
    assert row["arithmetic_share"] == pytest.approx(190 * row["flops_per_image"] / 2e9, abs=1e-4)
    assert (row["cpu_share"], row["peak_memory_mb"], row["startup_seconds"]) == (0.9, 500, 2.0)


# In place of a child that trains: the lines of one, at a rate of 100 images/s.
STEADY = "print('ready', flush=True)\nwhile input() == '': print(100.0, flush=True)"


def test_a_turn_counts_updates_and_not_calls(monkeypatch, capsys):
    """Hand-written passes make many updates in a call: here 6 in the first, of which 3 are the warm-up's."""
    now = iter([0.0, 1.0, 4.0, 4.0, 4.0])
    monkeypatch.setattr(concurrency.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr("sys.stdin", io.StringIO("\n\n"))
    turns = concurrency._Turns(batch=2, seconds=3.0, synchronise=lambda: None)
    for step in (6, 256, 0, 100):
        turns({"step": step})
    ready, rate = capsys.readouterr().out.split()
    assert (ready, float(rate)) == ("ready", 2 * (250 + 100) / 4)


def test_concurrent_jobs_are_compared_with_one_job(row, monkeypatch, capsys):
    monkeypatch.setattr("runner.bench.concurrency.python", lambda *words: [sys.executable, "-c", STEADY])
    console = Console(stderr=True, force_terminal=False, width=400)
    assert bench.add_concurrent(row, BenchRequest(model="lenet", dataset="digits", repeats=3), [2], console)
    assert row["concurrent"] == [
        {"jobs": 1, "images_per_second": 100.0, "gain": 1.0},
        {"jobs": 2, "images_per_second": 200.0, "gain": 2.0},
    ]
    assert "  2 concurrent jobs: 200 images/s, 2.00 times the rate of one job" in capsys.readouterr().err
    (_, _, second) = bench.concurrency_table([row])
    assert second[:2] == ["lenet", "2"]


def test_a_child_of_several_says_when_it_is_ready_and_its_rate_for_each_empty_line(monkeypatch, capsys, tmp_path):
    threads = torch.get_num_threads()
    BenchRequest(model="lenet", dataset="digits", seconds=0.02).write(tmp_path / "request.json")
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))
    assert concurrency.main(str(tmp_path / "request.json")) == 0
    ready, *rates = capsys.readouterr().out.splitlines()
    assert ready == "ready"
    assert len(rates) == 2
    assert all(float(rate) > 0 for rate in rates)
    profiles.apply(profiles.resolve("fast", torch.device("cpu")))
    torch.set_num_threads(threads)


def test_what_several_jobs_gain_is_the_median_of_the_turns_ratios():
    """A machine that is slowed in the third turn slows both sides of its ratio."""
    alone, four = ConcurrentRuns(1, (100.0, 100.0, 20.0)), ConcurrentRuns(4, (250.0, 240.0, 50.0))
    assert four.gain(alone) == pytest.approx(2.5)
    assert (alone.gain(alone), four.rate) == (1.0, 240.0)


@pytest.fixture
def failing_children(monkeypatch):
    """Real children that end as one does whose request makes no sense, but before they import torch."""
    failing = [sys.executable, "-c", "raise KeyError('nothing')"]
    for module in ("command", "concurrency"):
        monkeypatch.setattr(f"runner.bench.{module}.python", lambda *words: failing)


def test_a_row_outlives_children_that_can_t_be_asked_and_a_line_says_why(capsys, failing_children):
    row = {"loop": 1.0}
    console = Console(stderr=True, force_terminal=False, width=400)
    assert not bench.add_concurrent(row, BenchRequest(model="nothing", dataset="digits"), [2], console)
    assert row == {"loop": 1.0}
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("runner: 2 concurrent jobs can't be measured: ")
    assert "KeyError: 'nothing'" in line


def test_random_images_replace_a_missing_data_set(capsys):
    subject = subject_of(BenchRequest(model="lenet", dataset="mnist"))
    assert not subject.real
    assert subject.prepared.train.images(slice(0, 4)).shape == (4, 1, 28, 28)
    assert "random images" in capsys.readouterr().err
    profiles.apply({**subject.switches, "deterministic": False})


def test_a_network_of_one_image_per_update_is_measured_by_its_own_passes(monkeypatch):
    monkeypatch.setattr(Step, "update", lambda *_: pytest.fail("autograd's step, which trains no such network"))
    subject = subject_of(BenchRequest(model="lenet5", dataset="mnist"))
    recipe = plain_recipe(subject)
    assert recipe.batch_size == 1
    assert bare_turn(subject, recipe, 12)() == 12
    assert bare_turn(subject, recipe, 3 * UPDATES_A_CALL)() == 3 * UPDATES_A_CALL
    profiles.apply({**subject.switches, "deterministic": False})


def test_freed_memory_is_kept():
    """Blocks that are taken and freed again cost page faults by default; a process of its own, since it's for good."""
    if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        pytest.skip("not glibc")
    code = """
import resource
import numpy as np
from runner.training import memory
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    before = faults()
    for _ in range(20):
        np.full(2**23, 1.0)  # 64 MB: 16,384 pages
    return faults() - before
first = work()
memory.keep_freed()
work()
print(first, work())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = (int(word) for word in done.stdout.split())
    assert after < before / 10


# --- what it would take ------------------------------------------------------------------------------------------------------


def job_of(dataset, model, **overrides):
    variant = MODELS[model].variants[dataset]
    recipe = variant.recipe.to_dict()
    return Job(dataset=dataset, model=model, revision=1, recipe=recipe, overrides=overrides, seed=0)


def test_the_seconds_of_a_seed():
    row = {"loop": 1_000.0, "evaluation": 4_000.0}
    assert bench.seed_seconds(row, job_of("cifar10", "nin")) == pytest.approx(260 * (50_000 / 1_000 + 10_000 / 4_000))
    short = job_of(
        "cifar10", "nin", epochs=2, holdout=10_000, batch_size=128, order={"rule": "Shuffled", "drop_last": True}
    )
    assert bench.seed_seconds(row, short) == pytest.approx(2 * (39_936 / 1_000 + 10_000 / 4_000))


def test_the_hours_of_a_suite_need_all_of_its_models(monkeypatch):
    monkeypatch.setattr(bench, "SUITES", {name: SUITES[name] for name in ("quickstart", "mnist")})
    rates = {"loop": 100.0, "evaluation": 400.0}
    members = [name for name, spec in MODELS.items() if "quickstart" in spec.suites]
    rows = [{"dataset": "digits", "model": name, **rates} for name in members]
    facts = get_dataset("digits")
    epochs = sum(MODELS[name].variants["digits"].recipe.epochs for name in members)
    seconds = 2 * epochs * (facts.train_size / 100 + facts.test_size / 400)  # two seeds
    assert bench.suite_hours(rows, MODELS, 2) == {"quickstart": pytest.approx(seconds / 2 / 3600)}
    assert bench.suite_hours(rows[1:], MODELS, 2) == {}


# --- the tables --------------------------------------------------------------------------------------------------------------


def test_the_tables_have_a_cell_for_each_heading_and_cut_nothing(row):
    table = [bench.headings(row), bench.cells(row, job_of("digits", "lenet"))]
    assert len(table[1]) == len(bench.HEADINGS)
    text = bench.plain([table], bench.caption([row]), ["Note."])
    first, second = text.splitlines()[:2]
    assert len(first) == len(second)
    assert all(cell in second for cell in table[1])
    lines = bench.markdown([table, bench.concurrency_table([row])], bench.caption([row]), ["Note."]).splitlines()
    assert lines[6].startswith("| model | concurrent jobs |")
    assert lines[0] == bench.caption([row]) + "."
    assert [line.count("|") for line in lines[2:5]] == [len(bench.HEADINGS) + 1] * 3


def test_the_caption_names_hardware_versions_and_what_disturbed(row):
    calm, busy = row | {"cpu_share": 0.99}, row | {"cpu_share": 0.41}
    text = bench.caption([calm])
    for part in (row["hardware"], f"torch {torch.__version__}", "profile reference", "digits (real images)"):
        assert part in text
    assert "disturbed" not in text
    assert "disturbed by other processes: it had 41 % of its cores" in bench.caption([calm, busy])


def test_fast_is_compared_with_reference(row):
    fast = row | {"profile": "fast", "reference_step": 50.0, "fast_ratio": 1.4321}
    head, line = bench.headings(fast), bench.cells(fast, job_of("digits", "lenet"))
    assert len(head) == len(line) == len(bench.headings(row)) + 2
    shown = dict(zip(head, line, strict=True))
    assert (shown["reference step"], shown["fast/reference"]) == ("50.0", "1.43")


def test_a_smaller_batch_than_the_recipe_s_is_shown(row):
    assert bench.cells(row | {"batch_size": 32}, job_of("digits", "lenet"))[1] == "32 of 64"


def test_a_model_that_cannot_be_measured_is_reported(capsys, failing_children):
    request = BenchRequest(model="nothing", dataset="digits")
    console = Console(stderr=True, force_terminal=False, width=400)
    assert bench.measure_one(request, console) is None
    assert "runner: digits/nothing can't be measured: KeyError: 'nothing'" in capsys.readouterr().err


def test_which_models_are_measured():
    assert choose("cifar10", ["nin", "nin"], MODELS) == ["nin"]
    headline = choose("cifar10", [], MODELS)
    assert "nin_dropout" in headline
    assert "base_a" not in headline
    assert choose("digits", [], MODELS) == [name for name, spec in MODELS.items() if "digits" in spec.variants]


def test_a_question_reaches_the_child_through_a_file(tmp_path):
    options = RunOptions(data_dir=tmp_path, allow_unverified_data=True, threads=3)
    request = BenchRequest(model="nin", dataset="cifar10", seconds=2.5, options=options)
    request.write(tmp_path / "request.json")
    assert BenchRequest.read(tmp_path / "request.json") == request


# --- fast beside reference ---------------------------------------------------------------------------------------------------


def test_an_equivalence_study_trains_both_profiles_and_says_what_it_tells(runner, monkeypatch, own_store):
    pytest.importorskip("sklearn", reason="the digits ship inside scikit-learn")
    spec = MODELS["lenet"]
    variant = spec.variants["digits"]
    short = dataclasses.replace(variant, recipe=dataclasses.replace(variant.recipe, epochs=2))
    models = {"lenet": dataclasses.replace(spec, variants={"digits": short})}
    monkeypatch.setattr("runner.bench.equivalence.load_models", lambda: models)
    words = ["bench", "--equivalence", "--dataset", "digits", "--model", "lenet", "--seeds", "2", "--engine", "inline"]
    code, out, err = runner(*words, "--dry-run")
    assert code == 0, err
    assert out.splitlines() == [
        f"pending      digits/lenet/{profile}-seed{seed}" for profile in ("reference", "fast") for seed in (0, 1)
    ]
    assert list(runs_folder().iterdir()) == [own_store]

    code, out, err = runner(*words)
    assert code == 0, out + err
    assert out.splitlines()[-1] == (
        "… not yet known: lenet on digits, fast compared with reference: 2 of reference and 2 of fast finished; "
        "10 of each are needed."
    )
    code, out, _ = runner(*words, "--dry-run")
    assert [line.split()[0] for line in out.splitlines()] == ["done"] * 4
