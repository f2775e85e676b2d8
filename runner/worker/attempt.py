"""One process that runs a bundle: jobs of one (dataset, model), which share data and start-up.

A worker knows nothing of MLflow or of the process that started it: it takes a job's lock, reads its state again, trains,
and writes files. Several workers may be given the same bundle; the lock decides who runs which job, so no slot idles
while a job waits.

    python -m runner.worker --device cpu --threads 1 FOLDER...
"""

import argparse
import contextlib
import csv
import hashlib
import io
import os
import platform
import secrets
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.datasets import get_dataset
from benchmarks.errors import UserError
from benchmarks.records import (
    CURVE_COLUMNS,
    Environment,
    Job,
    Protocol,
    RunRecord,
    Source,
    canonical_json,
    save,
    write_atomically,
)
from runner.jobs import paths as jobs
from runner.jobs.paths import JobPaths, append_line, job_lock, now_ms, read_lines, state_of
from runner.training import memory

SAMPLE_SECONDS = 10.0  # between two samples of processor, memory and GPU
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)  # each leads to a checkpoint and a clean exit
PROGRESS_SECONDS = 1.0  # the lease is renewed at most so often while there is progress to tell


@dataclass
class Options:
    """What a worker is told beside its bundle."""

    device: str = "cpu"  # 'cpu' or 'cuda' (which one, CUDA_VISIBLE_DEVICES says)
    threads: int = 1
    data_dir: Path | None = None
    allow_unverified: bool = False
    force_resume: bool = False
    submission: str = ""
    submitted_by: str | None = None
    echo: Callable[[str], None] | None = None  # inline: log lines are shown as well
    stopping: threading.Event = field(default_factory=threading.Event)

    def argv(self) -> list[str]:
        """The command line that hands the same options to a child."""
        words = ["--device", self.device, "--threads", str(self.threads), "--submission", self.submission]
        words += ["--data-dir", str(self.data_dir)] if self.data_dir else []
        words += ["--submitted-by", self.submitted_by] if self.submitted_by else []
        words += ["--allow-unverified-data"] * self.allow_unverified + ["--force-resume"] * self.force_resume
        return words


# --- a bundle, a job ---------------------------------------------------------------------------------------------------


def run_bundle(folders: list[Path], options: Options, *, own_process: bool) -> None:
    """Run every job of the bundle that nobody else runs, one after another; stops early when asked to."""
    source()
    shared: dict[str, Any] = {}  # data on the device, kept from job to job
    for folder in folders:
        if options.stopping.is_set():
            return
        paths = JobPaths(folder)
        if state_of(paths) not in jobs.TO_RUN or paths.cancel.exists() or jobs.given_up(paths, options.submission):
            continue
        with job_lock(paths) as held:
            if held and state_of(paths, holding_lock=True) in jobs.TO_RUN:
                outcome = _run_job(paths, options, shared, own_process=own_process)
                if outcome == "infrastructure" and own_process:
                    return  # a GPU that failed once fails until the process ends: the next jobs get a fresh one


