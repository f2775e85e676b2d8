"""Looks at everything a training needs here, and says for each thing what is wrong and how to mend it.

Nothing is changed: what a check writes, it removes. torch isn't imported here; `--engine` proves in a worker of that engine
that torch finds its device, and that the worker's lock and files are seen from here.
"""

import contextlib
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal

import psutil

from benchmarks.checkout import root
from benchmarks.errors import UserError
from benchmarks.records import canonical_json, write_atomically
from runner import locks, nvml
from runner.data.folder import nearest
from runner.engines.config import Slurm, Table, engine_named, engines_file, read_engines
from runner.files import read_json
from runner.jobs.find import all_jobs
from runner.jobs.paths import JobPaths, boot_id, host, runs_folder
from runner.jobs.state import is_locked, leased_elsewhere, state_of
from runner.nvml import Gpus
from runner.sources import child_variables, python
from runner.text import first_line

Status = Literal["ok", "warning", "problem"]
GIB = 2**30
DISK_WARNING, DISK_PROBLEM = 10 * GIB, GIB  # free bytes: a suite's weights and logs; a checkpoint and its successor
GPU_MEMORY = 3 * GIB  # free bytes that the largest network here needs, with its data
CLOCK_WARNING, CLOCK_PROBLEM = 5.0, 60.0  # seconds between two clocks; leases are believed for 180
PROBE_SECONDS = 180.0  # for so long a task is waited for in SLURM's queue
SYMBOLS: dict[Status, str] = {"ok": "✓", "warning": "!", "problem": "✗"}


@dataclass(frozen=True)
class Check:
    """What was found: `says` is one line; `mend` what to do, empty where there is nothing to do."""

    name: str
    status: Status
    says: str
    mend: str = ""


def ok(name: str, says: str) -> Check:
    """Nothing to do."""
    return Check(name, "ok", says)


def warning(name: str, says: str, mend: str) -> Check:
    """Work goes on, less well."""
    return Check(name, "warning", says, mend)


def problem(name: str, says: str, mend: str) -> Check:
    """Something won't run."""
    return Check(name, "problem", says, mend)


# --- this machine ------------------------------------------------------------------------------------------------------


def check_python() -> Check:
    """The interpreter."""
    says = f"Python {platform.python_version()} at {sys.executable}"
    if sys.prefix == sys.base_prefix:
        return warning("python", f"{says}, no environment of its own", "make setup; then .venv/bin/runner")
    return ok("python", says)


def torch_versions() -> tuple[str, str | None] | None:
    """The version of torch and the CUDA it was built for, read from its files; None where torch isn't installed."""
    found = util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return None
    facts: dict[str, Any] = {}
    with contextlib.suppress(
        Exception
    ):  # the file is code of torch's own; without it the version still stands in the metadata
        exec(
            compile((Path(found.submodule_search_locations[0]) / "version.py").read_text(), "version.py", "exec"), facts
        )
    return facts.get("__version__") or metadata.version("torch"), facts.get("cuda")


def check_torch(versions: tuple[str, str | None] | None, found: Gpus | str | None) -> Check:
    """torch, and whether the driver is new enough for the CUDA it was built for."""
    if versions is None:
        return problem("torch", "torch isn't installed", "make setup")
    version, cuda = versions
    says = f"torch {version}, " + (f"built for CUDA {cuda}" if cuda else "built without CUDA")
    if not isinstance(found, Gpus) or not found.cards:
        return ok("torch", says)
    if cuda is None:
        return problem(
            "torch", f"{says}, but there is a GPU", "install torch with CUDA: see https://pytorch.org/get-started"
        )
    major, minor = (int(part) for part in cuda.split(".")[:2])
    knows = f"{found.cuda // 1000}.{found.cuda % 1000 // 10}"
    if found.cuda // 1000 < major:
        return problem(
            "torch",
            f"{says}; driver {found.driver} knows CUDA up to {knows}",
            f"install a driver for CUDA {major}, or a torch built for CUDA {found.cuda // 1000}",
        )
    if found.cuda < 1000 * major + 10 * minor:
        return warning(
            "torch",
            f"{says}; driver {found.driver} knows CUDA up to {knows}, the same major version: most things work",
            "a newer driver, where a job says that PTX can't be compiled",
        )
    return ok("torch", f"{says}; driver {found.driver} knows CUDA up to {knows}")


