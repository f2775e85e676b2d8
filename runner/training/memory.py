"""Memory, of a GPU or of the machine: what to say when it's short, how the C library hands it out, room for a thread."""

import contextlib
import ctypes
import re
import threading

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as malloc.h numbers them
SIGNS = (
    "CUDA out of memory",
    "can't allocate memory",
    "not enough memory",
    "can't start new thread",
    "could not create a primitive",  # oneDNN, whose workspaces are asked for without a word of how much
    "could not execute a primitive",
)
THREAD_BYTES = 2**24  # what a thread may need to begin with, many times over
_SIZE = r"([\d.]+ (?:bytes|[KMGT]iB))"


def is_short(message: str) -> bool:
    """Whether an error's text says that memory was short, on a GPU or on the host."""
    return any(words in message for words in SIGNS)


def ran_short(error: BaseException) -> bool:
    """Whether an error means that memory was short: Python's own says nothing."""
    return isinstance(error, MemoryError) or is_short(str(error))


def out_of_memory(key: str, batch_size: int, message: str, slots_hint: bool) -> str:
    """One line for a job that ran out of memory: which, how much was asked and free, what to change.

    `message` is the text of torch.OutOfMemoryError (c10/cuda/CUDACachingAllocator.cpp), of the RuntimeError that torch
    raises on a CPU (c10/core/impl/alloc_cpu.cpp), or of numpy's MemoryError; sizes that it doesn't name are left out.
    `slots_hint`: the job ran on a GPU, whose slots may be fewer.
    """
    asked = re.search(rf"(?:[Tt]ried|Unable) to allocate {_SIZE}", message)
    facts = [f"asked for {_readable(asked[1])}"] if asked else []
    free = re.search(rf"total capacity of {_SIZE} of which {_SIZE} is free", message)
    if free:
        facts.append(f"{free[2]} of {free[1]} free")
    others = re.findall(rf"Process \d+ has {_SIZE} memory in use", message)
    if others:
        facts.append(f"other processes hold {' + '.join(others)}")
    where = "the GPU" if slots_hint else "the machine"
    said = f" ({', '.join(facts)})" if facts else ""
    change = (
        "fewer --slots-per-gpu, another GPU (CUDA_VISIBLE_DEVICES), or end what else runs there (nvidia-smi)"
        if slots_hint
        else "fewer slots (REPROZOO_THREADS), or end what else runs there"
    )
    return (
        f"{key}: {where} is out of memory{said}. "
        f"The batch of {batch_size} is the recipe's and stays; what may change: {change}"
    )


def _readable(size: str) -> str:
    """'400000000000 bytes' as '372.53 GiB'."""
    number, unit = size.split()
    value = float(number)
    if unit != "bytes" or value < 1024:
        return size
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024 or larger == "TiB":
            return f"{value:.2f} {larger}"
    return size


def start_thread(thread: threading.Thread) -> None:
    """Start a thread where there is room for it; raises MemoryError where there is none.

    `Thread.start` waits until the thread says that it runs: for ever, where its first allocation fails.
    """
    bytearray(THREAD_BYTES)
    thread.start()


def keep_freed() -> None:
    """Tell glibc to keep what is freed instead of giving it back to the system; elsewhere this does nothing.

    A training step on a CPU frees and takes again hundreds of megabytes. By default each large block is mapped anew, and the
    kernel clears it page by page: 2,000 page faults a step for LeNet, 33,000 for NiN at batch 32. Without them the same
    step took a tenth (LeNet) to a sixth (NiN) less of the processor's time, and no more memory at its peak: best of two runs
    each on a busy Xeon of two cores, torch 2.15.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_MAX, 0)
