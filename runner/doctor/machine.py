"""Checks of this machine: Python, torch and its driver, GPUs, slots."""

import contextlib
import os
import platform
import sys
from importlib import metadata, util
from pathlib import Path
from typing import Any

import psutil

from benchmarks.plural import number
from runner.doctor.check import GIB, Check, ok, problem, warning
from runner.engines import hardware
from runner.engines.hardware import Build
from runner.nvml import EXCLUSIVE, Gpus

GPU_MEMORY = 3 * GIB  # free bytes that the largest network of the zoo needs, with its data


def check_python() -> Check:
    """Check that the interpreter runs in a virtual environment."""
    message = f"Python {platform.python_version()} at {sys.executable}"
    if sys.prefix == sys.base_prefix:
        return warning("python", f"{message}, not in a virtual environment", "make setup; then .venv/bin/runner")
    return ok("python", message)


def torch_versions() -> tuple[str, str | None] | None:
    """Return torch's version and the CUDA version of its build, read from its files; None if torch is not installed."""
    spec = util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    namespace: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # the file is torch's own code; without it the version comes from the metadata
        exec(
            compile((Path(spec.submodule_search_locations[0]) / "version.py").read_text(), "version.py", "exec"),
            namespace,
        )
    return namespace.get("__version__") or metadata.version("torch"), namespace.get("cuda")


def check_torch(versions: tuple[str, str | None] | None, gpus: Gpus | str | None) -> Check:
    """Check torch, and whether the driver supports the CUDA version of its build."""
    if versions is None:
        return problem("torch", "torch is not installed", "make setup")
    version, cuda = versions
    message = f"torch {version}, " + (f"built for CUDA {cuda}" if cuda else "built without CUDA")
    if not isinstance(gpus, Gpus) or not gpus.cards:
        return ok("torch", message)
    unfit = hardware.unfit_driver(gpus, Build(version, cuda, ()))
    if unfit is not None:
        return problem("torch", unfit.why, unfit.fix)
    assert cuda is not None  # else the driver would be unfit
    supports = f"{message}; driver {gpus.driver} supports CUDA up to {hardware.newest_cuda(gpus)}"
    major, minor = (int(part) for part in cuda.split(".")[:2])
    if gpus.cuda < 1000 * major + 10 * minor:
        return warning(
            "torch",
            f"{supports}, so most operations work",
            "if a job fails because PTX can't be compiled, install a newer driver",
        )
    return ok("torch", supports)


def check_gpus(gpus: Gpus | str | None, build: Build | None = None) -> Check:
    """Check the GPUs, their free memory, and what keeps torch from using them. Imports torch only if there is a GPU."""
    if isinstance(gpus, str):
        return problem(
            "gpu", f"the NVIDIA driver does not answer: {gpus}",
            "run nvidia-smi for details; after an update of the driver, reload its module or reboot",
        )  # fmt: skip
    if gpus is None or not (gpus.cards or gpus.lost):
        return ok("gpu", "no GPU: jobs train on the CPU")
    shown = [
        f"{card.name}, {card.free / GIB:.1f} of {card.total / GIB:.1f} GiB free" if card.total else card.name
        for card in gpus.cards
    ]
    message, variable = "; ".join([*shown, *gpus.lost]), os.environ.get("CUDA_VISIBLE_DEVICES")
    if hardware.hides_all(variable):
        return warning(
            "gpu", f"{message}; CUDA_VISIBLE_DEVICES hides them all", "unset CUDA_VISIBLE_DEVICES to train on them"
        )
    usable = hardware.find(gpus, variable, build)
    if not usable.gpus:
        return problem("gpu", f"{message}; none can be used: {'; '.join(usable.unfit)}", hardware.INSIST)
    if usable.unfit:
        return warning("gpu", f"{message}; not used: {'; '.join(usable.unfit)}", "no action: jobs use the other GPUs")
    cards = [gpu.card for gpu in usable.gpus]
    if any(card.free < min(GPU_MEMORY, card.total) for card in cards):
        return warning(
            "gpu",
            f"{message}: too little free memory for the larger networks",
            "find the processes that use it with nvidia-smi, or use fewer --slots-per-gpu",
        )
    if any(card.compute_mode == EXCLUSIVE for card in cards) and not hardware.shared_by_mps():
        return warning(
            "gpu", f"{message}; EXCLUSIVE_PROCESS admits one process only", "use --slots-per-gpu 1, or start MPS"
        )
    if variable and variable[0].isdigit() and hardware.numbers_differ(gpus.cards):
        return warning(
            "gpu",
            f"{message}; CUDA_VISIBLE_DEVICES={variable} counts in bus order here, but CUDA counts the fastest GPU first",
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or use UUIDs (nvidia-smi -L)",
        )
    return ok("gpu", message)


def check_slots() -> Check:
    """Check how many jobs run in parallel with `--engine local`."""
    from runner.engines.slots import make_slots, threads_per_slot

    threads = threads_per_slot()
    slots = make_slots(1, threads)
    free = psutil.virtual_memory().available / GIB
    kind = "GPU slot" if slots[0].device == "cuda" else "CPU slot"
    message = f"{number(len(slots), kind)}, {free:.1f} GiB of memory available"
    if free < 3:
        return warning("slots", message, "free memory: a whitened CIFAR-10 in float32 needs about 3 GiB")
    return ok("slots", message)
