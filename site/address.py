"""Keep the state of each page in its address, so that links and the Back button work.

A link shows the same page after new records arrive. Streamlit's own binding of widgets leaves out every value that equals a
default, and forgets a page's values on the next page. The widgets here follow the address instead. The address is read at the
start of each run, and a choice is written into it before the run.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from benchmarks.answer import CHECKED
from benchmarks.datasets import DATASETS

CARRIED = ("dataset", "model")  # kept when the reader moves to another page
ALL = "all"  # every data set, on pages that can show all of them


def value_of(name: str) -> str | None:
    """Return the value of a name in the address, or None if it has none."""
    value = st.query_params.get(name)
    return None if value is None else str(value)


def values_of(name: str) -> list[str]:
    """Return every value of a name in the address."""
    return [str(value) for value in st.query_params.get_all(name)]


def write(name: str, value: Any) -> None:
    """Write a value into the address. An empty value removes the name."""
    values = [str(v) for v in value] if isinstance(value, (list, tuple)) else [str(value)] if value else []
    if values == values_of(name):
        return
    if values:
        st.query_params[name] = values if len(values) > 1 else values[0]
    else:
        del st.query_params[name]


def follow(name: str, value: Any, page: str = "") -> dict[str, Any]:
    """Return the arguments that make a widget show `value` and write each choice into the address."""
    key = f"{page}_{name}"
    st.session_state[key] = value
    return {"key": key, "on_change": _write_choice, "args": (name, key)}


def _write_choice(name: str, key: str) -> None:
    write(name, st.session_state[key])


def carried() -> dict[str, str]:
    """Return the data set and model that any page showed last."""
    return dict(st.session_state.get("carried", {}))


def carry(**values: str) -> None:
    """Remember what this page shows for the next page."""
    st.session_state["carried"] = carried() | values


def settle(name: str, known: Sequence[str], default: str) -> str:
    """Return the value of a name that this page shows, and write it into the address.

    The value in the address comes first, then the last one shown if the page has it, then the default. An unknown value in the
    address is kept, and the page tells the reader about it.
    """
    value = value_of(name)
    if value in known:
        return str(value)
    last = carried().get(name)
    shown = last if last in known else default
    if value is None:
        write(name, shown)
    return str(shown)


# --- defaults of a page ---------------------------------------------------------------------------------------------


def default_dataset(board: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the data set that the site opens with: the one with the most judged rows, then measured rows, then CIFAR-10.

    Among data sets that are only measured, those with figures from sources come first, because readers look for these.
    """
    ran = board[board["runs"] > 0]
    judged_rows = ran[ran["verdict"].isin(CHECKED)]["dataset"].value_counts()
    rows_with_figure = ran[ran["reported"].notna()]["dataset"].value_counts()
    rows_per_dataset = ran["dataset"].value_counts()
    reported = set(board.loc[board["reported"].notna(), "dataset"])

    def priority(name: str) -> tuple[int, int, bool, int, bool]:
        count = int(rows_per_dataset.get(name, 0))
        compared = (int(judged_rows.get(name, 0)), int(rows_with_figure.get(name, 0)))
        return (*compared, bool(count) and name in reported, count, name == "cifar10")

    return max(names, key=priority)


def default_model(board: pd.DataFrame, dataset: str | None) -> str:
    """Return the model that its page opens with: a judged one, else a measured one, else a reported one.

    Models of this data set are preferred.
    """
    ours = board[board["model"].notna()]
    of_dataset = ours[ours["dataset"] == dataset]
    rows = of_dataset if len(of_dataset) else ours
    candidates = rows.assign(
        _judged=rows["verdict"].isin(CHECKED) & (rows["data"] != "unverified"), _reported=rows["reported"].notna()
    )
    order = ["_judged", "n", "_reported", "model"]
    return str(candidates.sort_values(order, ascending=[False, False, False, True]).iloc[0]["model"])


def datasets_of_model(board: pd.DataFrame, model: str) -> list[str]:
    """Return the data sets on which a model has a row: judged first, then those with the most seeds."""
    rows = board[board["model"] == model]
    priority = {
        name: (
            bool(of_dataset["verdict"].isin(CHECKED).any()),
            int(of_dataset["n"].max()),
            bool(of_dataset["reported"].notna().any()),
        )
        for name, of_dataset in rows.groupby("dataset")
    }
    return sorted(priority, key=lambda name: (*(-int(part) for part in priority[name]), list(DATASETS).index(name)))


# --- the menu -----------------------------------------------------------------------------------------------------------


def menu_links(
    pages: Mapping[str, str], current_path: str, kept: Mapping[str, str], board: pd.DataFrame
) -> list[tuple[str, str, bool]]:
    """Return (address, title, whether it is the current page) for each page.

    The address includes the chosen data set and model where the page can show them.
    """
    dataset, model = kept.get("dataset"), kept.get("model")
    links = []
    for path, title in pages.items():
        query: dict[str, str] = {}
        if (path in ("", "cost", "compare") and dataset in DATASETS) or (path == "claims" and dataset):
            query = {"dataset": str(dataset)}
        elif path == "model" and model:
            on = datasets_of_model(board, model)
            query = {"model": model} | ({"dataset": dataset} if dataset in on else {})
        address = path or "./"
        links.append((f"{address}?{urlencode(query)}" if query else address, title, path == current_path))
    return links
