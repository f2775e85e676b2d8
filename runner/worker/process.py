"""Prepare a process before it trains: the environment variables that torch reads, and the signals that stop a worker."""

import contextlib
import os
import signal
from collections.abc import Iterator

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)  # each leads to a checkpoint and a clean exit


def prepare_environment(device: str, threads: int) -> None:
    """Set the variables that torch reads at import: threads, deterministic cuBLAS, and no GPU for device 'cpu'."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Block STOP_SIGNALS in children started inside the block. A child unblocks them once it handles them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
