"""Run a bundle: jobs of one (dataset, model), which share data and start-up.

A worker does not know MLflow or the process that started it. It takes a job's lock, reads the job's state again,
trains, and writes files. Several workers may get the same bundle. The lock decides which of them runs a job, so no slot
is idle while a job waits.
"""

import contextlib
import os
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.canonical import canonical_json
from benchmarks.errors import UserError
from benchmarks.files import write_atomically
from benchmarks.records import DataFacts, Job, save
from runner.jobs.attempts import Attempts, Failure, FailureKind, Outcome, append_end, append_start
from runner.jobs.find import sequential_jobs
from runner.jobs.paths import JobPaths, host, job_lock
from runner.jobs.state import TO_RUN, state_of
from runner.sources import source
from runner.text import percent
from runner.training import memory
from runner.worker.lease import Lease
from runner.worker.log import Log
from runner.worker.options import RunOptions
from runner.worker.record import curve_csv, environment, make_record, rehearse, weights_bytes
from runner.worker.samples import sampling

if TYPE_CHECKING:
    import torch

    from runner.training.batches import Prepared
    from runner.training.checkpoint import Checkpoint
    from runner.training.loop import Trained
    from runner.training.setup import Setup
    from zoo.recipe import Recipe
    from zoo.spec import ModelSpec

STOP_CHECK_SECONDS = 0.5  # between two checks for the stop file


class OutdatedError(UserError):
    """The zoo no longer has this job's model, revision or kind of recipe. Retrying does not help."""


@dataclass
class Worker:
    """A process that runs jobs: its options, its stop flag, and the data set on its device."""

    options: RunOptions
    stopping: threading.Event = field(default_factory=threading.Event)
    echo: Callable[[str], None] | None = None  # for an inline worker: also show log lines
    own_process: bool = True  # False if the submit itself runs the jobs
    data: "DataOnDevice | None" = None  # of the last job


@dataclass(frozen=True)
class DataOnDevice:
    """A prepared data set, which the jobs of a bundle share."""

    key: tuple[object, ...]  # what it was prepared for
    facts: DataFacts
    prepared: "Prepared"


# --- a bundle, a job ---------------------------------------------------------------------------------------------------


def run_bundle(folders: Iterable[Path], worker: Worker) -> None:
    """Run every job of the bundle that no other worker runs, one after another; stop early if asked to."""
    source()
    for folder in folders:
        if worker.stopping.is_set():
            return
        paths = JobPaths(folder)
        if state_of(paths) not in TO_RUN or paths.stop.exists():
            continue
        if Attempts.read(paths).given_up_by(worker.options.submission):
            continue
        with job_lock(paths) as held:
            if held and state_of(paths, holding_lock=True) in TO_RUN:
                outcome = _run_job(paths, worker)
                if outcome == "infrastructure" and worker.own_process:
                    return  # a GPU that failed once fails until the process ends, so the next jobs get a new process


