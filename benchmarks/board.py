"""The board: one row for each (data set, model, profile, data status) with its verdict, and rows of published figures."""

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.cards import Card
from benchmarks.columns import BOARD_COLUMNS, FLOAT_COLUMNS
from benchmarks.datasets import DATASETS, get_dataset
from benchmarks.intervals import ONE_RUN, Statistic, sample_of_runs, summarise
from benchmarks.papers import Paper, ReportedError, ReportedProtocol, context_of, targets
from benchmarks.protocols import differences, unstated
from benchmarks.reading import Evidence
from benchmarks.records import WHOLE_TRAININGS, Protocol
from benchmarks.verdicts import MIN_SEEDS, Figure, verdict

# The columns of `Evidence.runs` that a board reads. Converting all of them takes too long for 10,000 runs.
_RUN_FIELDS = [
    *("dataset", "model", "profile", "data", "seed", "key", "outcome", "test_error", "parameters", "train_seconds"),
    *("hardware", "provenance", "commit", "dirty", "started", "finished", "sequential", "forced", "local", "standing"),
    *Protocol.model_fields,
]
REST = pd.Timedelta(hours=1)
Targets = Mapping[tuple[str, str], tuple[Paper, ReportedError]]  # (data set, model) -> the figure that judges it
Run = dict[str, Any]  # the values of _RUN_FIELDS


def make_board(
    evidence: Evidence,
    datasets: Collection[str] | None = None,
    models: Collection[str] | None = None,
) -> pd.DataFrame:
    """Return the board: a frame with BOARD_COLUMNS, sorted by error within each data set.

    It has three kinds of rows: measured models, models without a run, and published figures of models that the zoo does
    not have. `datasets` and `models` restrict it to a suite; published rows of its data sets stay. Data sets that are not in
    benchmarks/datasets.py are left out.
    """
    shown = [name for name in DATASETS if datasets is None or name in datasets]
    target_rows = {pair: target for pair, target in targets(evidence.papers).items() if pair[0] in shown}
    context = context_of(evidence.papers)

    def is_shown(dataset: str, model: str) -> bool:
        return dataset in shown and (models is None or model in models)

    current = evidence.runs[evidence.runs["standing"].isin(["counted", "outdated"])]
    groups: dict[tuple[str, str, str | None, str | None], list[Run]] = {}
    # Plain dicts from here on: a frame per group takes seconds, and so does to_dict() on Arrow strings.
    values = [current[name].tolist() for name in _RUN_FIELDS]
    for run in (dict(zip(_RUN_FIELDS, row, strict=True)) for row in zip(*values, strict=True)):
        groups.setdefault((run["dataset"], run["model"], run["profile"], run["data"]), []).append(run)
    with_runs = {(dataset, model) for dataset, model, *_ in groups}
    with_card = {(dataset, card.name) for card in evidence.cards.values() for dataset in card.datasets}
    groups |= {(dataset, model, None, None): [] for dataset, model in (with_card | target_rows.keys()) - with_runs}

    rows = []
    for (dataset, model, profile, data), runs in groups.items():
        if is_shown(dataset, model):
            model_columns = _model_columns(dataset, model, evidence.cards, target_rows)
            target = target_rows.get((dataset, model), (None, None))[1]
            figures = context.get((dataset, model), ())
            with_places = [f"{row.printed} ({paper.cited}, {row.where})" for paper, row in figures]
            measured = _measured(runs, model_columns, target, with_places)
            shown_only = None if target or not figures else ", ".join(str(row.printed) for _, row in figures)
            rows.append(model_columns | {"profile": profile, "data": data, "context": shown_only} | measured)
    for paper in evidence.papers.values():
        rows += [_published(paper, row) for row in paper.reported if row.model is None and row.dataset in shown]

    board = pd.DataFrame(rows, columns=BOARD_COLUMNS)
    for column in FLOAT_COLUMNS:
        board[column] = board[column].astype(float)
    board["newest"] = pd.to_datetime(board["newest"], utc=True)
    order = {name: position for position, name in enumerate(DATASETS)}
    board["_order"] = board["dataset"].map(order)
    board = board.sort_values(["_order", "error", "label", "profile", "data"], na_position="last", ignore_index=True)
    return board.drop(columns="_order")


def _model_columns(dataset: str, model: str, cards: Mapping[str, Card], target_rows: Targets) -> dict[str, Any]:
    """Return the columns of a row that do not depend on its runs."""
    card = cards.get(model)
    variant = card.datasets.get(dataset) if card else None
    paper, row = target_rows.get((dataset, model), (None, None))
    return {
        "dataset": dataset,
        "model": model,
        "label": card.title if card else model,
        "family": card.family if card else None,
        "augmentation": variant.augmentation if variant else None,
        "parameters": variant.parameters if variant else None,
        "macs": variant.macs if variant else None,
        "paper": paper.key if paper else card.paper if card else None,
        "reported": row.error if row else None,
        "printed": str(row.printed) if row else None,
        "where": row.where if row else None,
        "printed_label": row.label if row else None,
        "note": row.note if row else None,
    }


