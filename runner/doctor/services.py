"""Checks of the services that jobs use: MLflow's store, SLURM, engines.toml."""

import contextlib
import shutil
import subprocess
import urllib.error
import urllib.request
from importlib import metadata

from benchmarks.plural import number
from runner.doctor.check import Check, ok, problem, warning
from runner.engines.config import engines_file, read_engines


def check_mlflow() -> Check:
    """Check that MLflow is installed and its store answers: the SQLite file opens, or the server responds within 5 s."""
    from runner.tracking import store

    uri = store.store_uri()
    shown = store.without_password(uri)
    try:
        version = metadata.version("mlflow")
    except metadata.PackageNotFoundError:
        return warning("mlflow", "mlflow is not installed", "install it; `runner sync` then writes the runs to it")
    message = f"mlflow {version}, {shown}"
    if uri.startswith(("http:", "https:")):
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5) as answer:
                answer.read()
        except (OSError, urllib.error.URLError) as error:
            why = getattr(error, "reason", error)
            return warning(
                "mlflow",
                f"{message} does not answer ({why})",
                "start it; jobs train without it, and `runner sync` writes their runs later",
            )
        return ok("mlflow", f"{message} answers")
    if path := store.database_of(uri):
        if not path.exists():
            return ok("mlflow", f"{message}: the first submit will create it")
        import sqlite3

        try:
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as database:
                runs = database.execute("SELECT count(*) FROM runs").fetchone()[0]
        except sqlite3.Error as error:
            return problem(
                "mlflow",
                f"{message} can't be read ({error})",
                f"move {path.name}; `runner sync` then writes a new one from the jobs' files",
            )
        return ok("mlflow", f"{message}: {number(runs, 'run')}")
    return ok("mlflow", message)


def check_slurm(*, needed: bool) -> Check:
    """Check SLURM's commands and its controller. munge is tested only if the controller does not answer."""
    from runner.engines import slurm_queue

    tools = ("sbatch", "srun", "squeue", "scancel", "scontrol")
    missing = [name for name in tools if shutil.which(name) is None]
    if missing == list(tools):
        if not needed:
            return ok("slurm", "not installed: only --engine slurm needs it")
        return problem(
            "slurm",
            "SLURM is not installed on this machine",
            "run on a login node of the cluster, or use --engine local",
        )
    if missing:
        return problem(
            "slurm",
            f"commands of SLURM are missing: {', '.join(missing)}",
            "install the client tools (Debian: slurm-client)",
        )
    try:
        version = slurm_queue.ask("sinfo", "--version")
        partitions = slurm_queue.ask("sinfo", "--noheader", "--format=%P").splitlines()
    except slurm_queue.SlurmUnavailable as error:
        message = str(error)
        if shutil.which("munge") and subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode:
            fix = "munge does not answer either: start munged with the cluster's key"
        else:
            fix = "check that slurmctld runs and that SLURM_CONF or /etc/slurm/slurm.conf names it"
        return (
            problem("slurm", message, fix)
            if needed
            else warning("slurm", message, f"needed for --engine slurm only: {fix}")
        )
    return ok("slurm", f"{version}; partitions: {', '.join(partitions) or 'none'}")


def check_engines() -> Check:
    """Check that engines.toml can be read."""
    path = engines_file()
    engines = read_engines()
    if not path.exists():
        return ok("engines", f"no {path.name}: inline, local and slurm have their defaults")
    return ok("engines", f"{path}: {', '.join(engines)}")