def _run_job(paths: JobPaths, options: Options, shared: dict[str, Any], *, own_process: bool) -> str:
    """One attempt, from its start line to its end line; gives its outcome. No exception of the attempt gets past here."""
    attempts = read_lines(paths.attempts)
    paths.tidy()
    if not attempts:  # nothing else is there, unless a kill cut short the moving aside
        paths.set_aside(keep=(paths.log, paths.lease))
    run = jobs.last_run(attempts) or secrets.token_hex(16)
    log = Log(paths.log, options.echo)
    ended: dict[str, Any] = {"outcome": "infrastructure"}
    with log.capture() if own_process else contextlib.nullcontext():
        append_line(paths.attempts, _start_line(paths, run, options))
        try:
            job = paths.read_job()
            log(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {job.key}  {job.fingerprint[:8]}  pid {os.getpid()}")
            attempt = Attempt(paths, job, run, options, shared, log)
            with attempt.lease, attempt.sampler():
                ended = {"outcome": attempt.execute()}
        except Exception as error:
            ended = _failed(paths, error, log, options.device)
        finally:
            with contextlib.suppress(OSError):  # a full disk: an attempt without an end counts as killed
                append_line(paths.attempts, {"event": "end", "time": now_ms(), **ended})
            paths.lease.unlink(missing_ok=True)
    return str(ended["outcome"])


def _start_line(paths: JobPaths, run: str, options: Options) -> dict[str, Any]:
    """An attempt's first trace. `checkpoint` tells whether an attempt before it got further than the one before that."""
    return {
        "event": "start",
        "time": now_ms(),
        "host": jobs.host(),
        "boot": jobs.boot_id(),
        "pid": os.getpid(),
        "run": run,
        "submission": options.submission,
        "checkpoint": paths.checkpoint.stat().st_mtime_ns if paths.checkpoint.exists() else 0,
        "device": options.device,
        "threads": options.threads,
    }


def _failed(paths: JobPaths, error: Exception, log: "Log", device: str) -> dict[str, Any]:
    """Note a failure: whose it is decides whether it's tried again."""
    if isinstance(error, UserError):
        kind, what = "infrastructure", str(error)
        log(f"error: {what}")
    else:
        kind, what = kind_of(error), f"{type(error).__name__}: {error}"
        log("".join(traceback.format_exception(error)))
        if memory.ran_short(error):
            job = paths.read_job()
            what = memory.out_of_memory(job.key, job.effective_recipe["batch_size"], str(error), device == "cuda")
            log(f"error: {what}")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    note = {
        "kind": kind,
        "what": what[:2000],
        "where": f"{Path(frame.filename).name}:{frame.lineno}",
        "time": now_ms(),
        "log_tail": jobs.log_tail(paths),
    }
    with contextlib.suppress(OSError):  # a full disk: the attempt's end line may still fit
        write_atomically(paths.failure, canonical_json(note))
    return {"outcome": kind, "error": what[:500]}


def kind_of(error: Exception) -> str:
    """'model' for a failure of the model's own, 'refused' for a resume that needs a decision, else 'infrastructure'."""
    if isinstance(error, (MemoryError, OSError, ImportError)):
        return "infrastructure"
    import torch

    from runner.training.loop import ResumeRefused

    if isinstance(error, ResumeRefused):
        return "refused"
    accelerator = isinstance(error, (torch.OutOfMemoryError, torch.AcceleratorError))
    spoken = any(word in str(error) for word in ("CUDA", "cuDNN", "CUDNN", "cuBLAS", "NVIDIA driver"))
    return "infrastructure" if accelerator or spoken or memory.is_short(str(error)) else "model"


class Attempt:
    """One attempt at one job, in this process, under its lock."""

    def __init__(
        self, paths: JobPaths, job: Job, run: str, options: Options, shared: dict[str, Any], log: "Log"
    ) -> None:
        self.paths, self.job, self.run, self.options, self.shared, self.log = paths, job, run, options, shared, log
        self.lease = Lease(paths.lease)
        self.device = options.device
        self._cancel = str(paths.cancel)  # looked for after each step: making the path takes longer than that

    def execute(self) -> str:
        """Train and write the results. Returns how the attempt ended: 'finished' or 'interrupted'."""
        import torch

        from runner.data import readers as data
        from runner.training import batches, profiles
        from runner.training import loop as train
        from zoo import load_models

        job, log = self.job, self.log
        resume = self._checkpoint()
        threads = self.options.threads if resume is None or self.options.force_resume else resume.threads
        torch.set_num_threads(threads)
        if self._stop():
            return "interrupted"
        device = torch.device(self.device)
        profiles.check_device(device)

        spec = load_models().get(job.model)
        variant = spec.variants.get(job.dataset) if spec else None
        if spec is None or variant is None:
            raise UserError(f"zoo has no model '{job.model}' for '{job.dataset}' any more: remove {self.paths.folder}")
        if variant.revision != job.revision:
            raise UserError(
                f"planned for revision {job.revision}, the zoo's is {variant.revision} now: submit the suite again"
            )
        switches = profiles.resolve(job.profile, device, spec.channels_last_on_cpu)
        profiles.apply(switches)
        recipe = recipe_of(job)
        needed = (job.dataset, recipe.preprocessing, recipe.holdout, threads)
        if self.shared.get("needed") != needed:
            self.shared.clear()
            folder = data.data_folder(self.options.data_dir)
            loaded = data.load(job.dataset, folder, self.options.allow_unverified, log)
            began = time.perf_counter()
            prepared = batches.prepare(loaded, recipe.preprocessing, recipe.holdout, device, log)
            log(
                f"{job.dataset} on {device} in {time.perf_counter() - began:.1f} s, preprocessing {recipe.preprocessing}"
            )
            self.shared.update(needed=needed, loaded=loaded, prepared=prepared)
        loaded, prepared = self.shared["loaded"], self.shared["prepared"]
        if resume is not None:
            log(f"going on after epoch {resume.epoch}, step {resume.step}")

        hooks = self.hooks()
        try:
            trained = train.train(
                job, self.run, spec, recipe, prepared, device, switches, hooks,
                resume=resume, force_resume=self.options.force_resume,
            )  # fmt: skip
        except train.Stopped:
            log("stopped after a checkpoint")
            return "interrupted"
        except train.ResumeRefused as refused:
            raise train.ResumeRefused(
                f"the checkpoint was made elsewhere ({refused}): resume it there, or `runner submit --force-resume` "
                "(recorded), or `runner retry` to start afresh"
            ) from refused
        self._write_results(trained, loaded, recipe, device, {**switches, "arithmetic": trained.arithmetic})
        return "finished"

    # --- the parts of it ---

    def hooks(self) -> Any:
        """How the loop speaks to this attempt's files."""
        from runner.training import loop as train

        return train.Hooks(stop=self._stop, save=self._save, progress=self.lease.progress, log=self.log)

    def _stop(self) -> bool:
        return self.options.stopping.is_set() or os.path.exists(self._cancel)  # noqa: PTH110

    def _checkpoint(self) -> Any:
        from runner.training.checkpoint import Checkpoint

        if not self.paths.checkpoint.exists():
            return None
        try:
            found = Checkpoint.load(self.paths.checkpoint)
        except (OSError, MemoryError):
            raise  # the disk's trouble, not the file's: another try may read it
        except Exception as error:  # torch raises many things for a torn file
            return self._start_afresh(f"can't be read ({type(error).__name__})")
        if found.fingerprint != self.job.fingerprint or found.run != self.run:
            return self._start_afresh("belongs to another job or run")
        self._write_metrics(found.curve)
        return found

    def _start_afresh(self, why: str) -> None:
        """As another run: MLflow has seen epochs of this one, which would come a second time."""
        self.log(f"checkpoint.pt {why}: moved to old/ with what belongs to it; starting afresh")
        self.paths.set_aside(keep=(self.paths.log, self.paths.lease))
        self.run = secrets.token_hex(16)
        append_line(self.paths.attempts, _start_line(self.paths, self.run, self.options))

    def _save(self, state: Any) -> None:
        """The checkpoint first, then the curve so far: a line of metrics.jsonl never changes once it's there."""
        state.save(self.paths.checkpoint)
        self._write_metrics(state.curve)

    def _write_metrics(self, curve: list[dict[str, Any]]) -> None:
        write_atomically(self.paths.metrics, "".join(canonical_json(row) + "\n" for row in curve))

    @contextlib.contextmanager
    def sampler(self) -> Iterator[None]:
        """Samples processor, memory and GPU into system.jsonl while the attempt lasts."""
        done = threading.Event()
        thread = threading.Thread(target=_sample, args=(self.paths.system, self.device, done), daemon=True)
        memory.start_thread(thread)
        try:
            yield
        finally:
            done.set()
            thread.join(timeout=5)

    def _write_results(self, trained: Any, loaded: Any, recipe: Any, device: Any, switches: dict[str, Any]) -> None:
        """Weights, then curve, then the record, which commits: from then on the job is done."""
        import torch

        buffer = io.BytesIO()
        torch.save(trained.weights, buffer)
        write_atomically(self.paths.weights, buffer.getvalue())
        text = curve_csv(trained.curve)
        write_atomically(self.paths.curve, text)

        attempts = [line for line in read_lines(self.paths.attempts) if line.get("event") == "start"]
        started = datetime.fromtimestamp(attempts[0]["time"] / 1000, UTC)
        scored = [row for row in trained.curve if row["test_error"] is not None]
        best = min(scored, key=lambda row: row["test_error"], default=None)
        dataset = get_dataset(self.job.dataset)
        record = RunRecord(
            run=self.run,
            key=self.job.key,
            fingerprint=self.job.fingerprint,
            job=self.job,
            outcome=trained.outcome,
            diverged_epoch=trained.curve[-1]["epoch"] if trained.outcome == "diverged" else None,
            wrong=trained.wrong,
            test_images=trained.test_images,
            best_epoch=best["epoch"] if best else None,
            best_test_error=round(best["test_error"], 6) if best else None,
            final_train_loss=trained.curve[-1]["train_loss"],
            chance_loss=round(trained.chance_loss, 6),
            protocol=Protocol(
                evaluation="validation" if recipe.holdout else "test",
                augmentation=str(recipe.augmentation),
                training_images=dataset.training_images(recipe.holdout),
                holdout=recipe.holdout,
            ),
            parameters=trained.parameters,
            recipe_sha256=self.job.recipe_sha256,
            images_per_second=round(trained.trained_images / max(trained.train_seconds, 1e-9), 1),
            train_seconds=round(trained.train_seconds, 3),
            environment=environment(device, switches),
            source=source(),
            data=loaded.facts,
            started=started,
            finished=max(started, datetime.now(UTC)),  # the clock may have been set back meanwhile
            attempts=len(attempts),
            forced_resume=trained.forced_resume,
            sequential=self.job.fingerprint in jobs.sequential_jobs(),
            curve_sha256=hashlib.sha256(text.encode()).hexdigest(),
            weights_sha256=weights_sha256(trained.weights),
            submitted_by=self.options.submitted_by,
        )
        save(record, self.paths.record)
        self.paths.checkpoint.unlink(missing_ok=True)
        self.paths.failure.unlink(missing_ok=True)
        error = "-" if record.test_error is None else f"{record.test_error:.2f} %"
        self.log(
            f"{record.outcome}: {record.protocol.evaluation} error {error} in {record.train_seconds:.0f} s of training"
        )


# --- pure parts --------------------------------------------------------------------------------------------------------


def recipe_of(job: Job) -> Any:
    """Return the effective recipe; raises UserError where it can't be read, as one of an older version can't."""
    from zoo.recipe import recipe_from

    try:
        return recipe_from(job.effective_recipe)
    except ValueError as error:
        raise UserError(f"{job.key}: the recipe can't be read: {error}; submit the suite again") from error


def curve_csv(curve: list[dict[str, Any]]) -> str:
    """The curve as CSV, without times, so that the same training gives the same bytes."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CURVE_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    return out.getvalue()


def weights_sha256(weights: dict[str, Any]) -> str:
    """sha256 over name, dtype, shape and little-endian bytes of each tensor, sorted by name: never over a file."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{list(value.shape)}\0".encode())
        raw = value.reshape(-1).view(torch.uint8).numpy()
        if sys.byteorder == "big":
            raw = raw.reshape(-1, value.element_size())[:, ::-1]
        digest.update(raw.tobytes())
    return digest.hexdigest()


