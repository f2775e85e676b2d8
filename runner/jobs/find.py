"""Find jobs: all that were submitted here, those of a suite, and the one that a key names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.errors import UserError, unknown
from runner.files import append_line, read_lines
from runner.jobs.paths import JobPaths, PlannedJob, runs_folder

Item = TypeVar("Item")


def all_jobs(runs: Path | None = None) -> list[JobPaths]:
    """Return every job that was submitted here, sorted by folder."""
    return [JobPaths(path.parent) for path in sorted((runs or runs_folder()).glob("*/*/*/job.json"))]


def read_jobs(folders: Iterable[JobPaths]) -> tuple[list[PlannedJob], list[str]]:
    """Return the jobs of these folders, and one line for each unreadable job.json, which does not affect the other jobs."""
    jobs, problems = [], []
    for paths in folders:
        try:
            jobs.append(PlannedJob(paths.read_job(), paths))
        except UserError as error:
            problems.append(str(error))
    return jobs, problems


def of_models(jobs: Sequence[JobPaths], models: Sequence[str]) -> list[JobPaths]:
    """Return the jobs of these models, or all if none is named; raise UserError for a model without jobs here."""
    present = {paths.model for paths in jobs}
    for model in models:
        if model not in present:
            raise unknown("model with a job in this checkout", model, present)
    return [paths for paths in jobs if not models or paths.model in models]


def record_submission(line: dict[str, Any]) -> None:
    """Append one submit to submissions.jsonl: time, suite, fingerprints of the jobs."""
    append_line(runs_folder() / "submissions.jsonl", line)


def read_submissions() -> list[dict[str, Any]]:
    """Return every submit of this checkout, oldest first."""
    return read_lines(runs_folder() / "submissions.jsonl")


def suites_of_jobs() -> dict[str, set[str]]:
    """Return the suites under which each fingerprint was submitted."""
    suites: dict[str, set[str]] = {}
    for line in read_submissions():
        for fingerprint in line.get("fingerprints", []):
            suites.setdefault(fingerprint, set()).add(str(line.get("suite")))
    return suites


def sequential_jobs() -> set[str]:
    """Return the fingerprints submitted because the earlier seeds did not decide the verdict."""
    return {fingerprint for line in read_submissions() for fingerprint in line.get("sequential", [])}


def find_job(text: str, candidates: list[JobPaths] | None = None) -> JobPaths:
    """Return the one job that a key, `KEY-FINGERPRINT8` or an unambiguous prefix names.

    A key names its newest revision. Raise UserError that lists the candidates or the nearest key.
    """
    candidates = all_jobs() if candidates is None else candidates
    by_name = {paths.name: paths for paths in candidates}
    if not by_name:
        raise UserError(
            f"no job '{text}': no job has been submitted in this checkout; start with: runner submit --suite quickstart"
        )
    return find_one(text, by_name, "job", lambda paths: (paths.read_job().revision, paths.job.stat().st_mtime_ns))


def find_one(text: str, named: Mapping[str, Item], kind: str, rank: Callable[[Item], Any]) -> Item:
    """Return the one item that a key, its full name `KEY-` + 8 hexadecimal digits, or an unambiguous prefix names.

    Of several items with the same key, those of the highest rank are considered. Raise UserError that lists the candidates
    or the nearest key.
    """
    if text in named:
        return named[text]
    matches = {name: item for name, item in named.items() if name[:-9] == text}
    highest = max(map(rank, matches.values()), default=None)
    matches = {name: item for name, item in matches.items() if rank(item) == highest}
    matches = matches or {name: item for name, item in named.items() if name.startswith(text)}
    if not matches:
        raise unknown(kind, text, {name[:-9] for name in named})
    if len(matches) > 1:
        listed = ", ".join(list(matches)[:8]) + (", ..." if len(matches) > 8 else "")
        raise UserError(f"'{text}' matches {len(matches)} {kind}s: {listed}; give one of them")
    return next(iter(matches.values()))
