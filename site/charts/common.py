"""Provide the colours, layout and labels that all figures share.

The colours are those of Okabe and Ito, darkened where they are needed on white. Each has a contrast of 3 or more on the light
and on the dark background. No meaning depends on colour alone, because symbols differ too. Every text from a file must pass
through `label`. A point of a model or run names it in `customdata`, because indices change when rows are filtered:
["model", model, dataset] or ["run", run].
"""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go
from escape import label, short

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#C0699A", "#7A7F85"
OCHRE = "#A8780A"
SERIES = (BLUE, ORANGE, GREEN, PINK, OCHRE)
BAND = "rgba(122, 127, 133, 0.22)"
GRID = "rgba(122, 127, 133, 0.28)"
VERDICT_STYLES = {  # colour and marker of a verdict; the legend has the word
    "reproduced": (GREEN, "circle"),
    "better": (BLUE, "triangle-down"),
    "worse": (ORANGE, "triangle-up"),
    "inconclusive": (PINK, "square"),
    "more seeds": (GREY, "circle-dot"),
    "not comparable": (GREY, "x"),
    "not judged": (GREY, "circle-open"),
    "holds": (GREEN, "circle"),
    "fails": (ORANGE, "x"),
}
PRINTED = {"symbol": "diamond-open", "size": 10, "color": GREY, "line": {"width": 2}}  # marker of printed errors
CLICKS = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "zoom2d", "pan2d"]}
ERROR = "Test error, %"


def layout(figure: go.Figure, height: int, **more: Any) -> go.Figure:
    """Apply the common layout. The background is transparent, so the figure suits light and dark pages."""
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
        modebar={"orientation": "v", "bgcolor": "rgba(0,0,0,0)", "color": GREY},  # next to the legend, not over it
        showlegend=True,  # also for a single series, whose name plotly would leave out
        **more,
    )
    figure.update_xaxes(showgrid=True, gridcolor=GRID, zeroline=False, automargin=True)
    figure.update_yaxes(showgrid=True, gridcolor=GRID, zeroline=False, automargin=True)
    return figure


def horizontal_lines(
    figure: go.Figure, segments: Sequence[tuple[float, float, int]], line: Mapping[str, Any], name: str | None = None
) -> None:
    """Draw a line for each (left, right, place on the y axis), all as one series; without a name it is not in the legend."""
    if segments:
        figure.add_scatter(
            x=[x for left, right, _ in segments for x in (left, right, None)],
            y=[y for *_, place in segments for y in (place, place, None)],
            mode="lines",
            line=line,
            name=name,
            showlegend=name is not None,
            hoverinfo="skip",
        )


def full_name(row: Any) -> str:
    """Return a row's label, with its profile and data if they are not the defaults."""
    return label(row.label, 60) + unusual(row)


def unusual(row: Any) -> str:
    """Return `labels.measured_with` in the few letters that an axis has room for: ` (fast, unverified)`."""
    words = [word for word in (row.profile, row.data) if word in ("fast", "unverified")]
    return f" ({', '.join(words)})" if words else ""


def tick(row: Any) -> str:
    """Return the name in at most two short lines, so that the points have room next to the axis on a phone."""
    return two_lines(str(row.label) + unusual(row), 22)


def two_lines(text: str, width: int) -> str:
    """Break a text into at most two lines, and escape it."""
    return "<br>".join(label(line) for line in wrap(short(text, 60), width, max_lines=2, placeholder=" …"))


def scale_above(figure: go.Figure, height: int) -> go.Figure:
    """Repeat the scale between the legend and the points, because the bottom of a tall figure is far below the first screen.

    `height` is the height of the figure in pixels.
    """
    figure.add_scatter(x=[None], y=[None], xaxis="x2", showlegend=False, hoverinfo="skip")
    figure.update_layout(
        xaxis2={"overlaying": "x", "matches": "x", "side": "top", "showgrid": False, "zeroline": False}
    )
    return figure.update_layout(legend={"y": 1 + 34 / (height - 80)})


def legend_line(figure: go.Figure, name: str, colour: str, dash: str) -> None:
    """Add a legend entry for a line that is drawn as a shape."""
    figure.add_scatter(x=[None], y=[None], mode="lines", line={"color": colour, "dash": dash, "width": 2}, name=name)
