"""Every call of NVML, the library of NVIDIA's driver. Without the library, a driver or a GPU there is nothing to report."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Gpus:
    """The driver and its cards. `cuda` is the newest CUDA that the driver knows, as 12080 for 12.8; memory in bytes."""

    driver: str
    cuda: int
    cards: list[tuple[str, int, int]] = field(default_factory=list)  # name, free, total


@contextlib.contextmanager
def _library() -> Iterator[Any]:
    """Yield pynvml, ready to be asked. NVML has an exception for each way to have no GPU."""
    import pynvml

    pynvml.nvmlInit()
    yield pynvml


def uuids() -> list[str]:
    """Return the UUID of each GPU, in NVML's order; empty where there is none."""
    with contextlib.suppress(Exception), _library() as nvml:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return [_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    return []


def gpus() -> Gpus | str | None:
    """Return the driver and its cards; why NVML fails where there seems to be a card; None where there is none."""
    try:
        with _library() as nvml:
            driver = _text(nvml.nvmlSystemGetDriverVersion())
            cards = []
            for index in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                cards.append((_text(nvml.nvmlDeviceGetName(handle)), int(memory.free), int(memory.total)))
            return Gpus(driver, nvml.nvmlSystemGetCudaDriverVersion_v2(), cards)
    except Exception as error:
        seems = Path("/dev/nvidia0").exists() or Path("/proc/driver/nvidia/version").exists()
        return str(error) if seems else None


def driver_version() -> str | None:
    """Return the driver's version; None where NVML cannot say it."""
    with contextlib.suppress(Exception), _library() as nvml:
        return _text(nvml.nvmlSystemGetDriverVersion())
    return None


class GpuSampler:
    """Samples this process's GPU: the first of CUDA_VISIBLE_DEVICES. A metric that the GPU does not have is left out."""

    def __init__(self) -> None:
        self._handle: Any = None
        with contextlib.suppress(Exception), _library() as nvml:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
            if visible.startswith(("GPU-", "MIG-")):
                self._handle = nvml.nvmlDeviceGetHandleByUUID(visible)
            else:
                self._handle = nvml.nvmlDeviceGetHandleByIndex(int(visible))

    def sample(self) -> dict[str, float]:
        """Return utilisation (percent), used memory (MB) and power (W) of the whole GPU; empty without one."""
        if self._handle is None:
            return {}
        import pynvml

        metrics = {
            "gpu_percent": lambda: pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu,
            "gpu_memory_mb": lambda: round(pynvml.nvmlDeviceGetMemoryInfo(self._handle).used / 1e6, 1),
            "gpu_power_w": lambda: round(pynvml.nvmlDeviceGetPowerUsage(self._handle) / 1000, 1),
        }
        facts: dict[str, float] = {}
        for name, read in metrics.items():
            with contextlib.suppress(Exception):
                facts[name] = read()
        return facts


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
