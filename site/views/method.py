"""Show the protocol, the rows that cannot be compared and why, and how to add a model."""

import source
import streamlit as st
import texts
import widgets

reading = source.current()
widgets.title("Method and limits", tab="Method")
protocol = texts.protocol()
if protocol:
    st.markdown(protocol)
else:
    widgets.empty("The protocol is missing, because this checkout has no results/README.md.")
not_comparable = reading.board[reading.board["verdict"] == "not comparable"]
st.header("Rows that are not comparable")
if len(not_comparable):
    widgets.table(texts.not_comparable(not_comparable), "Rows whose protocol differs from the source's")
else:
    st.markdown(
        "At present there are none: every model ran under its source's protocol, as far as the source states it."
    )
st.header("Add a model")
st.markdown(texts.add_a_model() or "See CONTRIBUTING.md.")