def environment(device: Any, switches: dict[str, Any]) -> Environment:
    """Hardware, driver and versions, as the record holds them."""
    import torch

    from runner.training import profiles

    cuda = device.type == "cuda"
    return Environment(
        device=device.type,
        hardware=profiles.device_name(device),
        platform=platform.platform(),
        python=platform.python_version(),
        torch=str(torch.__version__),
        cuda=torch.version.cuda if cuda else None,
        cudnn=str(torch.backends.cudnn.version()) if cuda else None,
        driver=_driver() if cuda else None,
        threads=torch.get_num_threads(),
        precision=switches,
    )


def _driver() -> str | None:
    with contextlib.suppress(Exception):  # NVML may be missing or refuse: the record then has no driver
        import pynvml

        pynvml.nvmlInit()
        found = pynvml.nvmlSystemGetDriverVersion()
        return found.decode() if isinstance(found, bytes) else found
    return None


@cache
def source() -> Source:
    """The commit (or variable REPROZOO_COMMIT), whether our sources differ from it, and a digest of the sources.

    Asked for first when a bundle starts: the files may change while it trains.
    """
    top = Path(__file__).resolve().parent.parent.parent
    packages = ("benchmarks", "zoo", "runner")
    digest = hashlib.sha256()
    for path in sorted(p for package in packages for p in (top / package).rglob("*.py")):
        digest.update(f"{path.relative_to(top).as_posix()}\0".encode() + path.read_bytes() + b"\0")

    def git(*words: str) -> str | None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                ["git", "-C", str(top), *words], capture_output=True, text=True, timeout=20, check=True
            )
            return done.stdout.strip()
        return None

    commit = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--", *packages) if commit else None
    return Source(
        commit=commit or os.environ.get("REPROZOO_COMMIT"),
        dirty=None if changed is None else bool(changed),
        sha256=digest.hexdigest(),
    )


