"""Resolve and set a profile's switches: everything that may change rounding, and nothing that changes the recipe.

`reference` is IEEE float32 with deterministic algorithms. `fast` uses whatever is faster on the device. Every record
names the resolved switches.
"""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.errors import UserError

WHERE_IT_CAN_BE = "where it can be"  # deterministic algorithms, but the model has operations without one
MEASURED, TORCH = "measured", "torch"  # choices of arithmetic: the fastest of each layer, and torch's own


def resolve(
    profile: str, device: torch.device, channels_last_on_cpu: bool = True, bitwise: bool = True
) -> dict[str, bool | str]:
    """Return the switches of a profile ('reference' or 'fast') on a device, as they are recorded.

    On CUDA only `fast` uses channels_last, because the backward pass of max pooling adds atomically in that layout. On
    a CPU the model's spec names the faster layout (`ModelSpec.channels_last_on_cpu`). `arithmetic` is each layer's
    implementation (see training/arithmetic.py); `fast` on a CPU measures it when a training begins. `graphs` is the
    captured step of training/step.py; REPROZOO_GRAPHS=0 turns it off. `compiled` is torch.compile of the network.
    `fast` uses it only if REPROZOO_COMPILE is 1: it costs a minute at the start, and its gain has not been measured. A
    model that is not `bitwise` (see ModelSpec) may use operations without a deterministic algorithm; torch then warns
    instead of raising.
    """
    fast, cuda = profile == "fast", device.type == "cuda"
    deterministic: bool | str = not fast
    if deterministic and not bitwise:
        deterministic = WHERE_IT_CAN_BE
    compiled = fast and os.environ.get("REPROZOO_COMPILE") == "1"
    return {
        "deterministic": deterministic,
        "float32": "tf32" if fast and cuda else "ieee",
        "autocast": "bfloat16" if fast and cuda else "off",
        "channels_last": fast if cuda else channels_last_on_cpu,
        "arithmetic": MEASURED if fast and device.type == "cpu" and not compiled else TORCH,
        "cudnn_benchmark": fast and cuda,
        "graphs": fast and cuda and os.environ.get("REPROZOO_GRAPHS") != "0",
        "compiled": compiled,
    }


def apply(switches: dict[str, bool | str]) -> None:
    """Set torch's global switches. The training loop itself applies autocast, layout, arithmetic, graphs and compilation."""
    deterministic = bool(switches["deterministic"])
    torch.use_deterministic_algorithms(deterministic, warn_only=switches["deterministic"] == WHERE_IT_CAN_BE)
    debugging: Any = torch.utils.deterministic
    debugging.fill_uninitialized_memory = False  # it would write every buffer twice
    torch.backends.cudnn.benchmark = bool(switches["cudnn_benchmark"])
    torch.backends.cudnn.deterministic = deterministic
    backends: Any = torch.backends  # these switches are newer than torch's own types
    for place in (backends, backends.cuda.matmul, backends.cudnn.conv):
        place.fp32_precision = switches["float32"]


@contextlib.contextmanager
def ieee(device: torch.device) -> Iterator[None]:
    """Compute matrix products in IEEE float32, without autocast, inside the block."""
    backends: Any = torch.backends  # these switches are newer than torch's own types
    switches = (backends.cuda.matmul, backends.mkldnn.matmul)
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision


def check_device(device: torch.device) -> None:
    """Raise UserError for a GPU that was assigned to this process and that torch cannot use.

    engines/hardware.py checked its architecture before any process was started.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"torch {torch.__version__} can't use this GPU: the driver may be too old, torch built without CUDA, or the GPU "
            "held by another process. To find the cause: runner doctor"
        )


def device_name(device: torch.device) -> str:
    """Return the model name of the GPU or processor. Records name it, and a checkpoint is bound to it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
