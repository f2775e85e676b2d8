"""SLURM's queue: ask SLURM, and say which task of an array has which jobs.

The jobs of each task are in .runs/slurm/NAME/bundles.json, where NAME is the array's name in SLURM.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from runner.files import read_json
from runner.jobs.paths import JobPaths, runs_folder
from runner.worker.options import JsonModel, RunOptions

NAME = "reprozoo-"  # how the names of our arrays begin
# States of a task from which SLURM doesn't bring it back.
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}


class SlurmUnavailable(Exception):
    """SLURM's commands are missing or its controller does not answer; the message says which in one line."""


def ask(*command: str) -> str:
    """Return the output of a SLURM command; raise SlurmUnavailable if it fails or takes more than 60 s."""
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError as error:
        raise SlurmUnavailable(f"{command[0]} is not installed on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmUnavailable(f"{command[0]} did not answer within a minute") from error
    if process.returncode:
        output_lines = (process.stderr or process.stdout).strip().splitlines() or [f"exit code {process.returncode}"]
        raise SlurmUnavailable(f"{command[0]}: {output_lines[-1]}")
    return process.stdout.strip()


@dataclass(frozen=True)
class Task:
    """One task in the queue: its id ('17_3'), its state and SLURM's reason."""

    id: str
    state: str
    reason: str

    @property
    def alive(self) -> bool:
        """Return whether it runs or will run."""
        return self.state not in ENDED

    def __str__(self) -> str:
        return f"SLURM {self.id} {self.state.lower()}" + (f", {self.reason}" if self.reason != "None" else "")


class TaskArray(JsonModel):
    """The content of bundles.json: what the tasks of an array need, with bundles by task index."""

    options: RunOptions
    bundles: tuple[tuple[str, ...], ...]  # folders below .runs
    slots_per_gpu: int
    gpus: int  # requested by each task


def bundles_of(name: str) -> list[list[Path]]:
    """Return the job folders of each task of an array, by task index."""
    content = read_json(runs_folder() / "slurm" / name / "bundles.json") or {}
    return [[runs_folder() / key for key in bundle] for bundle in content.get("bundles", [])]


def tasks_of_jobs() -> dict[Path, Task]:
    """Return the task whose own bundle contains each job, by job folder: a live one, else the last that ended recently.

    Runs no command if no array was ever queued here. Raise SlurmUnavailable.
    """
    if not (runs_folder() / "slurm").is_dir():
        return {}
    tasks: dict[Path, Task] = {}
    bundles: dict[str, list[list[Path]]] = {}
    listing = ask("squeue", "--noheader", "--me", "--array", "--states=all", "--sort=i", "--format=%j|%F|%K|%T|%r")
    for line in listing.splitlines():
        name, array, index, state, reason = line.split("|", 4)
        if not name.startswith(NAME):
            continue
        mine = bundles.setdefault(name, bundles_of(name))
        position = int(index) if index.isdigit() else 0
        task = Task(f"{array}_{index}" if index.isdigit() else array, state, reason)
        for folder in mine[position] if position < len(mine) else []:
            if task.alive or folder not in tasks or not tasks[folder].alive:
                tasks[folder] = task
    return tasks


def scancel_stopped() -> None:
    """Cancel the waiting tasks whose own jobs are all done or stopped. Raise SlurmUnavailable.

    Running tasks read the stop request themselves at the next step.
    """
    is_needed: dict[str, bool] = {}
    for folder, task in tasks_of_jobs().items():
        paths = JobPaths(folder)
        if task.state == "PENDING":
            is_needed[task.id] = is_needed.get(task.id, False) or not (paths.stop.exists() or paths.record.exists())
    needless = [id_ for id_, needed in is_needed.items() if not needed]
    if needless:
        ask("scancel", "--state=PENDING", *needless)
