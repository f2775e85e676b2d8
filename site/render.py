"""Fill the templates that the live site and the export share. jinja2 escapes every text."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import escape
import jinja2
import pandas as pd

from benchmarks.plural import number

TEMPLATES = Path(__file__).resolve().parent / "templates"


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Return the environment that loads this folder's templates."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals |= {"escape": escape, "cells": cells, "number": number}
    return templates


def render(template: str, **values: Any) -> str:
    """Return a template filled with these values."""
    return environment().get_template(template).render(**values)


def style() -> str:
    """Return the CSS of the live site. The export uses the part for tables too."""
    return "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("frame.css", "tables.css"))


def script() -> str:
    """Return the script that handles clicks on column names and on links to other pages."""
    return (TEMPLATES / "site.js").read_text(encoding="utf-8")


def table(frame: pd.DataFrame, label: str, formats: Mapping[str, Callable[[Any], str]] | None = None) -> str:
    """Return a frame as an HTML table with sortable columns."""
    return render("one_table.html", frame=frame, label=label, formats=formats or {})


def cells(frame: pd.DataFrame, formats: Mapping[str, Callable[[Any], str]]) -> list[list[dict[str, Any]]]:
    """Return the cells of a frame for the template, row by row."""
    forms = [formats.get(name) for name in frame.columns]
    columns = [frame[name].tolist() for name in frame.columns]
    rows = zip(*columns, strict=True) if columns else ()
    return [[cell(value, form) for value, form in zip(row, forms, strict=True)] for row in rows]


def cell(value: Any, form: Callable[[Any], str] | None = None) -> dict[str, Any]:
    """Return one cell for the template: its text, the number to sort by, and the page it links to."""
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
