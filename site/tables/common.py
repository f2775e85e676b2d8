"""What several tables say alike: addresses, marks, names."""

from typing import Any
from urllib.parse import urlencode

import escape
import pandas as pd

from benchmarks.datasets import DATASETS
from benchmarks.papers import Paper
from benchmarks.wording import MARKS, marks_of

PLACE = ["dataset", "model", "profile", "data"]  # what makes a board row: nothing is pooled across it


def datasets_of(board: pd.DataFrame) -> list[str]:
    """The data sets that have a row, in their own order."""
    return [name for name in DATASETS if (board["dataset"] == name).any()]


def model_url(model: str, dataset: str) -> str:
    """The address of a model's page, relative to the site."""
    return "model?" + urlencode({"model": model, "dataset": dataset})


def run_url(run: str) -> str:
    """The address of a run's page, relative to the site."""
    return "run?" + urlencode({"run": run[:8]})


def marks(row: Any) -> list[str]:
    """In words, what isn't plain about a row's numbers."""
    return [MARKS[letter] for letter in marks_of(row)]


def trained(row: Any) -> str:
    """`4 of 5`: the seeds that trained; a dash where none has run."""
    return f"{row.n} of {row.runs}" if row.runs else escape.NONE


def authors_of(paper: Paper) -> str:
    """`Min Lin, Qiang Chen, Shuicheng Yan` of BibTeX's `Lin, Min` and so on."""
    return ", ".join(" ".join(reversed(name.split(", ", 1))) for name in paper.authors)


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
