"""Draw the board as a figure, and errors against their cost."""

import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from escape import label

from benchmarks.labels import SYMBOLS, error_text, gap_of
from charts.common import (
    BAND,
    BLUE,
    ERROR,
    GREY,
    ORANGE,
    PRINTED,
    VERDICT_STYLES,
    full_name,
    horizontal_lines,
    layout,
    scale_above,
    tick,
)


def gap_order(view: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the gap figure: the largest gap first, then rows without a gap, by error.

    Rows without a model of ours are left out. Once any gap is known, so are models that have not run: they would stretch the
    axis without showing anything. The table has them.
    """
    rows = view[view["model"].notna() & view["error"].notna()]
    if rows["gap"].notna().any():
        rows = rows[rows["mean"].notna()]
    return rows.sort_values(["gap", "error"], ascending=[False, True], na_position="last", ignore_index=True)


def gap_figure(view: pd.DataFrame) -> go.Figure:
    """Draw printed and measured errors on one axis, sorted by gap."""
    rows = gap_order(view)
    places = list(range(len(rows), 0, -1))
    figure = go.Figure()
    shown = rows.assign(place=places)
    measured = shown[shown["mean"].notna()]
    spreads = [
        (max(0.0, row.mean - row.prediction), row.mean + row.prediction, row.place)  # no error is below 0
        for row in measured[measured["prediction"].notna()].itertuples(index=False)
    ]
    gaps = [
        (row.reported, row.mean, row.place) for row in measured[measured["reported"].notna()].itertuples(index=False)
    ]
    horizontal_lines(figure, spreads, {"color": BAND, "width": 11}, "95 % for one new run")
    horizontal_lines(figure, gaps, {"color": GREY, "width": 1.5, "dash": "dot"})
    reported = shown[shown["reported"].notna()]
    if len(reported):
        figure.add_scatter(
            x=reported["reported"],
            y=reported["place"],
            mode="markers",
            marker=PRINTED,
            name="printed",
            customdata=[["model", row.model, row.dataset] for row in reported.itertuples(index=False)],
            text=[
                f"<b>{full_name(row)}</b><br>printed {label(row.printed)} % ({label(row.paper)}, {label(row.where)})"
                for row in reported.itertuples(index=False)
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    for word, (colour, symbol) in VERDICT_STYLES.items():
        group = shown[(shown["verdict"] == word) & shown["mean"].notna()]
        if not len(group):
            continue
        figure.add_scatter(
            x=group["mean"],
            y=group["place"],
            mode="markers",
            error_x={"array": group["half_width"].fillna(0), "color": colour, "thickness": 2.5, "width": 0},
            marker={"symbol": symbol, "size": 11, "color": colour},
            name=f"{SYMBOLS[word]} {word}",
            customdata=[["model", row.model, row.dataset] for row in group.itertuples(index=False)],
            text=[_about(row) for row in group.itertuples(index=False)],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_yaxes(
        tickvals=places, ticktext=[tick(row) for row in rows.itertuples(index=False)], range=[0.3, len(rows) + 0.7]
    )
    ends = [x for left, right, _ in (*spreads, *gaps) for x in (left, right)] + rows["error"].tolist()
    if ends:
        margin = 0.06 * (max(ends) - min(ends)) or 0.5
        figure.update_xaxes(range=[min(ends) - margin, max(ends) + margin])
    figure.update_xaxes(title=ERROR)
    height = 190 + 36 * len(rows)
    return scale_above(layout(figure, height), height)


def _about(row: Any) -> str:
    gap = "" if pd.isna(row.gap) else f", gap {gap_of(row)}"
    measured = f"measured {error_text(row)} % ({row.n} of {row.seeds} seeds){gap}"
    return f"<b>{full_name(row)}</b><br>{measured}<br>{row.verdict}"


def cost_figure(rows: pd.DataFrame, cost: str, title: str) -> go.Figure:
    """Draw error against cost on a logarithmic axis, with the frontier: the models with no cheaper model of smaller error."""
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
    label_places = free_labels(rows, cost)
    kinds = (
        (rows[rows["mean"].notna() & rows["frontier"]], "measured, on the frontier", BLUE, "circle"),
        (rows[rows["mean"].notna() & ~rows["frontier"]], "measured", ORANGE, "square"),
        (rows[rows["mean"].isna()], "printed, not run here", GREY, "diamond-open"),
    )
    for group, kind, colour, symbol in kinds:
        if not len(group):
            continue
        figure.add_scatter(
            x=group[cost],
            y=group["error"],
            error_y={"array": group["half_width"], "color": colour, "thickness": 2, "width": 0},
            mode="markers+text",
            marker={"size": 11, "color": colour, "symbol": symbol, "line": {"width": 2, "color": colour}},
            textposition="bottom left",  # free on the frontier: nothing cheaper has a smaller error
            cliponaxis=False,
            text=[label(text, 24) if place in label_places else "" for place, text in group["label"].items()],
            hovertext=[full_name(row) for row in group.itertuples(index=False)],
            name=kind,
            customdata=[["model", row.model, row.dataset] for row in group.itertuples(index=False)],
            hovertemplate="<b>%{hovertext}</b><br>error %{y:.2f} %<br>" + title.lower() + " %{x:.3s}<extra></extra>",
        )
    figure.update_xaxes(title=title, type="log", dtick="D2", tickformat="~s")
    if len(rows):  # room for the label of the cheapest model, left of its point
        low, high = math.log10(rows[cost].min()), math.log10(rows[cost].max())
        width = max(high - low, 0.3)
        figure.update_xaxes(range=[low - 0.28 * width, high + 0.06 * width])
    figure.update_yaxes(title=ERROR)
    return layout(figure, 520)


def free_labels(rows: pd.DataFrame, cost: str, letters: float = 0.012, line: float = 0.05) -> set[int]:
    """Return the index of each frontier point whose label overlaps no other label.

    A letter is about `letters` wide and a line `line` high, both as fractions of the figure. The points with the
    smallest errors get their labels first.
    """
    if not len(rows):
        return set()
    logs = rows[cost].astype(float).map(math.log10)
    across = (logs - logs.min()) / max(logs.max() - logs.min(), 0.3)
    up = (rows["error"] - rows["error"].min()) / max(float(rows["error"].max() - rows["error"].min()), 0.1)
    boxes: dict[int, tuple[float, float, float, float]] = {}
    front = rows[rows["frontier"].astype(bool)].sort_values("error")
    for place, text in front["label"].items():
        right, top = float(across[place]), float(up[place])
        box = (right - letters * min(24, len(str(text))), right, top - line, top)
        if all(box[1] < b[0] or b[1] < box[0] or box[3] < b[2] or b[3] < box[2] for b in boxes.values()):
            boxes[int(place)] = box
    return set(boxes)
