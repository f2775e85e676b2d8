"""Where workers run: a share of a GPU, or some cores."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.errors import UserError
from runner import nvml
from runner.locks import InheritableLock
from runner.worker.process import prepare_environment

MEMORY_PER_SLOT = 3 * 2**30  # bytes: a whitened CIFAR-10 in float32, torch and one network


@dataclass(frozen=True)
class Slot:
    """Where one worker runs. `visible` is the GPU's UUID or index for CUDA_VISIBLE_DEVICES; None on a CPU.

    `locked`: whether the GPU's share is taken by a lock while it's used.
    """

    name: str
    device: str
    visible: str | None = None
    locked: bool = True


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as NVML names them (their UUIDs); empty where there is none."""
    uuids = nvml.uuids()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None or not uuids:
        return uuids
    wanted = [word.strip() for word in allowed.split(",") if word.strip()]
    return [uuids[int(word)] if word.isdigit() and int(word) < len(uuids) else word for word in wanted if word != "-1"]


def threads_per_slot(default: int = 1) -> int:
    """Threads of one worker on a CPU: variable REPROZOO_THREADS, else 1, which gives the most per core on small networks."""
    text = os.environ.get("REPROZOO_THREADS", str(default))
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"REPROZOO_THREADS is '{text}', expected a whole number from 1")
    return int(text)


def make_slots(slots_per_gpu: int, threads: int) -> list[Slot]:
    """One slot a GPU share; without a GPU one for every `threads` cores, as far as the memory goes, at least one."""
    gpus = visible_gpus()
    if gpus:
        return [Slot(f"gpu{i}.{k}", "cuda", uuid) for k in range(slots_per_gpu) for i, uuid in enumerate(gpus)]
    by_memory = psutil.virtual_memory().available // MEMORY_PER_SLOT
    return [Slot(f"cpu{i}", "cpu") for i in range(max(1, min(usable_cores() // threads, by_memory)))]


def enter(slot: Slot, threads: int) -> None:
    """What torch finds in the environment, here and in children: this slot's GPU, or no GPU and so many threads."""
    if slot.visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.visible
    prepare_environment(slot.device, threads)


def usable_cores() -> int:
    """How many cores this process may use; inside SLURM's allocation no more than its, whether it binds processes or not."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return min(cores, int(given)) if given.isdigit() else cores


class SlotLock:
    """The lock of a GPU slot, per host and user, outside .runs: two clones share a GPU without collisions.

    Slots on a CPU have none: the system shares cores well.
    """

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self._lock: InheritableLock | None = None
        if slot.visible is not None and slot.locked:
            folder = Path(os.environ.get("REPROZOO_LOCKS") or Path(tempfile.gettempdir()) / f"reprozoo-{os.getuid()}")
            share = slot.name.rpartition(".")[2]
            self._lock = InheritableLock(folder / f"{slot.visible}.{share}.lock")

    def acquire(self) -> bool:
        """Take the slot; return False where another submit has it."""
        return self._lock is None or self._lock.acquire()

    def descriptors(self) -> tuple[int, ...]:
        """Return what a worker inherits, so that the slot is taken while either lives."""
        return () if self._lock is None else self._lock.descriptors()

    def release(self) -> None:
        """Let the slot go."""
        if self._lock is not None:
            self._lock.release()
