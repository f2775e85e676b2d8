"""What stands beside the board: papers' claims, `fast` against `reference`, and others' attempts at the same figures."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from benchmarks.claims import Asserted, claim_verdict, equivalence
from benchmarks.columns import ATTEMPT_COLUMNS, CLAIM_COLUMNS, DATA, EQUIVALENCE_COLUMNS, PROFILES
from benchmarks.datasets import get_dataset
from benchmarks.intervals import Difference, Sample, tolerance
from benchmarks.papers import Attempt, Claim, Paper, ReportedError


def make_claims(board: pd.DataFrame, papers: Mapping[str, Paper]) -> pd.DataFrame:
    """CLAIM_COLUMNS, one row a claim about models that are both on the board, run or not.

    Both sides are taken from the same profile and data status: that with the most seeds on its weaker side, ties to
    `reference`, then to verified data.
    """
    present = set(zip(board["dataset"], board["model"], strict=True))
    sides = {
        (row.dataset, row.model, row.profile, row.data): Sample(row.errors, row.seeds, row.runs, row.runs)
        for row in board[board["profile"].notna()].itertuples(index=False)
    }
    claims = [
        (paper, claim)
        for paper in papers.values()
        for claim in paper.claims
        if {(claim.dataset, claim.better), (claim.dataset, claim.worse)} <= present
    ]
    frame = pd.DataFrame([_claim(paper, claim, sides) for paper, claim in claims], columns=CLAIM_COLUMNS)
    for column in ("share", "margin"):
        frame[column] = frame[column].astype(float)
    return frame


def _claim(paper: Paper, claim: Claim, sides: Mapping[tuple[str, str, str, str], Sample]) -> dict[str, Any]:
    """One row of the claims, judged on the profile and data status that have the most seeds of both models."""

    def both(profile: str, data: str) -> tuple[Sample, Sample]:
        better, worse = (
            sides.get((claim.dataset, name, profile, data), Sample()) for name in (claim.better, claim.worse)
        )
        return better, worse

    def evidence(place: tuple[str, str]) -> tuple[int, int, int]:
        pair = both(*place)
        ended = [side.seeds for side in pair]
        return min(side.n for side in pair), min(ended), sum(ended)

    profile, data = max(((profile, data) for profile in PROFILES for data in DATA), key=evidence)
    better, worse = both(profile, data)
    figures = [paper.figure(claim.dataset, model) for model in (claim.better, claim.worse)]
    reported = round(figures[1].error - figures[0].error, 9) if figures[0] and figures[1] else None
    margin = _margin(figures[1], claim.dataset) if claim.kind == "equal" and figures[1] else None
    asserted = Asserted(claim.share or 0.0, margin, reported)
    judged = claim_verdict(better, worse, (claim.better, claim.worse), asserted)
    ran = judged.word != "not run"
    return {
        "paper": paper.key,
        **claim.model_dump(include={"id", "dataset", "text", "where", "kind", "share", "better", "worse"}),
        "margin": margin,
        "profile": profile if ran else None,
        "data": data if ran else None,
        "n_better": better.n,
        "n_worse": worse.n,
        **_interval("", judged.difference),
        **_interval("reduction", judged.reduction),
        "reported_difference": reported,
        "verdict": judged.word,
        "reason": judged.reason,
    }


def _margin(figure: ReportedError, dataset: str) -> float:
    """Within how many points two errors count as equal: one tolerance of the printed error."""
    return tolerance(figure.error, get_dataset(dataset).test_size, figure.last_digit)


def _interval(name: str, difference: Difference | None) -> dict[str, float | None]:
    columns = [name or "difference", *(f"{name}_{end}" if name else end for end in ("low", "high"))]
    values = (difference.value, difference.low, difference.high) if difference else (None, None, None)
    return dict(zip(columns, values, strict=True))


def make_equivalences(board: pd.DataFrame) -> pd.DataFrame:
    """EQUIVALENCE_COLUMNS, one row a model, data set and data status that ran under more than one profile.

    The margin is one tolerance of that board: that of the reported error, or of our own mean where nothing is reported.
    """
    measured = board[board["runs"] > 0]
    rows = []
    for (dataset, model, data), profiles in measured.groupby(["dataset", "model", "data"], sort=False):
        by_profile = {row.profile: row for row in profiles.itertuples(index=False)}
        first = by_profile.pop(PROFILES[0], None)
        for profile, second in by_profile.items():
            if first is None or not (first.n and second.n):
                continue
            margin = first.tolerance
            if pd.isna(margin):
                margin = tolerance(first.mean, get_dataset(dataset).test_size, 0)
            sides = [Sample(row.errors, row.seeds, row.runs, row.runs) for row in (first, second)]
            judged = equivalence(sides[0], sides[1], margin=margin, names=(PROFILES[0], profile))
            rows.append(
                {
                    "dataset": dataset,
                    "model": model,
                    "label": first.label,
                    "profile": profile,
                    "data": data,
                    "margin": margin,
                    **_interval("", judged.difference),
                    "verdict": judged.word,
                    "reason": judged.reason,
                }
            )
    return pd.DataFrame(rows, columns=EQUIVALENCE_COLUMNS)


def make_attempts(papers: Mapping[str, Paper], attempts: Mapping[str, Iterable[Attempt]]) -> pd.DataFrame:
    """ATTEMPT_COLUMNS, one row an attempt by somebody else at a printed figure."""
    rows = []
    for key, tried in attempts.items():
        for attempt in tried:
            printed = papers[key].reported if key in papers else ()
            goals = [row for row in printed if (row.dataset, row.printed) == (attempt.dataset, attempt.reported)]
            goal = min(goals, key=lambda row: row.kind != "target", default=None)
            rows.append(
                {
                    "paper": key,
                    "dataset": attempt.dataset,
                    "model": goal.model if goal else None,
                    "label": goal.label if goal else None,
                    "reported": float(attempt.reported),
                    "who": attempt.who,
                    "error": attempt.middle,
                    "printed": attempt.printed,
                    "gap": None if attempt.middle is None else round(attempt.middle - float(attempt.reported), 9),
                    "remark": attempt.remark,
                }
            )
    return pd.DataFrame(rows, columns=ATTEMPT_COLUMNS)
