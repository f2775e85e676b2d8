"""Plotly figures from frames: pure functions, no streamlit.

Colours are Okabe-Ito's, darkened where they must stand on white: each has a contrast of 3 or more on the light and on the
dark ground, and none carries a meaning alone: symbols differ too. Every text that comes from a file passes `label`. A
point that stands for something has it in `customdata`, because indices don't survive filtering: ["model", model, dataset]
or ["run", run].
"""

from textwrap import wrap
from typing import Any

import plotly.graph_objects as go
from escape import label, short

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
CLICKS = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "zoom2d", "pan2d"]}
ERROR = "Test error, %"


def layout(figure: go.Figure, height: int, **more: Any) -> go.Figure:
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
        modebar={"orientation": "v", "bgcolor": "rgba(0,0,0,0)", "color": GREY},  # beside the legend, not on it
        showlegend=True,  # also of a single series: plotly would leave its name out
        **more,
    )
    figure.update_xaxes(showgrid=True, gridcolor=GRID, zeroline=False, automargin=True)
    figure.update_yaxes(showgrid=True, gridcolor=GRID, zeroline=False, automargin=True)
    return figure


def full_name(row: Any) -> str:
    """A row's label; its profile and data where they aren't the plain ones."""
    return label(row.label, 60) + unusual(row)


def unusual(row: Any) -> str:
    """Return ` (fast, unverified)` where profile or data aren't the plain ones."""
    more = [row.profile] * (row.profile == "fast") + ["unverified"] * (row.data == "unverified")
    return f" ({', '.join(more)})" if more else ""


def tick(row: Any) -> str:
    """The name in two short lines at most, so that an axis leaves a phone room for its points."""
    return two_lines(str(row.label) + unusual(row), 22)


def two_lines(text: str, width: int) -> str:
    """Break a text into two lines at most, escaped."""
    return "<br>".join(label(line) for line in wrap(short(text, 60), width, max_lines=2, placeholder=" …"))


def scale_above(figure: go.Figure, height: int) -> go.Figure:
    """Repeat the scale above the points, below the legend: a tall figure's foot is far below the first screen.

    `height` is the figure's, in pixels.
    """
    figure.add_scatter(x=[None], y=[None], xaxis="x2", showlegend=False, hoverinfo="skip")
    figure.update_layout(
        xaxis2={"overlaying": "x", "matches": "x", "side": "top", "showgrid": False, "zeroline": False}
    )
    return figure.update_layout(legend={"y": 1 + 34 / (height - 80)})


def legend_line(figure: go.Figure, name: str, colour: str, dash: str) -> None:
    """Put a line that is drawn as a shape into the legend."""
    figure.add_scatter(x=[None], y=[None], mode="lines", line={"color": colour, "dash": dash, "width": 2}, name=name)
