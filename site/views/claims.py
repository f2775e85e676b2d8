"""Each ordering that a source asserts, with its difference, ours, and the verdict."""

import charts
import source
import streamlit as st
import widgets
from tables.compare import claims_table

from benchmarks.verdicts import MIN_SEEDS

reading = source.current()
st.title("Do the claims hold?")
st.markdown(
    "A paper's claim is an ordering: *a beats b*. Both sides are trained here with the same profile on the same data; "
    "the 90 % interval of the difference says whether it holds. Right of 0 is as claimed."
)
claims = reading.claims
if not len(claims):
    widgets.empty(
        "No source claims anything of models that are here: claims stand in benchmarks/papers/.", "runner models"
    )
    st.stop()
names = ["all", *dict.fromkeys(claims["dataset"])]
widgets.asked_for("dataset", names, "data set with a claim")
dataset = st.segmented_control("Data set", names, default="all", required=True, key="dataset", bind="query-params")
if dataset != "all":
    claims = claims[claims["dataset"] == dataset]
waiting = claims[claims["verdict"].isin(["not run", "more seeds"])]
if len(waiting) == len(claims):
    widgets.empty(
        f"None of these {len(claims)} claims is decided: each needs {MIN_SEEDS} finished seeds on both sides. "
        "Below stand the papers' own differences.",
        "runner submit --suite nin_ablation",
    )
widgets.figure(
    charts.claims_figure(claims),
    alt="Difference of each claim, the paper's and ours with its 90 % interval; right of zero is as claimed. "
    "The table below has the numbers.",
    key="claims",
)
table = claims_table(claims, reading.evidence.papers)
st.dataframe(
    table,
    hide_index=True,
    height="content",
    alt="Claims with the paper's difference, ours and the verdict",
    column_config={
        "Verdict": st.column_config.TextColumn(pinned=True, width=110),
        "Claim": st.column_config.TextColumn(width=420),
        "Why": st.column_config.TextColumn(width=420),
    },
)
with st.expander("As plain text"):
    widgets.plain_table(table, alt="Claims as plain text")
