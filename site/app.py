"""The site's frame: navigation, and what a reader has to know on every page. `runner site` starts it.

Streamlit runs this script from top to bottom for each view of a page. Pages are files in views/; each reads the same
`source.current()`, asks `cells` for a frame and `charts` for a figure, and shows them.
"""

from pathlib import Path

import source
import streamlit as st
import widgets

st.set_page_config(page_title="reprozoo", page_icon=str(Path(__file__).with_name("icon.svg")), layout="wide")

st.logo(str(Path(__file__).with_name("icon.svg")), size="large")
# Streamlit has no setting for these two: the empty band above a page, and a Markdown table wider than a phone.
st.html(
    "<style>.stMainBlockContainer {padding-top: 4.5rem; padding-bottom: 2rem}"
    "[data-testid=stMarkdownContainer] table {display: block; overflow-x: auto}</style>"
)

PAGES = [
    st.Page("views/leaderboard.py", title="Leaderboard", default=True),
    st.Page("views/model.py", title="Model", url_path="model"),
    st.Page("views/run.py", title="Run", url_path="run"),
    st.Page("views/claims.py", title="Claims", url_path="claims"),
    st.Page("views/cost.py", title="Cost", url_path="cost"),
    st.Page("views/compare.py", title="Compare", url_path="compare"),
    st.Page("views/progress.py", title="In progress", url_path="progress"),
    st.Page("views/method.py", title="Method", url_path="method"),
]

page = st.navigation(PAGES, position="top")
body, foot = st.container(), st.container()  # the footer stands below also where a page stops early
with widgets.honest():
    with foot:
        widgets.footer(source.current())
    with body:
        page.run()
