"""`python site/export.py DIR`: the site as plain HTML that any web server, a repository's pages or file:// can show.

One page a board, one a model and data set, claims, cost, and the method; the same frames and figures as the site, plotly
once beside them. Every text is escaped by the templates (jinja2 with autoescape), light and dark follow the reader's system.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import charts
import escape
import jinja2
import pandas as pd
import plotly.graph_objects as go
import source
import texts
from markdown_it import MarkdownIt
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from tables.board import board_table, plain_board, ranked_view, summary
from tables.common import authors_of, datasets_of, marks, runs_behind, sentence, trained
from tables.compare import COSTS, claims_table, cost_view
from tables.model import anatomy_table, attempts_table, recipe_table, reported_table, reproduce_commands
from tables.runs import counted_first, runs_table

from benchmarks.datasets import DATASETS
from benchmarks.errors import UserError
from benchmarks.leaderboard import curves, default_view, runs_of
from benchmarks.records import write_atomically
from benchmarks.wording import LEGEND, as_csv, as_json, verdict_words

TEMPLATES = Path(__file__).resolve().parent / "templates"
MARK = "reprozoo.txt"  # lies in every exported folder: what lies in another is never overwritten


def main() -> int:
    """Write the folder; one line on stderr for a mistake."""
    folder = Path(sys.argv[1]).expanduser()
    try:
        pages = export(source.current(), folder)
    except UserError as error:
        print(f"runner: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"runner: {error.filename or folder}: {error.strerror or error}", file=sys.stderr)
        return 2
    print(f"{pages} pages. Open: {folder / 'index.html'}")
    return 0


def export(reading: source.Reading, folder: Path) -> int:
    """Write every page into a folder that is new, empty or an earlier export; returns how many."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise UserError(f"{folder} holds other files: name a new folder, an empty one, or an earlier export")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder")
    pages = dict(pages_of(reading))
    files = dict(pages)
    for dataset in datasets_of(reading.board):
        rows = reading.board[reading.board["dataset"] == dataset]
        files |= {f"{dataset}.csv": as_csv(rows), f"{dataset}.json": as_json(rows)}
    files |= {
        "plotly.min.js": get_plotlyjs(),
        "style.css": (TEMPLATES / "style.css").read_text(),
        MARK: reading.as_of + "\n",
    }
    write_atomically(folder / MARK, files.pop(MARK))
    for old in folder.glob("*.html"):
        if old.name not in files:
            old.unlink()
    for name, text in files.items():
        write_atomically(folder / name, text)
    return len(pages)


def pages_of(reading: source.Reading) -> Iterable[tuple[str, str]]:
    """Every page: (file name, HTML)."""
    board = reading.board
    names = datasets_of(board)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    boards = [(f"board-{name}.html", DATASETS[name].title) for name in names]
    menu = [*boards, ("claims.html", "Claims"), ("method.html", "Method")]

    def page(file: str, template: str, **values: Any) -> tuple[str, str]:
        common = {"menu": menu, "here": file, "as_of": reading.as_of, "escape": escape}
        return file, environment.get_template(template).render(**common, **values)

    summary = [_summary(board, name) for name in names]
    yield page("index.html", "index.html", title="reprozoo", boards=summary)
    for name in names:
        yield page(f"board-{name}.html", "board.html", **_board(reading, name))
    ours = board[board["model"].notna()]
    for dataset, model in dict.fromkeys(zip(ours["dataset"], ours["model"], strict=True)):
        yield page(model_file(dataset, model), "model.html", **_model(reading, dataset, model))
    claims = reading.claims
    yield page(
        "claims.html",
        "claims.html",
        title="Do the claims hold?",
        figure=figure_html(charts.claims_figure(claims), "claims") if len(claims) else None,
        claims=claims_table(claims, reading.evidence.papers),
    )
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    apart = board[board["verdict"] == "not comparable"]
    yield page(
        "method.html",
        "method.html",
        title="Method and limits",
        protocol=Markup(markdown.render(texts.protocol())),  # our own prose, and its HTML is escaped
        apart=texts.not_comparable(apart),
        adding=Markup(markdown.render(texts.add_a_model())),
    )


def model_file(dataset: str, model: str) -> str:
    """The page of a model on a data set; both are validated names, safe as a file's."""
    return f"model-{dataset}-{model}.html"


def _summary(board: pd.DataFrame, dataset: str) -> dict[str, Any]:
    said = summary(default_view(board[board["dataset"] == dataset]))
    return {"file": f"board-{dataset}.html", "title": DATASETS[dataset].title, "summary": said}


