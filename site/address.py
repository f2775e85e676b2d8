"""What a page shows stands in its address: a link means the same after new records, and Back returns to it.

Streamlit's own binding of widgets leaves out whatever equals a default and forgets a page's values on the next page. The
widgets here follow the address instead: it is read at the start of each run, and a choice writes it before the run.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import streamlit as st
from tables.answer import CHECKED

from benchmarks.datasets import DATASETS

CARRIED = ("dataset", "model")  # chosen on one page, they come along to the next
ALL = "all"  # every data set, where a page can show that


def asked(name: str) -> str | None:
    """The address's value of a name; None where it has none."""
    value = st.query_params.get(name)
    return None if value is None else str(value)


def asked_all(name: str) -> list[str]:
    """Every value of a name in the address."""
    return [str(value) for value in st.query_params.get_all(name)]


def write(name: str, value: Any) -> None:
    """Put a value into the address, or take the name out where there is none."""
    values = [str(v) for v in value] if isinstance(value, (list, tuple)) else [str(value)] if value else []
    if values == asked_all(name):
        return
    if values:
        st.query_params[name] = values if len(values) > 1 else values[0]
    else:
        del st.query_params[name]


def follow(name: str, value: Any, page: str = "") -> dict[str, Any]:
    """The arguments that make a widget show `value`, and write into the address what is chosen."""
    key = f"{page}_{name}"
    st.session_state[key] = value
    return {"key": key, "on_change": _chosen, "args": (name, key)}


def _chosen(name: str, key: str) -> None:
    write(name, st.session_state[key])


def carried() -> dict[str, str]:
    """The data set and model that were shown last, on whichever page."""
    return dict(st.session_state.get("carried", {}))


def carry(**values: str) -> None:
    """Keep what this page shows for the next one."""
    st.session_state["carried"] = carried() | values


def settle(name: str, known: Sequence[str], default: str) -> str:
    """The value of a name that this page shows, which from now on stands in the address.

    That which the address asks for; else the last one shown, if the page has it; else the default. An address that asks
    for something unknown stays as it is: the page says so.
    """
    value = asked(name)
    if value in known:
        return str(value)
    last = carried().get(name)
    shown = last if last in known else default
    if value is None:
        write(name, shown)
    return str(shown)


# --- what a page opens with ---------------------------------------------------------------------------------------------


def liveliest(board: pd.DataFrame, names: Sequence[str]) -> str:
    """The data set that the site opens with: that with the most judged rows, then measured ones, then CIFAR-10.

    Of what is only measured, first where sources report anything: that is what people come for.
    """
    ran = board[board["runs"] > 0]
    judged = ran[ran["verdict"].isin(CHECKED)]["dataset"].value_counts()
    beside = ran[ran["reported"].notna()]["dataset"].value_counts()
    measured = ran["dataset"].value_counts()
    reported = set(board.loc[board["reported"].notna(), "dataset"])

    def life(name: str) -> tuple[int, int, bool, int, bool]:
        count = int(measured.get(name, 0))
        both = (int(judged.get(name, 0)), int(beside.get(name, 0)))
        return (*both, bool(count) and name in reported, count, name == "cifar10")

    return max(names, key=life)


def liveliest_model(board: pd.DataFrame, dataset: str | None) -> str:
    """The model that its page opens with, of this data set if it has one: judged, else measured, else reported."""
    ours = board[board["model"].notna()]
    here = ours[ours["dataset"] == dataset]
    rows = here if len(here) else ours
    life = rows.assign(
        _judged=rows["verdict"].isin(CHECKED) & (rows["data"] != "unverified"), _reported=rows["reported"].notna()
    )
    order = ["_judged", "n", "_reported", "model"]
    return str(life.sort_values(order, ascending=[False, False, False, True]).iloc[0]["model"])


def datasets_of_model(board: pd.DataFrame, model: str) -> list[str]:
    """The data sets on which a model has a row, the liveliest first."""
    rows = board[board["model"] == model]
    life = {
        name: (bool(some["verdict"].isin(CHECKED).any()), int(some["n"].max()), bool(some["reported"].notna().any()))
        for name, some in rows.groupby("dataset")
    }
    return sorted(life, key=lambda name: (*(-int(part) for part in life[name]), list(DATASETS).index(name)))


# --- the menu -----------------------------------------------------------------------------------------------------------


def menu_links(
    pages: Mapping[str, str], here: str, kept: Mapping[str, str], board: pd.DataFrame
) -> list[tuple[str, str, bool]]:
    """(address, title, whether it is this page) of each page by its path: what was chosen comes along where it fits."""
    dataset, model = kept.get("dataset"), kept.get("model")
    links = []
    for path, title in pages.items():
        query: dict[str, str] = {}
        if (path in ("", "cost", "compare") and dataset in DATASETS) or (path == "claims" and dataset):
            query = {"dataset": str(dataset)}
        elif path == "model" and model:
            on = datasets_of_model(board, model)
            query = {"model": model} | ({"dataset": dataset} if dataset in on else {})
        links.append((f"{path or './'}{'?' * bool(query)}{urlencode(query)}", title, path == here))
    return links
