"""Start a worker through an engine and check it from here.

    python -m runner.doctor.probe FOLDER

is that worker. It shows that torch finds its device, and that its lock and its files are visible from here.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.canonical import canonical_json
from benchmarks.checkout import root
from benchmarks.files import write_atomically
from runner import locks
from runner.doctor.check import Check, compare_clocks, ok, problem, warning
from runner.engines.config import EngineSettings, Slurm
from runner.files import read_json
from runner.jobs.paths import boot_id, host, runs_folder
from runner.sources import child_variables, python

PROBE_SECONDS = 180.0  # how long to wait for a task in SLURM's queue


def probe(folder: str) -> None:
    """Run as the engine's worker: hold a lock, write hello.json, wait up to 120 s for the answer, report whether it came."""
    place = Path(folder)
    with locks.locked(place / "lock"):
        facts: dict[str, Any] = {
            "host": host(),
            "boot": boot_id(),
            "time": time.time(),
            "python": sys.executable,
        }
        try:
            import torch

            facts |= {"torch": str(torch.__version__), "gpus": torch.cuda.device_count()}
        except Exception as error:  # any error that importing torch raises
            facts["trouble"] = f"{type(error).__name__}: {error}".splitlines()[0]
        facts["time"] = time.time()
        write_atomically(place / "hello.json", canonical_json(facts))
        deadline = time.monotonic() + 120
        while not (place / "answer").exists() and time.monotonic() < deadline:
            list(place.iterdir())  # listing the folder makes a shared file system refresh its cache
            time.sleep(0.2)
    write_atomically(place / "end.json", canonical_json({"saw": (place / "answer").exists()}))


def check_engine(name: str, engine: EngineSettings, say: Callable[[str], None]) -> list[Check]:
    """Start a worker through the engine and check it from here. Waits at most PROBE_SECONDS for it to start."""
    place = runs_folder() / "doctor" / secrets.token_hex(6)
    place.mkdir(parents=True)
    stop: Callable[[], None] = lambda: None  # noqa: E731
    try:
        if isinstance(engine, Slurm):
            alive, stop, what = _start_task(engine, place)
        else:
            alive, stop, what = _start_child(place)
        say(f"waiting for {what} ...")
        deadline = time.monotonic() + PROBE_SECONDS
        while not (place / "hello.json").exists():
            state = alive()
            if state is None:
                log = next((path for path in sorted(place.rglob("*.out"))), None)
                tail = (
                    (log.read_text(errors="replace").strip().splitlines() or [""])[-1] if log else "it wrote no output"
                )
                return [problem("engine", f"{what} ended without an answer: {tail}", _no_answer(name, engine))]
            if time.monotonic() > deadline:
                return [
                    warning(
                        "engine",
                        f"{what} has not started within {PROBE_SECONDS:.0f} s ({state})",
                        "try again when the queue is shorter",
                    )
                ]
            time.sleep(0.2)
        return _judge(name, engine, place)
    finally:
        stop()
        shutil.rmtree(place, ignore_errors=True)
        for folder in (place.parent, runs_folder()):
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if it is empty


def _no_answer(name: str, engine: EngineSettings) -> str:
    if not isinstance(engine, Slurm):
        return f"""`{sys.executable} -c "import torch, runner.worker.attempt"` in the checkout shows the cause"""
    return (
        f"check that the node can read {root()} and {sys.executable}; commands that it needs first belong into `setup` "
        f"in [engine.{name}]"
    )


def _judge(name: str, engine: EngineSettings, place: Path) -> list[Check]:
    hello = read_json(place / "hello.json") or {}
    seen = locks.is_held(place / "lock")
    apart = abs(hello["time"] - time.time()) if isinstance(hello.get("time"), float) else 0.0
    (place / "answer").touch()
    deadline = time.monotonic() + 90
    while not (place / "end.json").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    freed = not locks.is_held(place / "lock")
    saw = (read_json(place / "end.json") or {}).get("saw") is True
    where = f"a worker on {hello.get('host')}, torch {hello.get('torch')}, {hello.get('gpus')} GPUs"
    checks = []
    if hello.get("trouble"):
        checks.append(
            problem(
                "engine",
                f"a worker on {hello.get('host')} can't load torch: {hello['trouble']}",
                _no_answer(name, engine),
            )
        )
    elif isinstance(engine, Slurm) and engine.gpus > (hello.get("gpus") or 0):
        checks.append(
            problem(
                "engine",
                f"{where}, but {engine.gpus} were requested",
                "check the node's driver, which torch's CUDA may find too old, and its gres.conf",
            )
        )
    elif not saw:
        checks.append(
            problem(
                "engine",
                f"{where}, can't read files that are written here",
                "set REPROZOO_ROOT to a folder on a shared file system",
            )
        )
    elif not (seen and freed):
        checks.append(
            warning(
                "engine",
                f"{where}: its files are visible from here, its lock is not",
                "mount .runs with locks (NFS 4, or without nolock; Lustre: flock); until then only leases protect the jobs",
            )
        )
    else:
        checks.append(ok("engine", f"{where}: files and locks are visible in both directions"))
    return [*checks, compare_clocks("clocks", apart, f"the clocks of this machine and {hello.get('host')}")]


def _start_child(place: Path) -> tuple[Callable[[], str | None], Callable[[], None], str]:
    with (place / "child.out").open("wb") as output:
        child = subprocess.Popen(
            python("-m", "runner.doctor.probe", str(place)),
            env=os.environ | child_variables(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def stop() -> None:
        if child.poll() is None:
            child.kill()
        child.wait()

    return (lambda: "running" if child.poll() is None else None), stop, f"a worker (process {child.pid})"


def _start_task(engine: Slurm, place: Path) -> tuple[Callable[[], str | None], Callable[[], None], str]:
    from runner.engines import slurm, slurm_queue

    executor = slurm.executor_for(engine, f"doctor-{place.name}", place)
    job = slurm.queue_with(executor, [(probe, str(place))])[0]

    def alive() -> str | None:
        lines = [
            line.split("|")
            for line in slurm_queue.ask("squeue", "--noheader", "--me", "--format=%i|%T|%r").splitlines()
        ]
        return next((f"{state.lower()}, {reason}" for id_, state, reason in lines if id_ == job), None)

    def stop() -> None:
        with contextlib.suppress(slurm_queue.SlurmUnavailable):
            slurm_queue.ask("scancel", "--quiet", job)

    return alive, stop, f"SLURM job {job}"


if __name__ == "__main__":
    probe(sys.argv[1])