def seeds_were_added(runs: Iterable[Run]) -> bool:
    """Return whether seeds were added to a row when the results of others could be known.

    A record may say so. Otherwise the times do: five seeds or more had ended, no other was training, and the next one
    started more than REST later. A single submit leaves no such rest.
    """
    spans: dict[int, tuple[pd.Timestamp, pd.Timestamp]] = {}
    for run in sorted(runs, key=lambda run: run["started"]):
        if run["sequential"]:
            return True
        spans.setdefault(run["seed"], (run["started"], run["finished"]))  # the first run of each seed
    last_end = pd.Timestamp.min.tz_localize("UTC")
    for earlier, (started, finished) in enumerate(spans.values()):
        if earlier >= MIN_SEEDS and started - REST > last_end:
            return True
        last_end = max(last_end, finished)
    return False


def _measured(
    runs: list[Run], model_columns: Mapping[str, Any], target: ReportedError | None, context: Sequence[str]
) -> dict[str, Any]:
    """Return the columns that are computed from the runs of one row: the errors, each seed counted once, and the verdict."""
    counted = [run for run in runs if run["standing"] == "counted"]
    sample = sample_of_runs((run["seed"], run["outcome"], run["test_error"]) for run in counted)
    figure = None if target is None else figure_of(target, model_columns["dataset"], _differences(target, counted))
    sequential = seeds_were_added(counted)
    seconds = [run["train_seconds"] for run in counted if run["outcome"] in WHOLE_TRAININGS]
    row = summarise(sample, figure.statistic if figure else ONE_RUN)
    outcome = verdict(sample, figure, sequential, context, outdated=len(runs) - len(counted))
    return {
        "n": sample.n,
        "seeds": sample.seeds,
        "runs": sample.runs,
        "trained": sample.n / sample.seeds if counted else None,
        "mean": row.mean,
        "sd": row.sd,
        "gap": round(row.mean - target.error, 9) if target and row.mean is not None else None,
        "verdict": outcome.word,
        "reason": outcome.reason,
        "seeds_to_go": outcome.to_go,
        "error": row.mean if row.mean is not None else model_columns["reported"],
        "errors": sample.errors,
        "half_width": row.half_width,
        "prediction": row.prediction,
        "tolerance": figure.tolerance if figure else None,
        "augmentation": model_columns["augmentation"] or (counted[-1]["augmentation"] if counted else None),
        "parameters": model_columns["parameters"] or (counted[-1]["parameters"] if counted else None),
        "train_minutes": statistics.median(seconds) / 60 if seconds else None,
        "hardware": tuple(sorted({run["hardware"] for run in counted})),
        "local": any(run["local"] for run in counted),
        "outdated": len(runs) - len(counted),
        "sequential": sequential,
        "dirty": any(run["dirty"] is True or pd.isna(run["commit"]) for run in counted),
        "forced": any(run["forced"] for run in counted),
        "keys": tuple(dict.fromkeys(run["key"] for run in counted)),
        "newest": max((run["finished"] for run in counted), default=None),
        "provenance": " ".join(sorted({run["provenance"] for run in counted if pd.notna(run["provenance"])})) or None,
    }


def figure_of(target: ReportedError, dataset: str, differing: Sequence[str] = ()) -> Figure:
    """Return a reported error in the form that `verdict` takes; `differing` says how the protocols differ, in clauses."""
    return Figure(
        target.error,
        target.last_digit,
        get_dataset(dataset).test_size,
        statistic_of(target.protocol),
        differing,
        unstated(target.protocol),
        read=target.secondary is None,
    )


def statistic_of(protocol: ReportedProtocol) -> Statistic:
    """Return the statistic of a figure. A spread of unstated kind counts as the standard deviation of single runs."""
    return Statistic(
        protocol.statistic or "single",
        protocol.runs or 1,
        protocol.spread,
        standard_error=protocol.spread_kind == "standard error",
    )


def _differences(target: ReportedError, counted: list[Run]) -> list[str]:
    """Return a clause for each way in which any of the runs differs from the source's protocol."""
    fields = tuple(Protocol.model_fields)
    protocols = dict.fromkeys(tuple(run[name] for name in fields) for run in counted)
    clauses = [differences(target.protocol, Protocol(**dict(zip(fields, values, strict=True)))) for values in protocols]
    return list(dict.fromkeys(clause for of_protocol in clauses for clause in of_protocol))


def _published(paper: Paper, row: ReportedError) -> dict[str, Any]:
    """Return the board row of a published figure whose model the zoo does not have."""
    return {
        "dataset": row.dataset,
        "label": row.label,
        "printed_label": row.label,
        "augmentation": row.protocol.augmentation,
        "n": 0,
        "seeds": 0,
        "runs": 0,
        "reported": row.error,
        "printed": str(row.printed),
        "error": row.error,
        "errors": (),
        "paper": paper.key,
        "where": row.where,
        "note": row.note,
        "hardware": (),
        "local": False,
        "outdated": 0,
        "sequential": False,
        "dirty": False,
        "forced": False,
        "keys": (),
    }


def default_view(board: pd.DataFrame) -> pd.DataFrame:
    """Return the row with the most seeds of each model and data set. Ties go to `reference`, then to verified data."""
    rank = board.assign(_fast=board["profile"] == "fast", _unverified=board["data"] == "unverified")
    rank = rank.sort_values(["n", "runs", "_fast", "_unverified"], ascending=[False, False, True, True], kind="stable")
    best = rank[rank["model"].notna()].drop_duplicates(["dataset", "model"]).index
    return board[board["model"].isna() | board.index.isin(best)].reset_index(drop=True)
