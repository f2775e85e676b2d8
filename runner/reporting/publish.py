"""Copy this checkout's records from .runs to results/, which every board reads.

Runs of a whole recipe are published, whatever their outcome. So are hold-out runs (protocol `validation`, other overrides
allowed), which document a choice and are on no board. Repeating it changes nothing.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.curves import curve_path
from benchmarks.files import write_atomically
from benchmarks.records import RecordError, RunRecord, load, record_json, save
from runner.jobs.paths import JobPaths, results_folder


@dataclass(frozen=True)
class Publication:
    """The result for one job: published now, already there, or skipped with a reason."""

    key: str
    action: Literal["published", "already", "skipped"]
    reason: str = ""
    path: Path | None = None  # of the published record


def show(jobs: Sequence[JobPaths], dry_run: bool = False) -> None:
    """Publish, and print what was published, what was already there, and what was skipped and why."""
    if not jobs:
        print(
            "nothing to publish: no job has been submitted in this checkout; start with: runner submit --suite quickstart"
        )
        return
    outcomes = publish(jobs, results_folder(), dry_run)
    for item in outcomes:
        if item.action == "published":
            print(f"{'would publish' if dry_run else 'published'} {item.path}")
    for item in outcomes:
        if item.action == "skipped":
            print(f"skipped {item.key}: {item.reason}")
    counts = {action: sum(item.action == action for item in outcomes) for action in ("published", "already", "skipped")}
    verb = "to publish" if dry_run else "published"
    print(f"{counts['published']} {verb}, {counts['already']} already published, {counts['skipped']} skipped")
    if counts["published"] and not dry_run:
        print("Check them with: runner verify")


def publish(jobs: Iterable[JobPaths], results: Path, dry_run: bool = False) -> list[Publication]:
    """Publish every eligible record of these jobs; jobs without a record are skipped. `dry_run` copies nothing."""
    return [_publish(paths, results, dry_run) for paths in jobs]


def _publish(paths: JobPaths, results: Path, dry_run: bool) -> Publication:
    if not paths.record.exists():
        return Publication(paths.name, "skipped", "no record yet, because the job has not ended")
    try:
        record = load(paths.record)
    except RecordError as error:
        return Publication(paths.name, "skipped", str(error).splitlines()[0])
    reason = refusal(record)
    if reason:
        return Publication(record.key, "skipped", reason)
    try:
        curve = paths.curve.read_bytes()
    except OSError as error:
        return Publication(record.key, "skipped", f"{paths.curve} can't be read: {error.strerror}")
    if hashlib.sha256(curve).hexdigest() != record.curve_sha256:
        return Publication(record.key, "skipped", f"{paths.curve} has changed since the record was written")

    target = results / record.job.dataset / record.job.model / f"{record.file_stem}.json"
    if target.exists():
        same = target.read_text(encoding="utf-8") == record_json(record) and curve_path(target).exists()
        if same:
            return Publication(record.key, "already", path=target)
        if not _same_run(target, record):
            return Publication(record.key, "skipped", f"{target} exists and holds another run", target)
    if dry_run:
        return Publication(record.key, "published", path=target)
    write_atomically(curve_path(target), curve)  # the curve first, as in .runs, so that a record is never without it
    save(record, target)
    return Publication(record.key, "published", path=target)


def refusal(record: RunRecord) -> str:
    """Return why a record may not be published; an empty string if it may."""
    if record.protocol.evaluation == "validation" or not record.job.overrides:
        return ""
    changed = ", ".join(f"{name}={value}" for name, value in record.job.overrides.items())
    return f"the recipe was changed ({changed})"


def _same_run(path: Path, record: RunRecord) -> bool:
    try:
        return load(path).run == record.run
    except RecordError:
        return True  # a damaged copy, which will be overwritten
