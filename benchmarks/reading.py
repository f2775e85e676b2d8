"""Read records, cards and sources into one `Evidence`, and decide for each run whether a board counts it."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.canonical import canonical_json
from benchmarks.cards import Card, read_cards
from benchmarks.checkout import PACKAGES
from benchmarks.columns import DATA, ROW_KEY, RUN_COLUMNS
from benchmarks.papers import FOLDER, Paper, load_papers, unknown_names
from benchmarks.published import listing, load_published, record_files
from benchmarks.records import RecordError, RunRecord, load


@dataclass(frozen=True)
class Evidence:
    """Everything that a board is made from. `problems` has one line for each problem of an unreadable file."""

    runs: pd.DataFrame  # RUN_COLUMNS and `standing`, one row per record
    cards: Mapping[str, Card] = field(default_factory=dict)
    papers: Mapping[str, Paper] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


Stamp = tuple[int, int]  # (modification time in ns, size in bytes) of a file
RowCache = dict[str, tuple[Stamp, tuple[Any, ...]]]  # a cache for `read`: path -> (stamp, row of RUN_COLUMNS)


def files_of(results: Path, runs: Path | None = None, papers: Path = FOLDER) -> dict[str, Stamp]:
    """Return all files that `read` would read, with their stamps. Two equal results mean that no file changed in between."""
    published = listing(results)
    stamps = {}
    for path in map(str, [*published.records, *published.cards, *papers.glob("*.toml"), *_local_files(runs)]):
        with suppress(OSError):
            stamps[path] = _stamp(path)
    return stamps


def _stamp(path: str) -> Stamp:
    stat = os.stat(path)  # noqa: PTH116  # no Path for each of ten thousand
    return (stat.st_mtime_ns, stat.st_size)


def _local_files(runs: Path | None) -> list[Path]:
    return sorted(runs.glob("*/*/*/record.json")) if runs is not None else []


def read(results: Path, runs: Path | None = None, papers: Path = FOLDER, known: RowCache | None = None) -> Evidence:
    """Read the records and cards of a results folder, the records of a .runs folder, and the sources.

    An unreadable record adds lines to `problems`; the others are still read. `known` is a cache that is updated in place:
    pass the same dict again, and unchanged records are not read again. Raise PaperError for a wrong source.
    """
    cards, problems = read_cards(results / "cards")
    known = {} if known is None else known
    rows = []
    for path, local in [(p, False) for p in record_files(results)] + [(p, True) for p in _local_files(runs)]:
        name = str(path)
        try:
            stamp = _stamp(name)
            if name not in known or known[name][0] != stamp:
                known[name] = (stamp, _row(load(path) if local else load_published(path), name, local))
        except (RecordError, OSError) as error:
            known.pop(name, None)
            problems += str(error).splitlines()
        else:
            rows.append(known[name][1])
    sources = load_papers(papers)
    if results.absolute() == PACKAGES / "results":  # which has every model's card
        unknown = unknown_names(sources, {card.name: card.paper for card in cards.values()})
        problems += [f"{line} (a new model's card: runner models --write-cards)" for line in unknown]
    return Evidence(_frame(rows, cards), cards, sources, tuple(problems))


def frame_of(records: Iterable[tuple[RunRecord, Path, bool]], cards: Mapping[str, Card]) -> pd.DataFrame:
    """Return a frame with RUN_COLUMNS and `standing`, one row for each (record, path, whether it is local).

    A run that is both local and published appears once, as published. `_standing` explains the values of `standing`.
    """
    return _frame([_row(record, str(path), local) for record, path, local in records], cards)


_RUN, _LOCAL = RUN_COLUMNS.index("run"), RUN_COLUMNS.index("local")


def _frame(rows: Iterable[tuple[Any, ...]], cards: Mapping[str, Card]) -> pd.DataFrame:
    once: dict[str, tuple[Any, ...]] = {}
    for row in sorted(rows, key=lambda row: row[_LOCAL]):
        once.setdefault(row[_RUN], row)
    frame = pd.DataFrame(list(once.values()), columns=RUN_COLUMNS)
    frame["test_error"] = frame["test_error"].astype(float)
    for name in ("started", "finished"):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    frame = frame.sort_values(["dataset", "model", "profile", "seed", "local", "finished", "run"], ignore_index=True)
    frame["standing"] = _standing(frame, cards)
    return frame


def _row(record: RunRecord, path: str, local: bool) -> tuple[Any, ...]:
    """Return the values of RUN_COLUMNS for a record, in that order."""
    job, protocol, environment = record.job, record.protocol, record.environment
    return (
        job.dataset,
        job.model,
        job.revision,
        job.recipe_sha256,  # computed from the recipe; the record's own digest is not trusted
        job.profile,
        DATA[not record.data.verified],
        job.seed,
        canonical_json(job.overrides),
        record.outcome,
        record.test_error,
        record.final_train_loss,
        protocol.evaluation,
        protocol.augmentation,
        protocol.training_images,
        protocol.holdout,
        record.parameters,
        record.train_seconds,
        record.images_per_second,
        environment.hardware,
        record.data.provenance,
        record.source.commit,
        record.source.dirty,
        environment.torch,
        record.started,
        record.finished,
        record.submitted_by,
        record.run,
        record.key,
        record.fingerprint,
        record.weights_sha256,
        record.sequential,
        record.forced_resume,
        local,
        path,
    )


def _standing(runs: pd.DataFrame, cards: Mapping[str, Card]) -> pd.Series:
    """Return for each run `counted`, or why it is not: `validation`, `overridden`, `outdated` or `duplicate`."""
    standing = pd.Series("counted", index=runs.index, dtype=object)
    validation = runs["evaluation"] == "validation"
    overridden = runs["overrides"] != "{}"

    # The card's revision and recipe count. Without a card, those of the newest record of the highest revision count.
    plain = runs[~validation & ~overridden]
    newest = (
        plain.sort_values(["revision", "finished"]).groupby(["dataset", "model"])[["revision", "recipe_sha256"]].last()
    )
    current = {pair: (row.revision, row.recipe_sha256) for pair, row in newest.iterrows()}
    current |= {(d, c.name): (v.revision, v.recipe_sha256) for c in cards.values() for d, v in c.datasets.items()}
    versions = zip(runs["revision"], runs["recipe_sha256"], strict=True)
    pairs = zip(runs["dataset"], runs["model"], strict=True)
    outdated = pd.Series(
        [version != current.get(pair) for version, pair in zip(versions, pairs, strict=True)], index=runs.index
    )

    # Identical weights are one measurement, whoever publishes them. Diverged weights are all NaN, so the seed is added.
    counted = runs[~validation & ~overridden & ~outdated.astype(bool)]
    identity = counted["weights_sha256"].where(
        counted["outcome"] != "diverged", counted["weights_sha256"] + counted["seed"].astype(str)
    )
    published_first = counted.sort_values("local", kind="stable").index
    in_order = pd.concat([counted[ROW_KEY], identity.rename("identity")], axis=1).loc[published_first]
    duplicate = in_order.duplicated()

    standing[outdated.astype(bool)] = "outdated"
    standing[duplicate[duplicate].index] = "duplicate"
    standing[overridden] = "overridden"
    standing[validation] = "validation"
    return standing
