"""Draw the claims of papers next to the measured differences."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from escape import label

from benchmarks.datasets import get_dataset
from benchmarks.labels import SYMBOLS
from charts.common import BAND, GREY, PRINTED, VERDICT_STYLES, horizontal_lines, layout, scale_above


def claims_figure(claims: pd.DataFrame, titles: Mapping[str, str]) -> go.Figure:
    """Draw each claim's measured difference with its interval, and the paper's own difference, on one axis.

    Right of 0 is as claimed. For a claim that two models are equal, a band shows what counts as equal.
    """
    rows = claims[claims["difference"].notna() | claims["reported_difference"].notna()].reset_index(drop=True)
    places = list(range(len(rows), 0, -1))
    shown = rows.assign(place=places)
    figure = go.Figure()
    figure.add_vline(x=0, line={"color": GREY, "width": 1.5})
    equal = shown[shown["margin"].notna()]
    bands = [(-row.margin, row.margin, row.place) for row in equal.itertuples(index=False)]
    horizontal_lines(figure, bands, {"color": BAND, "width": 15}, "counts as equal")
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
    for word, (colour, symbol) in VERDICT_STYLES.items():
        group = shown[(shown["verdict"] == word) & shown["difference"].notna()]
        if not len(group):
            continue
        low, high = group["low"].fillna(group["difference"]), group["high"].fillna(group["difference"])
        figure.add_scatter(
            x=group["difference"],
            y=group["place"],
            mode="markers",
            marker={"symbol": symbol, "size": 11, "color": colour},
            error_x={
                "array": high - group["difference"],
                "arrayminus": group["difference"] - low,
                "color": colour,
                "thickness": 2.5,
                "width": 0,
            },
            name=f"{SYMBOLS[word]} {word}",
            text=[label(text, 90) for text in group["text"]],
            hovertemplate="%{text}<br>ours: %{x:+.2f} points<extra></extra>",
        )
    has_one_dataset = rows["dataset"].nunique() == 1

    def tick_of(row: Any) -> str:
        better, worse = (label(titles.get(name, name), 24) for name in (row.better, row.worse))
        joint = "equal to" if row.kind == "equal" else "over"
        return f"{better}<br>{joint} {worse}" + (
            "" if has_one_dataset else f", {label(get_dataset(row.dataset).title)}"
        )

    names = [tick_of(row) for row in rows.itertuples()]
    figure.update_yaxes(tickvals=places, ticktext=names, range=[0.3, len(rows) + 0.7])
    figure.update_xaxes(title="Difference, percentage points")
    height = 190 + 34 * len(rows)
    return scale_above(layout(figure, height), height)
