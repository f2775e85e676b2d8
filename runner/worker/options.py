"""How to run jobs, whichever they are: one frozen model, written to a file for every process that has to know it.

An option of a run is a field here and a flag in commands/shared.py; submit, the engines, the worker, SLURM's tasks, bench
and try pass the whole model on.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.errors import UserError
from benchmarks.records import Submitter, problems_of, write_atomically


class JsonModel(BaseModel):
    """A frozen model that is passed on as a JSON file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def write(self, path: Path) -> None:
        """Write the model whole, or not at all."""
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
    """How to run jobs. Not part of a job: the same job gives the same result under any of these, or its record says so."""

    device: Literal["auto", "cpu", "cuda"] = "cpu"  # a worker's is its slot's; which GPU, CUDA_VISIBLE_DEVICES says
    shares: Annotated[int, Field(ge=1)] = 1  # how many slots share the device's memory
    threads: Annotated[int, Field(ge=1)] = 1
    data_dir: Path | None = None
    allow_unverified_data: bool = False
    force_resume: bool = False
    on_other_device: Literal["resume", "restart", "refuse"] = (
        "refuse"  # a checkpoint of another model of GPU, `reference`
    )
    submission: str = ""
    submitted_by: Submitter | None = None


def submitter() -> str | None:
    """Return variable REPROZOO_SUBMITTED_BY, which stands in records; raise UserError for one that no record can hold."""
    name = os.environ.get("REPROZOO_SUBMITTED_BY")
    try:
        return RunOptions(submitted_by=name).submitted_by
    except ValidationError as error:
        raise UserError(
            f"REPROZOO_SUBMITTED_BY is {name!r:.40}, expected at most 200 characters in UTF-8: mend or unset it"
        ) from error


class Bundle(JsonModel):
    """What a worker is started with: its options, and the folders of its jobs in the order in which to try them."""

    options: RunOptions
    folders: tuple[Path, ...]
