"""Check published records and report every problem of a folder at once, each as a line `path: field: problem`.

Errors are what cannot be true or cannot be checked. Warnings are what a reader should know: an older revision, a dirty or
unknown commit, the same weights twice.
"""

import csv
import dataclasses
import hashlib
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path

from benchmarks.canonical import differing_fields
from benchmarks.cards import read_cards
from benchmarks.checkout import git
from benchmarks.datasets import DATASETS, get_dataset
from benchmarks.errors import UserError, unknown
from benchmarks.leaderboard import curve_path
from benchmarks.plural import number
from benchmarks.published import Listing, listing, record_files
from benchmarks.records import CURVE_COLUMNS, Job, RecordError, RunRecord, load, utc
from runner.jobs.paths import results_folder
from runner.reporting import contract
from runner.reporting.consistency import Note, check_best, check_profile, check_speed, check_trail, differ
from runner.submit.plan import resolve_field

LEAST_CHANCE = 0.95  # of ln C: no data set here is so unbalanced that a constant answer has a lower loss
CLOCK_SKEW = timedelta(minutes=5)  # tolerated difference between two machines' clocks


@dataclass
class Findings:
    """The problems so far, as lines `path: field: problem`."""

    errors: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def error(self, path: Path, field: str, problem: str) -> None:
        """Add a statement that cannot be true or cannot be checked."""
        self.errors.append(f"{path}: {field}: {problem}")

    def warn(self, path: Path, field: str, problem: str) -> None:
        """Add a fact that a reader should know."""
        self.warnings.append(f"{path}: {field}: {problem}")


def show(path: Path | None) -> int:
    """Verify a folder or a record and print every problem; return exit code 1 for errors, else 0.

    None means this checkout's results; then sources and zoo are checked against each other too.
    """
    folder = results_folder() if path is None else path
    errors, warnings = verify(folder) if path is not None or folder.exists() else ([], [])
    if path is None:
        errors += contract.problems()
    for kind, lines in (("warning", warnings), ("error", errors)):
        for line in lines:
            print(f"{kind}: {line}")
    count = 1 if folder.is_file() else len(record_files(folder))
    print(f"{number(count, 'record')}: {number(len(errors), 'error')}, {number(len(warnings), 'warning')}")
    return 1 if errors else 0


def verify(folder: Path) -> tuple[list[str], list[str]]:
    """Return (errors, warnings) of a results folder, of one data set's or model's folder, or of one record.

    Raise UserError if the path does not exist.
    """
    if not folder.exists():
        raise UserError(f"{folder}: no such file or folder")
    findings = Findings()
    records: list[tuple[Path, RunRecord]] = []
    files = Listing(records=[folder]) if folder.is_file() else listing(folder)
    for path in files.strays:
        findings.error(
            path, "file", "not counted, because it is not a record, curve or card where one is expected: remove it"
        )
    if files.cards:
        findings.errors += read_cards(files.cards[0].parent)[1]
    for path in files.records:
        try:
            record = load(path)
        except RecordError as problem:
            findings.errors += str(problem).splitlines()
            continue
        records.append((path, record))
        error, warn = partial(findings.error, path), partial(findings.warn, path)
        _check_identity(path, record, error)
        _check_recipe(record, error, warn)
        _check_values(record, error)
        _check_origin(record, error, warn)
        _check_curve(path, record, error)
    _check_doubles(records, findings)
    if folder.is_dir():
        _check_seeds(records, findings)
    _check_commits(records, folder.absolute().parent, findings)
    curves = {curve_path(path) for path in files.records}
    for path in files.curves:
        if path not in curves:
            findings.warn(path, "file", "has no record next to it")
    return findings.errors, findings.warnings


def _check_identity(path: Path, record: RunRecord, error: Note) -> None:
    """Check fingerprint, key, recipe digest, and the path of the file."""
    job = record.job
    for field, actual, expected in (
        ("fingerprint", record.fingerprint, job.fingerprint),
        ("key", record.key, job.key),
        ("recipe_sha256", record.recipe_sha256, job.recipe_sha256),
    ):
        if actual != expected:
            error(field, f"is '{actual}', expected '{expected}' from the record's job")
    place = "/".join(path.resolve().parts[-3:])
    if place != record.place:
        error("file", f"is at {place}, expected {record.place} from the record's names")


