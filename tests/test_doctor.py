"""`runner doctor`: each trouble that can be made here is found, named and comes with what to do."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time

import pytest

from benchmarks.checkout import root
from runner.doctor import files, machine, services
from runner.engines import config
from runner.engines.hardware import Build
from runner.jobs.paths import runs_folder
from runner.nvml import EXCLUSIVE, Card, Gpus

GIB = 2**30

BUILD = Build("2.15.0", "13.2", ["sm_75", "sm_90"])


def test_a_sound_machine_has_no_problem_and_nothing_is_left_behind(runner, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # whatever this machine has, and however full and slow it is
    monkeypatch.setattr("runner.doctor.files.DISK_PROBLEM", 0)
    monkeypatch.setattr("runner.doctor.check.CLOCK_WARNING", 600.0)
    monkeypatch.setattr("runner.doctor.check.CLOCK_PROBLEM", 1200.0)
    code, out, _ = runner("doctor", "--engine", "local", "--json")
    found = json.loads(out)
    assert code == 0, found
    assert set(found) == {"checks", "counts"}
    assert all(set(check) == {"name", "status", "message", "fix"} for check in found["checks"])
    assert all(check["fix"] for check in found["checks"] if check["status"] != "ok")
    by_name = {check["name"]: check for check in found["checks"]}
    assert by_name["engine"]["status"] == by_name["clocks"]["status"] == "ok"
    assert list(root().iterdir()) == []


def test_it_is_for_people_too_and_loads_no_torch():
    code = "import sys; from runner.doctor import examine; examine.examine(None, None, print); "
    code += "print('torch' in sys.modules, 'mlflow' in sys.modules)"
    no_gpu = os.environ | {"CUDA_VISIBLE_DEVICES": ""}  # to judge a GPU takes torch
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=no_gpu)
    assert done.stdout.strip().endswith("False False")


def test_the_driver_has_to_know_the_cuda_of_torch():
    card = [Card("NVIDIA H200", 130 * GIB, 140 * GIB, "GPU-a")]
    for cuda, status in ((12080, "problem"), (13000, "warning"), (13020, "ok"), (14000, "ok")):
        assert machine.check_torch(("2.15.0", "13.2"), Gpus("580.1", cuda, card)).status == status
    assert machine.check_torch(("2.15.0+cpu", None), Gpus("580.1", 13020, card)).status == "problem"
    assert machine.check_torch(("2.15.0+cpu", None), None).status == "ok"
    assert machine.check_torch(None, None).status == "problem"
    old = machine.check_torch(("2.15.0", "13.2"), Gpus("535.1", 12020, card))
    assert "supports CUDA up to 12.2" in old.message
    assert "a driver for CUDA 13" in old.fix


def test_gpus_that_are_full_hidden_or_silent(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    card = Gpus("580.1", 13020, [Card("NVIDIA H200", 130 * GIB, 140 * GIB, "GPU-a")])
    assert machine.check_gpus(card, BUILD).status == "ok"
    assert (
        machine.check_gpus(Gpus("580.1", 13020, [Card("NVIDIA H200", GIB, 140 * GIB, "GPU-a")]), BUILD).status
        == "warning"
    )
    assert machine.check_gpus("Driver/library version mismatch").status == "problem"
    assert machine.check_gpus(None).status == "ok"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "hides them all" in machine.check_gpus(card).message


@pytest.mark.parametrize(
    ("cards", "lost", "variable", "status", "words"),
    [
        ([{"capability": (9, 0)}], [], None, "ok", "NVIDIA H100"),
        ([{"capability": (7, 0)}], [], None, "problem", "compute capability 7.0"),
        ([{}], ["GPU 1 does not answer: GPU is lost"], None, "warning", "not used: GPU 1 does not answer"),
        ([], ["GPU 0 does not answer: GPU is lost"], None, "problem", "none can be used"),
        ([{"instances": ()}], [], None, "problem", "has no instance"),
        ([{"compute_mode": EXCLUSIVE}], [], None, "warning", "admits one process only"),
        ([{}], [], "5", "problem", "selects none of the"),
        ([{}, {"name": "NVIDIA T4"}], [], "1", "warning", "CUDA counts the fastest GPU first"),
        ([{}, {"name": "NVIDIA T4"}], [], "GPU-0", "ok", "T4"),
    ],
)
def test_gpus_that_torch_cannot_use_as_they_are(monkeypatch, tmp_path, cards, lost, variable, status, words):
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    plain = {"name": "NVIDIA H100", "free": 70 * GIB, "total": 80 * GIB}
    machines = Gpus(
        "580.1", 13020, [Card(**(plain | {"uuid": f"GPU-{n}"} | card)) for n, card in enumerate(cards)], lost
    )
    check = machine.check_gpus(machines, BUILD)
    assert check.status == status, check
    assert words in check.message


def test_what_torch_says_of_itself_is_read_without_loading_it():
    import torch

    assert machine.torch_versions() == (str(torch.__version__), torch.version.cuda)


def test_a_root_that_is_a_file_or_full(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert files.check_disk("disk", tmp_path / "file" / ".runs", needed=True).status == "problem"
    monkeypatch.setattr(files, "DISK_PROBLEM", 2**60)
    assert files.check_disk("disk", tmp_path, needed=True).status == "problem"
    assert files.check_disk("disk", tmp_path, needed=False).status == "ok"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_root_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    assert files.check_disk("disk", tmp_path / ".runs", needed=True).status == "problem"


@pytest.mark.parametrize(("apart", "status"), [(0.1, "ok"), (10.0, "warning"), (-90.0, "problem")])
def test_clocks_that_are_apart(monkeypatch, apart, status):
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + apart)
    assert files.check_clock().status == status


def test_a_store_that_is_no_database_and_a_server_that_is_away(monkeypatch, tmp_path):
    runs_folder().mkdir()
    store = runs_folder() / "mlflow.db"
    store.write_text("not a database, whatever its name says")
    assert services.check_mlflow().status == "problem"
    store.unlink()
    assert services.check_mlflow().status == "ok"
    with sqlite3.connect(store) as database:
        database.execute("CREATE TABLE runs (id TEXT)")
    database.close()
    assert services.check_mlflow().message.endswith("0 runs")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://name:secret@127.0.0.1:{port}")
    away = services.check_mlflow()
    assert away.status == "warning"
    assert "secret" not in away.message


def test_leftovers_are_counted_and_a_broken_engines_file_is_a_problem(runner):
    folder = runs_folder() / "digits" / "lenet" / "reference-seed0-00000000"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    (folder / "attempts.jsonl").write_text('{"event": "start", "time": 1}\n')
    (folder / "lease.json").write_text(json.dumps({"host": "elsewhere", "time": 1}))
    found = files.check_leftovers()
    assert found.status == "warning"
    assert "1 killed, 1 lease of dead processes" in found.message
    config.engines_file().write_text("[engine.x")
    code, out, _ = runner("doctor")
    assert code == 1
    assert "not valid TOML" in out
    assert "1 problem" in out


def test_without_slurm_only_its_own_engine_has_a_problem(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert services.check_slurm(needed=False).status == "ok"
    assert services.check_slurm(needed=True).status == "problem"
