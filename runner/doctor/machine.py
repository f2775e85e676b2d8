"""Checks of this machine: Python, torch and its driver, GPUs, slots."""

import contextlib
import os
import platform
import sys
from importlib import metadata, util
from pathlib import Path
from typing import Any

import psutil

from runner.doctor.check import GIB, Check, ok, problem, warning
from runner.nvml import Gpus

GPU_MEMORY = 3 * GIB  # free bytes that the largest network here needs, with its data


def check_python() -> Check:
    """The interpreter."""
    says = f"Python {platform.python_version()} at {sys.executable}"
    if sys.prefix == sys.base_prefix:
        return warning("python", f"{says}, no environment of its own", "make setup; then .venv/bin/runner")
    return ok("python", says)


def torch_versions() -> tuple[str, str | None] | None:
    """The version of torch and the CUDA it was built for, read from its files; None where torch isn't installed."""
    found = util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return None
    facts: dict[str, Any] = {}
    with contextlib.suppress(
        Exception
    ):  # the file is code of torch's own; without it the version still stands in the metadata
        exec(
            compile((Path(found.submodule_search_locations[0]) / "version.py").read_text(), "version.py", "exec"), facts
        )
    return facts.get("__version__") or metadata.version("torch"), facts.get("cuda")


def check_torch(versions: tuple[str, str | None] | None, found: Gpus | str | None) -> Check:
    """torch, and whether the driver is new enough for the CUDA it was built for."""
    if versions is None:
        return problem("torch", "torch isn't installed", "make setup")
    version, cuda = versions
    says = f"torch {version}, " + (f"built for CUDA {cuda}" if cuda else "built without CUDA")
    if not isinstance(found, Gpus) or not found.cards:
        return ok("torch", says)
    if cuda is None:
        return problem(
            "torch", f"{says}, but there is a GPU", "install torch with CUDA: see https://pytorch.org/get-started"
        )
    major, minor = (int(part) for part in cuda.split(".")[:2])
    knows = f"{found.cuda // 1000}.{found.cuda % 1000 // 10}"
    if found.cuda // 1000 < major:
        return problem(
            "torch",
            f"{says}; driver {found.driver} knows CUDA up to {knows}",
            f"install a driver for CUDA {major}, or a torch built for CUDA {found.cuda // 1000}",
        )
    if found.cuda < 1000 * major + 10 * minor:
        return warning(
            "torch",
            f"{says}; driver {found.driver} knows CUDA up to {knows}, the same major version: most things work",
            "a newer driver, where a job says that PTX can't be compiled",
        )
    return ok("torch", f"{says}; driver {found.driver} knows CUDA up to {knows}")


def check_gpus(found: Gpus | str | None) -> Check:
    """The cards and their free memory."""
    if isinstance(found, str):
        return problem(
            "gpu", f"there is a driver, but it doesn't answer: {found}",
            "nvidia-smi says more; after an update of the driver: reload its module or reboot",
        )  # fmt: skip
    if found is None or not found.cards:
        return ok("gpu", "no GPU here: jobs train on the processor")
    says = "; ".join(f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free" for name, free, total in found.cards)
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1"):
        return warning(
            "gpu", f"{says}; CUDA_VISIBLE_DEVICES hides them all", "unset CUDA_VISIBLE_DEVICES to train on them"
        )
    if any(free < min(GPU_MEMORY, total) for _, free, total in found.cards):
        return warning(
            "gpu",
            f"{says}: too little for the larger networks",
            "nvidia-smi shows who uses it; wait, or fewer --slots-per-gpu",
        )
    return ok("gpu", says)


def check_slots() -> Check:
    """How many jobs run at once with `--engine local`."""
    from runner.engines.slots import make_slots, threads_per_slot

    threads = threads_per_slot()
    slots = make_slots(1, threads)
    free = psutil.virtual_memory().available / GIB
    says = f"{len(slots)} {'GPU' if slots[0].device == 'cuda' else 'CPU'} slots, {free:.1f} GiB of memory available"
    if free < 3:
        return warning("slots", says, "a whitened CIFAR-10 in float32 needs about 3 GiB: free some memory")
    return ok("slots", says)