def _check_recipe(record: RunRecord, error: Note, warn: Note) -> None:
    """Check the job against the zoo: model, revision, recipe, overrides, parameters, augmentation."""
    from zoo import load_models, problems
    from zoo.plain import to_plain_at
    from zoo.recipe import recipe_from

    job, models = record.job, load_models()
    if job.model not in models:
        error("job.model", "; ".join([str(unknown("model", job.model, models)), *problems()]))
        return
    variant = models[job.model].variants.get(job.dataset)
    if variant is None:
        error("job.dataset", f"the zoo's {job.model} has no recipe for {job.dataset}")
        return
    if job.revision > variant.revision:
        error("job.revision", f"is {job.revision}, expected at most the zoo's {variant.revision}")
        return
    if job.revision < variant.revision:
        warn("job.revision", f"is {job.revision}, the zoo's is {variant.revision}: the record is not counted")
        return
    for name, (theirs, ours) in differing_fields(job.recipe, variant.recipe.to_dict()).items():
        error(f"job.recipe.{name}", f"is {theirs}, expected {ours}, as in the zoo at revision {variant.revision}")
    for name, value in job.overrides.items():
        try:
            path = resolve_field(variant.recipe, name)
        except UserError as problem:
            error(f"job.overrides.{name}", str(problem))
            continue
        if path != name:
            error(f"job.overrides.{name}", f"is a short form, expected the whole name '{path}'")
        elif to_plain_at(variant.recipe, path) == value:
            error(f"job.overrides.{name}", f"is {value}, expected another value than the recipe's own")
    try:
        effective = recipe_from(job.effective_recipe)
    except ValueError as problem:
        error("job.overrides", str(problem))
    else:
        if record.protocol.augmentation != str(effective.augmentation):
            error(
                "protocol.augmentation",
                f"is '{record.protocol.augmentation}', expected '{effective.augmentation}' from the recipe",
            )
    if record.parameters != variant.parameters:
        error("parameters", f"is {record.parameters:,}, expected {variant.parameters:,} from the zoo")


def _check_values(record: RunRecord, error: Note) -> None:
    """Check numbers against the data set's definition and against each other."""
    from runner.training.ending import CHANCE_SHARE

    job, protocol = record.job, record.protocol
    if job.dataset not in DATASETS:
        error("job.dataset", str(unknown("data set", job.dataset, DATASETS)))
        return
    dataset = get_dataset(job.dataset)
    holdout, subset = job.effective_recipe.get("holdout", 0), job.effective_recipe.get("subset", 0)
    for field, actual, expected in (
        ("protocol.holdout", protocol.holdout, holdout),
        ("protocol.evaluation", protocol.evaluation, "validation" if holdout else "test"),
        ("protocol.training_images", protocol.training_images, dataset.training_images(holdout, subset)),
        ("test_images", record.test_images, holdout or dataset.test_size),
    ):
        if actual not in (expected, None):
            error(field, f"is {actual}, expected {expected} from job and data set")

    equal, most = _constant_losses(job.model, dataset.classes)
    if record.chance_loss is not None and not LEAST_CHANCE * equal < record.chance_loss < most:
        error(
            "chance_loss",
            f"is {record.chance_loss}, expected {equal:.6f} "
            f"(for {dataset.classes} equally frequent classes) or a little less",
        )
    loss, chance = record.final_train_loss, CHANCE_SHARE * (record.chance_loss or equal)
    if (record.outcome == "diverged") != (loss is None):
        error("final_train_loss", f"is {loss}, but the outcome is {record.outcome}")
    elif loss is not None and (record.outcome == "collapsed") != (loss >= chance):
        error(
            "outcome",
            f"is {record.outcome}, which contradicts the final training loss of {loss:.4f} (chance: {chance:.4f})",
        )


def _constant_losses(model: str, classes: int) -> tuple[float, float]:
    """Return the loss of a constant answer on equally frequent classes, and its upper limit on the data sets here.

    For a cross-entropy the first is ln C, which is also the maximum.
    """
    import torch

    from zoo import load_models
    from zoo.spec import label_entropy

    spec = load_models().get(model)
    if spec is None or spec.constant_loss is label_entropy:
        return math.log(classes), math.log(classes) + 1e-5
    equal = spec.constant_loss(torch.arange(classes))
    return equal, equal / LEAST_CHANCE


