"""Show each claim of a source with the printed difference, ours and the verdict."""

import address
import escape
import source
import streamlit as st
import widgets
from charts.claims import claims_figure
from tables.claims import claims_table, none_decided
from tables.common import titles_of

reading = source.current()
titles = titles_of(reading.evidence.cards)
widgets.title("Do the claims hold?", tab="Claims")
st.markdown(
    "A claim states that one network has a lower error than another, lower by some percentage, or an equal one. Both are "
    "trained here with the same profile on the same data; the 90 % interval of the difference decides whether it holds."
)
claims = reading.claims
if not len(claims):
    widgets.empty("No source in benchmarks/papers/ makes a claim about models of this zoo.", "runner models")
    st.stop()
names = [address.ALL, *dict.fromkeys(claims["dataset"])]
dataset_asked = address.value_of("dataset")
if dataset_asked is not None and dataset_asked not in names:
    st.caption(f"There is no claim on {escape.md(widgets.dataset_title(dataset_asked), 60)}, so all claims are shown.")
dataset = widgets.choose_dataset("claims", names, address.ALL)
if dataset != address.ALL:
    claims = claims[claims["dataset"] == dataset]
waiting = claims[claims["verdict"].isin(["not run", "more seeds"])]
if len(waiting) == len(claims):
    widgets.empty(
        none_decided(len(claims)),
        "runner submit --suite nin_ablation",
    )
widgets.table(
    claims_table(claims, reading.evidence.papers, reading.board, titles),
    "Claims with the verdict, why, the paper's difference and ours",
)
widgets.figure(
    claims_figure(claims, titles),
    alt="Difference of each claim, the paper's and ours with its 90 % interval; right of zero is as claimed, "
    "within the band if the claim is that both are equal. The table above has the numbers.",
    key="claims",
)
