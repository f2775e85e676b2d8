"""Checks of files: disks, locks, clocks, data sets, and leftovers of dead processes in .runs."""

import shutil
import subprocess
import time
from pathlib import Path

import psutil

from runner import locks
from runner.data.folder import nearest
from runner.doctor.check import GIB, Check, compare_clocks, ok, problem, scratch, warning
from runner.jobs.find import all_jobs
from runner.jobs.paths import JobPaths, runs_folder
from runner.jobs.state import is_locked, leased_elsewhere, state_of
from runner.sources import python
from runner.text import number

DISK_WARNING, DISK_PROBLEM = (
    10 * GIB,
    GIB,
)  # free bytes: for a suite's weights and logs; for a checkpoint and its successor


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
    says = f"{path}: {free / GIB:.1f} GiB free ({kind})"
    if not there.is_dir():
        return problem(name, f"{there} is a file, expected a folder", "move the file away, or name another folder")
    try:
        with scratch(there):
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
            f"flock doesn't work on {folder} ({kind}): two workers would train the same job",
            "mount it with locks (NFS: without nolock), or put .runs elsewhere: REPROZOO_ROOT",
        )
    across = "; between nodes: `runner doctor --engine NAME` proves it" if shared else ""
    return ok("locks", f"flock works on {folder} ({kind}){across}")


def check_clock() -> Check:
    """Check this machine's clock against the file system's, because the validity of other hosts' leases depends on it."""
    with scratch(nearest(runs_folder())) as path:
        apart = abs(path.stat().st_mtime - time.time())
    return compare_clocks("clock", apart, "the clock and the file system's")


def check_data(data_dir: Path | None) -> Check:
    """Check which data sets are present and whether their files are the official ones."""
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
    parts += [f"{stale} leases of dead processes"] * bool(stale) + [f"{half_written} half-written files"] * bool(
        half_written
    )
    if not parts:
        return ok("leftovers", f"{number(len(job_states), 'job')}, nothing left behind")
    mend = (
        "runner retry --failed, once mended" if set(counts) == {"failed"} else "the same `runner submit` takes them up"
    )
    return warning("leftovers", f"{number(len(job_states), 'job')}: {', '.join(parts)}", mend)


def _stale_lease(paths: JobPaths) -> bool:
    return paths.lease.exists() and not is_locked(paths) and not leased_elsewhere(paths)