def _check_origin(record: RunRecord, error: Note, warn: Note) -> None:
    """Check dates, commit, data and the trail of attempts."""
    latest = datetime.now(UTC) + CLOCK_SKEW
    for field in ("started", "finished"):
        moment = getattr(record, field)
        if moment > latest:
            error(field, f"is in the future: {utc(moment.astimezone(UTC))}")
    elapsed = (record.finished - record.started).total_seconds()
    if record.train_seconds > elapsed + CLOCK_SKEW.total_seconds():
        error("train_seconds", f"is {record.train_seconds:.0f}, but the run ended {elapsed:.0f} s after it started")
    known = DATASETS[record.job.dataset].sha256 if record.job.dataset in DATASETS else None
    if record.data.verified and known and record.data.sha256 != known:
        error(
            "data.sha256",
            f"is {record.data.sha256[:8]}..., expected {known[:8]}... for data that the record calls official",
        )
    if not record.data.verified and not record.data.provenance:
        error("data.provenance", "is missing, expected a text that says what the unofficial data is")
    if record.source.commit is None:
        warn("source.commit", "is unknown")
    if record.source.dirty:
        warn("source.dirty", f"the code had changes that are not in commit {str(record.source.commit)[:8]}")
    if record.sequential and record.job.overrides:
        error("sequential", "is true, but jobs with overrides get no verdict")
    check_trail(record, error)
    check_profile(record, error)
    if record.forced_resume:
        warn("forced_resume", "resumed with another torch build, device, thread count, precision, code or data")


def _check_curve(path: Path, record: RunRecord, error: Note) -> None:
    """Check the curve file: present, unchanged, one row per epoch, and a last row that matches the record."""
    file = curve_path(path)
    try:
        content = file.read_bytes()
    except OSError as problem:
        error("curve", f"{file.name} can't be read: {problem.strerror}")
        return
    digest = hashlib.sha256(content).hexdigest()
    if digest != record.curve_sha256:
        error("curve_sha256", f"is {record.curve_sha256[:8]}..., but that of {file.name} is {digest[:8]}...")
    try:
        table = list(csv.reader(content.decode().splitlines(), strict=True))
        rows = [[float(cell) if cell else None for cell in row] for row in table[1:]]
    except (ValueError, csv.Error) as problem:
        error("curve", f"{file.name} isn't a table of numbers: {problem}")
        return
    if not table or tuple(table[0]) != CURVE_COLUMNS or any(len(row) != len(CURVE_COLUMNS) for row in rows):
        error("curve", f"{file.name} does not have the columns {','.join(CURVE_COLUMNS)}")
        return
    if any(value is not None and not math.isfinite(value) for row in rows for value in row):
        error("curve", f"{file.name} has an infinity or NaN, expected an empty cell instead")
        return
    epochs = record.job.most_epochs if record.diverged_epoch is None else record.diverged_epoch
    complete = len(rows) == epochs or (record.diverged_epoch is None and _ended_early(record.job, rows))
    if [row[0] for row in rows] != list(range(1, len(rows) + 1)) or not complete:
        error("curve", f"{file.name} has {len(rows)} rows, expected one for each epoch from 1 to {epochs}")
        return
    for row in rows:
        shown = dict(zip(CURVE_COLUMNS, row, strict=True))
        percents = [value for name in ("train_error", "test_error") if (value := shown[name]) is not None]
        losses = [value for name in ("train_loss", "test_loss") if (value := shown[name]) is not None]
        if any(not 0 <= value <= 100 for value in percents) or any(value < 0 for value in losses):
            error("curve", f"{file.name} has an impossible value in epoch {row[0]:.0f}: {row[1:]}")
            return
    last = dict(zip(CURVE_COLUMNS, rows[-1], strict=True))
    if differ(last["test_error"], record.test_error):
        error("test_error", f"is {record.test_error}, but the last row of {file.name} has {last['test_error']}")
    if differ(last["train_loss"], record.final_train_loss):
        error(
            "final_train_loss",
            f"is {record.final_train_loss}, but the last row of {file.name} has {last['train_loss']}",
        )
    check_best(record, {int(row[0] or 0): row[-1] for row in rows if row[-1] is not None}, file.name, error)
    check_speed(record, len(rows), error)


