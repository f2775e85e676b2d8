"""Save and restore, atomically, everything that the rest of a training depends on."""

import dataclasses
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from benchmarks.files import write_atomically

# Words for what a checkpoint and a resumed training may differ in, where the field's own name does not say it.
IN_WORDS = {"sources": "code (sha256)", "data": "data (sha256)", "threads": "number of threads"}


class ResumeRefused(Exception):
    """Raised for a checkpoint from another environment, because a resume may change the bits.

    The environment is torch build, device, thread count, precision, code and data. `other_model`: the model of the GPU
    or processor is the only difference.
    """

    def __init__(self, differences: str, other_model: bool = False) -> None:
        super().__init__(differences)
        self.other_model = other_model


@dataclass
class Checkpoint:
    """The state of a training between two steps. A resume from it gives the same bits as an uninterrupted training.

    `epoch` counts completed epochs and `step` the steps of the current one. `permutation` and `sums` (summed loss,
    wrong answers, images) belong to the current epoch.
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
    forced_resume: bool = False
    precision: dict[str, bool | str] = field(default_factory=dict)  # the switches in force
    # Hardware, versions and sources of all attempts, without repeats.
    trail: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def at_start(
        cls,
        fingerprint: str,
        run: str,
        threads: int,
        device: str,
        precision: Mapping[str, bool | str] = MappingProxyType({}),
        facts: Mapping[str, Any] = MappingProxyType({}),
    ) -> "Checkpoint":
        """Return the state of a training that has not begun; `facts` are added to this attempt's entry in the trail."""
        own = {"hardware": device, "torch": str(torch.__version__), "numpy": np.__version__, "threads": threads}
        return cls(
            fingerprint=fingerprint,
            run=run,
            model={},
            optimizer={},
            epoch=0,
            step=0,
            permutation=None,
            sums=torch.zeros(3, dtype=torch.float64),
            curve=[],
            train_seconds=0.0,
            trained_images=0,
            generators={},
            threads=threads,
            device=device,
            precision=dict(precision),
            trail=[own | dict(facts)],
        )

    def moved_to(self, now: "Checkpoint", forced: bool) -> "Checkpoint":
        """Return this state moved to the environment of `now`; `forced` marks it as a forced resume."""
        before = self.trail or [{"hardware": self.device, "torch": self.torch, "threads": self.threads}]
        return dataclasses.replace(
            self,
            torch=now.torch,
            threads=now.threads,
            device=now.device,
            precision=now.precision,
            forced_resume=self.forced_resume or forced,
            trail=[*before, *(facts for facts in now.trail if facts not in before)],
        )

    def differences(self, now: "Checkpoint") -> dict[str, str]:
        """Return each difference from `now` that may change the bits of a resumed training: name -> text for the message.

        Checkpoints of older versions do not name their sources, so these count as different.
        """
        there, here = (state.trail[-1] if state.trail else {} for state in (self, now))
        switches = sorted(self.precision.keys() | now.precision.keys()) if self.precision else []
        pairs = (
            ("torch", self.torch, now.torch),
            ("device", self.device, now.device),
            ("threads", self.threads, now.threads),
            ("numpy", there.get("numpy") or "not recorded", here.get("numpy") or "not recorded"),
            ("sources", _short(there.get("sources_sha256")), _short(here.get("sources_sha256"))),
            ("data", _short(there.get("data_sha256")), _short(here.get("data_sha256"))),
            *((name, self.precision.get(name), now.precision.get(name)) for name in switches),
        )
        return {
            what: f"{IN_WORDS.get(what, what)} {before} then, {after} now"
            for what, before, after in pairs
            if before != after
        }

    def allowed_differences(self, now: "Checkpoint", on_gpu: bool, on_other_model: bool, force: bool) -> str:
        """Return the differences from `now` as text, "" if there are none, where a resume is allowed.

        Raise ResumeRefused where it is not. With `on_other_model` it is if only the model of the GPU or processor
        differs; with `force` always. `on_gpu`: whether it would resume on a GPU.
        """
        differences = self.differences(now)
        text = "; ".join(differences.values())
        other_model = set(differences) == {"device"} and self.on_gpu == on_gpu
        if differences and not (force or (other_model and on_other_model)):
            raise ResumeRefused(text, other_model)
        return text

    @property
    def on_gpu(self) -> bool:
        """Whether the training ran on a GPU."""
        return "cuda" in self.generators

    def restore(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        order: Generator,
        shifts: Generator,
    ) -> None:
        """Restore weights, optimizer state and generators.

        A GPU's augmentation generator has another state format than a CPU's. After a move between the two it is not
        restored.
        """
        model.load_state_dict(self.model)
        optimizer.load_state_dict(self.optimizer)
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):  # belongs to a captured step; a new one creates its own
                group["lr"] = group["rate"]
        order.set_state(self.generators["order"])
        torch.set_rng_state(self.generators["cpu"])
        if shifts.device.type == "cuda" and "cuda" in self.generators:
            torch.cuda.set_rng_state(self.generators["cuda"], shifts.device)
        if self.on_gpu == (shifts.device.type == "cuda"):
            shifts.set_state(self.generators["shifts"])

    def save(self, path: Path) -> None:
        """Write the file by temporary file, fsync and rename. After a crash the previous checkpoint is intact."""
        buffer = io.BytesIO()
        torch.save({name: getattr(self, name) for name in self.__dataclass_fields__}, buffer)
        write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Return the checkpoint in a file, read with `weights_only` to the CPU.

        torch writes a checksum for each part but does not verify it, so this does. Raise ValueError for a damaged part,
        and whatever torch or zipfile raise for a truncated or foreign file.
        """
        with zipfile.ZipFile(path) as parts:
            damaged = parts.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        return cls(**torch.load(path, map_location="cpu", weights_only=True))


def _short(digest: str | None) -> str:
    return digest[:8] if digest else "not recorded"
