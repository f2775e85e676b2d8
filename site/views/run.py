"""One run: everything in its record, how its number was measured, and the reproducibility checklist, filled in."""

import os

import charts
import escape
import pandas as pd
import source
import streamlit as st
import widgets
from tables.runs import STANDING, checklist, find_runs, how_measured, run_marks, runs_table

from benchmarks.leaderboard import curves

reading = source.current()
runs = reading.evidence.runs

st.title("Run")
text = st.text_input(
    "Run id, its beginning, or a record's key",
    key="run",
    bind="query-params",
    placeholder="8870c837 or mnist/lenet/reference-seed0",
    max_chars=300,
)
if not len(runs):
    widgets.empty("No run has ended here yet.", "runner submit --suite quickstart")
    st.stop()
found = find_runs(runs, text or "")
if len(found) != 1:
    if text:
        st.warning(
            f"{len(found)} runs fit “{escape.md(text, 80)}”; expected one.",
            icon=":material/search_off:",
        )
    st.subheader("These fit" if len(found) else "The newest runs")
    listed = found if len(found) else runs.sort_values("finished", ascending=False).head(50)
    table = runs_table(listed)
    table.insert(1, "Key", [escape.short(key, 120) for key in listed["key"]])
    widgets.runs(table, alt="Runs with a link to each")
    st.stop()

run = found.iloc[0]
record = source.record_of(run)
if record is None:
    widgets.empty("This record can't be read any more: it was moved or changed.", "runner verify")
    st.stop()
st.header(escape.md(record.key, 200))
st.page_link(
    "views/model.py",
    label="To its model's page",
    icon=":material/arrow_back:",
    query_params={"model": record.job.model, "dataset": record.job.dataset},
)
with st.container(horizontal=True):
    st.metric("Test error, %", escape.percent(record.test_error), border=True, width=170)
    st.metric("Outcome", record.outcome, border=True, width=170)
    st.metric("Seed", str(record.job.seed), border=True, width=120)
    st.metric("Run", record.run8, border=True, width=170)
st.markdown("**Standing:** " + escape.md(STANDING[run["standing"]]))
widgets.marks_line(run_marks(run))

st.header("How this was measured")
widgets.plain_table(how_measured(record), alt="How this number was measured")

curve = curves(pd.DataFrame([run]))
if len(curve):
    st.header("Learning curve")
    widgets.figure(
        charts.curves_figure(curve),
        alt="Training error (dotted) and test error (solid) of this run by epoch.",
        key="curve",
    )

st.header("Reproducibility checklist")
board = reading.board
same = board[
    [
        (r.dataset, r.model, r.profile, r.data) == (run["dataset"], run["model"], run["profile"], run["data"])
        for r in board.itertuples()
    ]
]
row = same.iloc[0].to_dict() if len(same) and run["standing"] == "counted" else None
widgets.plain_table(
    checklist(record, row, reading.evidence.cards.get(record.job.model)),
    alt="The reproducibility checklist, filled in",
)

st.header("MLflow")
store = os.environ.get("REPROZOO_MLFLOW", "")
if store.startswith(("http://", "https://")):
    st.link_button("Open MLflow", store, icon=":material/open_in_new:")
elif store:
    st.markdown("To see its curves and system metrics:")
    st.code(store, language="bash", wrap_lines=True)
else:
    widgets.empty("No MLflow store is configured: start the site with `runner site`, or set MLFLOW_TRACKING_URI.")
st.markdown("Its MLflow run is found by this filter, if it was trained or synchronised here:")
st.code(f"tags.`reprozoo.run` = '{record.run}'", language=None)

st.header("The record")
with st.expander("Everything in it, as it is on disk"):
    st.code(record.model_dump_json(indent=2), language="json")
