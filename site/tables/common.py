"""What several tables say alike: addresses, marks, names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import escape
import pandas as pd

from benchmarks.datasets import DATASETS
from benchmarks.labels import MARKS, marks_of, trained_text
from benchmarks.leaderboard import Card
from benchmarks.papers import Paper, ReportedError

PLACE = ["dataset", "model", "profile", "data"]  # what makes a board row: nothing is pooled across it


def datasets_of(board: pd.DataFrame) -> list[str]:
    """The data sets that have a row, in their own order."""
    return [name for name in DATASETS if (board["dataset"] == name).any()]


@dataclass(frozen=True)
class Link:
    """A cell's text that leads somewhere. `inside`: to another page of the site."""

    text: str
    page: str
    inside: bool = True

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Links:
    """Where pages are: the live site and the export have different addresses."""

    model: Callable[[str, str], str]  # (model, data set)
    run: Callable[[str], str]


def model_url(model: str, dataset: str) -> str:
    """The address of a model's page, relative to the site."""
    return "model?" + urlencode({"model": model, "dataset": dataset})


def run_url(run: str) -> str:
    """The address of a run's page, relative to the site."""
    return "run?" + urlencode({"run": run[:8]})


LIVE = Links(model_url, run_url)


def marks(row: Any) -> list[str]:
    """In words, what isn't plain about a row's numbers."""
    return [MARKS[letter] for letter in marks_of(row)]


def trained(row: Any) -> str:
    """`4 of 5`: the seeds that trained; a dash where none has run."""
    return trained_text(row) or escape.NONE


def authors_of(paper: Paper) -> str:
    """`Min Lin, Qiang Chen, Shuicheng Yan` of BibTeX's `Lin, Min` and so on."""
    return ", ".join(" ".join(reversed(name.split(", ", 1))) for name in paper.authors)


def cite(paper: Paper | None) -> str:
    """`Lin et al. 2013`; empty without a paper."""
    return "" if paper is None else escape.short(paper.cited, 80)


def printed_text(row: Any, context: Mapping[tuple[str, str], Sequence[tuple[Paper, ReportedError]]]) -> str:
    """`10.41`, the figure that a row is judged by; `(15.99)` where a source prints one as context only; a dash without any."""
    if not escape.missing(row.printed):
        return escape.short(row.printed, 20)
    beside = [str(figure.printed) for _, figure in context.get((row.dataset, row.model), ())]
    return f"({', '.join(beside)})" if beside else escape.NONE


def polyline(curve: Sequence[float] | None, width: int = 84, height: int = 22) -> str | None:
    """A small line of a curve as an SVG picture's address; None where there are fewer than two points.

    Its grey has enough contrast on a light and on a dark ground.
    """
    values = [value for value in curve or () if abs(value) < 1e6]
    if len(values) < 2:
        return None
    low, high = min(values), max(values)
    step = width / (len(values) - 1)
    points = " ".join(
        f"{i * step:.1f},{height - 2 - (height - 4) * (value - low) / ((high - low) or 1):.1f}"
        for i, value in enumerate(values)
    )
    return (
        f"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'%3E"
        f"%3Cpolyline points='{points}' fill='none' stroke='%237A7F85' stroke-width='1.6'/%3E%3C/svg%3E"
    )


def sentence(text: str) -> str:
    """A verdict's reason as it stands alone: with a capital and a full stop."""
    return text[:1].upper() + text[1:] + "."


def naive_utc(moments: pd.Series) -> pd.Series:
    """Times in UTC without saying so: Streamlit would turn zoned ones to the reader's own zone."""
    return pd.to_datetime(moments, utc=True).dt.tz_localize(None)


def runs_behind(runs: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The runs that count for these board rows: of their profile and data, never others beside them."""
    wanted = set(zip(*(rows[name] for name in PLACE), strict=True))
    here = [place in wanted for place in zip(*(runs[name] for name in PLACE), strict=True)]
    return runs[pd.Series(here, index=runs.index, dtype=bool) & (runs["standing"] == "counted")]


def titles_of(cards: Mapping[str, Card]) -> dict[str, str]:
    """Each model's title by its name."""
    return {name: card.title for name, card in cards.items()}
