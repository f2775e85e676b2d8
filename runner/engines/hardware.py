"""Find the usable GPUs: those that CUDA_VISIBLE_DEVICES names, read as CUDA reads it, less those this torch cannot use."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.errors import UserError
from runner import nvml
from runner.nvml import EXCLUSIVE, PROHIBITED, Card, Gpus

INSIST = "To train on the CPU instead: --device cpu"


@dataclass(frozen=True)
class Gpu:
    """A GPU, or one MIG instance of it. `uuid` is NVML's, whatever name selected it."""

    uuid: str
    card: Card


@dataclass(frozen=True)
class Build:
    """What torch was compiled for: its version, its CUDA version ('13.2'; None for CPU only), its architectures."""

    version: str
    cuda: str | None
    architectures: Sequence[str]  # 'sm_90': machine code; 'compute_90': PTX, which a driver compiles for newer GPUs


def torch_build() -> Build:
    """Return what this torch was compiled for. No GPU is touched."""
    import torch

    return Build(str(torch.__version__), torch.version.cuda, torch.cuda.get_arch_list())


def code_runs_on(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Return whether one of the architectures has code for a GPU of this compute capability.

    Machine code runs on GPUs of its own major version and the same or a later minor one. PTX runs on any later one. A
    suffix (sm_90a) restricts the code to exactly that architecture.
    """
    major, minor = capability
    for text in architectures:
        kind, _, number = text.partition("_")
        parts = re.fullmatch(r"(\d+)(\d)([a-z]?)", number)
        if not parts:
            continue
        built = int(parts[1]), int(parts[2])
        if parts[3] and built != capability:
            continue
        if built <= capability if kind == "compute" else built[0] == major and built[1] <= minor:
            return True
    return False


class Unfit(NamedTuple):
    """Why something cannot be used, and what to do."""

    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.why}: {self.fix}"


def unfit_driver(gpus: Gpus, build: Build) -> Unfit | None:
    """Return why this torch cannot use the driver; None if it can."""
    if build.cuda is None:
        return Unfit(
            f"torch {build.version} is built without CUDA", "`make setup TORCH=auto` installs the build for this driver"
        )
    major = int(build.cuda.split(".")[0])
    if gpus.cuda // 1000 < major:
        return Unfit(
            f"driver {gpus.driver} supports CUDA up to {newest_cuda(gpus)}, but torch {build.version} needs {build.cuda}",
            f"install a driver for CUDA {major}, or run `make setup TORCH=auto`",
        )
    return None


def newest_cuda(gpus: Gpus) -> str:
    """Return the newest CUDA that the driver supports, as in '12.8'."""
    return f"{gpus.cuda // 1000}.{gpus.cuda % 1000 // 10}"


def unfit_card(card: Card, build: Build) -> str | None:
    """Return why torch cannot compute on this card; None if it can."""
    if card.compute_mode == PROHIBITED:
        return f"{card.name} is in compute mode PROHIBITED: run `nvidia-smi -c DEFAULT`"
    if card.instances == ():
        return f"{card.name} is in MIG mode and has no instance: create one with `nvidia-smi mig -cgi`"
    if card.capability is not None and not code_runs_on(card.capability, build.architectures):
        major, minor = card.capability
        return (
            f"{card.name} has compute capability {major}.{minor}, but torch {build.version} is compiled for "
            f"{', '.join(build.architectures)}: a build for an older CUDA may support it, `make setup TORCH=cu126`"
        )
    return None


def visible_gpus(cards: Sequence[Card], variable: str | None) -> list[Gpu]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names, in its order; None names all.

    It is read as CUDA reads it: the list ends at the first invalid entry, a duplicate leaves no GPU, and a UUID may be
    shortened to a unique prefix. Numbers count the GPUs that respond, in bus order. A GPU in MIG mode counts as all its
    instances, of which CUDA itself would use only the first; each worker gets one.
    """
    if variable is None:
        return [part for card in cards for part in _parts(card)]
    gpus: list[Gpu] = []
    by_name = variable.strip().startswith(("GPU-", "MIG-"))
    for entry in variable.split(","):
        parts = _by_name(cards, entry.strip()) if by_name else _by_number(cards, entry.strip())
        if parts is None:
            break
        if any(part in gpus for part in parts):
            return []
        gpus += parts
    return gpus


def hides_all(variable: str | None) -> bool:
    """Return whether CUDA_VISIBLE_DEVICES excludes every GPU: empty, -1, or SLURM's NoDevFiles."""
    return variable is not None and variable.split(",")[0].strip() in ("", "-1", "NoDevFiles")


def _parts(card: Card) -> list[Gpu]:
    if not card.instances:  # not in MIG mode, or without instances
        return [Gpu(card.uuid, card)]
    return [Gpu(instance.uuid, card) for instance in card.instances]


def _by_number(cards: Sequence[Card], entry: str) -> list[Gpu] | None:
    number = re.match(r"[+-]?\d+", entry)  # CUDA reads the leading number: '1gpu' is 1
    if number is None or not 0 <= int(number[0]) < len(cards):
        return None
    return _parts(cards[int(number[0])])


def _by_name(cards: Sequence[Card], entry: str) -> list[Gpu] | None:
    names: list[tuple[tuple[str, ...], list[Gpu]]]
    if entry.startswith("MIG-"):
        names = [((part.uuid, part.older_name), [Gpu(part.uuid, c)]) for c in cards for part in c.instances or ()]
    else:
        names = [((card.uuid,), _parts(card)) for card in cards]
    exact = [parts for known, parts in names if entry in known]
    matches = exact or [parts for known, parts in names if any(name.startswith(entry) for name in known)]
    return matches[0] if len(matches) == 1 and len(entry) > len("GPU-") else None


@dataclass(frozen=True)
class GpuSelection:
    """The GPUs to train on, and why each other selected GPU cannot be used.

    `on_cpu` means that training on the CPU is expected: no driver, no GPU, or CUDA_VISIBLE_DEVICES excludes all.
    """

    gpus: list[Gpu]
    unfit: list[str]
    on_cpu: bool = False


def find(machine: Gpus | str | None, variable: str | None, build: Build | None = None) -> GpuSelection:
    """Return which of a machine's GPUs can be used. Without `build`, torch is imported if there is a GPU to check."""
    if machine is None or hides_all(variable):
        return GpuSelection([], [], on_cpu=True)
    if isinstance(machine, str):
        return GpuSelection([], [f"the NVIDIA driver does not answer: {machine}"])
    if not machine.cards:
        return GpuSelection([], machine.lost, on_cpu=not machine.lost)
    candidates = visible_gpus(machine.cards, variable)
    if not candidates:
        there = "1 GPU" if len(machine.cards) == 1 else f"{len(machine.cards)} GPUs"
        return GpuSelection(
            [], [*machine.lost, f"CUDA_VISIBLE_DEVICES is '{variable}', which selects none of the {there}"]
        )
    build = build or torch_build()
    driver = unfit_driver(machine, build)
    if driver is not None:
        return GpuSelection([], [str(driver)])
    reasons = {gpu.uuid: unfit_card(gpu.card, build) for gpu in candidates}
    unfit = [reason for reason in reasons.values() if reason is not None]
    return GpuSelection(
        [gpu for gpu in candidates if reasons[gpu.uuid] is None], [*machine.lost, *dict.fromkeys(unfit)]
    )


def usable_gpus() -> GpuSelection:
    """Return the GPUs that this process may train on; raise UserError if a driver has GPUs and none can be used."""
    usable = find(nvml.gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not usable.gpus and not usable.on_cpu:
        raise UserError(f"no GPU can be used: {'; '.join(usable.unfit)}. {INSIST}")
    return usable


def numbers_differ(cards: Sequence[Card]) -> bool:
    """Return whether CUDA may number these cards differently from nvidia-smi: by default it puts the fastest first."""
    return len({card.name for card in cards}) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"


def shared_by_mps() -> bool:
    """Return whether CUDA's Multi-Process Service runs, which lets several processes use a GPU in exclusive mode."""
    return (Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")) / "control").exists()


def check_shares(gpus: Sequence[Gpu], slots_per_gpu: int) -> None:
    """Raise UserError for several slots on a GPU that admits only one process."""
    exclusive = [gpu.card.name for gpu in gpus if gpu.card.compute_mode == EXCLUSIVE]
    if exclusive and slots_per_gpu > 1 and not shared_by_mps():
        raise UserError(
            f"{exclusive[0]} is in compute mode EXCLUSIVE_PROCESS, which admits one process: use --slots-per-gpu 1, start MPS, "
            "or run `nvidia-smi -c DEFAULT`"
        )