def check_gpus(found: Gpus | str | None) -> Check:
    """The cards and their free memory."""
    if isinstance(found, str):
        return problem(
            "gpu", f"there is a driver, but it doesn't answer: {found}",
            "nvidia-smi says more; after an update of the driver: reload its module or reboot",
        )  # fmt: skip
    if found is None or not found.cards:
        return ok("gpu", "no GPU here: jobs train on the processor")
    says = "; ".join(f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free" for name, free, total in found.cards)
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1"):
        return warning(
            "gpu", f"{says}; CUDA_VISIBLE_DEVICES hides them all", "unset CUDA_VISIBLE_DEVICES to train on them"
        )
    if any(free < min(GPU_MEMORY, total) for _, free, total in found.cards):
        return warning(
            "gpu",
            f"{says}: too little for the larger networks",
            "nvidia-smi shows who uses it; wait, or fewer --slots-per-gpu",
        )
    return ok("gpu", says)


def check_slots() -> Check:
    """How many jobs run at once with `--engine local`."""
    from runner.engines.slots import make_slots, threads_per_slot

    threads = threads_per_slot()
    slots = make_slots(1, threads)
    free = psutil.virtual_memory().available / GIB
    says = f"{len(slots)} {'GPU' if slots[0].device == 'cuda' else 'CPU'} slots, {free:.1f} GiB of memory available"
    if free < 3:
        return warning("slots", says, "a whitened CIFAR-10 in float32 needs about 3 GiB: free some memory")
    return ok("slots", says)


# --- files -------------------------------------------------------------------------------------------------------------


def file_system(path: Path) -> tuple[str, bool]:
    """The type of the file system that holds a path, and whether several machines may share it."""
    best, kind = "", "unknown"
    for part in psutil.disk_partitions(all=True):
        if path.is_relative_to(part.mountpoint) and len(part.mountpoint) >= len(best):
            best, kind = part.mountpoint, part.fstype
    shared = kind.startswith(
        ("nfs", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb", "glusterfs", "fuse", "9p", "afs")
    )
    return kind, shared


def check_disk(name: str, path: Path, *, needed: bool) -> Check:
    """Whether a folder can be written, and how much is free there."""
    there = nearest(path)
    free = shutil.disk_usage(there).free
    kind, _ = file_system(there.resolve())
    says = f"{path}: {free / GIB:.1f} GiB free ({kind})"
    if not there.is_dir():
        return problem(name, f"{there} is a file, expected a folder", "move the file away, or name another folder")
    try:
        with _scratch(there):
            pass
    except OSError as error:
        says = f"{path} can't be written ({error.strerror})"
        if not needed:
            return ok(name, f"{says}: what is parsed from it is kept elsewhere")
        return problem(name, says, "give yourself the right to write there, or name another root: REPROZOO_ROOT")
    if free < DISK_PROBLEM and needed:
        return problem(name, says, "free some space: a checkpoint that doesn't fit ends its job")
    if free < DISK_WARNING and needed:
        return warning(name, says, "a suite's weights and logs may need more: free some space")
    return ok(name, says)


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A new file for a check, removed afterwards."""
    path = folder / f".doctor-{secrets.token_hex(6)}"
    try:
        path.write_bytes(b"x")
        yield path
    finally:
        path.unlink(missing_ok=True)


def check_locks() -> Check:
    """Whether flock works in .runs: a lock that another process holds is refused, and freed by its end."""
    folder = nearest(runs_folder())
    kind, shared = file_system(folder.resolve())
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); sys.stdin.read()"
    with _scratch(folder) as path:
        child = subprocess.Popen(
            python("-c", code, str(path)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with child:
            assert child.stdout is not None
            held = child.stdout.readline() == "1\n"
            seen = locks.is_held(path)
            child.kill()
        freed = not locks.is_held(path)
    if not (held and seen and freed):
        return problem(
            "locks",
            f"flock doesn't work on {folder} ({kind}): two workers would train the same job",
            "mount it with locks (NFS: without nolock), or put .runs elsewhere: REPROZOO_ROOT",
        )
    across = "; between nodes: `runner doctor --engine NAME` proves it" if shared else ""
    return ok("locks", f"flock works on {folder} ({kind}){across}")


def check_clock() -> Check:
    """This machine's clock beside the one that dates the files of .runs: other hosts' leases are believed by it."""
    with _scratch(nearest(runs_folder())) as path:
        apart = abs(path.stat().st_mtime - time.time())
    return _clock("clock", apart, "the clock and the file system's")


def _clock(name: str, apart: float, whose: str) -> Check:
    says = f"{whose} are {apart:.1f} s apart"
    if apart > CLOCK_PROBLEM:
        return problem(
            name, says, "set the clocks by NTP: leases of other hosts are believed by them for three minutes"
        )
    if apart > CLOCK_WARNING:
        return warning(name, says, "set the clocks by NTP")
    return ok(name, says)


def check_data(data_dir: Path | None) -> Check:
    """Which data sets are here, and whether their files are the official ones."""
    from runner.data import status
    from runner.data.folder import data_folder

    folder = data_folder(data_dir)
    rows = status.status(folder)["datasets"]
    here = [row["name"] for row in rows if row["present"]]
    foreign = [row["name"] for row in rows if row["present"] and row["verified"] is False]
    missing = [row["name"] for row in rows if not row["present"]]
    says = f"{folder}: {', '.join(here) or 'no data set'}" + (f"; missing: {', '.join(missing)}" if missing else "")
    if foreign:
        return warning(
            "data", f"{says}; not the official files: {', '.join(foreign)}",
            "`runner data status` says more; --allow-unverified-data accepts them, marked beside every number",
        )  # fmt: skip
    if missing:
        return warning("data", says, "before a suite that needs one: runner data prepare --suite S")
    return ok("data", says)


def check_leftovers() -> Check:
    """Jobs that nobody will take up by himself, and what dead processes left."""
    from runner.submit.watch import QueueView

    found = [(paths, state_of(paths)) for paths in all_jobs()]
    queue = QueueView()
    queue.refresh(found)
    states = [state for paths, state in found if state != "done" and not queue.will_run(paths, state)]
    counts = {state: states.count(state) for state in ("killed", "interrupted", "failed") if state in states}
    stale = sum(_stale_lease(paths) for paths, state in found if state != "running")
    half = sum(1 for paths, state in found if state != "running" for _ in paths.folder.glob(".*.tmp"))
    parts = [f"{n} {state}" for state, n in counts.items()]
    parts += [f"{stale} leases of dead processes"] * bool(stale) + [f"{half} half-written files"] * bool(half)
    if not parts:
        return ok("leftovers", f"{len(found)} jobs, nothing left behind")
    mend = (
        "runner retry --failed, once mended" if set(counts) == {"failed"} else "the same `runner submit` takes them up"
    )
    return warning("leftovers", f"{len(found)} jobs: {', '.join(parts)}", mend)


def _stale_lease(paths: JobPaths) -> bool:
    return paths.lease.exists() and not is_locked(paths) and not leased_elsewhere(paths)


# --- what else there is ------------------------------------------------------------------------------------------------


def check_mlflow() -> Check:
    """Whether MLflow is installed and its store answers: the SQLite file opens, or the server is reachable."""
    from runner import tracking

    uri = tracking.store_uri()
    shown = tracking.without_password(uri)
    try:
        version = metadata.version("mlflow")
    except metadata.PackageNotFoundError:
        return warning(
            "mlflow", "mlflow isn't installed here", "`runner sync` brings the runs into it later, where it is"
        )
    says = f"mlflow {version}, {shown}"
    if uri.startswith(("http:", "https:")):
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5) as answer:
                answer.read()
        except (OSError, urllib.error.URLError) as error:
            why = getattr(error, "reason", error)
            return warning(
                "mlflow",
                f"{says} doesn't answer ({why})",
                "start it; training goes on meanwhile, `runner sync` brings the rest",
            )
        return ok("mlflow", f"{says} answers")
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.exists():
            return ok("mlflow", f"{says}: made by the first submit")
        import sqlite3

        try:
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as database:
                runs = database.execute("SELECT count(*) FROM runs").fetchone()[0]
        except sqlite3.Error as error:
            return problem(
                "mlflow",
                f"{says} can't be read ({error})",
                f"move {path.name} away; `runner sync` writes a new one from the files",
            )
        return ok("mlflow", f"{says}: {runs} runs")
    return ok("mlflow", says)


def check_slurm(*, needed: bool) -> Check:
    """SLURM's commands and its controller; munge is asked only where the controller doesn't answer."""
    from runner.engines import slurm

    tools = ("sbatch", "srun", "squeue", "scancel", "scontrol")
    missing = [name for name in tools if shutil.which(name) is None]
    if missing == list(tools):
        if not needed:
            return ok("slurm", "not installed: only --engine slurm needs it")
        return problem(
            "slurm", "SLURM isn't installed here", "run on a login node of the cluster, or use --engine local"
        )
    if missing:
        return problem(
            "slurm", f"SLURM's {', '.join(missing)} are missing", "install the client tools (Debian: slurm-client)"
        )
    try:
        version = slurm.ask("sinfo", "--version")
        partitions = slurm.ask("sinfo", "--noheader", "--format=%P").splitlines()
    except slurm.SlurmAway as error:
        says = str(error)
        if shutil.which("munge") and subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode:
            mend = "munge doesn't answer here either: start munged, with the cluster's key"
        else:
            mend = "is slurmctld up, and does SLURM_CONF or /etc/slurm/slurm.conf name it?"
        return (
            problem("slurm", says, mend)
            if needed
            else warning("slurm", says, f"matters for --engine slurm only: {mend}")
        )
    return ok("slurm", f"{version}; partitions: {', '.join(partitions) or 'none'}")


def check_engines() -> Check:
    """engines.toml."""
    path = engines_file()
    engines = read_engines()
    if not path.exists():
        return ok("engines", f"no {path.name}: inline, local and slurm with their defaults")
    return ok("engines", f"{path}: {', '.join(engines)}")


# --- through the engine ------------------------------------------------------------------------------------------------


def probe(folder: str) -> None:
    """What the engine's worker does: take a lock, say what it is, wait for the answer, say that it saw it."""
    place = Path(folder)
    with locks.locked(place / "lock"):
        facts: dict[str, Any] = {
            "host": host(),
            "boot": boot_id(),
            "time": time.time(),
            "python": sys.executable,
        }
        try:
            import torch

            facts |= {"torch": str(torch.__version__), "gpus": torch.cuda.device_count()}
        except Exception as error:  # whatever torch raises when it can't be loaded
            facts["trouble"] = f"{type(error).__name__}: {error}".splitlines()[0]
        facts["time"] = time.time()
        write_atomically(place / "hello.json", canonical_json(facts))
        deadline = time.monotonic() + 120
        while not (place / "answer").exists() and time.monotonic() < deadline:
            list(place.iterdir())  # so that a shared file system looks again
            time.sleep(0.2)
    write_atomically(place / "end.json", canonical_json({"saw": (place / "answer").exists()}))


def check_engine(name: str, table: Table, say: Callable[[str], None]) -> list[Check]:
    """Start a worker through the engine and look at it from here."""
    place = runs_folder() / "doctor" / secrets.token_hex(6)
    place.mkdir(parents=True)
    stop: Callable[[], None] = lambda: None  # noqa: E731
    try:
        if isinstance(table, Slurm):
            alive, stop, what = _start_task(table, place)
        else:
            alive, stop, what = _start_child(place)
        say(f"waiting for {what} ...")
        deadline = time.monotonic() + PROBE_SECONDS
        while not (place / "hello.json").exists():
            state = alive()
            if state is None:
                log = next((path for path in sorted(place.rglob("*.out"))), None)
                tail = (
                    (log.read_text(errors="replace").strip().splitlines() or [""])[-1] if log else "it left no output"
                )
                return [problem("engine", f"{what} ended without an answer: {tail}", _no_answer(name, table))]
            if time.monotonic() > deadline:
                return [
                    warning(
                        "engine",
                        f"{what} hasn't started within {PROBE_SECONDS:.0f} s ({state})",
                        "ask again when the queue is shorter",
                    )
                ]
            time.sleep(0.2)
        return _judge(name, table, place)
    finally:
        stop()
        shutil.rmtree(place, ignore_errors=True)
        for folder in (place.parent, runs_folder()):
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where nothing else is in it


def _no_answer(name: str, table: Table) -> str:
    if not isinstance(table, Slurm):
        return f"""`{sys.executable} -c "import torch, runner.worker.attempt"` in the checkout shows why"""
    return f"does a node see {root()} and {sys.executable}? set `setup` in [engine.{name}] to what it needs first"


def _judge(name: str, table: Table, place: Path) -> list[Check]:
    hello = read_json(place / "hello.json") or {}
    seen = locks.is_held(place / "lock")
    apart = abs(hello["time"] - time.time()) if isinstance(hello.get("time"), float) else 0.0
    (place / "answer").touch()
    deadline = time.monotonic() + 90
    while not (place / "end.json").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    freed = not locks.is_held(place / "lock")
    saw = (read_json(place / "end.json") or {}).get("saw") is True
    where = f"a worker on {hello.get('host')}, torch {hello.get('torch')}, {hello.get('gpus')} GPUs"
    found = []
    if hello.get("trouble"):
        found.append(
            problem(
                "engine",
                f"a worker on {hello.get('host')} can't load torch: {hello['trouble']}",
                _no_answer(name, table),
            )
        )
    elif isinstance(table, Slurm) and table.gpus > (hello.get("gpus") or 0):
        found.append(
            problem(
                "engine",
                f"{where}, where {table.gpus} were asked for",
                "is the node's driver new enough for torch's CUDA, and its gres.conf right?",
            )
        )
    elif not saw:
        found.append(
            problem(
                "engine",
                f"{where}, doesn't see the files that are written here",
                "put the root on a shared file system: REPROZOO_ROOT",
            )
        )
    elif not (seen and freed):
        found.append(
            warning(
                "engine",
                f"{where}: its files are seen, its lock isn't",
                "mount .runs with locks (NFS 4, or without nolock; Lustre: flock); until then leases guard the jobs",
            )
        )
    else:
        found.append(ok("engine", f"{where}: its lock and its files are seen here, and ours there"))
    return [*found, _clock("clocks", apart, f"the clocks here and on {hello.get('host')}")]


def _start_child(place: Path) -> tuple[Callable[[], str | None], Callable[[], None], str]:
    with (place / "child.out").open("wb") as output:
        child = subprocess.Popen(
            python("-m", "runner.doctor", str(place)),
            env=os.environ | child_variables(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def stop() -> None:
        if child.poll() is None:
            child.kill()
        child.wait()

    return (lambda: "running" if child.poll() is None else None), stop, f"a worker (process {child.pid})"


def _start_task(table: Slurm, place: Path) -> tuple[Callable[[], str | None], Callable[[], None], str]:
    from runner.engines import slurm

    executor = slurm.executor_for(table, f"doctor-{place.name}", place)
    job = slurm.queue_with(executor, [(probe, str(place))])[0]

    def alive() -> str | None:
        lines = [
            line.split("|") for line in slurm.ask("squeue", "--noheader", "--me", "--format=%i|%T|%r").splitlines()
        ]
        return next((f"{state.lower()}, {reason}" for id_, state, reason in lines if id_ == job), None)

    def stop() -> None:
        with contextlib.suppress(slurm.SlurmAway):
            slurm.ask("scancel", "--quiet", job)

    return alive, stop, f"SLURM job {job}"


# --- all of it ---------------------------------------------------------------------------------------------------------


def examine(engine: str | None, data_dir: Path | None, say: Callable[[str], None]) -> list[Check]:
    """Every check, one after another; one that fails itself is a problem, and the others still run.

    Raises UserError for an engine that isn't there.
    """
    table = engine_named(engine) if engine is not None else None
    found = nvml.gpus()
    needs_slurm = isinstance(table, Slurm)
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("python", check_python),
        ("torch", lambda: check_torch(torch_versions(), found)),
        ("gpu", lambda: check_gpus(found)),
        ("slots", check_slots),
        ("disk", lambda: check_disk("disk", runs_folder(), needed=True)),
        ("locks", check_locks),
        ("clock", check_clock),
        ("data disk", lambda: check_disk("data disk", _data_folder(data_dir), needed=False)),
        ("data", lambda: check_data(data_dir)),
        ("mlflow", check_mlflow),
        ("engines", check_engines),
        ("slurm", lambda: check_slurm(needed=needs_slurm)),
        ("leftovers", check_leftovers),
    ]
    done = [_guarded(name, check) for name, check in checks]
    if engine is not None and table is not None:
        if needs_slurm and next(check for check in done if check.name == "slurm").status == "problem":
            done.append(problem("engine", f"engine '{engine}' can't be tried without SLURM", "mend SLURM first"))
        else:
            try:
                done += check_engine(engine, table, say)
            except Exception as error:
                done.append(
                    problem(
                        "engine", f"engine '{engine}': {_what(error)}", f"see [engine.{engine}] in {engines_file()}"
                    )
                )
    return done


def _data_folder(data_dir: Path | None) -> Path:
    from runner.data.folder import data_folder

    return data_folder(data_dir)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        mend = "" if isinstance(error, UserError) else "mend that first; it isn't what the check looks for"
        return problem(name, _what(error), mend)


def _what(error: Exception) -> str:
    line = first_line(error)
    return line if isinstance(error, UserError) else f"{type(error).__name__}: {line}"


def run(engine: str | None, data_dir: Path | None, as_json: bool, console: Any) -> int:
    """Print every check; exit code 1 where one of them is a problem."""
    found = examine(engine, data_dir, lambda line: print(line, file=sys.stderr))
    counts = {status: sum(check.status == status for check in found) for status in SYMBOLS}
    if as_json:
        print(json.dumps({"checks": [asdict(check) for check in found], "counts": counts}, indent=2))
    else:
        for check in found:
            console.print(f"{SYMBOLS[check.status]} {check.name:<10} {check.says}", markup=False, soft_wrap=True)
            if check.mend:
                console.print(f"  {'':<10} -> {check.mend}", markup=False, soft_wrap=True)
        words = ", ".join(
            f"{n} {status}{'s' if status != 'ok' and n != 1 else ''}" for status, n in counts.items() if n
        )
        console.print(f"{len(found)} checks: {words}", markup=False)
    return 1 if counts["problem"] else 0


if __name__ == "__main__":
    probe(sys.argv[1])
