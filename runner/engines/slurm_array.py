"""An array of SLURM tasks on disk: .runs/slurm/NAME/bundles.json says which task runs which jobs.

NAME is the array's name in SLURM, so that a listing of SLURM's queue leads to the jobs. Does not call SLURM.
"""

from pathlib import Path

from runner.files import read_json
from runner.jobs.paths import runs_folder
from runner.worker.options import JsonModel, RunOptions

NAME = "reprozoo-"  # how the names of our arrays begin


def arrays_folder() -> Path:
    """Return the folder of all arrays of this checkout. It is missing if none was ever queued."""
    return runs_folder() / "slurm"


def bundles_file(name: str) -> Path:
    """Return the file with the bundles of an array."""
    return arrays_folder() / name / "bundles.json"


class TaskArray(JsonModel):
    """The content of bundles.json: what the tasks of an array need, with bundles by task index."""

    options: RunOptions
    bundles: tuple[tuple[str, ...], ...]  # folders below .runs
    slots_per_gpu: int
    gpus: int  # requested by each task


def bundles_of(name: str) -> list[list[Path]]:
    """Return the job folders of each task of an array, by task index; an empty list if bundles.json cannot be read."""
    content = read_json(bundles_file(name)) or {}
    return [[runs_folder() / key for key in bundle] for bundle in content.get("bundles", [])]
