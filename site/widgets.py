"""Show what several pages share: title, menu, empty states, tables, clickable figures and footer."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import address
import escape
import pandas as pd
import render
import source
import streamlit as st
from charts.common import CLICKS
from tables.common import Link, model_url, run_url

from benchmarks.datasets import DATASETS
from benchmarks.errors import UserError
from benchmarks.plural import number
from benchmarks.suites import SUITES

ANATOMY_TITLES = {"imagenet": "ImageNet"}  # data sets whose networks are analysed but not trained


@contextmanager
def show_user_errors() -> Iterator[None]:
    """Show an invalid source as a message on the page instead of a traceback."""
    try:
        yield
    except UserError as error:
        st.error("The sources in benchmarks/ can't be read:")
        st.code(str(error), language=None, wrap_lines=True)
        st.stop()


def title(text: str, tab: str | None = None) -> None:
    """Set the page's heading and the title of its tab and bookmark. `text` may come from a file."""
    st.set_page_config(page_title=f"{escape.short(tab or text, 80)} · reprozoo")
    st.title(escape.md(text))


def menu(pages: Mapping[str, str], current_path: str, board: pd.DataFrame) -> None:
    """Show links to all pages. They keep what the reader chose on this page."""
    choices = {name: value for name in address.CARRIED if (value := address.value_of(name))}
    kept = address.carried() | choices
    st.html(render.render("menu.html", items=address.menu_links(pages, current_path, kept, board)))


def empty(sentence: str, command: str | None = None) -> None:
    """Explain why nothing is shown here, and show the command that changes it."""
    st.info(sentence, icon=":material/info:")
    if command:
        st.code(command, language="bash", wrap_lines=True)


def footer(reading: source.Reading) -> None:
    """Show the date of the numbers and the files that could not be read."""
    if problems := reading.evidence.problems:
        with st.expander(f"{number(len(problems), 'problem')} in records or cards that can't be read"):
            st.caption("They are left out of all pages. `runner verify` lists them.")
            st.code("\n".join(escape.short(line) for line in problems[:100]), language=None, wrap_lines=True)
    line = escape.md(reading.as_of) + " Errors are in percent, after the last epoch; see the page Method."
    st.caption(line + (f" [Records, code and sources]({reading.repository})." if reading.repository else ""))


def dataset_title(name: str) -> str:
    """Return the title of a data set: `CIFAR-10` for `cifar10`."""
    return DATASETS[name].title if name in DATASETS else ANATOMY_TITLES.get(name, name)


def suite_of(dataset: str) -> str:
    """Return the suite to use in a command: the first one with this data set."""
    return next((suite.name for suite in SUITES.values() if dataset in suite.datasets), "SUITE")


def dataset_of_page(page: str, board: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the data set that the reader chose or that the address names, among those that have a row."""
    warn_unknown("dataset", names, "data set")
    return choose_dataset(page, names, address.default_dataset(board, names))


def choose_dataset(page: str, names: Sequence[str], default: str) -> str:
    """Let the reader choose the page's data set, and return it. The address holds it as `dataset`."""
    shown = address.settle("dataset", names, default)
    st.segmented_control(
        "Data set",
        names,
        required=True,
        format_func=lambda name: "All" if name == address.ALL else dataset_title(name),
        **address.follow("dataset", shown, page),
    )
    if shown != address.ALL:
        address.carry(dataset=shown)
    return shown


def figure(fig: Any, alt: str, key: str) -> None:
    """Show a figure. A click on a point opens the page of its run or model."""
    event = st.plotly_chart(fig, key=key, on_select="rerun", selection_mode="points", config=CLICKS, alt=alt)
    points = event["selection"]["points"] if event else []
    for point in points:
        target = point.get("customdata")
        if isinstance(target, dict):  # plotly turns lists into {"0": ..., "1": ...}
            target = [target[name] for name in sorted(target)]
        if target and target[0] == "run":
            go(run_url(str(target[1])))
        if target and target[0] == "model":
            go(model_url(str(target[1]), str(target[2])))


def go(page: str) -> None:
    """Show another page, as a click on its link does. st.switch_page would leave an address that belongs to neither page."""
    # urlencode has escaped the names in it, and json.dumps quotes it: no text of a record can end the script.
    st.html(f"<script>window.reprozoo.go({json.dumps(page)})</script>", unsafe_allow_javascript=True)
    st.stop()


def table(frame: pd.DataFrame, label: str, formats: Mapping[str, Callable[[Any], str]] | None = None) -> None:
    """Show a table of text, numbers and links.

    Its template escapes every text. Screen readers can read it, and it prints in full.
    """
    st.html(render.table(frame, label, formats))


def link(target: Link) -> None:
    """Show a link to another page of the site, on its own line."""
    st.html(f'<a class="inside" href="{escape.markup(target.page)}">{escape.markup(target.text)}</a>')


def summary(values: Mapping[str, Any]) -> None:
    """Show the main numbers of a page, each with its name."""
    st.html(render.render("summary.html", values=values))


def board(rows: Sequence[Mapping[str, Any]], label: str) -> None:
    """Show the rows of a leaderboard as a table, or as one card per row on a phone."""
    st.html(render.render("one_board.html", rows=rows, label=label))


def marks_line(names: Sequence[str]) -> None:
    """Show the caveats of the numbers above."""
    if names:
        st.markdown("**Caveats:** " + "; ".join(escape.md(name) for name in names))


def warn_unknown(name: str, known: Sequence[str], what: str) -> None:
    """Warn the reader if the address names something that does not exist here."""
    value = address.value_of(name)
    if value is not None and value not in known:
        st.warning(f"Unknown {what} “{escape.md(value, 60)}”.", icon=":material/search_off:")
