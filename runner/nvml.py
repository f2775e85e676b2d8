"""Call NVML, the library of NVIDIA's driver. Without library, driver or GPU the functions report that there is none."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Instance:
    """A part of a GPU that is split by MIG.

    Drivers before R470 call it by `older_name`: MIG-GPU-<uuid>/<part>/<compute>.
    """

    uuid: str
    older_name: str


@dataclass(frozen=True)
class Card:
    """One GPU as NVML describes it; memory in bytes. None for what the card does not report."""

    name: str
    free: int
    total: int
    uuid: str = ""
    capability: tuple[int, int] | None = None  # compute capability: (9, 0) for an H100
    compute_mode: int = 0  # see PROHIBITED and EXCLUSIVE
    instances: tuple[Instance, ...] | None = None  # parts in MIG mode; None if the GPU is not split


PROHIBITED, EXCLUSIVE = 2, 3  # compute modes in nvml.h: no process, one process at a time


@dataclass(frozen=True)
class Gpus:
    """The driver and its cards in PCI bus order, as nvidia-smi lists them.

    `cuda` is the newest CUDA that the driver supports, as 12080 for 12.8. `lost` has a message for each card that does
    not answer.
    """

    driver: str
    cuda: int
    cards: list[Card] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@contextlib.contextmanager
def _library() -> Iterator[Any]:
    """Yield pynvml, initialised. NVML raises a different exception for each way to have no GPU."""
    import pynvml

    pynvml.nvmlInit()
    yield pynvml


def gpus() -> Gpus | str | None:
    """Return the driver and its cards; NVML's error if it fails although there seems to be a card; None without one."""
    try:
        with _library() as nvml:
            cards: list[Card] = []
            lost: list[str] = []
            for index in range(nvml.nvmlDeviceGetCount()):
                try:
                    cards.append(_card(nvml, nvml.nvmlDeviceGetHandleByIndex(index)))
                except Exception as error:  # one lost GPU must not hide the others
                    lost.append(f"GPU {index} does not answer: {error}")
            driver = _text(nvml.nvmlSystemGetDriverVersion())
            return Gpus(driver, nvml.nvmlSystemGetCudaDriverVersion_v2(), cards, lost)
    except Exception as error:
        return str(error) if any(device_files()) else None


def device_files() -> Iterator[Path]:
    """Yield /dev/nvidia0 and so on.

    /proc describes the host's driver even in a container without a GPU, so it is not used.
    """
    return Path("/dev").glob("nvidia[0-9]*")


def _card(nvml: ModuleType, handle: object) -> Card:
    memory = _or_none(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))  # None for a GPU that uses the machine's memory
    uuid = _text(nvml.nvmlDeviceGetUUID(handle))
    return Card(
        name=_text(nvml.nvmlDeviceGetName(handle)),
        free=int(memory.free) if memory else 0,
        total=int(memory.total) if memory else 0,
        uuid=uuid,
        capability=_or_none(lambda: tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle))),
        compute_mode=_or_none(lambda: int(nvml.nvmlDeviceGetComputeMode(handle))) or 0,
        instances=_instances(nvml, handle, uuid),
    )


def _instances(nvml: ModuleType, handle: object, uuid: str) -> tuple[Instance, ...] | None:
    """Return the MIG parts of a GPU, possibly none; None for a GPU that is not in MIG mode."""
    mode = _or_none(lambda: nvml.nvmlDeviceGetMigMode(handle)[0])
    if mode != nvml.NVML_DEVICE_MIG_ENABLE:
        return None
    parts = []
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with contextlib.suppress(Exception):  # no part has this number
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            ids = nvml.nvmlDeviceGetGpuInstanceId(part), nvml.nvmlDeviceGetComputeInstanceId(part)
            parts.append(Instance(_text(nvml.nvmlDeviceGetUUID(part)), f"MIG-{uuid}/{ids[0]}/{ids[1]}"))
    return tuple(parts)


def driver_version() -> str | None:
    """Return the driver's version; None if NVML cannot report it."""
    with contextlib.suppress(Exception), _library() as nvml:
        return _text(nvml.nvmlSystemGetDriverVersion())
    return None


class GpuSampler:
    """Samples this process's GPU, or its part of one. Metrics that the GPU does not have are left out."""

    def __init__(self, uuid: str) -> None:
        self._handle: Any = None
        with contextlib.suppress(Exception), _library() as nvml:
            self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid)

    def sample(self) -> dict[str, float]:
        """Return utilisation (percent), used memory (MB, of all processes) and power (W); empty without a GPU."""
        if self._handle is None:
            return {}
        import pynvml

        metrics = {
            "gpu_percent": lambda: pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu,
            "gpu_memory_mb": lambda: round(pynvml.nvmlDeviceGetMemoryInfo(self._handle).used / 1e6, 1),
            "gpu_power_w": lambda: round(pynvml.nvmlDeviceGetPowerUsage(self._handle) / 1000, 1),
        }
        values = {name: _or_none(read) for name, read in metrics.items()}
        return {name: value for name, value in values.items() if value is not None}


def _or_none(read: Callable[[], Any]) -> Any:
    """Return the result of `read`; None if it fails, as for a metric that the card does not have."""
    with contextlib.suppress(Exception):
        return read()
    return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
