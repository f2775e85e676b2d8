"""Show the jobs of this checkout by running `runner status --json` every few seconds."""

import escape
import source
import streamlit as st
import widgets
from tables.progress import progress_table

from benchmarks.errors import UserError
from benchmarks.plural import number

EVERY = 5  # seconds


@st.fragment(run_every=EVERY)
def jobs() -> None:
    """Show the jobs of this checkout. Streamlit repeats this by itself."""
    try:
        answer = source.status()
    except UserError as error:
        widgets.empty("The states of jobs are unavailable: " + escape.md(error), "make setup")
        return
    if not answer["jobs"]:
        widgets.empty("No job has been submitted in this checkout.", "runner submit --suite quickstart")
        return
    table = progress_table(answer["jobs"])
    counts = table["State"].value_counts()
    st.markdown(escape.md(f"{number(len(table), 'job')}: " + ", ".join(f"{n} {state}" for state, n in counts.items())))
    st.dataframe(
        table,
        hide_index=True,
        alt="Jobs with state and progress",
        column_config={
            "Progress": st.column_config.ProgressColumn(min_value=0, max_value=100, format="%.0f %%"),
            "Error %": st.column_config.NumberColumn(format="%.2f"),
            "Job": st.column_config.TextColumn(width=420),
        },
    )
    if not (table["State"] == "running").any():
        st.caption(
            "No job is running. `runner submit` continues stopped jobs; `runner retry --failed` starts failed jobs again."
        )


widgets.title("Runs in progress", tab="In progress")
st.caption(f"Read from the files of each job every {EVERY} seconds while this page is open.")
jobs()
