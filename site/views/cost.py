"""Show error against parameters, multiply-accumulates and minutes of training, with the frontier."""

import address
import source
import streamlit as st
import widgets
from charts.board import cost_figure
from tables.common import datasets_of
from tables.compare import COST_FORMATS, COSTS, cost_table, cost_view

reading = source.current()
board = reading.board
names = datasets_of(board)
widgets.title("What does accuracy cost?", tab="Cost")
if not names:
    widgets.empty("There is no model, source or record yet.", "runner submit --suite quickstart")
    st.stop()
dataset = widgets.dataset_of_page("cost", board, names)
requested = address.value_of("cost")
cost = requested if requested in COSTS else "parameters"
st.segmented_control("Cost", list(COSTS), required=True, **address.follow("cost", cost, "cost"))
column, title = COSTS[cost]
rows = cost_view(board, dataset, column)
if not len(rows):
    needs = "a run" if column == "train_minutes" else "a card and an error"
    widgets.empty(
        f"No model on {widgets.dataset_title(dataset)} has {needs} yet.",
        f"runner submit --suite {widgets.suite_of(dataset)}",
    )
    st.stop()
widgets.figure(
    cost_figure(rows, column, title),
    alt=f"Test error on {widgets.dataset_title(dataset)} against {title.lower()}. The table below has the numbers.",
    key="cost_figure",
)
st.caption(
    "The Pareto frontier joins the measured models for which no cheaper model has a lower error. Minutes depend on hardware."
)
widgets.table(cost_table(rows, column, title), "Models with error and cost", COST_FORMATS)
