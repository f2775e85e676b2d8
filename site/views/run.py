"""Show one run: its record, how its number was measured, and the reproducibility checklist."""

import os

import address
import escape
import source
import streamlit as st
import widgets
from contents import run_page
from tables.common import Link, model_url
from tables.runs import RUN_FORMATS, find_runs, runs_table

reading = source.current()
runs = reading.evidence.runs

query = (address.value_of("run") or "")[:300]
matching = find_runs(runs, query)
tab = f"Run {matching.iloc[0]['run'][:8]}" if len(matching) == 1 else "Runs"
widgets.title("Run" if len(matching) == 1 else "Runs", tab=tab)
st.text_input(
    "Run id or its first characters, or a record's key",
    placeholder="23a8df04 or mnist/lenet5/reference-seed4",
    max_chars=300,
    **address.follow("run", query, "run"),
)
if not len(runs):
    widgets.empty("No run has ended yet.", "runner submit --suite quickstart")
    st.stop()
if len(matching) != 1:
    if query:
        st.warning(
            f"{len(matching)} runs match “{escape.md(query, 80)}”, expected one. The search covers ids and keys only; "
            "a model's page lists its runs.",
            icon=":material/search_off:",
        )
    if query and not len(matching):
        st.stop()
    st.header("Matching runs" if len(matching) else "The newest runs")
    listed = matching if len(matching) else runs.sort_values("finished", ascending=False)
    widgets.table(runs_table(listed.head(50), key=True), "Runs with a link to each", RUN_FORMATS)
    if len(listed) > 50:
        st.caption(f"The first 50 of {len(listed)}.")
    st.stop()

run = matching.iloc[0]
record = source.record_of(run)
if record is None:
    widgets.empty("This record can't be read, because it was moved or changed.", "runner verify")
    st.stop()
st.header(escape.md(record.key, 200))
page = run_page(reading, run, record)
where = f"{page.model} on {widgets.dataset_title(record.job.dataset)}"
widgets.link(Link(where, model_url(record.job.model, record.job.dataset)))
widgets.summary(page.summary)
st.markdown("**Status:** " + escape.md(page.standing))
widgets.marks_line(page.marks)

st.header("How the number was measured")
widgets.table(page.how_measured, "How this number was measured")

if page.curve_figure is not None:
    st.header("Learning curve")
    widgets.figure(
        page.curve_figure,
        alt="Training error (dotted) and test error (solid) of this run by epoch.",
        key="curve",
    )

st.header("Reproducibility checklist")
widgets.table(page.checklist, "The reproducibility checklist, filled in")

st.header("MLflow")
store = os.environ.get("REPROZOO_MLFLOW", "")
if store.startswith(("http://", "https://")):
    st.link_button("Open MLflow", store, icon=":material/open_in_new:")
elif store:
    st.markdown("To see its curves and system metrics:")
    st.code(store, language="bash", wrap_lines=True)
else:
    widgets.empty("No MLflow store is configured: start the site with `runner site`, or set MLFLOW_TRACKING_URI.")
st.markdown("If the run was trained or synchronised in this checkout, this filter finds it in MLflow:")
st.code(f"tags.`reprozoo.run` = '{record.run}'", language=None)

st.header("The record")
with st.expander("The whole file"):
    st.code(record.model_dump_json(indent=2), language="json")
