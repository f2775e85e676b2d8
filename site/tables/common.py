"""Provide what several tables share: addresses, marks and names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import escape
import pandas as pd

from benchmarks.datasets import DATASETS
from benchmarks.labels import MARKS, marks_of, reported_text, trained_text
from benchmarks.leaderboard import ROW_KEY, Card
from benchmarks.papers import Paper


def datasets_of(board: pd.DataFrame) -> list[str]:
    """Return the data sets that have a row, in the order of DATASETS."""
    return [name for name in DATASETS if (board["dataset"] == name).any()]


@dataclass(frozen=True)
class Link:
    """A cell's text with a link. `inside` means a link to another page of the site."""

    text: str
    page: str
    inside: bool = True

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Links:
    """Addresses of pages, which differ between the live site and the export."""

    model: Callable[[str, str], str]  # (model, data set)
    run: Callable[[str], str]


def model_url(model: str, dataset: str) -> str:
    """Return the address of a model's page, relative to the site."""
    return "model?" + urlencode({"model": model, "dataset": dataset})


def run_url(run: str) -> str:
    """Return the address of a run's page, relative to the site."""
    return "run?" + urlencode({"run": run[:8]})


LIVE = Links(model_url, run_url)


def marks(row: Any) -> list[str]:
    """Return the caveats of a row's numbers in words."""
    return [MARKS[letter] for letter in marks_of(row)]


def trained(row: Any) -> str:
    """Return the number of seeds that trained as `4 of 5`, or a dash if none has run."""
    return trained_text(row) or escape.NONE


def authors_of(paper: Paper) -> str:
    """Return the authors as `Min Lin, Qiang Chen, Shuicheng Yan`. BibTeX has `Lin, Min`."""
    return ", ".join(" ".join(reversed(name.split(", ", 1))) for name in paper.authors)


def cite(paper: Paper | None) -> str:
    """Return a citation such as `Lin et al. 2013`. It is empty without a paper."""
    return "" if paper is None else escape.short(paper.cited, 80)


def printed_text(row: Any) -> str:
    """Return the printed error of a row, such as `10.41` or, if it is only shown, `(15.99)`. Without one, return a dash."""
    return escape.short(reported_text(row), 40) or escape.NONE


def polyline(curve: Sequence[float] | None, width: int = 84, height: int = 22) -> str | None:
    """Return a small line chart of a curve as a data URL with SVG, or None if it has fewer than two points.

    Its grey has enough contrast on light and dark backgrounds.
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
    """Return a verdict's reason as a sentence, with a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + "."


def naive_utc(moments: pd.Series) -> pd.Series:
    """Convert times to UTC and drop the time zone, because Streamlit would convert zoned times to the reader's zone."""
    return pd.to_datetime(moments, utc=True).dt.tz_localize(None)


def row_keys(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return the values of ROW_KEY of each row of a board or each run."""
    return list(zip(*(frame[name] for name in ROW_KEY), strict=True))


def runs_behind(runs: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that count for these board rows: those with the same model, data set, profile and data."""
    keys = set(row_keys(rows))
    same_row = pd.Series([key in keys for key in row_keys(runs)], index=runs.index, dtype=bool)
    return runs[same_row & (runs["standing"] == "counted")]


def row_of_run(board: pd.DataFrame, run: Mapping[Any, Any]) -> dict[str, Any] | None:
    """Return the board row for which a run counts, or None if it counts for none."""
    if run["standing"] != "counted":
        return None
    rows = board[(board[ROW_KEY] == [run[name] for name in ROW_KEY]).all(axis=1)]
    return rows.iloc[0].to_dict() if len(rows) else None


def titles_of(cards: Mapping[str, Card]) -> dict[str, str]:
    """Return each model's title by its name."""
    return {name: card.title for name, card in cards.items()}
