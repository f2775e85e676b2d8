"""Checks of files: disks, locks, clocks, data sets, and leftovers of dead processes in .runs."""

import shutil
import subprocess
import time
from pathlib import Path

import psutil

from benchmarks.plural import number
from runner import locks
from runner.data.folder import nearest
from runner.doctor.check import GIB, Check, compare_clocks, ok, problem, scratch, warning
from runner.jobs.find import all_jobs
from runner.jobs.paths import JobPaths, runs_folder
from runner.jobs.state import is_locked, leased_elsewhere, state_of
from runner.sources import python

DISK_WARNING = 10 * GIB  # free bytes: for a suite's weights and logs
DISK_PROBLEM = GIB  # free bytes: for a checkpoint and its successor


def file_system(path: Path) -> tuple[str, bool]:
    """Return the type of the file system of a path, and whether several machines may share it."""
    best, kind = "", "unknown"
    for part in psutil.disk_partitions(all=True):
        if path.is_relative_to(part.mountpoint) and len(part.mountpoint) >= len(best):
            best, kind = part.mountpoint, part.fstype
    shared = kind.startswith(
        ("nfs", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb", "glusterfs", "fuse", "9p", "afs")
    )
    return kind, shared


def check_disk(name: str, path: Path, *, needed: bool) -> Check:
    """Check that a folder is writable and how many bytes are free.

    `needed` makes a read-only folder or a full disk a problem.
    """
    there = nearest(path)
    free = shutil.disk_usage(there).free
    kind, _ = file_system(there.resolve())
    message = f"{path}: {free / GIB:.1f} GiB free ({kind})"
    if not there.is_dir():
        return problem(name, f"{there} is a file, expected a folder", "move the file, or choose another folder")
    try:
        with scratch(there):
            pass
    except OSError as error:
        message = f"{path} can't be written ({error.strerror})"
        if not needed:
            return ok(name, f"{message}: parsed arrays are kept elsewhere")
        return problem(name, message, "get write permission, or set REPROZOO_ROOT to another folder")
    if free < DISK_PROBLEM and needed:
        return problem(name, message, "free space: a job fails if its checkpoint does not fit")
    if free < DISK_WARNING and needed:
        return warning(name, message, "free space: the weights and logs of a suite may need more")
    return ok(name, message)


def check_locks() -> Check:
    """Check that flock works in .runs: a lock held by another process is refused, and released when that process ends."""
    folder = nearest(runs_folder())
    kind, shared = file_system(folder.resolve())
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); sys.stdin.read()"
    with scratch(folder) as path:
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
            f"file locks do not work on {folder} ({kind}), so two workers could train the same job",
            "mount it with locks (NFS: without nolock), or set REPROZOO_ROOT to another folder",
        )
    across = "; to check them between nodes: `runner doctor --engine NAME`" if shared else ""
    return ok("locks", f"file locks work on {folder} ({kind}){across}")


def check_clock() -> Check:
    """Check this machine's clock against the file system's, because the validity of other hosts' leases depends on it."""
    with scratch(nearest(runs_folder())) as path:
        apart = abs(path.stat().st_mtime - time.time())
    return compare_clocks("clock", apart, "the clocks of this machine and the file system")


def check_data(data_dir: Path | None) -> Check:
    """Check which data sets are present and whether their files are the official ones."""
    from runner.data import status
    from runner.data.folder import data_folder

    folder = data_folder(data_dir)
    rows = status.status(folder)["datasets"]
    here = [row["name"] for row in rows if row["present"]]
    foreign = [row["name"] for row in rows if row["present"] and row["verified"] is False]
    missing = [row["name"] for row in rows if not row["present"]]
    message = f"{folder}: {', '.join(here) or 'no data set'}" + (f"; missing: {', '.join(missing)}" if missing else "")
    if foreign:
        return warning(
            "data", f"{message}; not the official files: {', '.join(foreign)}",
            "details: `runner data status`; --allow-unverified-data accepts them and marks every number",
        )  # fmt: skip
    if missing:
        return warning("data", message, "get the data of a suite with: runner data prepare --suite S")
    return ok("data", message)


def check_leftovers() -> Check:
    """Check for jobs that will not start by themselves and for leftovers of dead processes."""
    from runner.submit.watch import QueueView

    job_states = [(paths, state_of(paths)) for paths in all_jobs()]
    queue = QueueView()
    queue.refresh(job_states)
    states = [state for paths, state in job_states if state != "done" and not queue.will_run(paths, state)]
    counts = {state: states.count(state) for state in ("killed", "interrupted", "failed") if state in states}
    stale = sum(_stale_lease(paths) for paths, state in job_states if state != "running")
    half_written = sum(1 for paths, state in job_states if state != "running" for _ in paths.folder.glob(".*.tmp"))
    parts = [f"{n} {state}" for state, n in counts.items()]
    if stale:
        parts.append(f"{number(stale, 'lease')} of dead processes")
    if half_written:
        parts.append(number(half_written, "half-written file"))
    if not parts:
        return ok("leftovers", f"{number(len(job_states), 'job')}, no leftovers")
    fix = (
        "fix the cause, then: runner retry --failed"
        if set(counts) == {"failed"}
        else "the same `runner submit` continues them"
    )
    return warning("leftovers", f"{number(len(job_states), 'job')}: {', '.join(parts)}", fix)


def _stale_lease(paths: JobPaths) -> bool:
    return paths.lease.exists() and not is_locked(paths) and not leased_elsewhere(paths)