def _ended_early(job: Job, rows: list[list[float | None]]) -> bool:
    """Return whether the recipe's own rule ends a training after exactly these rows of the curve.

    The curve does not tell when a second stage ends, so any number of rows from its first epoch on is accepted.
    """
    from zoo.recipe import recipe_from

    try:
        recipe = recipe_from(job.effective_recipe)
    except ValueError:
        return False
    if recipe.second_stage is not None:
        return recipe.epochs < len(rows) <= recipe.most_epochs
    errors = [row[CURVE_COLUMNS.index("train_error")] or 0.0 for row in rows]
    return len(rows) <= recipe.epochs and recipe.schedule.over(errors) and not recipe.schedule.over(errors[:-1])


def _check_doubles(records: list[tuple[Path, RunRecord]], findings: Findings) -> None:
    """Check that a run id names one run, that final weights are not those of another run, and that rows have one data set.

    An error of two records is reported for both.
    """
    runs: dict[str, Path] = {}
    weights: dict[str, Path] = {}  # by their digest
    in_row: dict[tuple[object, ...], Path] = {}  # by their digest and the row of the board that counts the run
    digests: dict[tuple[str, bool], tuple[str, Path]] = {}
    for path, record in records:
        # The official files have one digest on every machine. A board pools the runs on unofficial files, whatever they hold.
        official = record.data.verified
        if official or _row_of(record) is not None:
            digest, first = digests.setdefault((record.job.dataset, official), (record.data.sha256, path))
            if digest != record.data.sha256:
                both = "call their data official" if official else "count as runs on the same unofficial data"
                for one, other in ((path, first), (first, path)):
                    findings.error(one, "data.sha256", f"differs from that of {other}, but both records {both}")
        if (first := runs.setdefault(record.run, path)) is not path:
            for one, other in ((path, first), (first, path)):
                findings.error(one, "run", f"is also the run of {other}")
        elif record.outcome != "diverged":  # diverged weights are all NaN
            row = _row_of(record)
            first = weights.setdefault(record.weights_sha256, path)
            counted = path if row is None else in_row.setdefault((record.weights_sha256, *row), path)
            if counted is not path:
                findings.warn(path, "weights_sha256", f"is the same as in {counted}: the two runs are counted once")
            elif first is not path:
                findings.warn(path, "weights_sha256", f"is the same as in {first}")


def _check_seeds(records: list[tuple[Path, RunRecord]], findings: Findings) -> None:
    """Warn of seeds without a record below the highest seed of a board's row: records must not be chosen by their result."""
    rows: dict[tuple[object, ...], dict[int, Path]] = {}
    for path, record in records:
        if (row := _row_of(record)) is not None:
            rows.setdefault(row, {}).setdefault(record.job.seed, path)
    for seeds in rows.values():
        highest = max(seeds)
        if missing := highest + 1 - len(seeds):
            some = list(islice((seed for seed in range(highest) if seed not in seeds), 5))
            listed = ", ".join(map(str, some)) + (", ..." if missing > len(some) else "")
            problem = f"is {highest}, but this row has no record of {number(missing, 'lower seed')} ({listed})"
            findings.warn(seeds[highest], "job.seed", f"{problem}: publish every seed that was run, failed ones too")


def _check_commits(records: list[tuple[Path, RunRecord]], checkout: Path, findings: Findings) -> None:
    """Warn of commits that the checkout's history lacks. A shallow clone, and a folder that is no checkout, know too little."""
    named = {record.source.commit for _, record in records if record.source.commit}
    commits = sorted(name for name in named if re.fullmatch("[0-9a-f]{40}", name))  # git gets no other text of a record
    if not commits or git(checkout, "rev-parse", "--is-shallow-repository") != "false":
        return
    known = git(checkout, "rev-list", "--no-walk", "--ignore-missing", *commits)
    missing = set() if known is None else named.difference(known.split())
    for path, record in records:
        if record.source.commit in missing:
            problem = f"{record.source.commit[:12]} is not in this clone, so nobody can see here which code ran"
            findings.warn(path, "source.commit", problem)


def _row_of(record: RunRecord) -> tuple[object, ...] | None:
    """Return the row of the board that counts a run.

    It is None for held-out images, changed recipes and other revisions than the zoo's, which no row counts.
    """
    from zoo import load_models

    job, spec = record.job, load_models().get(record.job.model)
    variant = spec.variants.get(job.dataset) if spec else None
    if job.overrides or record.protocol.evaluation != "test" or variant is None or job.revision != variant.revision:
        return None
    return job.dataset, job.model, job.profile, record.data.verified, job.recipe_sha256
