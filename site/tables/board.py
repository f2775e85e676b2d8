"""Rank and filter the rows of one data set's leaderboard, and turn them into text."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import escape
import pandas as pd

from benchmarks.labels import PUBLISHED_ONLY, gap_of, ranks, verdict_words, with_cited_rows
from benchmarks.leaderboard import PROFILES, default_view
from benchmarks.papers import Paper
from tables.common import LIVE, Links, authors_of, cite, datasets_of, marks, polyline, printed_text, sentence, trained

# Which printed figures without a model of ours are listed.
OF_THESE_PAPERS, OF_ALL_SOURCES, OF_NO_SOURCE = RIVALS = ("of these papers", "of all sources", "none")
# Groups of a board's rows, in this order; the template of a board has their headings.
MEASURED, NO_FIGURE, NOT_RUN, PRINTED_ONLY = GROUPS = ("measured", "no figure", "not run", "printed only")
# Searched columns of the board; fields of the paper are added.
SEARCHED = ("label", "model", "paper", "where", "printed", "printed_label")


def ranked_view(
    board: pd.DataFrame, dataset: str, rivals: str = OF_THESE_PAPERS, profiles: Collection[str] = ()
) -> pd.DataFrame:
    """Return one data set's rows with `group` and `rank`. Filters come later, so they never change a rank.

    Each model has its row with the most seeds. With `profiles`, it has every row under one of them, and models that have not
    run are included. The groups stand in the order of GROUPS. Rows are sorted by error in each, measured or printed.
    """
    rows = board[board["dataset"] == dataset]
    if profiles:
        not_run = (rows["runs"] == 0) & (rows["outdated"] == 0)
        rows = rows[rows["profile"].isin(profiles) | not_run]
    else:
        rows = with_cited_rows(rows) if rivals == OF_THESE_PAPERS else default_view(rows)
    if rivals == OF_NO_SOURCE:
        rows = rows[rows["model"].notna()]
    elif profiles and rivals == OF_THESE_PAPERS:
        papers = set(rows.loc[rows["model"].notna(), "paper"].dropna())
        rows = rows[rows["model"].notna() | rows["paper"].isin(papers)]
    groups = [_group(row) for row in rows.itertuples(index=False)]
    rows = rows.assign(
        group=pd.Series(groups, index=rows.index, dtype=object),
        rank=pd.Series(ranks(rows), index=rows.index, dtype=float),
    )
    return rows.sort_values("group", key=lambda names: names.map(GROUPS.index), kind="stable", ignore_index=True)


def _group(row: Any) -> str:
    if pd.isna(row.model):
        return PRINTED_ONLY
    if not row.runs:
        return NOT_RUN
    return NO_FIGURE if pd.isna(row.reported) else MEASURED


def options(view: pd.DataFrame) -> dict[str, list[str]]:
    """Return the choices of each filter: the values that occur in these rows."""
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
    """Return the rows that pass every filter. An empty filter passes all rows.

    `search` looks through a row's names and printed figure, and through its paper's title, authors, year and arXiv number. It
    looks for the whole text first. If no row contains that, it looks for each word.
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
        texts, query = _searched(view, papers or {}), " ".join(search.casefold().split())
        whole = texts.str.contains(query, regex=False)
        if whole.any():  # else "Network In Network" would fit every row with "network" and "in" somewhere
            keep &= whole
        else:
            for word in query.split():
                keep &= texts.str.contains(word, regex=False)
    return view[keep].reset_index(drop=True)


def _searched(view: pd.DataFrame, papers: Mapping[str, Paper]) -> pd.Series:
    """Return the searched text of each row."""
    return pd.Series([search_text(row, papers) for row in view.itertuples(index=False)], index=view.index, dtype=str)


