"""Train a published record's job again on this machine, for `runner reproduce KEY`, and compare the results.

Nothing in the record is trusted or executed: the job is rebuilt from this zoo's own recipe and must have the fingerprint of
the record's job. Nothing is checked out: a record of another revision or recipe is refused.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.canonical import differing_fields
from benchmarks.columns import DATA
from benchmarks.errors import UserError, unknown
from benchmarks.intervals import differ_by, sample_of_runs
from benchmarks.plural import number
from benchmarks.published import load_all
from benchmarks.records import Job, RunRecord, load
from benchmarks.suites import Suite
from benchmarks.verdicts import MIN_SEEDS
from runner.jobs.find import find_one
from runner.jobs.paths import JobPaths, results_folder
from runner.jobs.state import state_of
from runner.submit.plan import make_jobs
from runner.submit.preview import Settings
from runner.submit.run import run as run_jobs
from runner.text import percent

SUITE = "reproduce"  # the suite name of these jobs; not in benchmarks/suites.py


# --- which record, which job -------------------------------------------------------------------------------------------


def find_record(text: str, records: Sequence[RunRecord]) -> RunRecord:
    """Return the one published record that a key, a prefix, or `KEY-RUN8` names; raise UserError as `find_one` does."""
    if not records:
        raise UserError(f"no record '{text}': no record is published in {results_folder()}")
    by_name = {f"{record.job.dataset}/{record.job.model}/{record.file_stem}": record for record in records}
    return find_one(text, by_name, "published record", lambda record: record.job.revision)


def rebuild(record: RunRecord, models: Mapping[str, Any]) -> Job:
    """Return the record's job, rebuilt from this zoo's own recipe; raise UserError, in one line, if it is not the same job."""
    job = record.job
    if job.model not in models:
        raise unknown("model", job.model, models)
    variant = models[job.model].variants.get(job.dataset)
    if variant is None:
        raise unknown(f"data set of {job.model}", job.dataset, models[job.model].variants)
    if job.revision != variant.revision:
        raise UserError(
            f"{job.key} has revision {job.revision}, but the zoo's {job.model} on {job.dataset} has {variant.revision}: "
            f"check out {_commit(record)} to reproduce it"
        )
    changed = differing_fields(job.recipe, variant.recipe.to_dict())
    if changed:
        raise UserError(
            f"{job.key} and the zoo have different recipes ({', '.join(changed)}): check out {_commit(record)} to reproduce it"
        )
    suite = Suite(SUITE, "", (job.dataset,), seeds=(job.seed,))
    spec = dataclasses.replace(models[job.model], suites=(SUITE,))
    [rebuilt] = make_jobs(suite, {job.model: spec}, profile=job.profile, overrides=job.overrides)
    if rebuilt.fingerprint != job.fingerprint:
        raise UserError(f"{job.key}: the zoo gives another job than the record's; check the record with: runner verify")
    return rebuilt


def _commit(record: RunRecord) -> str:
    """Return the record's commit as text, if it is plausible: a record may contain anything."""
    commit = record.source.commit or ""
    return f"commit {commit[:12]}" if re.fullmatch(r"[0-9a-f]{7,64}", commit) else "the code that it was made with"


# --- how two results differ --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """The difference between our run and the published one. Errors and differences are in percentage points."""

    # identical weights | same error | within the spread | beyond the spread | different error | other outcome
    word: str
    reason: str
    difference: float | None = None  # ours - theirs
    deviations: float | None = None  # the same in standard deviations of the published seeds
    environment: tuple[tuple[str, Any, Any], ...] = ()  # (what, theirs, ours), where they differ


def compare(theirs: RunRecord, ours: RunRecord, published: Sequence[RunRecord]) -> Comparison:
    """Compare two records of one job.

    The spread comes from those of `published` that differ from `theirs` only in the seed. It judges a difference only if both
    runs finished and their data have the same status.
    """
    differing = environment_differences(theirs, ours)
    if theirs.outcome != ours.outcome:
        return Comparison("other outcome", f"theirs {theirs.outcome}, ours {ours.outcome}", environment=differing)
    if theirs.weights_sha256 == ours.weights_sha256:
        return Comparison("identical weights", "the final weights are identical, bit for bit", 0.0, 0.0, differing)
    if theirs.test_error is None or ours.test_error is None:
        return Comparison("other outcome", f"both {ours.outcome}, with different weights", environment=differing)
    difference = round(ours.test_error - theirs.test_error, 6)
    sample = sample_of_runs(
        (record.job.seed, record.outcome, record.test_error)
        for record in runs_of_other_seeds(theirs, published)
        if record.test_error is not None
    )
    sd = sample.run_sd if sample.n >= MIN_SEEDS else 0.0
    size = f"{abs(difference):.2f} points {'above' if difference > 0 else 'below'} theirs"
    if not difference:
        return Comparison("same error", "the same number of wrong images, with different weights", 0.0, 0.0, differing)
    if theirs.outcome != "finished":
        why = f"both {ours.outcome}, and the spread of seeds that finished does not judge that"
        return Comparison("different error", f"ours is {size}; {why}", difference, None, differing)
    if theirs.data.verified != ours.data.verified:
        status = [DATA[not record.data.verified] for record in (theirs, ours)]
        why = f"theirs is of {status[0]} data and ours of {status[1]} data, so it is not judged"
        return Comparison("different error", f"ours is {size}; {why}", difference, None, differing)
    if not sd:
        few = (
            f"{number(sample.n, 'published seed')} {'is' if sample.n == 1 else 'are'} too few to judge the difference"
            if sample.n < MIN_SEEDS
            else "the published seeds have equal errors, so it cannot be judged"
        )
        return Comparison("different error", f"ours is {size}; {few}", difference, None, differing)
    deviations = difference / sd
    usual = differ_by(sd, sample.n)
    word = "within the spread" if abs(difference) <= usual else "beyond the spread"
    why = (
        f"ours is {size}, {abs(deviations):.1f} standard deviations of the {sample.n} published seeds ({sd:.2f}); two runs "
        f"of one distribution differ by at most {usual:.2f} in 19 of 20 cases"
    )
    return Comparison(word, why, difference, deviations, differing)


