"""Say what a submit will do: the jobs' states, how many it trains, the time, and the data that is missing."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.datasets import get_dataset
from benchmarks.errors import UserError
from benchmarks.plural import number
from benchmarks.records import Job
from runner.console import to_stderr
from runner.engines.config import EngineSettings, engine_named
from runner.engines.slots import Slot, make_slots, threads_per_slot
from runner.jobs.attempts import Failure
from runner.jobs.paths import JobPaths
from runner.jobs.state import TO_RUN, State, count_states, plan_row, state_of
from runner.submit.estimate import expected_seconds, rough_seconds
from runner.text import amount, duration
from runner.worker.options import RunOptions

ROUGH_FROM = 3600.0  # seconds: a shorter rough estimate is not shown


@dataclass(frozen=True)
class Settings:
    """How to run jobs: options, engine, slots and output."""

    options: RunOptions = field(default_factory=RunOptions)
    engine: str = "local"
    slots_per_gpu: int | None = None  # None: the engine's own
    json: bool = False
    follow: bool = True  # wait until SLURM's tasks have ended

    def engine_settings(self) -> EngineSettings:
        """Return the settings of the engine; raise UserError for an unknown engine or an invalid number of slots."""
        engine = engine_named(self.engine)
        if self.slots_per_gpu is None:
            return engine
        if self.slots_per_gpu < 1:
            raise UserError(f"--slots-per-gpu is {self.slots_per_gpu}, expected 1 or more")
        return engine.model_copy(update={"slots_per_gpu": self.slots_per_gpu})

    def slots(self) -> list[Slot]:
        """Return the slots on this machine; none for SLURM. Raise UserError as `engine_settings` and `make_slots` do."""
        engine = self.engine_settings()
        if engine.kind == "slurm":
            return []
        slots = make_slots(engine.slots_per_gpu, threads_per_slot(), self.options.device, to_stderr)
        return slots[:1] if engine.kind == "inline" else slots


def states_of(planned: Sequence[Job]) -> list[State]:
    """Return the state of each planned job, including those never submitted here."""
    return [state_of(JobPaths.of(job)) for job in planned]


def is_retried(paths: JobPaths, state: State, settings: Settings) -> bool:
    """Return whether a submit runs a job again that has failed."""
    failure = Failure.read(paths) if state == "failed" else None
    return failure is not None and failure.is_retried(force_resume=settings.options.force_resume)


def plan_object(planned: Sequence[Job], states: Sequence[State], settings: Settings) -> dict[str, Any]:
    """Return the object that `submit --dry-run --json` prints."""
    rows = [plan_row(job, state) for job, state in zip(planned, states, strict=True)]
    return {"jobs": rows, "counts": _counts(planned, states, settings), "missing_data": missing_data(planned, settings)}


def jobs_to_run(planned: Sequence[Job], states: Sequence[State], settings: Settings) -> list[Job]:
    """Return the planned jobs that a submit trains: those waiting, and failed ones that are tried again."""
    return [
        job
        for job, state in zip(planned, states, strict=True)
        if state in TO_RUN or is_retried(JobPaths.of(job), state, settings)
    ]


def _counts(planned: Sequence[Job], states: Sequence[State], settings: Settings) -> dict[str, int]:
    return count_states(list(states)) | {"to_run": len(jobs_to_run(planned, states, settings))}


def plan_line(planned: Sequence[Job], states: Sequence[State], settings: Settings, slots: Sequence[Slot]) -> str:
    """Return '36 jobs: 12 done, 24 to run, about 1 h 50 min on 2 slots'.

    Without slots, SLURM decides how many jobs run in parallel, and no time is estimated.
    """
    counts = _counts(planned, states, settings)
    parts = [f"{counts['done']} done", f"{counts['to_run']} to run"]
    if counts["running"]:
        parts.append(f"{counts['running']} already running")
    failed = counts["total"] - counts["done"] - counts["to_run"] - counts["running"]
    if failed:
        parts.append(f"{failed} failed (runner retry --failed)")
    line = f"{number(counts['total'], 'job')}: {', '.join(parts)}"
    if counts["to_run"] and not slots:
        line += f" on SLURM (engine '{settings.engine}')"
    elif counts["to_run"]:
        to_run, device = jobs_to_run(planned, states, settings), slots[0].device
        on_cpu, known_seconds = device == "cpu", expected_seconds(to_run, device)
        rough_estimate = rough_seconds(to_run) if on_cpu and known_seconds is None else 0.0
        if known_seconds is not None:
            line += f", about {duration(known_seconds / len(slots))}"
        elif rough_estimate > ROUGH_FROM:
            line += f", roughly {duration(rough_estimate / len(slots))}"
        line += f" on {number(len(slots), 'CPU slot' if on_cpu else 'GPU slot')}"
        line += " (for a measurement: runner bench)" if rough_estimate > ROUGH_FROM else ""
    return line


def missing_data(planned: Sequence[Job], settings: Settings) -> dict[str, int | None]:
    """Return the planned data sets with missing files and the bytes to download; None if a size is unknown."""
    from runner.data.cache import missing_files
    from runner.data.folder import data_folder

    folder = data_folder(settings.options.data_dir)
    missing: dict[str, int | None] = {}
    for name in dict.fromkeys(job.dataset for job in planned):
        files = missing_files(get_dataset(name), folder, settings.options.allow_unverified_data)
        sizes = [file.size for file in files]
        if files:
            missing[name] = None if None in sizes else sum(size or 0 for size in sizes)
    return missing


def missing_data_lines(planned: Sequence[Job], settings: Settings) -> list[str]:
    """Return one line per data set with missing files.

    For example 'cifar10: data not here, 170 MB to download: runner data prepare --dataset cifar10'.
    """
    lines = []
    for name, size in missing_data(planned, settings).items():
        download = "size unknown" if size is None else f"{amount(size)} to download"
        lines.append(f"{name}: data missing, {download}; get it with: runner data prepare --dataset {name}")
    return lines


def same_as_reference_lines(planned: Sequence[Job], slots: Sequence[Slot]) -> list[str]:
    """Return one line per model whose `fast` trainings are `reference`'s, because hand-written passes train both."""
    from zoo import load_models
    from zoo.recipe import recipe_from

    fast = {job.model: job for job in planned if job.profile == "fast" and slots and slots[0].device == "cpu"}
    models, names = load_models() if fast else {}, []
    for name, job in fast.items():
        with suppress(ValueError):  # the recipe of an older version: its worker says so
            if name in models and models[name].has_handwritten_passes(recipe_from(job.effective_recipe)):
                names.append(name)
    same = "on a CPU, fast trains this model exactly as reference does, so the results are no new measurement"
    return [f"{name}: {same}" for name in names]
