"""Check everything that training needs on this machine, and say how to fix each problem.

Nothing is changed: a check removes the files it writes. torch is imported only if there is a GPU. `--engine` starts a
worker of that engine to show that torch finds its device and that the worker's lock and files are visible from here.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import UserError
from runner import nvml
from runner.console import to_stderr
from runner.doctor.check import Check, Status, problem
from runner.doctor.files import check_clock, check_data, check_disk, check_leftovers, check_locks
from runner.doctor.machine import check_gpus, check_python, check_slots, check_torch, torch_versions
from runner.doctor.probe import check_engine
from runner.doctor.services import check_engines, check_mlflow, check_slurm
from runner.engines.config import Slurm, engine_named, engines_file
from runner.jobs.paths import runs_folder
from runner.text import first_line

if TYPE_CHECKING:
    from rich.console import Console

SYMBOLS: dict[Status, str] = {"ok": "✓", "warning": "!", "problem": "✗"}


def examine(engine: str | None, data_dir: Path | None, say: Callable[[str], None]) -> list[Check]:
    """Run every check in turn. A check that raises becomes a problem, and the others still run.

    Raise UserError for an unknown engine.
    """
    engine_settings = engine_named(engine) if engine is not None else None
    gpus = nvml.gpus()
    needs_slurm = isinstance(engine_settings, Slurm)
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("python", check_python),
        ("torch", lambda: check_torch(torch_versions(), gpus)),
        ("gpu", lambda: check_gpus(gpus)),
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
    results = [_guarded(name, check) for name, check in checks]
    if engine is not None and engine_settings is not None:
        if needs_slurm and next(check for check in results if check.name == "slurm").status == "problem":
            results.append(problem("engine", f"engine '{engine}' can't be checked without SLURM", "fix SLURM first"))
        else:
            try:
                results += check_engine(engine, engine_settings, say)
            except Exception as error:
                results.append(
                    problem(
                        "engine", f"engine '{engine}': {_what(error)}", f"see [engine.{engine}] in {engines_file()}"
                    )
                )
    return results


def _data_folder(data_dir: Path | None) -> Path:
    from runner.data.folder import data_folder

    return data_folder(data_dir)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        fix = "" if isinstance(error, UserError) else "fix this error first; the check itself could not run"
        return problem(name, _what(error), fix)


def _what(error: Exception) -> str:
    line = first_line(error)
    return line if isinstance(error, UserError) else f"{type(error).__name__}: {line}"


def run(engine: str | None, data_dir: Path | None, as_json: bool, console: "Console") -> int:
    """Print every check; return exit code 1 if one is a problem, else 0."""
    checks = examine(engine, data_dir, to_stderr)
    counts = {status: sum(check.status == status for check in checks) for status in SYMBOLS}
    if as_json:
        print(json.dumps({"checks": [asdict(check) for check in checks], "counts": counts}, indent=2))
    else:
        for check in checks:
            console.print(f"{SYMBOLS[check.status]} {check.name:<10} {check.message}", markup=False, soft_wrap=True)
            if check.fix:
                console.print(f"  {'':<10} -> {check.fix}", markup=False, soft_wrap=True)
        totals = ", ".join(
            f"{n} {status}{'s' if status != 'ok' and n != 1 else ''}" for status, n in counts.items() if n
        )
        console.print(f"{len(checks)} checks: {totals}", markup=False)
    return 1 if counts["problem"] else 0
