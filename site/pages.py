"""Build the HTML pages of the export from the same frames, rows and figures as the live site."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import address
import pandas as pd
import plotly.graph_objects as go
import render
import source
import texts
from charts.board import cost_figure, gap_figure, gap_order
from charts.claims import claims_figure
from charts.common import GREY
from contents import model_page, run_page
from markdown_it import MarkdownIt
from markupsafe import Markup
from tables.board import board_rows, ranked_view
from tables.claims import claims_table
from tables.common import Links, authors_of, datasets_of, titles_of
from tables.compare import COST_FORMATS as AXIS_FORMATS
from tables.compare import COSTS, cost_table, cost_view
from tables.runs import COST_FORMATS, RUN_FORMATS, runs_table

from benchmarks.answer import answer_details, answer_of, answer_sentence
from benchmarks.datasets import DATASETS
from benchmarks.labels import LEGEND, equivalence_sentence
from benchmarks.records import RunRecord

QUESTION = "Do the numbers in the papers hold?"


@dataclass(frozen=True)
class Site:
    """Title, address and repository of the exported site."""

    title: str = "reprozoo"
    base_url: str = ""  # without its trailing slash; empty if it is not known
    repository: str = ""


def board_file(dataset: str) -> str:
    """Return the file name of a board's page."""
    return f"board-{dataset}.html"


def model_file(model: str, dataset: str) -> str:
    """Return the file name of a model's page on a data set. Both names are validated, so they are safe in a file name."""
    return f"model-{dataset}-{model}.html"


def run_file(run: str) -> str:
    """Return the file name of a run's page. A run id is hexadecimal."""
    return f"run-{run[:8]}.html"


STATIC = Links(model_file, run_file)


@dataclass(frozen=True)
class Page:
    """A page before it is rendered: file name, template, heading, description for search engines, the template's values."""

    file: str
    template: str
    heading: str
    description: str = ""
    values: dict[str, Any] = field(default_factory=dict)


def pages_of(reading: source.Reading, site: Site) -> Iterable[tuple[str, str]]:
    """Yield every page as (file name, HTML)."""
    board, names = reading.board, datasets_of(reading.board)
    front_dataset = address.default_dataset(board, names) if names else None
    menu = [("index.html", "Leaderboard")]
    menu += [(board_file(name), DATASETS[name].title) for name in names if name != front_dataset]
    menu += [("claims.html", "Claims"), ("runs.html", "Runs"), ("method.html", "Method")]
    sentence_of_all = answer_sentence(answer_of(board))
    for page in _pages(reading, site, front_dataset):
        common = {
            "items": [(file, title, file == page.file) for file, title in menu],
            "file": page.file,
            "heading": page.heading,
            "description": page.description or sentence_of_all,
            "as_of": reading.as_of,
            "site": site,
            "figures": {},
        }
        yield page.file, render.render(page.template, **(common | page.values))


def _pages(reading: source.Reading, site: Site, front_dataset: str | None) -> Iterator[Page]:
    """Yield every page; the board of the data set `front_dataset` is the front page."""
    yield _front_page(reading, front_dataset)
    for dataset in datasets_of(reading.board):
        yield _board_page(reading, dataset)
    ours = reading.board[reading.board["model"].notna()]
    for dataset, model in dict.fromkeys(zip(ours["dataset"], ours["model"], strict=True)):
        yield _model_page(reading, dataset, model)
    for _, run in reading.evidence.runs.iterrows():
        record = source.record_of(run)
        if record is not None and run["dataset"] in DATASETS:
            values = _run_values(reading, run, record, site)
            yield Page(run_file(run["run"]), "run.html", f"Run {record.run8}", record.key, values)
    yield _runs_page(reading)
    yield _claims_page(reading)
    yield _method_page(reading)
    yield Page("404.html", "404.html", "Page not found")


def _front_page(reading: source.Reading, front_dataset: str | None) -> Page:
    if front_dataset is None:
        return Page("index.html", "nothing.html", QUESTION)
    return Page(
        "index.html", "board.html", QUESTION, values=_lead_values(reading.board) | _board_values(reading, front_dataset)
    )


def _board_page(reading: source.Reading, dataset: str) -> Page:
    lead = _lead_values(reading.board[reading.board["dataset"] == dataset])
    heading = f"{DATASETS[dataset].title}: measured and printed errors"
    description = f"{heading}. {lead['lead']}"
    return Page(board_file(dataset), "board.html", heading, description, lead | _board_values(reading, dataset))