def _board(reading: source.Reading, dataset: str) -> dict[str, Any]:
    facts = DATASETS[dataset]
    view = ranked_view(reading.board, dataset)
    table = board_table(view, reading.evidence.papers, source.small_curves(reading, view))
    plain = plain_board(table)
    targets = [
        model_file(dataset, row.model) if not pd.isna(row.model) else page and page.partition("#")[0]
        for row, page in zip(view.itertuples(index=False), table["Page"], strict=True)
    ]
    why = [None if escape.missing(reason) else sentence(reason) for reason in table["Why"]]
    ran = view[view["runs"] > 0]
    return {
        "title": f"{facts.title}: measured beside reported",
        "dataset": dataset,
        "test_images": facts.test_size,
        "legend": LEGEND,
        "figure": figure_html(charts.gap_figure(view), "gaps") if len(charts.gap_order(view)) else None,
        "rows": list(zip(plain.to_dict("records"), targets, table["Curve"].map(sparkline), why, strict=True)),
        "columns": list(plain.columns),
        "nothing": not len(ran),
        "provenance": list(ran["provenance"].dropna().unique()),
        "costs": [
            (title, figure_html(charts.cost_figure(rows, column, title), f"cost-{column}"))
            for column, title in COSTS.values()
            if len(rows := cost_view(reading.board, dataset, column))
        ],
    }


def _model(reading: source.Reading, dataset: str, model: str) -> dict[str, Any]:
    evidence, board = reading.evidence, reading.board
    rows = board[(board["dataset"] == dataset) & (board["model"] == model)]
    chosen = default_view(rows)
    row = next(chosen.itertuples(index=False))
    card = evidence.cards.get(model)
    variant = card.datasets.get(dataset) if card else None
    paper = evidence.papers.get(row.paper)
    runs = counted_first(runs_of(evidence, dataset, model))
    counted = runs_behind(runs, chosen)
    found = curves(counted.head(10))
    table = runs_table(runs)
    table["Run"] = runs["run"].str[:8]
    return {
        "title": f"{row.label} on {DATASETS[dataset].title}",
        "back": f"board-{dataset}.html",
        "row": row,
        "marks": marks(row),
        "paper": paper,
        "authors": authors_of(paper) if paper else "",
        "trained": trained(row),
        "reason": sentence(row.reason),
        "verdict": verdict_words(row.verdict),
        "reported": reported_table(evidence.papers, dataset, model).drop(columns="Link"),
        "seeds": figure_html(charts.seeds_figure(counted, row), "seeds") if len(counted) else None,
        "curves": figure_html(charts.curves_figure(found, row.reported), "curves") if len(found) else None,
        "runs": _as_text(table),
        "command": reproduce_commands(dataset, model, card, counted),
        "variant": variant,
        "anatomy": anatomy_table(variant) if variant else None,
        "recipe": recipe_table(variant.recipe) if variant else None,
        "attempts": attempts_table(reading.attempts, dataset, model),
    }


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Cells as words: a page's table isn't sorted by number."""

    def cell(value: Any) -> str:
        if isinstance(value, list):
            return ", ".join(value)
        if isinstance(value, pd.Timestamp):
            return escape.day(value)
        return "" if escape.missing(value) else f"{value:.2f}" if isinstance(value, float) else str(value)

    return table.astype(object).map(cell)


def figure_html(figure: go.Figure, name: str) -> Markup:
    """A figure as a part of a page; plotly's script is loaded by the page, and `<` in data is written as \\u003c."""
    figure.update_layout(template="none", font={"family": "system-ui, sans-serif", "color": charts.GREY})
    html = figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config={"displaylogo": False, "responsive": True}
    )
    return Markup(html)  # labels in it have passed escape.label, and to_html escapes what could end the script


def sparkline(curve: Iterable[float] | None, width: int = 90, height: int = 22) -> Mapping[str, Any] | None:
    """The points of a small line, for an SVG; None without a curve."""
    values = [value for value in curve or () if abs(value) < 1e6]
    if len(values) < 2:
        return None
    low, high = min(values), max(values)
    step = width / (len(values) - 1)
    points = (
        f"{i * step:.1f},{height - 2 - (height - 4) * (v - low) / ((high - low) or 1):.1f}"
        for i, v in enumerate(values)
    )
    return {"width": width, "height": height, "points": " ".join(points)}


if __name__ == "__main__":
    sys.exit(main())
