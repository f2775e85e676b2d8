"""What several pages show alike: title, menu, empty states, tables, figures with clicks, the footer."""

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
from benchmarks.suites import SUITES

ANATOMY_TITLES = {"imagenet": "ImageNet"}  # where networks are taken apart but not trained


@contextmanager
def honest() -> Iterator[None]:
    """A wrong source is a sentence on the page, not a traceback."""
    try:
        yield
    except UserError as error:
        st.error("The sources in benchmarks/ can't be read. `runner verify` checks records; this is what is wrong:")
        st.code(str(error), language=None, wrap_lines=True)
        st.stop()


def title(text: str, tab: str | None = None) -> None:
    """The page's heading, and the title of its tab and bookmark. `text` may come from a file."""
    st.set_page_config(page_title=f"{escape.short(tab or text, 80)} · reprozoo")
    st.title(escape.md(text))


def menu(pages: Mapping[str, str], here: str, board: pd.DataFrame) -> None:
    """Links to all pages: what was chosen on this one comes along."""
    chosen = {name: value for name in address.CARRIED if (value := address.asked(name))}
    kept = address.carried() | chosen
    st.html(render.render("menu.html", items=address.menu_links(pages, here, kept, board)))


def empty(sentence: str, command: str | None = None) -> None:
    """Why there is nothing here, and what to type to change that."""
    st.info(sentence, icon=":material/info:")
    if command:
        st.code(command, language="bash", wrap_lines=True)


def footer(reading: source.Reading) -> None:
    """Of when these numbers are, and what couldn't be read."""
    if problems := reading.evidence.problems:
        with st.expander(f"{len(problems)} problems in records or cards that can't be read"):
            st.caption("They are left out everywhere. `runner verify` lists all of them.")
            st.code("\n".join(escape.short(line) for line in problems[:100]), language=None, wrap_lines=True)
    line = escape.md(reading.as_of) + " Errors are in percent, after the last epoch; see Method."
    st.caption(line + (f" [Records, code and sources]({reading.repository})." if reading.repository else ""))


def dataset_title(name: str) -> str:
    """`CIFAR-10` of `cifar10`."""
    return DATASETS[name].title if name in DATASETS else ANATOMY_TITLES.get(name, name)


def suite_of(dataset: str) -> str:
    """The suite to name in a command: the first that trains this data set."""
    return next((suite.name for suite in SUITES.values() if dataset in suite.datasets), "SUITE")


def dataset_of_page(page: str, board: pd.DataFrame, names: Sequence[str]) -> str:
    """The data set that the reader chose or came for, of those that have a row."""
    asked_for("dataset", names, "data set")
    return choose_dataset(page, names, address.liveliest(board, names))


def choose_dataset(page: str, names: Sequence[str], default: str) -> str:
    """The data set of a page, in the address as `dataset`."""
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
    """A figure whose points lead to the page of what they stand for."""
    event = st.plotly_chart(fig, key=key, on_select="rerun", selection_mode="points", config=CLICKS, alt=alt)
    points = event["selection"]["points"] if event else []
    for point in points:
        target = point.get("customdata")
        if isinstance(target, dict):  # plotly hands lists over as {"0": ..., "1": ...}
            target = [target[name] for name in sorted(target)]
        if target and target[0] == "run":
            go(run_url(str(target[1])))
        if target and target[0] == "model":
            go(model_url(str(target[1]), str(target[2])))


def go(page: str) -> None:
    """Show another page, as a click on its link would. st.switch_page would leave an address of neither page behind."""
    # A name in it has passed urlencode, and json.dumps quotes it: nothing of a record can end the script.
    st.html(f"<script>window.reprozoo.go({json.dumps(page)})</script>", unsafe_allow_javascript=True)
    st.stop()


def table(frame: pd.DataFrame, label: str, formats: Mapping[str, Callable[[Any], str]] | None = None) -> None:
    """A table of text, numbers and links: it is escaped by its template, read by any screen reader, and printed whole."""
    st.html(render.table(frame, label, formats))


def link(target: Link) -> None:
    """A link to another page of the site, of its own line."""
    st.html(f'<a class="inside" href="{escape.markup(target.page)}">{escape.markup(target.text)}</a>')


def facts(values: Mapping[str, Any]) -> None:
    """The few numbers that a page is about, each with its name."""
    st.html(render.render("facts.html", values=values))


def board(rows: Sequence[Mapping[str, Any]], label: str) -> None:
    """A leaderboard's rows: a table, on a phone a card for each row."""
    st.html(render.render("one_board.html", rows=rows, label=label))


def marks_line(names: Sequence[str]) -> None:
    """What isn't plain about the numbers above."""
    if names:
        st.markdown("**Not plain:** " + "; ".join(escape.md(name) for name in names))


def asked_for(name: str, known: Sequence[str], what: str) -> None:
    """Say so where the address names something that isn't here."""
    value = address.asked(name)
    if value is not None and value not in known:
        st.warning(f"There is no {what} “{escape.md(value, 60)}” here.", icon=":material/search_off:")
