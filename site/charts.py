"""Plotly figures from frames: pure functions, no streamlit.

Colours are Okabe-Ito's, darkened where they must stand on white: each has a contrast of 3 or more on the light and on the
dark ground, and none carries a meaning alone: symbols differ too. Every text that comes from a file passes `label`. A
point that stands for something has it in `customdata`, because indices don't survive filtering: ["model", model, dataset]
or ["run", run].
"""

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from words import label, percent, short

from benchmarks.wording import SYMBOLS

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#C0699A", "#7A7F85"
OCHRE = "#A8780A"
SERIES = (BLUE, ORANGE, GREEN, PINK, OCHRE)
BAND = "rgba(122, 127, 133, 0.22)"
GRID = "rgba(122, 127, 133, 0.28)"
LOOKS = {  # of a verdict: colour and marker; the legend has the word
    "reproduced": (GREEN, "circle"),
    "better": (BLUE, "triangle-down"),
    "worse": (ORANGE, "triangle-up"),
    "inconclusive": (PINK, "square"),
    "more seeds": (GREY, "circle-dot"),
    "not comparable": (GREY, "x"),
    "no paper figure": (GREY, "circle-open"),
    "holds": (GREEN, "circle"),
    "fails": (ORANGE, "x"),
}
PRINTED = {"symbol": "diamond-open", "size": 10, "color": GREY, "line": {"width": 2}}  # what a source says
CLICKS = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}
ERROR = "Test error, %"


