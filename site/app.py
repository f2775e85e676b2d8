"""Show the navigation, the current page and the footer. `runner site` starts this script.

Streamlit runs it from top to bottom for each view of a page. Pages are files in views/. Each page reads the same
`source.current()`, gets frames and rows from `tables` and figures from `charts`, and shows them.
"""

from pathlib import Path

import render
import source
import streamlit as st
import widgets

ICON = str(Path(__file__).with_name("icon.svg"))
st.set_page_config(page_title="reprozoo", page_icon=ICON, layout="wide")

st.logo(ICON, size="large")
st.html(f"<style>{render.style()}</style>")
# The script is our own and contains nothing from a record.
st.html(f"<script>{render.script()}</script>", unsafe_allow_javascript=True)

PAGES = [
    st.Page("views/leaderboard.py", title="Leaderboard", default=True),
    st.Page("views/model.py", title="Model", url_path="model"),
    st.Page("views/claims.py", title="Claims", url_path="claims"),
    st.Page("views/cost.py", title="Cost", url_path="cost"),
    st.Page("views/compare.py", title="Compare", url_path="compare"),
    st.Page("views/run.py", title="Runs", url_path="run"),
    st.Page("views/progress.py", title="In progress", url_path="progress"),
    st.Page("views/method.py", title="Method", url_path="method"),
]

page = st.navigation(PAGES, position="hidden")
with widgets.show_user_errors():
    reading = source.current()
    widgets.menu({p.url_path: p.title for p in PAGES}, page.url_path, reading.board)
body, foot = st.container(), st.container()  # the footer is shown even if a page stops early
with widgets.show_user_errors():
    with foot:
        widgets.footer(source.current())
    with body:
        page.run()
