"""Draw runs by seed and by epoch, and compare models."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from escape import label, percent

from charts.common import BAND, BLUE, ERROR, GREY, ORANGE, PINK, PRINTED, SERIES, layout, legend_line, two_lines


def seeds_figure(runs: pd.DataFrame, row: Any) -> go.Figure:
    """Draw one point for each run of a row over its seed. Lines show our mean and the reported error.

    A click on a point opens its run.
    """
    figure = go.Figure()
    finished = runs[runs["outcome"] == "finished"]
    levels = [*finished["test_error"]]
    if not pd.isna(row.reported):
        tolerance = 0.0 if pd.isna(row.tolerance) else row.tolerance
        levels += [row.reported - tolerance, row.reported + tolerance]
        figure.add_hrect(
            y0=row.reported - tolerance, y1=row.reported + tolerance, fillcolor=BAND, line_width=0, layer="below"
        )
        figure.add_hline(y=row.reported, line={"color": GREY, "dash": "dash", "width": 2})
        legend_line(figure, f"printed {label(row.printed)}, ± tolerance", GREY, "dash")
    if not pd.isna(row.mean):
        figure.add_hline(y=row.mean, line={"color": BLUE, "width": 2})
        legend_line(figure, f"our mean {percent(row.mean)}", BLUE, "solid")
    # Runs that did not train are drawn above the scale that the others need.
    low, high = (min(levels), max(levels)) if levels else (0.0, 100.0)
    margin = 0.12 * (high - low) or 0.5
    for outcome, colour, symbol in (
        ("finished", BLUE, "circle"),
        ("collapsed", ORANGE, "x"),
        ("diverged", PINK, "cross"),
    ):
        group = runs[runs["outcome"] == outcome]
        if not len(group):
            continue
        figure.add_scatter(
            x=group["seed"],
            y=group["test_error"] if outcome == "finished" else [high + 1.6 * margin] * len(group),
            mode="markers",
            marker={"size": 12, "color": colour, "symbol": symbol},
            name=outcome if outcome == "finished" else f"{outcome} (off the scale)",
            customdata=[["run", run] for run in group["run"]],
            text=[
                f"<b>seed {run['seed']}</b> {outcome}, {percent(run['test_error'])} %<br>{label(run['hardware'])}"
                f"<br>run {run['run'][:8]}"
                for run in group.to_dict("records")
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_xaxes(title="Seed", dtick=1 if len(runs) <= 25 else None)
    figure.update_yaxes(
        title=ERROR, range=[low - margin, high + 2.2 * margin if len(finished) < len(runs) else high + margin]
    )
    return layout(figure, 330)


def curves_figure(curves: pd.DataFrame, reported: float | None = None, printed: str | None = None) -> go.Figure:
    """Draw test error (solid) and training error (dotted) by epoch, with one line for each run."""
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
        legend_line(figure, f"printed {label(printed or percent(reported))}", GREY, "dash")
    figure.update_xaxes(title="Epoch")
    figure.update_yaxes(title="Error, %")
    top = curves["test_error"].quantile(0.98) if len(curves) else None
    if top is not None and math.isfinite(top):
        ends = [1.0, 1.05 * float(top), *([1.2 * reported] if reported is not None and not pd.isna(reported) else [])]
        figure.update_yaxes(range=[0, max(ends)])
    return layout(figure, 360)


def compare_figure(runs: pd.DataFrame, rows: Sequence[Any], titles: Sequence[str]) -> go.Figure:
    """Draw the runs of each model's row, their mean with the 95 % interval, and the printed error.

    A click on a run's point opens the run; a click on another point opens the model. `rows` has one board row for each model,
    in the order of `titles`.
    """
    figure = go.Figure()
    symbols = ("circle", "square", "diamond", "triangle-up")
    for position, (row, title) in enumerate(zip(rows, titles, strict=True)):
        finished = runs[(runs["model"] == row.model) & (runs["outcome"] == "finished")]
        spread = [(i - (len(finished) - 1) / 2) * min(0.05, 0.4 / max(1, len(finished))) for i in range(len(finished))]
        figure.add_scatter(
            x=[position + shift for shift in spread],
            y=finished["test_error"],
            mode="markers",
            marker={"size": 9, "color": SERIES[position], "symbol": symbols[position]},
            name=label(title, 30),
            showlegend=False,
            customdata=[["run", run] for run in finished["run"]],
            text=[f"seed {seed}" for seed in finished["seed"]],
            hovertemplate="%{text}: %{y:.2f} %<extra></extra>",
        )
    places = list(range(len(rows)))
    measured = [(place, row) for place, row in zip(places, rows, strict=True) if not pd.isna(row.mean)]
    if measured:
        figure.add_scatter(
            x=[place - 0.3 for place, _ in measured],
            y=[row.mean for _, row in measured],
            error_y={
                "array": [0 if pd.isna(row.half_width) else row.half_width for _, row in measured],
                "color": GREY,
                "thickness": 2.5,
                "width": 0,
            },
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 16, "color": GREY, "line": {"width": 3}},
            name="mean, 95 % interval",
            customdata=[["model", row.model, row.dataset] for _, row in measured],
            hovertemplate="mean %{y:.2f} %<extra></extra>",
        )
    printed = [(place, row) for place, row in zip(places, rows, strict=True) if not pd.isna(row.reported)]
    if printed:
        figure.add_scatter(
            x=[place + 0.3 for place, _ in printed],
            y=[row.reported for _, row in printed],
            mode="markers",
            marker=PRINTED,
            name="printed",
            customdata=[["model", row.model, row.dataset] for _, row in printed],
            hovertemplate="printed %{y} %<extra></extra>",
        )
    ticks = [two_lines(title, 14) for title in titles]
    figure.update_xaxes(tickvals=places, ticktext=ticks, tickangle=0, range=[-0.6, len(rows) - 0.4])
    figure.update_yaxes(title=ERROR)
    return layout(figure, 380)
