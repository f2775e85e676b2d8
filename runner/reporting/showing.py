"""Show one record, local or published, for `runner show KEY`."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.canonical import canonical_json
from benchmarks.errors import UserError, unknown
from benchmarks.labels import MARKS, SEED_ADDED, clean
from benchmarks.plural import number
from benchmarks.published import record_files
from benchmarks.records import RecordError, RunRecord, load, record_json, utc
from runner.jobs.paths import results_folder, runs_folder

MAX_NAMED = 8  # candidates that an error lists


def show(text: str, as_json: bool, console: Console) -> None:
    """Print the record that a key names, as a table or as the JSON of its file; raise UserError if it is not one record."""
    path, record = find(text, results_folder(), runs_folder())
    if as_json:
        print(record_json(record), end="")
        return
    console.print(Text(clean(record.key), style="bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in facts(record, path):
        table.add_row(Text(name), Text(clean(value)))
    console.print(table)


def find(text: str, results: Path, runs: Path) -> tuple[Path, RunRecord]:
    """Return the file and the record that a key, its prefix, a published file's name or a run id names.

    A published record takes precedence over the local one of the same run. Raise UserError that lists the candidates.
    """
    files = [*record_files(results), *sorted(runs.glob("*/*/*/record.json"))]
    by_name: dict[str, tuple[str, Path]] = {}  # name of the record -> (key, file)
    for path in files:
        name = _name(path, results, runs)
        by_name[name] = (name.rpartition("-")[0], path)
    exact = [path for name, (key, path) in by_name.items() if text in (name, key)]
    paths = exact or [path for name, (_, path) in by_name.items() if name.startswith(text)]
    records: dict[str, tuple[Path, RunRecord]] = {}
    for path in paths:
        try:
            record = load(path)
        except RecordError as error:
            if len(paths) == 1:
                raise UserError(str(error).splitlines()[0]) from error
            continue
        records.setdefault(record.run, (path, record))
    if len(records) == 1:
        return next(iter(records.values()))
    if records:
        names = [_name(path, results, runs) for path, _ in records.values()]
        more = ", ..." if len(names) > MAX_NAMED else ""
        raise UserError(
            f"'{text}' matches {len(names)} records: {', '.join(names[:MAX_NAMED])}{more}; give one of them"
        )
    if not files:
        raise UserError(
            f"no record '{text}': no job has ended in this checkout, and no record is published in {results}"
        )
    raise unknown("record", text, {key for key, _ in by_name.values()})


def _name(path: Path, results: Path, runs: Path) -> str:
    """Return a record's name, `mnist/lenet/reference-seed0-1a2b3c4d`, from its published file or its job's folder."""
    if path.name == "record.json":
        return path.parent.relative_to(runs).as_posix()
    return path.relative_to(results).with_suffix("").as_posix()


def facts(record: RunRecord, path: Path) -> list[tuple[str, str]]:
    """Return the main facts of a record as (name, value); the complete record is in the file."""
    environment, protocol, source = record.environment, record.protocol, record.source
    error = "none: the loss was not finite" if record.test_error is None else f"{record.test_error:.2f} %"
    if record.test_error is not None:
        kind = "test" if protocol.evaluation == "test" else "held-out training"
        error += f", {record.wrong:,} of {record.test_images:,} {kind} images wrong after the last epoch"
    changes = ", ".join(f"{name}={canonical_json(value)}" for name, value in record.job.overrides.items())
    dirty = " with uncommitted changes" if source.dirty else ""
    verified = "official checksums" if record.data.verified else record.data.provenance or "not the official checksums"
    caveats = [SEED_ADDED] * record.sequential + [MARKS["R"]] * record.forced_resume
    return [
        ("error", error),
        ("outcome", record.outcome + (f" in epoch {record.diverged_epoch}" if record.diverged_epoch else "")),
        ("seed", str(record.job.seed)),
        ("profile", record.job.profile),
        ("recipe", canonical_json(record.job.recipe)),
        *([("overrides", changes)] if changes else []),
        ("trained on", f"{protocol.training_images:,} images, augmentation: {protocol.augmentation}"),
        ("parameters", f"{record.parameters:,}, revision {record.job.revision} of the model"),
        (
            "training time",
            f"{record.train_seconds / 60:,.1f} minutes, {record.images_per_second:,.0f} images/s, "
            f"{number(record.attempts, 'attempt')}",
        ),
        ("machine", f"{environment.hardware}, {environment.threads} threads, {environment.platform}"),
        (
            "software",
            f"Python {environment.python}, torch {environment.torch}"
            + (f", CUDA {environment.cuda}" if environment.cuda else ""),
        ),
        ("code", f"commit {source.commit}{dirty}" if source.commit else "no commit"),
        ("data", f"sha256 {record.data.sha256[:16]}, {verified}"),
        ("ended", utc(record.finished) + (f", by {record.submitted_by}" if record.submitted_by else "")),
        *([("caveats", ", ".join(caveats))] if caveats else []),
        ("run", record.run),
        ("file", str(path)),
    ]
