"""A model: what its sources print, how it is built and trained, what others got."""

from collections.abc import Mapping
from typing import Any

import escape
import pandas as pd

from benchmarks.labels import error_text, gap_of, verdict_words
from benchmarks.leaderboard import PROFILES, Card, CardAnatomy
from benchmarks.papers import Paper, context_of
from benchmarks.suites import SUITES
from tables.common import Link, cite, printed_text, trained


def model_facts(row: Any, papers: Mapping[str, Paper]) -> dict[str, str]:
    """The numbers of a board row that its page opens with."""
    return {
        "Verdict": verdict_words(row.verdict),
        "Printed, %": printed_text(row, context_of(papers)),
        "Measured, %": error_text(row) or escape.NONE,
        "Gap, points": gap_of(row) or escape.NONE,
        "Seeds trained": trained(row),
    }


def reported_table(papers: Mapping[str, Paper], dataset: str, model: str) -> pd.DataFrame:
    """Every figure that any source prints for a model on a data set."""
    rows = []
    for paper in papers.values():
        for row in paper.reported:
            if (row.dataset, row.model) != (dataset, model):
                continue
            protocol = row.protocol
            said = [
                f"augmentation: {protocol.augmentation or 'not stated'}",
                f"training images: {escape.count(protocol.training_images) if protocol.training_images else 'not stated'}",
                f"{protocol.evaluation} set" if protocol.evaluation == "test" else "validation images",
                f"runs: {protocol.runs or 'not stated'}" + (f" ({protocol.statistic})" if protocol.statistic else ""),
                *([f"spread: ±{protocol.spread:g}"] if protocol.spread is not None else []),
                *([f"picked: {protocol.selection}"] if protocol.selection else []),
                f"epoch: {protocol.epoch or 'not stated'}",
            ]
            notes = [row.note, f"read in: {row.secondary}" if row.secondary else None]
            rows.append(
                {
                    "Error %": str(row.printed),
                    "As printed": row.label,
                    "Source": Link(
                        paper.title + ("" if paper.year == "unknown" else f" ({paper.year})"), paper.url, inside=False
                    ),
                    "Place": row.where,
                    "Kind": "judged: the source's own recipe" if row.kind == "target" else "context: shown, not judged",
                    "Protocol": "; ".join(said),
                    "Note": " ".join(note for note in notes if note),
                }
            )
    return pd.DataFrame(rows, columns=["Error %", "As printed", "Source", "Place", "Kind", "Protocol", "Note"])


def anatomy_table(variant: CardAnatomy) -> pd.DataFrame:
    """Stage by stage: output, parameters, MACs, with the paper's own values beside where its table prints them."""
    rows = []
    has_paper = any(stage.get("paper") for stage in variant.stages)
    for stage in variant.stages or variant.layers:
        printed = stage.get("paper") or {}
        row = {
            "Stage": escape.short(stage.get("name", ""), 60),
            "Kind": escape.short(stage.get("kind", ""), 40),
            "Output": " × ".join(str(n) for n in stage.get("output", ())),
            "Parameters": escape.count(stage.get("parameters")),
            "MACs": escape.compact(stage.get("macs")),
        }
        if has_paper:
            differs = stage.get("differs") or ()
            row |= {
                "Paper: output": " × ".join(str(n) for n in printed.get("output", ())),
                "Paper: parameters": escape.short(printed.get("parameters", ""), 40),
                "Paper: operations": escape.short(printed.get("macs", ""), 40),
                "Differs": "≠ " + ", ".join(str(name) for name in differs) if differs else "",
            }
        rows.append(row)
    return pd.DataFrame(rows)


def recipe_table(recipe: Mapping[str, Any]) -> pd.DataFrame:
    """Field by field."""
    return pd.DataFrame([{"Field": name, "Value": value_text(value)} for name, value in sorted(recipe.items())])


def value_text(value: Any) -> str:
    """Return a recipe's value as text: a rule reads `SGD(learning_rate 0.1, momentum 0.9)`."""
    if isinstance(value, Mapping):
        fields = [f"{name} {value_text(field)}" for name, field in value.items() if name != "rule"]
        return escape.short(f"{value.get('rule', '')}({', '.join(fields)})", 300)
    if isinstance(value, (list, tuple)):
        return "; ".join(
            ", ".join(str(v) for v in item) if isinstance(item, (list, tuple)) else str(item) for item in value
        )
    return escape.short(value, 300)


def reproduce_commands(dataset: str, model: str, card: Card | None, counted: pd.DataFrame) -> str:
    """What to type to train a model here, and to repeat one published record of those that count.

    A reader pastes it into a shell, so that of a card's suites only those that exist are named.
    """
    variant = card.datasets.get(dataset) if card else None
    suites = [
        name for name in (card.suites if card and variant else ()) if name == dataset or name.startswith(dataset + "-")
    ]
    fitting = sorted((s for s in SUITES.values() if dataset in s.datasets), key=lambda suite: not suite.every_model)
    suites = [*suites, *(card.suites if card else ()), *(suite.name for suite in fitting)]
    suites = [name for name in suites if name in SUITES]
    profile = (
        f" --profile {counted['profile'].iloc[0]}" if len(counted) and counted["profile"].iloc[0] != PROFILES[0] else ""
    )
    lines = [f"runner submit --suite {suites[0] if suites else 'SUITE'} --model {model}{profile}"]
    published = counted[~counted["local"].astype(bool)]
    if len(published):
        first = published.iloc[0]
        lines.append(f"runner reproduce {first['key']}-{first['run'][:8]}")
    return "\n".join(lines)


def attempts_table(attempts: pd.DataFrame, dataset: str, model: str, papers: Mapping[str, Paper]) -> pd.DataFrame:
    """What others got when they tried for this model's figures."""
    rows = attempts[(attempts["dataset"] == dataset) & (attempts["model"] == model)]
    return pd.DataFrame(
        {
            "Who": rows["who"],
            "Error %": rows["printed"].fillna(escape.NONE),
            "Tried for": rows["reported"].map(escape.percent),
            "Gap": [escape.percent(gap, signed=True) for gap in rows["gap"]],
            "Remark": rows["remark"].fillna(""),
            "Source of the figure": [cite(papers.get(key)) or key for key in rows["paper"]],
        }
    ).reset_index(drop=True)
