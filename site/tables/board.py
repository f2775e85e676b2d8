"""The leaderboard: one data set's rows, ranked, filtered, and as cells."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import escape
import pandas as pd

from benchmarks.labels import PUBLISHED_ONLY, gap_of, verdict_words, with_cited_rows
from benchmarks.leaderboard import PROFILES, default_view
from benchmarks.papers import Paper, context_of
from tables.common import LIVE, Links, authors_of, cite, datasets_of, marks, polyline, printed_text, sentence, trained

RIVALS = ("of these papers", "of all sources", "none")  # which figures without a model of ours stand in the ranking


GROUPS = ("measured", "no figure", "not run", "printed only")  # of a board's rows, in this order
SEARCHED = (
    "label",
    "model",
    "paper",
    "where",
    "printed",
    "printed_label",
)  # columns of the board; the paper's are added


def ranked_view(
    board: pd.DataFrame, dataset: str, rivals: str = RIVALS[0], profiles: Collection[str] = ()
) -> pd.DataFrame:
    """One data set's rows with `group` and `rank`, before any filter: so that a filter never changes a rank.

    A model's row with the most seeds, or with `profiles` every row under one of them and the models that haven't run.
    Measured rows with a printed figure stand first and are ranked by error, then those without one. Models that haven't run and
    figures that are only printed follow, by printed error, and have no rank.
    """
    rows = board[board["dataset"] == dataset]
    if profiles:
        rows = rows[rows["profile"].isin(profiles) | (rows["runs"] == 0)]
    else:
        rows = with_cited_rows(rows) if rivals == RIVALS[0] else default_view(rows)
    if rivals == RIVALS[2]:
        rows = rows[rows["model"].notna()]
    elif profiles and rivals == RIVALS[0]:
        behind = set(rows.loc[rows["model"].notna(), "paper"].dropna())
        rows = rows[rows["model"].notna() | rows["paper"].isin(behind)]
    groups = pd.Series([_group(row) for row in rows.itertuples(index=False)], index=rows.index, dtype=object)
    ranked = groups.isin(GROUPS[:2]) & rows["mean"].notna()
    rows = rows.assign(group=groups, rank=ranked.groupby(groups).cumsum().where(ranked).astype(float))
    return rows.sort_values("group", key=lambda names: names.map(GROUPS.index), kind="stable", ignore_index=True)


def _group(row: Any) -> str:
    if pd.isna(row.model):
        return GROUPS[3]
    if not row.runs:
        return GROUPS[2]
    return GROUPS[1] if pd.isna(row.reported) else GROUPS[0]


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
    papers: Mapping[str, Paper] | None = None,
) -> pd.DataFrame:
    """The rows that every filter admits; an empty filter admits all.

    `search` is found in a row's names, its printed figure or its paper's title, authors, year, arXiv number: as it stands,
    or where no row has it so, word by word.
    """
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
    if search.strip():
        texts, wanted = _searched(view, papers or {}), " ".join(search.casefold().split())
        whole = texts.str.contains(wanted, regex=False)
        if whole.any():  # else "Network In Network" would fit every row with "network" and "in" somewhere
            keep &= whole
        else:
            for word in wanted.split():
                keep &= texts.str.contains(word, regex=False)
    return view[keep].reset_index(drop=True)


def _searched(view: pd.DataFrame, papers: Mapping[str, Paper]) -> pd.Series:
    """What a search looks through, a text a row."""
    return pd.Series([search_text(row, papers) for row in view.itertuples(index=False)], index=view.index, dtype=str)


def search_text(row: Any, papers: Mapping[str, Paper]) -> str:
    """Return what a search looks through for one row, in lower case."""
    parts = [getattr(row, name) for name in SEARCHED]
    paper = papers.get(row.paper) if isinstance(row.paper, str) else None
    if paper:
        parts += [paper.title, authors_of(paper), paper.year, paper.arxiv, paper.doi, paper.venue]
    return " ".join(str(part) for part in parts if not escape.missing(part)).casefold()


def elsewhere(board: pd.DataFrame, dataset: str, search: str, papers: Mapping[str, Paper]) -> dict[str, int]:
    """How many rows of each other data set a search fits: for a reader who looks on the wrong board."""
    counts: dict[str, int] = {}
    for name in datasets_of(board):
        if name != dataset and search.strip():
            count = len(filtered(ranked_view(board, name), search=search, papers=papers))
            counts |= {name: count} if count else {}
    return counts


TONES = {"reproduced": "good", "better": "other", "worse": "bad"}  # of a verdict's word, for a style sheet


def board_rows(
    view: pd.DataFrame,
    papers: Mapping[str, Paper],
    attempts: pd.DataFrame,
    curves: Sequence[Sequence[float]],
    links: Links = LIVE,
) -> list[dict[str, Any]]:
    """The board's rows as text, for templates/board_table.html. Nothing is escaped yet: the template does it."""
    rows = []
    context = context_of(papers)
    for row, curve in zip(view.itertuples(index=False), curves, strict=True):
        ours = not pd.isna(row.model)
        paper = papers.get(row.paper) if isinstance(row.paper, str) else None
        place = "" if escape.missing(row.where) else escape.short(row.where, 60)
        rows.append(
            {
                "group": row.group,
                "rank": "" if escape.missing(row.rank) else str(int(row.rank)),
                "name": escape.short(row.label, 80) + _beside(row),
                "search": escape.short(search_text(row, papers), 600),
                "page": links.model(row.model, row.dataset) if ours else None,
                "source": ", ".join(filter(None, (cite(paper), place))),
                "source_page": paper.url if paper else None,
                "printed": printed_text(row, context),
                "printed_value": row.reported,
                "measured": escape.percent(row.mean),
                "measured_value": row.mean,
                "spread": "" if escape.missing(row.half_width) else f"± {row.half_width:.2f}",
                "gap": gap_of(row),
                "gap_value": row.gap,
                "verdict": verdict_words(row.verdict) if ours else "",
                "tone": TONES.get(row.verdict, "plain"),
                "why": _why(row, attempts) if ours else "",
                "marks": [(mark.partition(":")[0], mark) for mark in marks(row)],
                "seeds": trained(row) if row.runs else "",
                "curve": polyline(curve),
                "parameters": "" if escape.missing(row.parameters) else escape.compact(row.parameters),
                "parameters_value": row.parameters,
                "minutes": "" if escape.missing(row.train_minutes) else escape.duration(60 * row.train_minutes),
                "minutes_value": row.train_minutes,
                "hardware": ", ".join(escape.short(name, 60) for name in row.hardware),
            }
        )
    return rows


