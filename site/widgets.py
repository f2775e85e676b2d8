"""What several pages show alike: empty states, clicks, plain tables, the footer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import escape
import pandas as pd
import source
import streamlit as st
from charts import CLICKS

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
    st.caption(escape.md(reading.as_of) + " Errors are in percent, after the last epoch; see Method.")


def dataset_title(name: str) -> str:
    """`CIFAR-10` of `cifar10`."""
    return DATASETS[name].title if name in DATASETS else ANATOMY_TITLES.get(name, name)


def suite_of(dataset: str) -> str:
    """The suite to name in a command: the first that trains this data set."""
    return next((suite.name for suite in SUITES.values() if dataset in suite.datasets), "SUITE")


def liveliest(board: pd.DataFrame, names: Sequence[str]) -> str:
    """The data set that a page opens with: that with the most judged rows, then measured ones, then CIFAR-10.

    Of what is only measured, first where sources report anything: that is what people come for.
    """
    ran = board[board["runs"] > 0]
    judged, measured = ran[ran["reported"].notna()]["dataset"].value_counts(), ran["dataset"].value_counts()
    reported = set(board.loc[board["reported"].notna(), "dataset"])

    def life(name: str) -> tuple[int, bool, int, bool]:
        count = int(measured.get(name, 0))
        return int(judged.get(name, 0)), bool(count) and name in reported, count, name == "cifar10"

    return max(names, key=life)


def dataset_of_page(board: pd.DataFrame, names: Sequence[str]) -> str:
    """The data set that the reader chose or came for, of those that have a row."""
    asked_for("dataset", names, "data set")
    return choose_dataset(names, liveliest(board, names))


def choose_dataset(names: Sequence[str], default: str) -> str:
    """The data set of a page, in the address as `dataset`: bound widgets write what they show, so names, no titles."""
    chosen = st.segmented_control(
        "Data set",
        names,
        default=default,
        required=True,
        key="dataset",
        bind="query-params",
    )
    return str(chosen or default)


def figure(fig: Any, alt: str, key: str) -> None:
    """A figure whose points lead to the page of what they stand for."""
    event = st.plotly_chart(fig, key=key, on_select="rerun", selection_mode="points", config=CLICKS, alt=alt)
    points = event["selection"]["points"] if event else []
    for point in points:
        target = point.get("customdata")
        if isinstance(target, dict):  # plotly hands lists over as {"0": ..., "1": ...}
            target = [target[name] for name in sorted(target)]
        if target and target[0] == "run":
            st.switch_page("views/run.py", query_params={"run": str(target[1])[:8]})
        if target and target[0] == "model":
            st.switch_page("views/model.py", query_params={"model": str(target[1]), "dataset": str(target[2])})


def plain_table(table: pd.DataFrame, alt: str) -> None:
    """A table of text that any screen reader takes: every cell is escaped, because st.table takes Markdown."""
    safe = table.astype(object).map(lambda cell: "" if escape.missing(cell) else escape.md(cell))
    st.table(safe.rename(columns=escape.md), hide_index=True, border="horizontal", alt=alt)


def runs(table: pd.DataFrame, alt: str) -> None:
    """Runs with a link to each: the frame of `runs_table`."""
    config = st.column_config
    st.dataframe(
        table,
        hide_index=True,
        placeholder="–",
        alt=alt,
        column_config={
            "Run": config.LinkColumn(display_text=r"run=(.*)$", width=90, pinned=True),
            "Seed": config.NumberColumn(width=56),
            "Error %": config.NumberColumn(format="%.2f", width=72),
            "Standing": config.TextColumn(width=300),
            "Marks": config.ListColumn(width=130),
            "Minutes": config.NumberColumn(format="%.1f", width=74),
            "Images/s": config.NumberColumn(format="%.0f", width=76),
            "Ended (UTC)": config.DatetimeColumn(format="YYYY-MM-DD HH:mm", width=130),
        },
    )


def marks_line(names: Sequence[str]) -> None:
    """What isn't plain about the numbers above."""
    if names:
        st.markdown("**Not plain:** " + "; ".join(escape.md(name) for name in names))


def asked_for(name: str, known: Sequence[str], what: str) -> None:
    """Says so where the address names something that isn't here: the widget would fall back in silence."""
    given = st.query_params.get(name)
    if given is not None and given not in known:
        st.warning(f"There is no {what} “{escape.md(given, 60)}” here.", icon=":material/search_off:")
