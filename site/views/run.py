"""Show one run: its record, how its number was measured, and the reproducibility checklist."""

import os

import address
import escape
import pandas as pd
import source
import streamlit as st
import widgets
from charts.runs import curves_figure
from tables.common import Link, model_url, titles_of
from tables.runs import RUN_FORMATS, STANDING, checklist, find_runs, how_measured, run_facts, run_marks, runs_table

from benchmarks.leaderboard import curves

reading = source.current()
runs = reading.evidence.runs

asked = (address.asked("run") or "")[:300]
matching = find_runs(runs, asked)
tab = f"Run {matching.iloc[0]['run'][:8]}" if len(matching) == 1 else "Runs"
widgets.title("Run" if len(matching) == 1 else "Runs", tab=tab)
st.text_input(
    "Run id, its beginning, or a record's key",
    placeholder="23a8df04 or mnist/lenet5/reference-seed4",
    max_chars=300,
    **address.follow("run", asked, "run"),
)
if not len(runs):
    widgets.empty("No run has ended here yet.", "runner submit --suite quickstart")
    st.stop()
if len(matching) != 1:
    if asked:
        st.warning(
            f"{len(matching)} runs fit “{escape.md(asked, 80)}”; expected one. Only ids and keys are searched: "
            "a model's runs stand on its page.",
            icon=":material/search_off:",
        )
    if asked and not len(matching):
        st.stop()
    st.header("These fit" if len(matching) else "The newest runs")
    listed = matching if len(matching) else runs.sort_values("finished", ascending=False)
    widgets.table(runs_table(listed.head(50), key=True), "Runs with a link to each", RUN_FORMATS)
    if len(listed) > 50:
        st.caption(f"The first 50 of {len(listed)}.")
    st.stop()

run = matching.iloc[0]
record = source.record_of(run)
if record is None:
    widgets.empty("This record can't be read any more: it was moved or changed.", "runner verify")
    st.stop()
st.header(escape.md(record.key, 200))
title = titles_of(reading.evidence.cards).get(record.job.model, record.job.model)
where = f"{title} on {widgets.dataset_title(record.job.dataset)}"
widgets.link(Link(where, model_url(record.job.model, record.job.dataset)))
widgets.facts(run_facts(record))
st.markdown("**Standing:** " + escape.md(STANDING[run["standing"]]))
widgets.marks_line(run_marks(run))

st.header("How this was measured")
widgets.table(how_measured(record), "How this number was measured")

curve = curves(pd.DataFrame([run]))
if len(curve):
    st.header("Learning curve")
    widgets.figure(
        curves_figure(curve),
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
widgets.table(
    checklist(record, row, reading.evidence.cards.get(record.job.model)),
    "The reproducibility checklist, filled in",
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
