"""A pretended NVML: what `import pynvml` gives while a test runs. Handles are the cards and instances themselves."""

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

GIB = 2**30


class NVMLError(Exception):
    """As pynvml's: one class, many messages."""


@dataclass
class FakeInstance:
    uuid: str
    gi: int
    ci: int = 0


@dataclass
class FakeCard:
    """A card; `lost` doesn't answer, `mig` is its instances by number, None for a gap; None: a card that can't be split."""

    uuid: str
    name: str = "NVIDIA H100"
    capability: tuple[int, int] = (9, 0)
    mode: int = 0
    free: int = 70 * GIB
    total: int = 80 * GIB
    lost: bool = False
    mig: list[FakeInstance | None] | None = None
    unsupported: set[str] = field(default_factory=set)


class FakeNvml:
    """The functions of pynvml that runner/nvml.py calls."""

    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, *cards, driver="580.65.06", cuda=13020, broken=None):
        self.cards, self.driver, self.cuda, self.broken = cards, driver, cuda, broken

    def nvmlInit(self):  # noqa: N802
        if self.broken:
            raise NVMLError(self.broken)

    def nvmlDeviceGetCount(self):  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        if self.cards[index].lost:
            raise NVMLError("GPU is lost")
        return self.cards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        parts = [part for card in self.cards for part in card.mig or () if part]
        return next(item for item in (*self.cards, *parts) if item.uuid == uuid)

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        return self.driver

    def nvmlSystemGetCudaDriverVersion_v2(self):  # noqa: N802
        return self.cuda

    def nvmlDeviceGetUUID(self, item):  # noqa: N802
        return item.uuid

    def nvmlDeviceGetName(self, card):  # noqa: N802
        return card.name.encode()  # as older versions give it

    def nvmlDeviceGetMemoryInfo(self, item):  # noqa: N802
        if "memory" in getattr(item, "unsupported", ()):
            raise NVMLError("Not Supported")
        return SimpleNamespace(free=getattr(item, "free", GIB), total=getattr(item, "total", GIB), used=512 * 1_000_000)

    def nvmlDeviceGetCudaComputeCapability(self, card):  # noqa: N802
        return card.capability

    def nvmlDeviceGetComputeMode(self, card):  # noqa: N802
        return card.mode

    def nvmlDeviceGetMigMode(self, card):  # noqa: N802
        if card.mig is None:
            raise NVMLError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, card):  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card, number):  # noqa: N802
        if number >= len(card.mig) or card.mig[number] is None:
            raise NVMLError("Not Found")
        return card.mig[number]

    def nvmlDeviceGetGpuInstanceId(self, instance):  # noqa: N802
        return instance.gi

    def nvmlDeviceGetComputeInstanceId(self, instance):  # noqa: N802
        return instance.ci

    def nvmlDeviceGetUtilizationRates(self, item):  # noqa: N802
        if isinstance(item, FakeInstance) or "utilisation" in item.unsupported:
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=87)

    def nvmlDeviceGetPowerUsage(self, item):  # noqa: N802
        if isinstance(item, FakeInstance) or "power" in item.unsupported:
            raise NVMLError("Not Supported")
        return 312_000


def install(monkeypatch, nvml, variable=None):
    """Put the pretended NVML in the place of the real one, and set CUDA_VISIBLE_DEVICES."""
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    if variable is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
