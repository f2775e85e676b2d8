"""Escape text from files for the place where it is shown, and format numbers.

A record, a card or a source may contain anything. Cells of st.dataframe, st.text and st.code show text literally. Text for
Markdown must pass through `md`, and text for a figure through `label`. The templates escape HTML (render.py).
"""

import html
import math
import re
from typing import Any

import pandas as pd

from benchmarks.labels import clean

JOINER = "\u2060"  # zero-width, no line break: stops the replacements that Streamlit makes after it parses Markdown
PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
REPLACED = re.compile(r"([:@]|--|<-|->|[<>~]=|www)")  # :emoji:, addresses, arrows and dashes, autolinks
NONE = "–"


def short(text: Any, limit: int = 400) -> str:
    """Return one line of printable text with at most `limit` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def md(text: Any, limit: int = 2_000) -> str:
    """Escape text so that Streamlit's Markdown shows it literally.

    It cannot make emphasis, a link, a heading, HTML, a formula, an emoji or a colour.
    """
    joined = REPLACED.sub(lambda match: JOINER.join(match[1]) + JOINER, short(text, limit))
    return PUNCTUATION.sub(r"\\\1", joined)


def markup(text: Any, limit: int = 2_000) -> str:
    """Escape text for HTML that no template escapes."""
    return html.escape(short(text, limit))


def label(text: Any, limit: int = 60) -> str:
    """Escape text so that plotly shows it literally.

    Plotly interprets a subset of HTML in labels and hover boxes, and TeX between dollar signs.
    """
    line = short(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return line.replace("$", "&#36;")


def missing(value: Any) -> bool:
    """Return whether a value is missing: None, NaN or NaT."""
    return value is None or (not isinstance(value, (list, tuple, dict)) and bool(pd.isna(value)))


def percent(value: Any, signed: bool = False) -> str:
    """Return a percentage as `10.41`, or `+0.11` if signed. A missing value is a dash."""
    if missing(value):
        return NONE
    return f"{round(value, 2) + 0.0:+.2f}" if signed else f"{value:.2f}"  # + 0.0: no -0.00


def count(value: Any) -> str:
    """Return a count as `966,986`."""
    if missing(value):
        return NONE
    return f"{int(value):,}" if math.isfinite(value) and abs(value) < 1e15 else f"{value:.3g}"


def compact(value: Any) -> str:
    """Return a number with three digits and a unit: `967 K`, `222 M`."""
    if missing(value) or not math.isfinite(value) or abs(value) >= 1e15:
        return NONE if missing(value) else f"{value:.3g}"
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " K")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


def duration(seconds: Any) -> str:
    """Return a duration as `45 s`, `12.3 min` or `2.1 h`."""
    if missing(seconds):
        return NONE
    if not math.isfinite(seconds) or seconds > 1e9:
        return f"{seconds:.3g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
