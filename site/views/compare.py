"""Two to four models side by side, differences in recipe marked."""

import charts
import source
import streamlit as st
import widgets
from tables.common import datasets_of, runs_behind
from tables.compare import compare_table

from benchmarks.leaderboard import default_view

reading = source.current()
board, evidence = reading.board, reading.evidence
ours = board[board["model"].notna()]
names = datasets_of(ours)
st.title("Compare")
if not names:
    widgets.empty("There is no model here yet.", "runner models --write-cards")
    st.stop()
dataset = widgets.dataset_of_page(board, names)
here = list(dict.fromkeys(ours.loc[ours["dataset"] == dataset, "model"]))
titles = {name: evidence.cards[name].title if name in evidence.cards else name for name in here}
models = st.multiselect(
    "Two to four models",
    here,
    max_selections=4,
    key="models",
    bind="query-params",
    placeholder="choose two to four",
)
models = [name for name in models if name in here][:4]
if len(models) < 2:
    widgets.empty(
        "Choose two models or more: facts, recipes and runs then stand side by side, with ≠ where recipes differ."
    )
    st.stop()
rows = default_view(ours[(ours["dataset"] == dataset) & ours["model"].isin(models)])
runs = runs_behind(evidence.runs, rows)
if len(runs):
    widgets.figure(
        charts.compare_figure(runs, models, [titles[name] for name in models]),
        alt="Test error of every run that counts, by model. The table below has means and intervals.",
        key="runs",
    )
else:
    widgets.empty(
        "None of them has run yet.",
        f"runner submit --suite {widgets.suite_of(dataset)} " + " ".join(f"--model {name}" for name in models),
    )
only = st.toggle("Only what differs", key="only", bind="query-params")
table = compare_table(evidence, board, dataset, models)
if only:
    table = table[table[models].nunique(axis=1) > 1]
widgets.plain_table(table.rename(columns=titles), alt="The models side by side; ≠ marks recipe fields that differ")
