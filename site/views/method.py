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
    widgets.empty("results/README.md isn't in this checkout: it holds the protocol.")
apart = reading.board[reading.board["verdict"] == "not comparable"]
st.header("What isn't comparable here, and why")
if len(apart):
    widgets.table(texts.not_comparable(apart), "Rows whose protocol differs from the source's")
else:
    st.markdown(
        "At present no row: wherever a model has run, its protocol is the source's as far as the source states it."
    )
st.header("Add a model")
st.markdown(texts.add_a_model() or "See CONTRIBUTING.md.")