def _model_page(reading: source.Reading, dataset: str, model: str) -> Page:
    values = _model_values(reading, dataset, model)
    heading = f"{values['page'].row.label} on {DATASETS[dataset].title}"
    return Page(model_file(model, dataset), "model.html", heading, f"{heading}. {values['page'].reason}", values)


def _runs_page(reading: source.Reading) -> Page:
    runs = reading.evidence.runs.sort_values("finished", ascending=False)
    values = {"runs": runs_table(runs, STATIC, key=True), "formats": RUN_FORMATS}
    return Page("runs.html", "runs.html", "Runs", values=values)


def _claims_page(reading: source.Reading) -> Page:
    titles, claims = titles_of(reading.evidence.cards), reading.claims
    values = {
        "figures": {"claims": figure(claims_figure(claims, titles))} if len(claims) else {},
        "claims": claims_table(claims, reading.evidence.papers, reading.board, titles, STATIC),
    }
    return Page("claims.html", "claims.html", "Do the claims hold?", values=values)


def _method_page(reading: source.Reading) -> Page:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    values = {
        "protocol": Markup(markdown.render(texts.protocol())),  # our own text, with its HTML escaped
        "apart": texts.not_comparable(reading.board[reading.board["verdict"] == "not comparable"]),
        "adding": Markup(markdown.render(texts.add_a_model())),
    }
    return Page("method.html", "method.html", "Method and limits", values=values)


def _lead_values(board: pd.DataFrame) -> dict[str, Any]:
    """Return what a board says in short, as the template's values."""
    answer = answer_of(board)
    return {"lead": answer_sentence(answer), "details": " ".join(answer_details(answer))}


def _board_values(reading: source.Reading, dataset: str) -> dict[str, Any]:
    view = ranked_view(reading.board, dataset)
    ran = view[view["runs"] > 0]
    figures = {"gaps": figure(gap_figure(view))} if ran["mean"].notna().any() and len(gap_order(view)) else {}
    costs = []
    for column, title in COSTS.values():
        rows = cost_view(reading.board, dataset, column)
        if len(rows):
            figures[f"cost-{column}"] = figure(cost_figure(rows, column, title))
            costs.append((title, f"cost-{column}", cost_table(rows, column, title, STATIC)))
    return {
        "dataset": dataset,
        "title": DATASETS[dataset].title,
        "test_images": DATASETS[dataset].test_size,
        "legend": LEGEND,
        "rows": board_rows(view, reading.evidence.papers, reading.attempts, source.small_curves(reading, view), STATIC),
        "nothing": not len(ran),
        "provenance": list(ran["provenance"].dropna().unique()),
        "equal": [
            equivalence_sentence(row)
            for row in reading.equivalences[reading.equivalences["dataset"] == dataset].itertuples()
        ],
        "costs": costs,
        "formats": AXIS_FORMATS,
        "figures": figures,
    }


def _model_values(reading: source.Reading, dataset: str, model: str) -> dict[str, Any]:
    page = model_page(reading, dataset, model, STATIC)
    figures = {"seeds": page.seeds_figure, "curves": page.curves_figure}
    return {
        "page": page,
        "back": board_file(dataset),
        "title": DATASETS[dataset].title,
        "authors": authors_of(page.paper) if page.paper else "",
        "formats": RUN_FORMATS | COST_FORMATS,
        "figures": {name: figure(drawn) for name, drawn in figures.items() if drawn is not None},
    }


def _run_values(reading: source.Reading, run: Mapping[Any, Any], record: RunRecord, site: Site) -> dict[str, Any]:
    page = run_page(reading, run, record)
    dataset, model = record.job.dataset, record.job.model
    path = f"results/{dataset}/{model}/{Path(run['path']).name}"
    return {
        "page": page,
        "back": model_file(model, dataset),
        "title": DATASETS[dataset].title,
        "link": f"{site.repository}/blob/HEAD/{path}" if site.repository and not run["local"] else None,
        "figures": {} if page.curve_figure is None else {"curve": figure(page.curve_figure)},
    }


def figure(drawn: go.Figure) -> Markup:
    """Return a figure's data for figures.js as JSON. `<` is written as \\u003c, so that no text can end the script."""
    drawn.update_layout(template="none", font={"family": "system-ui, sans-serif", "color": GREY})
    text = json.dumps(json.loads(str(drawn.to_json())), ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))  # its labels are escaped by escape.label
