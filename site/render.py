"""Templates filled: the HTML that the live site and the export share. jinja2 escapes every text."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import escape
import jinja2
import pandas as pd

TEMPLATES = Path(__file__).resolve().parent / "templates"


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """The templates of this folder."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"escape": escape, "cells": cells}
    return made


def render(template: str, **values: Any) -> str:
    """A template's text."""
    return environment().get_template(template).render(**values)


def style() -> str:
    """The style of the live site: that of the tables is the export's too."""
    return "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("frame.css", "tables.css"))


def script() -> str:
    """What a click on a column's name or on a link to another page does."""
    return (TEMPLATES / "site.js").read_text(encoding="utf-8")


def table(frame: pd.DataFrame, label: str, formats: Mapping[str, Callable[[Any], str]] | None = None) -> str:
    """A frame as an HTML table, whose columns can be sorted."""
    return render("one_table.html", frame=frame, label=label, formats=formats or {})


def cells(frame: pd.DataFrame, formats: Mapping[str, Callable[[Any], str]]) -> list[list[dict[str, Any]]]:
    """What the template shows of a frame, row by row."""
    forms = [formats.get(name) for name in frame.columns]
    columns = [frame[name].tolist() for name in frame.columns]
    rows = zip(*columns, strict=True) if columns else ()
    return [[cell(value, form) for value, form in zip(row, forms, strict=True)] for row in rows]


def cell(value: Any, form: Callable[[Any], str] | None = None) -> dict[str, Any]:
    """What the template shows of a cell: text, the number to sort by, where it leads."""
    if escape.missing(value):
        return {"text": "", "number": None, "page": None, "inside": False, "kind": ""}
    page, inside = getattr(value, "page", None), getattr(value, "inside", False)
    number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if form is not None:
        text = form(value)
    elif isinstance(value, (list, tuple)):
        text = ", ".join(str(part) for part in value)
    elif isinstance(value, pd.Timestamp):
        text, number = f"{value:%Y-%m-%d %H:%M}", value.timestamp()
    elif isinstance(value, float):
        text = f"{value:.2f}"
    else:
        text = str(value)
    kind = "number" if number is not None else "long" if len(text) > 40 else "short" if len(text) < 20 else ""
    return {"text": text, "number": number, "page": page, "inside": inside, "kind": kind}
