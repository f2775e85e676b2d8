"""The slots in which workers run: a share of a GPU, or some cores."""

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.errors import UserError
from runner.engines.hardware import GpuSelection, check_shares, usable_gpus
from runner.locks import InheritableLock
from runner.worker.process import prepare_environment

MEMORY_PER_SLOT = 3 * 2**30  # bytes: a whitened CIFAR-10 in float32, torch and one network


@dataclass(frozen=True)
class Slot:
    """The place of one worker. `visible` is the UUID of the GPU or its MIG instance; None on a CPU.

    `locked` means that a lock guards the GPU share while it is in use. `shares` is the number of slots that share the
    device's memory.
    """

    name: str
    device: str
    visible: str | None = None
    locked: bool = True
    shares: int = 1


def threads_per_slot(default: int = 1) -> int:
    """Return the threads of one CPU worker: the variable REPROZOO_THREADS, else `default`.

    One thread gives the highest throughput per core on small networks. Raise UserError for an invalid variable.
    """
    text = os.environ.get("REPROZOO_THREADS", str(default))
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"REPROZOO_THREADS is '{text}', expected a whole number of 1 or more")
    return int(text)


def make_slots(
    slots_per_gpu: int, threads: int, device: str = "auto", warn: Callable[[str], None] = lambda line: None
) -> list[Slot]:
    """Return one slot for each share of a GPU; without a GPU, one for every `threads` cores; always at least one.

    The number is limited by the machine's memory. `device` is "auto", "cpu" or "cuda"; the last two are binding. `warn`
    receives why a GPU or a share is left out. Raise UserError if there are GPUs and none can be used.
    """
    by_memory = max(1, psutil.virtual_memory().available // MEMORY_PER_SLOT)
    available = GpuSelection([], [], on_cpu=True) if device == "cpu" else usable_gpus()
    if not available.gpus:
        if device == "cuda":
            raise UserError(
                "--device is cuda, but this machine has no GPU or CUDA_VISIBLE_DEVICES hides it: use --device cpu"
            )
        count = max(1, min(usable_cores() // threads, by_memory))
        return [Slot(f"cpu{i}", "cpu", shares=count) for i in range(count)]
    check_shares(available.gpus, slots_per_gpu)
    for line in available.unfit:
        warn(f"GPU not used: {line}")
    numbered = list(enumerate(available.gpus))
    slots = [
        Slot(f"gpu{i}.{k}", "cuda", g.uuid, shares=slots_per_gpu) for k in range(slots_per_gpu) for i, g in numbered
    ]
    if len(slots) > by_memory:
        warn(
            f"using {by_memory} of {len(slots)} GPU slots, because the machine has too little memory for more "
            f"({MEMORY_PER_SLOT >> 30} GiB each)"
        )
    return slots[:by_memory]


def enter(slot: Slot, threads: int) -> None:
    """Set CUDA_VISIBLE_DEVICES and the thread variables for this slot, here and in children."""
    if slot.visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.visible
    prepare_environment(slot.device, threads)


def take_one(slots: Sequence[Slot], threads: int) -> "SlotLock":
    """Enter the first free slot and return its lock, held until this process ends or releases it.

    Raise UserError if all slots are in use.
    """
    for slot in slots:
        lock = SlotLock(slot)
        if lock.acquire():
            enter(slot, threads)
            return lock
    raise UserError(
        "every GPU is in use by another runner: wait, choose another GPU by CUDA_VISIBLE_DEVICES, or use --device cpu"
    )


def usable_cores() -> int:
    """Return how many cores this process may use. Within a SLURM allocation, it is at most the allocated number."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allocated = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return min(cores, int(allocated)) if allocated.isdigit() else cores


class SlotLock:
    """The lock of a GPU slot, per host and user, outside .runs, so that two clones share a GPU without collisions.

    CPU slots have no lock, because the system shares cores well.
    """

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self._lock: InheritableLock | None = None
        if slot.visible is not None and slot.locked:
            folder = Path(os.environ.get("REPROZOO_LOCKS") or Path(tempfile.gettempdir()) / f"reprozoo-{os.getuid()}")
            share = slot.name.rpartition(".")[2]
            name = re.sub(r"[^\w.-]", "_", slot.visible)  # older drivers write MIG-GPU-<uuid>/1/0
            self._lock = InheritableLock(folder / f"{name}.{share}.lock")

    def acquire(self) -> bool:
        """Take the slot; return False if another submit holds it."""
        return self._lock is None or self._lock.acquire()

    def descriptors(self) -> tuple[int, ...]:
        """Return the file descriptors that a worker inherits, so that the slot stays locked while either process lives."""
        return () if self._lock is None else self._lock.descriptors()

    def release(self) -> None:
        """Release the slot."""
        if self._lock is not None:
            self._lock.release()
