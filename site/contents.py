"""Put together what the page of a model and the page of a run show. The live site and the export only lay it out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from charts.runs import curves_figure, seeds_figure
from source import Reading
from tables.board import MEASURED, board_rows, others_sentence
from tables.claims import claims_table
from tables.common import LIVE, Links, marks, row_of_run, runs_behind, sentence, titles_of
from tables.model import anatomy_table, attempts_table, model_summary, recipe_table, reported_table, reproduce_commands
from tables.runs import (
    STANDING,
    checklist,
    costs_table,
    counted_first,
    how_measured,
    run_marks,
    run_summary,
    runs_table,
)

from benchmarks.leaderboard import Card, CardAnatomy, CardVariant, curves, default_view, runs_of
from benchmarks.papers import Paper
from benchmarks.records import RunRecord

MOST_CURVES = 10  # more lines in one figure cannot be told apart


@dataclass(frozen=True)
class ModelPage:
    """What the page of one model on one data set shows. Frames are tables to show; a figure is None if it would be empty."""

    row: Any | None  # the board row with the most seeds; None for a network that is only analysed layer by layer
    summary: dict[str, str]  # empty without a row, as are `reason` and `marks`
    reason: str
    marks: list[str]
    every_row: list[dict[str, Any]]  # rows for the template of a board; empty if the model has only one
    paper: Paper | None
    variant: CardAnatomy | None  # also its recipe, if it is a CardVariant
    run_count: int
    counted_count: int  # runs that count for `row`
    runs: pd.DataFrame
    costs: pd.DataFrame
    command: str  # for a shell
    reported: pd.DataFrame
    claims: pd.DataFrame
    attempts: pd.DataFrame
    recipe: pd.DataFrame | None  # None unless the model is trained on the data set
    anatomy: pd.DataFrame
    seeds_figure: go.Figure | None
    curves_figure: go.Figure | None


def model_page(reading: Reading, dataset: str, model: str, links: Links = LIVE, listed: int | None = None) -> ModelPage:
    """Return what the page of a model on a data set shows. Its table lists every run, or the first `listed` ones."""
    evidence, board = reading.evidence, reading.board
    rows = board[(board["dataset"] == dataset) & (board["model"] == model)]
    view = default_view(rows)
    row: Any = next(view.itertuples(index=False), None)
    card = evidence.cards.get(model)
    paper_key = row.paper if row is not None else card.paper if card else None
    variant = _variant(card, dataset)
    runs = counted_first(runs_of(evidence, dataset, model))
    counted = runs_behind(runs, view)
    by_epoch = curves(counted.head(MOST_CURVES))
    figure_to_reach = (row.reported, row.printed) if row is not None else (None, None)
    is_about = (reading.claims["better"] == model) | (reading.claims["worse"] == model)
    claims = reading.claims[(reading.claims["dataset"] == dataset) & is_about]
    return ModelPage(
        row=row,
        summary=model_summary(row, evidence.papers) if row is not None else {},
        reason=_reason(row, reading.attempts) if row is not None else "",
        marks=marks(row) if row is not None else [],
        every_row=_every_row(rows, reading, links) if len(rows) > 1 else [],
        paper=evidence.papers.get(paper_key) if isinstance(paper_key, str) else None,
        variant=variant,
        run_count=len(runs),
        counted_count=len(counted),
        runs=runs_table(runs.iloc[:listed], links),
        costs=costs_table(runs),
        command=reproduce_commands(dataset, model, card, counted),
        reported=reported_table(evidence.papers, dataset, model),
        claims=claims_table(claims, evidence.papers, board, titles_of(evidence.cards), links),
        attempts=attempts_table(reading.attempts, dataset, model, evidence.papers),
        recipe=recipe_table(variant.recipe) if isinstance(variant, CardVariant) else None,
        anatomy=anatomy_table(variant) if variant else pd.DataFrame(),
        seeds_figure=seeds_figure(counted, row) if len(counted) else None,
        curves_figure=curves_figure(by_epoch, *figure_to_reach) if len(by_epoch) else None,
    )


def _variant(card: Card | None, dataset: str) -> CardAnatomy | None:
    """Return the network of a card on a data set: one that is trained on it, or one that is only analysed."""
    return (card.datasets.get(dataset) or card.anatomy.get(dataset)) if card else None


def _reason(row: Any, attempts: pd.DataFrame) -> str:
    """Return the reason of a row's verdict, followed by the results of others if the model has not run."""
    others = "" if row.runs else others_sentence(attempts, row)
    return f"{sentence(row.reason)} {others}".rstrip()


def _every_row(rows: pd.DataFrame, reading: Reading, links: Links) -> list[dict[str, Any]]:
    """Return all rows of one model as a board without ranks and curves."""
    unranked = rows.assign(rank=None, group=MEASURED)
    return board_rows(unranked, reading.evidence.papers, reading.attempts, [()] * len(rows), links)


@dataclass(frozen=True)
class RunPage:
    """What the page of one run shows. Frames are tables to show."""

    record: RunRecord
    model: str  # its title
    summary: dict[str, str]
    standing: str  # whether it counts, in words
    marks: list[str]
    how_measured: pd.DataFrame
    checklist: pd.DataFrame
    curve_figure: go.Figure | None  # None without a curve


def run_page(reading: Reading, run: Mapping[Any, Any], record: RunRecord) -> RunPage:
    """Return what the page of a run shows. `run` is its row of `evidence.runs`, and `record` is its record."""
    cards, model = reading.evidence.cards, record.job.model
    curve = curves(pd.DataFrame([run]))
    return RunPage(
        record=record,
        model=titles_of(cards).get(model, model),
        summary=run_summary(record),
        standing=STANDING[run["standing"]],
        marks=run_marks(run),
        how_measured=how_measured(record),
        checklist=checklist(record, row_of_run(reading.board, run), cards.get(model)),
        curve_figure=curves_figure(curve) if len(curve) else None,
    )