def runs_of_other_seeds(record: RunRecord, published: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the finished runs that differ from this one only in the seed; runs with equal weights count once."""
    place = record.job.model_copy(update={"seed": 0})
    others = [
        other
        for other in published
        if other.outcome == "finished"
        and other.data.verified == record.data.verified
        and other.job.model_copy(update={"seed": 0}) == place
    ]
    return list({other.weights_sha256: other for other in others}.values())


def environment_differences(theirs: RunRecord, ours: RunRecord) -> tuple[tuple[str, Any, Any], ...]:
    """Return (what, theirs, ours) for each part of environment, code and data that differs."""

    def parts(record: RunRecord) -> dict[str, Any]:
        environment = record.environment.model_dump()
        precision = environment.pop("precision")
        source = {"commit": record.source.commit, "uncommitted changes": record.source.dirty}
        source["sources' sha256"] = record.source.sha256
        data = {"data sha256": record.data.sha256, "data verified": record.data.verified}
        resumed = {"attempts": record.attempts, "forced resume": record.forced_resume}
        return environment | {f"precision {name}": value for name, value in precision.items()} | source | data | resumed

    one, other = parts(theirs), parts(ours)
    names = list(dict.fromkeys([*one, *other]))
    return tuple((name, one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name))


# --- the command ---------------------------------------------------------------------------------------------------------


def run(text: str, settings: Settings, console: Console, *, force: bool, as_json: bool) -> int:
    """Find the record, train its job here and print the comparison; return exit code 0 for any comparison.

    Return the submit's exit code if the job does not finish. Raise UserError for a run published from this checkout,
    unless `force`.
    """
    from zoo import load_models

    published, _ = load_all(results_folder())
    theirs = find_record(text, published)
    job = rebuild(theirs, load_models())
    paths = JobPaths.of(job)
    if not force and state_of(paths) == "done" and load(paths.record).run == theirs.run:
        raise UserError(
            f"{job.key} was trained in this checkout; to train it again, add --force (the old files are kept)"
        )
    code = run_jobs([job], SUITE, settings, console, restart=force and state_of(paths) == "done")
    if code or state_of(paths) != "done":
        return code
    ours = load(paths.record)
    comparison = compare(theirs, ours, published)
    if as_json:
        print(json.dumps(as_object(theirs, ours, comparison), indent=2, ensure_ascii=False))
    else:
        show(theirs, ours, comparison, paths.record, console)
    return 0


def as_object(theirs: RunRecord, ours: RunRecord, comparison: Comparison) -> dict[str, Any]:
    """Return the object that `reproduce --json` prints."""
    return {
        "key": ours.key,
        "fingerprint": ours.fingerprint,
        "comparison": comparison.word,
        "reason": comparison.reason,
        "difference": comparison.difference,
        "deviations": None if comparison.deviations is None else round(comparison.deviations, 6),
        "theirs": _side(theirs),
        "ours": _side(ours),
        "environment": [{"what": what, "theirs": one, "ours": other} for what, one, other in comparison.environment],
    }


def _side(record: RunRecord) -> dict[str, Any]:
    names = ("run", "outcome", "test_error", "weights_sha256", "train_seconds")
    return {name: getattr(record, name) for name in names}


def show(theirs: RunRecord, ours: RunRecord, comparison: Comparison, path: Path, console: Console) -> None:
    """Print the comparison as a table."""
    from rich.table import Table
    from rich.text import Text

    from benchmarks.labels import clean

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("", "theirs", "ours"):
        table.add_column(heading, overflow="fold")
    rows = [("run", theirs.run8, ours.run8), ("outcome", theirs.outcome, ours.outcome)]
    kind = "test" if theirs.protocol.evaluation == "test" else "held-out"
    rows += [(f"{kind} error", percent(theirs.test_error), percent(ours.test_error))]
    rows += [("weights", theirs.weights_sha256[:12], ours.weights_sha256[:12])]
    rows += [(what, _short(one), _short(other)) for what, one, other in comparison.environment]
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    console.print(Text(ours.key, style="bold"))
    console.print(table)
    if not comparison.environment:
        console.print("environment, code and data are the same")
    console.print(Text(f"{comparison.word}: {comparison.reason}."), soft_wrap=True)
    console.print(Text(f"ours: {path}", style="dim"), soft_wrap=True)


def _short(value: object) -> str:
    text = "-" if value is None else str(value)
    return f"{text[:12]}..." if re.fullmatch(r"[0-9a-f]{40,}", text) else text
