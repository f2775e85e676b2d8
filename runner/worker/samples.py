"""Samples of processor, memory and GPU during a training."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from runner import nvml
from runner.files import append_line
from runner.jobs.paths import now_ms
from runner.training import memory

SAMPLE_SECONDS = 10.0  # between two samples


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
