"""The leaderboard: one data set's rows, ranked, filtered, and as cells."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import escape
import pandas as pd

from benchmarks.leaderboard import default_view
from benchmarks.papers import Paper
from benchmarks.wording import PUBLISHED_ONLY, concerning, ranks, verdict_words
from tables.common import marks, model_url, naive_utc, trained

RIVALS = ("of these papers", "of all sources", "none")  # which figures without a model of ours stand in the ranking


def ranked_view(
    board: pd.DataFrame, dataset: str, rivals: str = RIVALS[0], profiles: Collection[str] = ()
) -> pd.DataFrame:
    """One data set's rows with their `rank`, before any filter: so that a filter never changes a rank.

    A model's row with the most seeds, or with `profiles` every row under one of them and the models that haven't run.
    """
    rows = board[board["dataset"] == dataset]
    if profiles:
        rows = rows[rows["profile"].isin(profiles) | (rows["runs"] == 0)]
    else:
        rows = concerning(rows) if rivals == RIVALS[0] else default_view(rows)
    if rivals == RIVALS[2]:
        rows = rows[rows["model"].notna()]
    elif profiles and rivals == RIVALS[0]:
        behind = set(rows.loc[rows["model"].notna(), "paper"].dropna())
        rows = rows[rows["model"].notna() | rows["paper"].isin(behind)]
    return rows.assign(rank=ranks(rows)).reset_index(drop=True)


def summary(view: pd.DataFrame) -> str:
    """`9 of 24 models measured: 5 ✓ reproduced, 2 ▲ worse, 2 … more seeds`."""
    ours = view[view["model"].notna()]
    ran = ours[ours["runs"] > 0]
    verdicts = ", ".join(f"{count} {verdict_words(word)}" for word, count in ran["verdict"].value_counts().items())
    return f"{len(ran)} of {len(ours)} models measured" + (f": {verdicts}" if verdicts else "")


def options(view: pd.DataFrame) -> dict[str, list[str]]:
    """What each filter offers: the values that this data set's rows have."""
    verdicts = list(dict.fromkeys(view["verdict"].dropna()))
    published = [PUBLISHED_ONLY] if view["model"].isna().any() else []
    return {
        "family": sorted(set(view["family"].dropna())),
        "augmentation": sorted(set(view["augmentation"].dropna())),
        "verdict": [*verdicts, *published],
        "hardware": sorted({name for names in view["hardware"] for name in names}),
    }


def filtered(
    view: pd.DataFrame,
    family: Collection[str] = (),
    augmentation: Collection[str] = (),
    verdict: Collection[str] = (),
    hardware: Collection[str] = (),
    search: str = "",
) -> pd.DataFrame:
    """The rows that every filter admits; an empty filter admits all. `search` is found in label, model, paper or place."""
    keep = pd.Series(True, index=view.index)
    if family:
        keep &= view["family"].isin(family)
    if augmentation:
        keep &= view["augmentation"].isin(augmentation)
    if verdict:
        keep &= view["verdict"].where(view["model"].notna(), PUBLISHED_ONLY).isin(verdict)
    if hardware:
        keep &= pd.Series(
            [bool(set(names) & set(hardware)) for names in view["hardware"]], index=view.index, dtype=bool
        )
    for word in search.casefold().split():
        text = view["label"].fillna("").astype(str)
        for name in ("model", "paper", "where"):
            text = text + " " + view[name].fillna("").astype(str)
        keep &= text.str.casefold().str.contains(word, regex=False)
    return view[keep].reset_index(drop=True)


BOARD_CELLS = [
    *("#", "Page", "Measured", "±", "Reported", "Gap", "Verdict", "Curve", "Trained", "Marks", "Model"),
    *("Parameters", "MACs", "Minutes a run", "Hardware", "Last run", "Source", "Why"),
]


def board_table(view: pd.DataFrame, papers: Mapping[str, Paper], curves: Sequence[Sequence[float]]) -> pd.DataFrame:
    """The leaderboard's cells, one row a row of the view. `Page` is a link that ends in # and the label, for the eye."""
    rows = []
    for row, curve in zip(view.itertuples(index=False), curves, strict=True):
        ours = not pd.isna(row.model)
        source = papers.get(row.paper)
        page = model_url(row.model, row.dataset) if ours else source.url if source else None
        rows.append(
            {
                "#": row.rank,
                "Model": escape.short(row.label, 80),
                "Verdict": verdict_words(row.verdict),
                "Measured": row.mean,
                "±": row.half_width,
                "Trained": trained(row) if row.runs else None,
                "Reported": row.reported,
                "Gap": row.gap,
                "Marks": [mark.partition(":")[0] for mark in marks(row)],
                "Page": f"{page}#{quote(escape.short(row.label, 80))}" if page else None,
                "Curve": list(curve) or None,
                "Parameters": row.parameters,
                "MACs": row.macs,
                "Minutes a run": row.train_minutes,
                "Hardware": ", ".join(escape.short(name, 60) for name in row.hardware) or None,
                "Last run": row.newest,
                "Source": f"{row.paper}, {row.where}" if not escape.missing(row.where) else row.paper,
                "Why": escape.short(row.reason) if ours and row.runs else None,
            }
        )
    table = pd.DataFrame(rows, columns=BOARD_CELLS)
    for name in ("#", "Measured", "±", "Reported", "Gap", "Parameters", "MACs", "Minutes a run"):
        table[name] = table[name].astype(float)
    table["Last run"] = naive_utc(table["Last run"])
    return table


def set_apart(table: pd.DataFrame) -> Any:
    """The board's cells with the figures that are published only on a grey ground: as pandas' Styler."""
    grey = "background-color: rgba(122, 127, 133, 0.14)"
    return table.style.apply(lambda row: [grey * (row["Verdict"] == PUBLISHED_ONLY)] * len(row), axis=1)


def plain_board(table: pd.DataFrame) -> pd.DataFrame:
    """The same as text alone: for screen readers, for the export, for whoever would rather read than sort."""
    return pd.DataFrame(
        {
            "#": [escape.count(v) if not pd.isna(v) else "" for v in table["#"]],
            "Model": table["Model"],
            "Measured %": [
                "" if pd.isna(m) else escape.percent(m) + ("" if pd.isna(h) else f" ± {h:.2f}")
                for m, h in zip(table["Measured"], table["±"], strict=True)
            ],
            "Reported %": ["" if pd.isna(v) else escape.percent(v) for v in table["Reported"]],
            "Gap": ["" if pd.isna(v) else escape.percent(v, signed=True) for v in table["Gap"]],
            "Verdict": table["Verdict"],
            "Trained": table["Trained"].fillna(""),
            "Marks": [", ".join(names) for names in table["Marks"]],
            "Parameters": [escape.compact(v) if not pd.isna(v) else "" for v in table["Parameters"]],
            "Minutes a run": ["" if pd.isna(v) else f"{v:.1f}" for v in table["Minutes a run"]],
            "Last run": ["" if pd.isna(v) else escape.day(v) for v in table["Last run"]],
        }
    )
