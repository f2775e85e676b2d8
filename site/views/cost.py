"""Error against parameters, multiply-accumulates and minutes of training, with the frontier."""

import charts
import escape
import source
import streamlit as st
import widgets
from tables.common import datasets_of, marks
from tables.compare import COSTS, cost_view

reading = source.current()
board = reading.board
names = datasets_of(board)
st.title("What does accuracy cost?")
if not names:
    widgets.empty("There is no model, source or record here yet.", "runner submit --suite quickstart")
    st.stop()
dataset = widgets.dataset_of_page(board, names)
cost = st.segmented_control(
    "Cost",
    list(COSTS),
    default="parameters",
    required=True,
    key="cost",
    bind="query-params",
)
column, title = COSTS[cost or "parameters"]
rows = cost_view(board, dataset, column)
if not len(rows):
    needs = "a run" if column == "train_minutes" else "a card and an error"
    widgets.empty(
        f"No model on {widgets.dataset_title(dataset)} has {needs} yet.",
        f"runner submit --suite {widgets.suite_of(dataset)}",
    )
    st.stop()
widgets.figure(
    charts.cost_figure(rows, column, title),
    alt=f"Test error on {widgets.dataset_title(dataset)} against {title.lower()}. The table below has the numbers.",
    key="cost_figure",
)
st.caption(
    "The frontier joins the measured models than which nothing cheaper has a smaller error. Minutes depend on hardware."
)
view = rows.assign(
    **{
        "Model": [escape.short(text, 80) for text in rows["label"]],
        "Frontier": ["yes" if front else "" for front in rows["frontier"]],
        "Measured %": rows["mean"],
        "Reported %": rows["reported"],
        title: rows[column],
        "Hardware": [", ".join(escape.short(name, 60) for name in names) for names in rows["hardware"]],
        "Marks": [marks(row) for row in rows.itertuples()],
    }
)
st.dataframe(
    view[["Model", "Frontier", "Measured %", "Reported %", title, "Hardware", "Marks"]],
    hide_index=True,
    placeholder="–",
    height="content",
    alt="Models with error and cost",
    column_config={
        "Measured %": st.column_config.NumberColumn(format="%.2f"),
        "Reported %": st.column_config.NumberColumn(format="%.2f"),
        title: st.column_config.NumberColumn(format="compact"),
    },
)
