"""Define the options of a run: one frozen model, passed as a file to every process that needs it.

An option of a run is a field here and a flag in commands/shared.py. submit, the engines, the worker, SLURM tasks, bench
and try pass the whole model on.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.errors import UserError
from benchmarks.files import write_atomically
from benchmarks.records import Submitter, problems_of


class JsonModel(BaseModel):
    """A frozen model that is passed on as a JSON file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def write(self, path: Path) -> None:
        """Write the model as JSON, atomically."""
        write_atomically(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the model in a file; raise UserError where the file cannot be read."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: can't be read ({error.strerror})") from error
        except ValidationError as error:
            raise UserError(f"{path}: {problems_of(error)[0]}") from error


class RunOptions(JsonModel):
    """How to run jobs. A job gives the same result under any of these options, or its record names the difference."""

    # A worker has its slot's device; CUDA_VISIBLE_DEVICES selects the GPU.
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    shares: Annotated[int, Field(ge=1)] = 1  # how many slots share the device's memory
    threads: Annotated[int, Field(ge=1)] = 1
    data_dir: Path | None = None
    allow_unverified_data: bool = False
    force_resume: bool = False
    # For `reference` and a checkpoint of another GPU or processor model.
    on_other_device: Literal["resume", "restart", "refuse"] = "refuse"
    submission: str = ""
    submitted_by: Submitter | None = None


def submitter() -> str | None:
    """Return REPROZOO_SUBMITTED_BY, which records contain. Raise UserError for a value that no record can hold."""
    name = os.environ.get("REPROZOO_SUBMITTED_BY")
    try:
        return RunOptions(submitted_by=name).submitted_by
    except ValidationError as error:
        raise UserError(
            f"REPROZOO_SUBMITTED_BY is {name!r:.40}, expected at most 200 characters in UTF-8: correct or unset it"
        ) from error


class Bundle(JsonModel):
    """The input of a worker: its options, and the folders of its jobs in the order in which to try them."""

    options: RunOptions
    folders: tuple[Path, ...]
