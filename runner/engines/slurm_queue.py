"""SLURM's queue: ask SLURM which of our tasks it has, and cancel tasks that are no longer needed."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from runner.engines.slurm_array import NAME, arrays_folder, bundles_of
from runner.jobs.paths import JobPaths

QUERY_SECONDS = 15.0  # the shortest time between two queries of a process, to spare SLURM's controller
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


def tasks_of_jobs() -> dict[Path, Task]:
    """Return the task whose own bundle contains each job, by job folder: a live one, else the last that ended recently.

    Runs no command if no array was ever queued here. Raise SlurmUnavailable.
    """
    if not arrays_folder().is_dir():
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