def search_text(row: Any, papers: Mapping[str, Paper]) -> str:
    """Return the searched text of one row, in lower case."""
    parts = [getattr(row, name) for name in SEARCHED]
    paper = papers.get(row.paper) if isinstance(row.paper, str) else None
    if paper:
        parts += [paper.title, authors_of(paper), paper.year, paper.arxiv, paper.doi, paper.venue]
    return " ".join(str(part) for part in parts if not escape.missing(part)).casefold()


def elsewhere(board: pd.DataFrame, dataset: str, search: str, papers: Mapping[str, Paper]) -> dict[str, int]:
    """Return how many rows of each other data set match a search, for a reader on the wrong board."""
    counts: dict[str, int] = {}
    for name in datasets_of(board):
        if name != dataset and search.strip():
            count = len(filtered(ranked_view(board, name), search=search, papers=papers))
            counts |= {name: count} if count else {}
    return counts


TONES = {"reproduced": "good", "better": "other", "worse": "bad"}  # CSS class of a verdict's word


def board_rows(
    view: pd.DataFrame,
    papers: Mapping[str, Paper],
    attempts: pd.DataFrame,
    curves: Sequence[Sequence[float]],
    links: Links = LIVE,
) -> list[dict[str, Any]]:
    """Return the board's rows as text for templates/board_table.html, which escapes it."""
    rows = []
    for row, curve in zip(view.itertuples(index=False), curves, strict=True):
        has_model = not pd.isna(row.model)
        paper = papers.get(row.paper) if isinstance(row.paper, str) else None
        place = "" if escape.missing(row.where) else escape.short(row.where, 60)
        rows.append(
            {
                "group": row.group,
                "rank": "" if escape.missing(row.rank) else str(int(row.rank)),
                "name": escape.short(row.label, 80) + _unusual_profile(row),
                "search": escape.short(search_text(row, papers), 600),
                "page": links.model(row.model, row.dataset) if has_model else None,
                "source": ", ".join(filter(None, (cite(paper), place))),
                "source_page": paper.url if paper else None,
                "printed": printed_text(row),
                "printed_value": row.reported,
                "measured": escape.percent(row.mean),
                "measured_value": row.mean,
                "spread": "" if escape.missing(row.half_width) else f"± {row.half_width:.2f}",
                "gap": gap_of(row),
                "gap_value": row.gap,
                "verdict": verdict_words(row.verdict) if has_model else "",
                "tone": TONES.get(row.verdict, "plain"),
                "why": _why(row, attempts) if has_model else "",
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


def _unusual_profile(row: Any) -> str:
    """Return a profile other than the default in brackets, because a table may show rows of both profiles."""
    return f" ({row.profile})" if row.runs and row.profile != PROFILES[0] else ""


def _why(row: Any, attempts: pd.DataFrame) -> str:
    """Return the verdict's reason. For a model without runs, return the results of others, or why no figure can judge it."""
    if row.runs:
        return sentence(escape.short(row.reason))
    unjudged = sentence(escape.short(row.reason)) if row.verdict == "not judged" else ""
    return others_sentence(attempts, row) or unjudged


def others_sentence(attempts: pd.DataFrame, row: Any) -> str:
    """Return the results of other attempts, as a sentence. It is empty if no attempt with a number is known.

    Example: `Other attempts at 10.41 gave 10.36, 10.4, 11.8 (9 attempts).`
    """
    rows = attempts[(attempts["dataset"] == row.dataset) & (attempts["model"] == row.model)]
    numbers = rows[rows["error"].notna()].sort_values("error", kind="stable")
    if not len(numbers):
        return ""
    errors = list(dict.fromkeys(numbers["printed"]))
    listing = errors if len(errors) <= 4 else [*errors[:2], "…", *errors[-1:]]
    as_printed = {row.reported: str(row.printed)}  # with its digits as printed
    printed = " or ".join(dict.fromkeys(as_printed.get(reported, f"{reported:g}") for reported in numbers["reported"]))
    attempt_count = f" ({len(rows)} attempts)" if len(rows) > 1 else ""
    return f"Other attempts at {printed} gave {', '.join(listing)}{attempt_count}."
