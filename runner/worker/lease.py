"""Write a worker's files during training: the lease, samples of the machine, the log."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.canonical import canonical_json
from runner import nvml
from runner.files import append_line
from runner.jobs.paths import boot_id, host, now_ms
from runner.jobs.state import LEASE_SECONDS
from runner.training import memory

SAMPLE_SECONDS = 10.0  # between two samples of processor, memory and GPU
PROGRESS_SECONDS = 1.0  # shortest time between two renewals with progress


class Lease:
    """lease.json: who runs the job. A thread renews it every 30 s; progress renews it at most once per second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._facts: dict[str, Any] = {"host": host(), "boot": boot_id(), "pid": os.getpid()}
        self._written = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._guard = threading.Lock()

    def __enter__(self) -> "Lease":
        self._write()
        memory.start_thread(self._thread)
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join(timeout=5)

    def progress(self, facts: dict[str, Any]) -> None:
        """Record progress. It is written if the last write was more than PROGRESS_SECONDS ago."""
        self._facts.update(facts)
        if time.monotonic() - self._written > PROGRESS_SECONDS:
            self._write()

    def _renew(self) -> None:
        while not self._done.wait(LEASE_SECONDS):
            self._write()

    def _write(self) -> None:
        """Write the lease without fsync, because it is worthless after a crash.

        Errors are ignored: a full disk must not end a training.
        """
        with self._guard, contextlib.suppress(OSError):
            self._written = time.monotonic()
            temporary = self.path.with_name(".lease.tmp")
            temporary.write_text(canonical_json({**self._facts, "time": now_ms()}))
            temporary.replace(self.path)


@contextlib.contextmanager
def sampling(path: Path, device: str) -> Iterator[None]:
    """Append samples of processor, memory and GPU to a file every SAMPLE_SECONDS while the block runs."""
    done = threading.Event()
    thread = threading.Thread(target=_sample, args=(path, device, done), daemon=True)
    memory.start_thread(thread)
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=5)


def _sample(path: Path, device: str, done: threading.Event) -> None:
    import psutil

    process = psutil.Process()
    process.cpu_percent()
    gpu = nvml.GpuSampler(os.environ.get("CUDA_VISIBLE_DEVICES", "")) if device == "cuda" else None
    while not done.wait(SAMPLE_SECONDS):
        facts = {
            "time": now_ms(),
            "cpu_percent": process.cpu_percent(),
            "memory_mb": round(process.memory_info().rss / 1e6, 1),
            **({**gpu.sample(), **own_gpu_memory()} if gpu else {}),
        }
        with contextlib.suppress(OSError):
            append_line(path, facts)


def own_gpu_memory() -> dict[str, float]:
    """Return this process's own GPU memory in MB. NVML's figure counts every process on the card."""
    torch = sys.modules.get("torch")  # a sample must not import torch or initialise CUDA
    if torch is None or not torch.cuda.is_initialized():
        return {}
    return {"gpu_own_memory_mb": round(torch.cuda.memory_reserved() / 1e6, 1)}


class Log:
    """log.txt: the worker's lines and, inside `capture`, what libraries write to standard output and error."""

    def __init__(self, path: Path, echo: Callable[[str], None] | None) -> None:
        self.path, self.echo = path, echo
        path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, line: str) -> None:
        # A full disk must not end a training.
        with contextlib.suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write(line.rstrip("\n") + "\n")
        if self.echo is not None:
            self.echo(line)

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """Send this process's standard output and error into the log."""
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        target = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for descriptor in kept:
                os.close(descriptor)