# --- lease, samples, log -----------------------------------------------------------------------------------------------


class Lease:
    """lease.json: who runs the job, renewed every 30 s by a thread, and with the progress at most once a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._facts: dict[str, Any] = {"host": jobs.host(), "boot": jobs.boot_id(), "pid": os.getpid()}
        self._written = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._guard = threading.Lock()

    def __enter__(self) -> "Lease":
        self._write()
        memory.start_thread(self._thread)
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join(timeout=5)

    def progress(self, facts: dict[str, Any]) -> None:
        """Take note of progress; written when a second has passed since the last time."""
        self._facts.update(facts)
        if time.monotonic() - self._written > PROGRESS_SECONDS:
            self._write()

    def _renew(self) -> None:
        while not self._done.wait(jobs.LEASE_SECONDS):
            self._write()

    def _write(self) -> None:
        """Without fsync: a lease is worth nothing after a crash. A full disk must not end a training."""
        with self._guard, contextlib.suppress(OSError):
            self._written = time.monotonic()
            temporary = self.path.with_name(".lease.tmp")
            temporary.write_text(canonical_json({**self._facts, "time": now_ms()}))
            temporary.replace(self.path)


def _sample(path: Path, device: str, done: threading.Event) -> None:
    import psutil

    process = psutil.Process()
    process.cpu_percent()
    gpu = _gpu_handle() if device == "cuda" else None
    while not done.wait(SAMPLE_SECONDS):
        facts = {
            "time": now_ms(),
            "cpu_percent": process.cpu_percent(),
            "memory_mb": round(process.memory_info().rss / 1e6, 1),
            **_gpu_sample(gpu),
        }
        with contextlib.suppress(OSError):
            append_line(path, facts)


def _gpu_handle() -> Any:
    with contextlib.suppress(Exception):  # without NVML there are no samples of the GPU, and nothing else changes
        import pynvml

        pynvml.nvmlInit()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        if visible.startswith("GPU-"):
            return pynvml.nvmlDeviceGetHandleByUUID(visible)
        return pynvml.nvmlDeviceGetHandleByIndex(int(visible))
    return None


def _gpu_sample(handle: Any) -> dict[str, float]:
    if handle is None:
        return {}
    with contextlib.suppress(Exception):
        import pynvml

        return {
            "gpu_percent": pynvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "gpu_memory_mb": round(pynvml.nvmlDeviceGetMemoryInfo(handle).used / 1e6, 1),
            "gpu_power_w": round(pynvml.nvmlDeviceGetPowerUsage(handle) / 1000, 1),
        }
    return {}


class Log:
    """log.txt: from the worker's first line, also what libraries write to standard output and error."""

    def __init__(self, path: Path, echo: Callable[[str], None] | None) -> None:
        self.path, self.echo = path, echo
        path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, line: str) -> None:
        with (
            contextlib.suppress(OSError),
            self.path.open("a", encoding="utf-8") as file,
        ):  # a full disk ends no training
            file.write(line.rstrip("\n") + "\n")
        if self.echo is not None:
            self.echo(line)

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """Send this process's standard output and error into the log."""
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        target = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for descriptor in kept:
                os.close(descriptor)


# --- the process -------------------------------------------------------------------------------------------------------


def prepare_environment(device: str, threads: int) -> None:
    """What must be set before torch is imported. A slot has its own threads; cuBLAS is deterministic only when told."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """A child that is started meanwhile gets STOP_SIGNALS only once it lets them through: not before it knows what to do."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main(argv: list[str] | None = None) -> int:
    """Run a bundle in this process; SIGTERM, SIGUSR2 and SIGINT lead to a checkpoint after the step and a clean exit."""
    parser = argparse.ArgumentParser(prog="python -m runner.worker", description="Run a bundle of jobs.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--submission", default="")
    parser.add_argument("--submitted-by")
    parser.add_argument("--allow-unverified-data", dest="allow_unverified", action="store_true")
    parser.add_argument("--force-resume", action="store_true")
    parser.add_argument("folders", nargs="+", type=Path)
    given = vars(parser.parse_args(argv))
    folders = given.pop("folders")
    options = Options(**given)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: options.stopping.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal doesn't stop the work
    prepare_environment(options.device, options.threads)
    run_bundle(folders, options, own_process=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