def _beside(row: Any) -> str:
    """A profile that isn't the plain one stands beside the name: rows of both may be shown."""
    return f" ({row.profile})" if row.runs and row.profile != PROFILES[0] else ""


def _why(row: Any, attempts: pd.DataFrame) -> str:
    """The verdict's reason; where nothing has run, what others got, or why no figure can judge it."""
    if row.runs:
        return sentence(escape.short(row.reason))
    unjudged = sentence(escape.short(row.reason)) if row.verdict == "no paper figure" else ""
    return others_sentence(attempts, row) or unjudged


def others_sentence(attempts: pd.DataFrame, row: Any) -> str:
    """`Others who tried for 10.41 got 10.36, 10.4 and 11.8 (9 attempts).`; empty where none is known."""
    rows = attempts[(attempts["dataset"] == row.dataset) & (attempts["model"] == row.model)]
    numbers = rows[rows["error"].notna()].sort_values("error", kind="stable")
    if not len(numbers):
        return ""
    printed = list(dict.fromkeys(numbers["printed"]))
    shown = printed if len(printed) <= 4 else [*printed[:2], "…", *printed[-1:]]
    own = {row.reported: str(row.printed)}  # with its digits
    goals = " or ".join(dict.fromkeys(own.get(goal, f"{goal:g}") for goal in numbers["reported"]))
    many = f" ({len(rows)} attempts)" if len(rows) > 1 else ""
    return f"Others who tried for {goals} got {', '.join(shown)}{many}."