def _layout(figure: go.Figure, height: int, **more: Any) -> go.Figure:
    """The common look: no ground of its own, so that it stands on a light page and on a dark one."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={
            "orientation": "h",
            "yanchor": "bottom",
            "y": 1.0,
            "x": 0,
            "itemclick": False,
            "itemdoubleclick": False,
        },
        hoverlabel={"align": "left"},
        dragmode="pan",
        showlegend=True,  # also of a single series: plotly would leave its name out
        **more,
    )
    figure.update_xaxes(showgrid=True, gridcolor=GRID, zeroline=False, automargin=True)
    figure.update_yaxes(showgrid=True, gridcolor=GRID, zeroline=False, automargin=True)
    return figure


def _name(row: Any) -> str:
    """A row's label; its profile and data where they aren't the plain ones."""
    return label(row.label, 60) + _unusual(row)


def _unusual(row: Any) -> str:
    more = [row.profile] * (row.profile == "fast") + ["unverified"] * (row.data == "unverified")
    return f" ({', '.join(more)})" if more else ""


def _tick(row: Any) -> str:
    """The name in two short lines at most, so that an axis leaves a phone room for its points."""
    return _two_lines(str(row.label) + _unusual(row), 22)


def _two_lines(text: str, width: int) -> str:
    return "<br>".join(label(line) for line in wrap(short(text, 60), width, max_lines=2, placeholder=" …"))


def gap_order(view: pd.DataFrame) -> pd.DataFrame:
    """The rows that the gap figure shows: largest gap first, then what has no gap, by error. Published ones left out.

    Once a gap is known, models that haven't run stand in the table alone: they would stretch the axis and say nothing.
    """
    rows = view[view["model"].notna() & view["error"].notna()]
    if rows["gap"].notna().any():
        rows = rows[rows["mean"].notna()]
    return rows.sort_values(["gap", "error"], ascending=[False, True], na_position="last", ignore_index=True)


def gap_figure(view: pd.DataFrame) -> go.Figure:
    """Reported and measured on one error axis, sorted by gap: what a board says at a glance."""
    rows = gap_order(view)
    places = list(range(len(rows), 0, -1))
    figure = go.Figure()
    lines_x: list[Any] = []
    lines_y: list[Any] = []
    spreads_x: list[Any] = []
    spreads_y: list[Any] = []
    for place, row in zip(places, rows.itertuples(index=False), strict=True):
        if not (pd.isna(row.mean) or pd.isna(row.reported)):
            lines_x += [row.reported, row.mean, None]
            lines_y += [place, place, None]
        if not (pd.isna(row.mean) or pd.isna(row.prediction)):
            spreads_x += [max(0.0, row.mean - row.prediction), row.mean + row.prediction, None]  # no error is below 0
            spreads_y += [place, place, None]
    if spreads_x:
        figure.add_scatter(
            x=spreads_x,
            y=spreads_y,
            mode="lines",
            line={"color": BAND, "width": 11},
            name="95 % for one new run",
            hoverinfo="skip",
        )
    if lines_x:
        figure.add_scatter(
            x=lines_x,
            y=lines_y,
            mode="lines",
            line={"color": GREY, "width": 1.5, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
    shown = rows.assign(place=places)
    reported = shown[shown["reported"].notna()]
    if len(reported):
        figure.add_scatter(
            x=reported["reported"],
            y=reported["place"],
            mode="markers",
            marker=PRINTED,
            name="reported",
            customdata=[["model", row.model, row.dataset] for row in reported.itertuples(index=False)],
            text=[
                f"<b>{_name(row)}</b><br>reported {label(row.printed)} % ({label(row.paper)}, {label(row.where)})"
                for row in reported.itertuples(index=False)
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    for word, (colour, symbol) in LOOKS.items():
        ours = shown[(shown["verdict"] == word) & shown["mean"].notna()]
        if not len(ours):
            continue
        figure.add_scatter(
            x=ours["mean"],
            y=ours["place"],
            mode="markers",
            error_x={"array": ours["half_width"].fillna(0), "color": colour, "thickness": 2, "width": 5},
            marker={"symbol": symbol, "size": 11, "color": colour},
            name=f"{SYMBOLS[word]} {word}",
            customdata=[["model", row.model, row.dataset] for row in ours.itertuples(index=False)],
            text=[_about(row) for row in ours.itertuples(index=False)],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_yaxes(
        tickvals=places, ticktext=[_tick(row) for row in rows.itertuples(index=False)], range=[0.3, len(rows) + 0.7]
    )
    ends = [x for x in [*spreads_x, *lines_x, *rows["error"]] if x is not None]
    if ends:
        margin = 0.06 * (max(ends) - min(ends)) or 0.5
        figure.update_xaxes(range=[min(ends) - margin, max(ends) + margin])
    figure.update_xaxes(title=ERROR)
    return _layout(figure, 180 + 36 * len(rows))


def _about(row: Any) -> str:
    spread = "" if pd.isna(row.half_width) else f" ± {row.half_width:.2f}"
    gap = "" if pd.isna(row.gap) else f", gap {percent(row.gap, signed=True)}"
    return f"<b>{_name(row)}</b><br>measured {percent(row.mean)}{spread} % ({row.n} of {row.seeds} seeds){gap}<br>{row.verdict}"


def seeds_figure(runs: pd.DataFrame, row: Any) -> go.Figure:
    """One point a run behind a row, over its seed, with our mean and the reported error as lines. Each leads to its run."""
    figure = go.Figure()
    finished = runs[runs["outcome"] == "finished"]
    levels = [*finished["test_error"]]
    if not pd.isna(row.reported):
        near = 0.0 if pd.isna(row.tolerance) else row.tolerance
        levels += [row.reported - near, row.reported + near]
        figure.add_hrect(y0=row.reported - near, y1=row.reported + near, fillcolor=BAND, line_width=0, layer="below")
        figure.add_hline(y=row.reported, line={"color": GREY, "dash": "dash", "width": 2})
        _legend_line(figure, f"reported {label(row.printed)}, ± tolerance", GREY, "dash")
    if not pd.isna(row.mean):
        figure.add_hline(y=row.mean, line={"color": BLUE, "width": 2})
        _legend_line(figure, f"our mean {percent(row.mean)}", BLUE, "solid")
    # What didn't train stands at the upper edge, off the scale that the others need.
    low, high = (min(levels), max(levels)) if levels else (0.0, 100.0)
    margin = 0.12 * (high - low) or 0.5
    for outcome, colour, symbol in (
        ("finished", BLUE, "circle"),
        ("collapsed", ORANGE, "x"),
        ("diverged", PINK, "cross"),
    ):
        some = runs[runs["outcome"] == outcome]
        if not len(some):
            continue
        figure.add_scatter(
            x=some["seed"],
            y=some["test_error"] if outcome == "finished" else [high + 1.6 * margin] * len(some),
            mode="markers",
            marker={"size": 12, "color": colour, "symbol": symbol},
            name=outcome if outcome == "finished" else f"{outcome} (off the scale)",
            customdata=[["run", run] for run in some["run"]],
            text=[
                f"<b>seed {run['seed']}</b> {outcome}, {percent(run['test_error'])} %<br>{label(run['hardware'])}"
                f"<br>run {run['run'][:8]}"
                for run in some.to_dict("records")
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_xaxes(title="Seed", dtick=1 if len(runs) <= 25 else None)
    figure.update_yaxes(
        title=ERROR, range=[low - margin, high + 2.2 * margin if len(finished) < len(runs) else high + margin]
    )
    return _layout(figure, 330)


def _legend_line(figure: go.Figure, name: str, colour: str, dash: str) -> None:
    figure.add_scatter(x=[None], y=[None], mode="lines", line={"color": colour, "dash": dash, "width": 2}, name=name)


def curves_figure(curves: pd.DataFrame, reported: float | None = None) -> go.Figure:
    """Test error (solid) and training error (dotted) by epoch, a line a run."""
    figure = go.Figure()
    for position, (run, curve) in enumerate(curves.groupby("run", sort=False)):
        colour = SERIES[position % len(SERIES)]
        seed = curve["seed"].iloc[0]
        for column, dash, kind in (("train_error", "dot", "training"), ("test_error", "solid", "test")):
            figure.add_scatter(
                x=curve["epoch"],
                y=curve[column],
                mode="lines",
                line={"color": colour, "width": 2 if dash == "solid" else 1.3, "dash": dash},
                name=f"seed {seed}",
                showlegend=dash == "solid",
                legendgroup=str(run),
                hovertemplate=f"seed {seed}, {kind}: %{{y:.2f}} % at epoch %{{x}}<extra></extra>",
            )
    if reported is not None and not pd.isna(reported):
        figure.add_hline(y=reported, line={"color": GREY, "dash": "dash", "width": 2})
        _legend_line(figure, "reported", GREY, "dash")
    figure.update_xaxes(title="Epoch")
    figure.update_yaxes(title="Error, %")
    top = curves["test_error"].quantile(0.98) if len(curves) else None
    if top is not None and math.isfinite(top):
        figure.update_yaxes(range=[0, max(1.0, 1.05 * float(top))])
    return _layout(figure, 360)


def cost_figure(rows: pd.DataFrame, cost: str, title: str) -> go.Figure:
    """Error against what it costs, on a logarithmic axis, with the frontier: nothing cheaper has a smaller error."""
    figure = go.Figure()
    front = rows[rows["frontier"]]
    if len(front) > 1:
        figure.add_scatter(
            x=front[cost],
            y=front["mean"],
            mode="lines",
            line={"color": GREY, "width": 2, "shape": "hv"},
            name="frontier",
            hoverinfo="skip",
        )
    middle = math.sqrt(rows[cost].min() * rows[cost].max()) if len(rows) else 0.0
    kinds = (
        (rows[rows["mean"].notna() & rows["frontier"]], "measured, on the frontier", BLUE, "circle"),
        (rows[rows["mean"].notna() & ~rows["frontier"]], "measured", ORANGE, "square"),
        (rows[rows["mean"].isna()], "reported, not run here", GREY, "diamond-open"),
    )
    for some, name, colour, symbol in kinds:
        if not len(some):
            continue
        figure.add_scatter(
            x=some[cost],
            y=some["error"],
            error_y={"array": some["half_width"], "color": colour, "thickness": 1.5, "width": 4},
            mode="markers+text",
            marker={"size": 11, "color": colour, "symbol": symbol, "line": {"width": 2, "color": colour}},
            textposition=["middle left" if x > middle else "middle right" for x in some[cost]],
            cliponaxis=False,
            text=[label(row.label, 24) if row.frontier else "" for row in some.itertuples(index=False)],
            hovertext=[label(text) for text in some["label"]],
            name=name,
            customdata=[["model", row.model, row.dataset] for row in some.itertuples(index=False)],
            hovertemplate="<b>%{hovertext}</b><br>error %{y:.2f} %<br>" + title.lower() + " %{x:.3s}<extra></extra>",
        )
    figure.update_xaxes(title=title, type="log", dtick="D2", tickformat="~s")
    figure.update_yaxes(title=ERROR)
    return _layout(figure, 520)


def claims_figure(claims: pd.DataFrame) -> go.Figure:
    """Each claim's measured difference with its interval, and the paper's own, on one axis: right of 0 is as claimed."""
    rows = claims[claims["difference"].notna() | claims["reported_difference"].notna()].reset_index(drop=True)
    places = list(range(len(rows), 0, -1))
    shown = rows.assign(place=places)
    figure = go.Figure()
    figure.add_vline(x=0, line={"color": GREY, "width": 1.5})
    printed = shown[shown["reported_difference"].notna()]
    if len(printed):
        figure.add_scatter(
            x=printed["reported_difference"],
            y=printed["place"],
            mode="markers",
            marker=PRINTED,
            name="the paper's difference",
            hovertemplate="paper: %{x:+.2f} points<extra></extra>",
        )
    for word, (colour, symbol) in LOOKS.items():
        some = shown[(shown["verdict"] == word) & shown["difference"].notna()]
        if not len(some):
            continue
        low, high = some["low"].fillna(some["difference"]), some["high"].fillna(some["difference"])
        figure.add_scatter(
            x=some["difference"],
            y=some["place"],
            mode="markers",
            marker={"symbol": symbol, "size": 11, "color": colour},
            error_x={
                "array": high - some["difference"],
                "arrayminus": some["difference"] - low,
                "color": colour,
                "thickness": 2,
                "width": 5,
            },
            name=f"{SYMBOLS[word]} {word}",
            text=[label(text, 90) for text in some["text"]],
            hovertemplate="%{text}<br>ours: %{x:+.2f} points<extra></extra>",
        )
    one = rows["dataset"].nunique() == 1
    names = [
        f"{label(row.better, 24)}<br>over {label(row.worse, 24)}" + ("" if one else f", {label(row.dataset)}")
        for row in rows.itertuples()
    ]
    figure.update_yaxes(tickvals=places, ticktext=names, range=[0.3, len(rows) + 0.7])
    figure.update_xaxes(title="Difference, percentage points")
    return _layout(figure, 150 + 34 * len(rows))


def compare_figure(runs: pd.DataFrame, models: Sequence[str], titles: Sequence[str]) -> go.Figure:
    """The runs behind each model's row, side by side. Each point leads to its run."""
    figure = go.Figure()
    symbols = ("circle", "square", "diamond", "triangle-up")
    for position, (model, title) in enumerate(zip(models, titles, strict=True)):
        some = runs[(runs["model"] == model) & (runs["outcome"] == "finished")]
        spread = [(i - (len(some) - 1) / 2) * min(0.06, 0.5 / max(1, len(some))) for i in range(len(some))]
        figure.add_scatter(
            x=[position + shift for shift in spread],
            y=some["test_error"],
            mode="markers",
            marker={"size": 11, "color": SERIES[position], "symbol": symbols[position]},
            name=label(title, 30),
            customdata=[["run", run] for run in some["run"]],
            text=[f"seed {seed}" for seed in some["seed"]],
            hovertemplate="%{text}: %{y:.2f} %<extra></extra>",
        )
    figure.update_xaxes(
        tickvals=list(range(len(models))),
        ticktext=[_two_lines(title, 14) for title in titles],
        tickangle=0,
        range=[-0.6, len(models) - 0.4],
    )
    figure.update_yaxes(title=ERROR)
    return _layout(figure, 360).update_layout(showlegend=False)
