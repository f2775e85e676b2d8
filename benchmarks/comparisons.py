"""What stands beside the board: papers' claims, `fast` against `reference`, and others' attempts at the same figures."""

from collections.abc import Iterable, Mapping

import pandas as pd

from benchmarks.columns import ATTEMPT_COLUMNS, CLAIM_COLUMNS, DATA, EQUIVALENCE_COLUMNS, PROFILES
from benchmarks.datasets import get_dataset
from benchmarks.papers import Attempt, Claim, Paper


def make_claims(board: pd.DataFrame, papers: Mapping[str, Paper]) -> pd.DataFrame:
    """CLAIM_COLUMNS, one row a claim about models that are both on the board, run or not.

    Both sides are taken from the same profile and data status: that with the most seeds on its weaker side, ties to
    `reference`, then to verified data.
    """
    present = set(zip(board["dataset"], board["model"], strict=True))
    measured = board[board["profile"].notna()]
    sides = {(r.dataset, r.model, r.profile, r.data): (r.errors, r.runs) for r in measured.itertuples(index=False)}
    nothing: tuple[tuple[float, ...], int] = ((), 0)

    def both(claim: Claim, profile: str, data: str) -> list[tuple[tuple[float, ...], int]]:
        models = (claim.better, claim.worse)
        return [sides.get((claim.dataset, model, profile, data), nothing) for model in models]

    def seeds(pair: list[tuple[tuple[float, ...], int]]) -> tuple[int, int, int]:
        finished, ended = [len(errors) for errors, _ in pair], [runs for _, runs in pair]
        return min(finished), min(ended), sum(ended)

    rows = []
    for paper in papers.values():
        for claim in paper.claims:
            if not {(claim.dataset, claim.better), (claim.dataset, claim.worse)} <= present:
                continue
            choices = [(profile, data) for profile in PROFILES for data in DATA]
            profile, data = max(choices, key=lambda choice: seeds(both(claim, *choice)))
            better, worse = both(claim, profile, data)
            figures = [paper.figure(claim.dataset, model) for model in (claim.better, claim.worse)]
            reported = (figures[0].error, figures[1].error) if figures[0] and figures[1] else None
            judged = claim_verdict(
                better[0], worse[0], runs=(better[1], worse[1]), names=(claim.better, claim.worse), reported=reported
            )
            ran = judged.word != "not run"
            rows.append(
                {
                    "paper": paper.key,
                    **claim.model_dump(include={"id", "dataset", "text", "where", "better", "worse"}),
                    "profile": profile if ran else None,
                    "data": data if ran else None,
                    "n_better": len(better[0]),
                    "n_worse": len(worse[0]),
                    "difference": judged.difference.value if judged.difference else None,
                    "low": judged.difference.low if judged.difference else None,
                    "high": judged.difference.high if judged.difference else None,
                    "reported_difference": round(reported[1] - reported[0], 9) if reported else None,
                    "verdict": judged.word,
                    "reason": judged.reason,
                }
            )
    return pd.DataFrame(rows, columns=CLAIM_COLUMNS)


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
            judged = equivalence(first.errors, second.errors, margin=margin, names=(PROFILES[0], profile))
            rows.append(
                {
                    "dataset": dataset,
                    "model": model,
                    "label": first.label,
                    "profile": profile,
                    "data": data,
                    "margin": margin,
                    "difference": judged.difference.value if judged.difference else None,
                    "low": judged.difference.low if judged.difference else None,
                    "high": judged.difference.high if judged.difference else None,
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
            error = None if attempt.error is None else float(attempt.error)
            rows.append(
                {
                    "paper": key,
                    "dataset": attempt.dataset,
                    "model": goal.model if goal else None,
                    "label": goal.label if goal else None,
                    "reported": float(attempt.reported),
                    "who": attempt.who,
                    "error": error,
                    "printed": None if attempt.error is None else str(attempt.error),
                    "gap": None if error is None else round(error - float(attempt.reported), 9),
                    "remark": attempt.remark,
                }
            )
    return pd.DataFrame(rows, columns=ATTEMPT_COLUMNS)
