"""Save and restore everything that the rest of a training depends on, atomically."""

import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.records import write_atomically


@dataclass
class Checkpoint:
    """A training between two steps: resumed from here it goes on to the same bits.

    `epoch` counts whole epochs, `step` the steps of the epoch that has begun; `permutation` and `sums` (summed loss,
    wrong, images) are that epoch's.
    """

    fingerprint: str
    run: str
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    epoch: int
    step: int
    permutation: Tensor | None
    sums: Tensor
    curve: list[dict[str, Any]]
    train_seconds: float
    trained_images: int
    generators: dict[str, Tensor]
    threads: int
    torch: str = field(default_factory=lambda: str(torch.__version__))
    device: str = "cpu"
    convolutions: str = "torch"  # runner/training/convolution.py's choice for each layer
    forced_resume: bool = False

    def save(self, path: Path) -> None:
        """Write the file: temporary, fsync, rename. A crash leaves the checkpoint before it."""
        buffer = io.BytesIO()
        torch.save({name: getattr(self, name) for name in self.__dataclass_fields__}, buffer)
        write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read the file with `weights_only`, to the CPU; raises whatever torch or zipfile raise for a torn or foreign file.

        torch wrote a checksum of each part into the file, and doesn't look at it.
        """
        with zipfile.ZipFile(path) as parts:
            damaged = parts.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        return cls(**torch.load(path, map_location="cpu", weights_only=True))