def _run_job(paths: JobPaths, worker: Worker) -> Outcome:
    """Run one attempt and return its outcome. Exceptions of the attempt are recorded, not raised."""
    attempts = Attempts.read(paths)
    paths.tidy()
    if not attempts.lines:  # other files are left only if a kill interrupted the move to old/
        paths.archive(keep=(paths.log, paths.lease))
    run = attempts.last_run or secrets.token_hex(16)
    log = Log(paths.log, worker.echo)
    outcome: Outcome = "infrastructure"
    error_line = None
    with log.capture() if worker.own_process else contextlib.nullcontext():
        _append_start(paths, run, worker.options)
        try:
            job = paths.read_job()
            log(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {job.key}  {job.fingerprint[:8]}  pid {os.getpid()}")
            attempt = JobAttempt(paths, job, run, worker, log)
            with attempt.lease, sampling(paths.system, worker.options.device):
                outcome = attempt.execute()
        except Exception as error:
            failure = _record_failure(paths, error, log, worker.options.device)
            outcome, error_line = failure.kind, failure.what[:500]
        finally:
            append_end(paths, outcome, error_line)
            paths.lease.unlink(missing_ok=True)
    return outcome


def _append_start(paths: JobPaths, run: str, options: RunOptions) -> None:
    append_start(paths, run=run, submission=options.submission, device=options.device, threads=options.threads)


def _record_failure(paths: JobPaths, error: Exception, log: Log, device: str) -> Failure:
    """Log an exception and write it to failure.json; return the failure."""
    kind = kind_of(error)
    if isinstance(error, UserError):
        what = str(error)
        log(f"error: {what}")
    else:
        what = f"{type(error).__name__}: {error}"
        log("".join(traceback.format_exception(error)))
        if memory.ran_short(error):
            job = paths.read_job()
            what = memory.out_of_memory(job.key, job.effective_recipe["batch_size"], str(error), device == "cuda")
            log(f"error: {what}")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    failure = Failure.now(paths, kind, what[:2000], f"{Path(frame.filename).name}:{frame.lineno}")
    failure.write(paths)
    return failure


def kind_of(error: Exception) -> FailureKind:
    """Return the kind of the failure that an exception of an attempt is."""
    if isinstance(error, OutdatedError):
        return "outdated"
    if isinstance(error, (UserError, MemoryError, OSError, ImportError)):
        return "infrastructure"
    import torch

    from runner.training.checkpoint import ResumeRefused

    if isinstance(error, ResumeRefused):
        return "refused"
    accelerator = isinstance(error, (torch.OutOfMemoryError, torch.AcceleratorError))
    names_cuda = any(word in str(error) for word in ("CUDA", "cuDNN", "CUDNN", "cuBLAS", "NVIDIA driver"))
    return "infrastructure" if accelerator or names_cuda or memory.is_short(str(error)) else "model"


def recipe_of(job: Job) -> "Recipe":
    """Return the effective recipe. Raise UserError if it cannot be read, as a recipe of an older version."""
    from zoo.recipe import recipe_from

    try:
        return recipe_from(job.effective_recipe)
    except ValueError as error:
        raise OutdatedError(f"{job.key}: the recipe can't be read: {error}: submit the suite again") from error


class JobAttempt:
    """One attempt at one job, in this process. The caller holds the job's lock."""

    def __init__(self, paths: JobPaths, job: Job, run: str, worker: Worker, log: Log) -> None:
        self.paths, self.job, self.run, self.worker, self.log = paths, job, run, worker, log
        self.options = worker.options
        self.lease = Lease(paths.lease)
        self._stop_file = str(paths.stop)  # a str: building the path takes longer than checking it
        self._stop_checked = -STOP_CHECK_SECONDS

    def execute(self) -> Outcome:
        """Train and write the results. Return 'finished' or 'interrupted'.

        Raise UserError for a job that cannot run here or results that cannot be written, ResumeRefused for a checkpoint
        that cannot be resumed, and whatever the model raises.
        """
        import torch

        from runner.training import loop, profiles
        from runner.training.setup import Setup

        job = self.job
        resume = self._checkpoint()
        threads = self.options.threads if resume is None or self.options.force_resume else resume.threads
        torch.set_num_threads(threads)
        if self._stop():
            return "interrupted"
        device = torch.device(self.options.device)
        profiles.check_device(device)
        spec = self._spec()
        switches = profiles.resolve(job.profile, device, spec.channels_last_on_cpu, spec.bitwise)
        profiles.apply(switches)
        recipe = recipe_of(job)
        data = self._data_on(device, recipe, threads)
        setup = Setup(job, spec, recipe, data.prepared, device, switches)
        known = self._known(data.facts, device, switches)
        facts = self._facts(known)
        rehearse(job, self.run, recipe, facts, **known)
        try:
            trained = self._train(setup, resume, facts)
        except loop.Stopped:
            self.log("stopped after a checkpoint")
            return "interrupted"
        known["starts"] = Attempts.read(self.paths).starts  # one more if the training started again
        known["environment"] = known["environment"].model_copy(update={"precision": trained.switches})
        self._write_results(trained, recipe, known)
        return "finished"

    # --- parts of an attempt ---

    def _train(self, setup: "Setup", resume: "Checkpoint | None", facts: dict[str, Any]) -> "Trained":
        """Train from a checkpoint or from the first epoch. Raise Stopped, and ResumeRefused with what to do.

        A checkpoint of another kind of device is left behind where the options say so.
        """
        from runner.training import loop
        from runner.training.checkpoint import ResumeRefused

        force, other = self.options.force_resume, self.options.on_other_device
        if resume is not None:
            self.log(f"resuming after epoch {resume.epoch}, step {resume.step}")
        try:
            return loop.train(setup, self.run, self.hooks(), resume, force, other, facts)
        except ResumeRefused as refused:
            if not (refused.other_model and other == "restart"):
                raise ResumeRefused(
                    "the checkpoint can't be resumed with the same bits, because this has changed since it was saved: "
                    f"{refused}; resume it where it was saved, force it with `runner submit --force-resume` (the record "
                    "says so), or start again with `runner retry`"
                ) from refused
            self._start_again(f"is from another device ({refused})")
        return loop.train(setup, self.run, self.hooks(), None, force, other, facts)

    def _spec(self) -> "ModelSpec":
        """Return the job's model. Raise OutdatedError if the zoo no longer has it for this data set at this revision."""
        from zoo import load_models, problems

        job = self.job
        spec = load_models().get(job.model)
        variant = spec.variants.get(job.dataset) if spec else None
        if spec is None and problems():  # not outdated, because the file may be repaired
            raise UserError(f"the zoo's model '{job.model}' can't be loaded: {problems()[0]}")
        if spec is None or variant is None:
            raise OutdatedError(
                f"the zoo no longer has the model '{job.model}' for '{job.dataset}': remove {self.paths.folder}"
            )
        if variant.revision != job.revision:
            raise OutdatedError(
                f"planned for revision {job.revision}, but the zoo's is now {variant.revision}: submit the suite again"
            )
        return spec

    def _data_on(self, device: "torch.device", recipe: "Recipe", threads: int) -> "DataOnDevice":
        """Return the job's data set on the device: that of the worker's last job if it is the same, else loaded anew."""
        import torch

        from runner.data import cache
        from runner.data.folder import data_folder
        from runner.training import batches

        dataset, drawn = self.job.dataset, batches.draw_of(recipe, self.job.seed)
        key = (dataset, recipe.preprocessing, recipe.holdout, drawn, threads)
        if self.worker.data is None or self.worker.data.key != key:
            self.worker.data = None
            if device.type == "cuda":
                torch.cuda.empty_cache()  # otherwise the memory of the last data set counts as used
            folder = data_folder(self.options.data_dir)
            loaded = cache.load(dataset, folder, self.options.allow_unverified_data, self.log)
            began = time.perf_counter()
            shares = self.options.shares
            prepared = batches.prepare(loaded, recipe.preprocessing, recipe.holdout, device, self.log, shares, drawn)
            spent = time.perf_counter() - began
            self.log(f"{dataset} on {device} in {spent:.1f} s, preprocessing {recipe.preprocessing}")
            self.worker.data = DataOnDevice(key, loaded.facts, prepared)
        return self.worker.data

    def hooks(self) -> Any:
        """Return the loop's hooks, which write this attempt's files."""
        from runner.training import loop

        return loop.Hooks(stop=self._stop, save=self._save, progress=self.lease.progress, log=self.log)

    def _stop(self) -> bool:
        """Return whether to stop.

        The loop calls this after each step. A shared file system answers more slowly than that, so the stop file is
        checked at most every STOP_CHECK_SECONDS.
        """
        if self.worker.stopping.is_set():
            return True
        now = time.monotonic()
        if now - self._stop_checked < STOP_CHECK_SECONDS:
            return False
        self._stop_checked = now
        return os.path.exists(self._stop_file)  # noqa: PTH110

    def _checkpoint(self) -> "Checkpoint | None":
        from runner.training.checkpoint import Checkpoint

        if not self.paths.checkpoint.exists():
            return None
        try:
            checkpoint = Checkpoint.load(self.paths.checkpoint)
        except (OSError, MemoryError):
            raise  # a problem of the disk, not of the file: a retry may succeed
        except Exception as error:  # torch raises many types for a truncated file
            self._start_again(f"can't be read ({type(error).__name__})")
            return None
        if checkpoint.fingerprint != self.job.fingerprint or checkpoint.run != self.run:
            self._start_again("belongs to another job or run")
            return None
        self._write_metrics(checkpoint.curve)
        return checkpoint

    def _start_again(self, why: str) -> None:
        """Start a new run. MLflow already has epochs of the old run and would get them twice."""
        self.log(f"checkpoint.pt {why}: moved to old/ with the job's other files; starting from the first epoch")
        self.paths.archive(keep=(self.paths.log, self.paths.lease))
        self.run = secrets.token_hex(16)
        _append_start(self.paths, self.run, self.options)

    def _save(self, state: "Checkpoint") -> None:
        """Save the checkpoint first, then the curve so far.

        In this order a line of metrics.jsonl never changes once it is written.
        """
        state.save(self.paths.checkpoint)
        self._write_metrics(state.curve)

    def _write_metrics(self, curve: list[dict[str, Any]]) -> None:
        write_atomically(self.paths.metrics, "".join(canonical_json(row) + "\n" for row in curve))

    def _known(self, data: DataFacts, device: "torch.device", switches: dict[str, Any]) -> dict[str, Any]:
        """Return the parts of the record that are known before the first step."""
        return {
            "starts": Attempts.read(self.paths).starts,
            "environment": environment(device, switches),
            "data": data,
            "sequential": self.job.fingerprint in sequential_jobs(),
            "submitted_by": self.options.submitted_by,
        }

    def _facts(self, known: dict[str, Any]) -> dict[str, Any]:
        """Return what this attempt adds to its entry in the trail, besides device, threads and torch version."""
        code = source()
        return {
            "host": host(),
            "platform": known["environment"].platform,
            "commit": code.commit,
            "dirty": code.dirty,
            "sources_sha256": code.sha256,
            "data_sha256": known["data"].sha256,
            "submitted_by": self.options.submitted_by,
        }

    def _write_results(self, trained: "Trained", recipe: "Recipe", known: dict[str, Any]) -> None:
        """Write the weights, then the curve, then the record, which commits: the job is then done.

        Raise UserError for results that no record can hold, and OSError or MemoryError of the machine.
        """
        try:
            write_atomically(self.paths.weights, weights_bytes(trained.weights))
            write_atomically(self.paths.curve, curve_csv(trained.curve))
            record = make_record(self.job, self.run, trained, recipe, **known)
            save(record, self.paths.record)
        except (OSError, MemoryError):
            raise
        except Exception as problem:
            self.log("".join(traceback.format_exception(problem)))
            raise UserError(
                f"the training ended, but its results can't be written: {type(problem).__name__}: {problem}; the last "
                "checkpoint is kept, and the same command resumes from it"
            ) from problem
        self.paths.checkpoint.unlink(missing_ok=True)
        self.paths.failure.unlink(missing_ok=True)
        error, seconds = percent(record.test_error), record.train_seconds
        self.log(f"{record.outcome}: {record.protocol.evaluation} error {error} in {seconds:.0f} s of training")
