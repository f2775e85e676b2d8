"""Text from files, made safe for where it is shown: the one home of escaping. Numbers as words.

A record, a card or a source may hold anything. Cells of st.dataframe, st.text and st.code show text as it is; whatever
goes into Markdown passes `md`, whatever goes into a figure `label`, and HTML is escaped by the templates (render.py).
"""

import html
import math
import re
from typing import Any

import pandas as pd

from benchmarks.labels import clean

JOINER = "\u2060"  # no width, no break: it parts what Streamlit would replace after Markdown is parsed
PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
REPLACED = re.compile(r"([:@]|--|<-|->|[<>~]=|www)")  # :emoji:, addresses, arrows and dashes, autolinks
NONE = "–"


def short(text: Any, limit: int = 400) -> str:
    """One line of printable text, cut at so many characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def md(text: Any, limit: int = 2_000) -> str:
    """Text that Streamlit's Markdown shows as it is: no emphasis, link, heading, HTML, formula, emoji or colour of its own."""
    parted = REPLACED.sub(lambda match: JOINER.join(match[1]) + JOINER, short(text, limit))
    return PUNCTUATION.sub(r"\\\1", parted)


def markup(text: Any, limit: int = 2_000) -> str:
    """Text that HTML shows as it is, where no template stands between."""
    return html.escape(short(text, limit))


def label(text: Any, limit: int = 60) -> str:
    """Text that plotly shows as it is: it takes a subset of HTML in labels and hover boxes, and TeX between dollars."""
    line = short(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return line.replace("$", "&#36;")


def missing(value: Any) -> bool:
    """Whether there is nothing to show: None, NaN, NaT."""
    return value is None or (not isinstance(value, (list, tuple, dict)) and bool(pd.isna(value)))


def percent(value: Any, signed: bool = False) -> str:
    """`10.41`, `+0.11`; a dash where there is none."""
    if missing(value):
        return NONE
    return f"{round(value, 2) + 0.0:+.2f}" if signed else f"{value:.2f}"  # + 0.0: no -0.00


def count(value: Any) -> str:
    """`966,986`."""
    if missing(value):
        return NONE
    return f"{int(value):,}" if math.isfinite(value) and abs(value) < 1e15 else f"{value:.3g}"


def compact(value: Any) -> str:
    """`967 K`, `222 M`: three digits and a unit."""
    if missing(value) or not math.isfinite(value) or abs(value) >= 1e15:
        return NONE if missing(value) else f"{value:.3g}"
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " K")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


def duration(seconds: Any) -> str:
    """`45 s`, `12.3 min`, `2.1 h`."""
    if missing(seconds):
        return NONE
    if not math.isfinite(seconds) or seconds > 1e9:
        return f"{seconds:.3g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def day(moment: Any) -> str:
    """`2026-11-21`."""
    return NONE if missing(moment) else f"{moment:%Y-%m-%d}"
