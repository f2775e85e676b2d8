"""Tabulate one model: the figures of its sources, its layers and recipe, and the results of others."""

from collections.abc import Mapping
from typing import Any

import escape
import pandas as pd

from benchmarks.labels import error_text, gap_of, verdict_words
from benchmarks.leaderboard import PROFILES, Card, CardAnatomy
from benchmarks.papers import Paper
from benchmarks.suites import SUITES
from tables.common import Link, cite, printed_text, trained


def model_summary(row: Any, papers: Mapping[str, Paper]) -> dict[str, str]:
    """Return the main numbers of a board row for the top of the model's page."""
    return {
        "Verdict": verdict_words(row.verdict),
        "Printed, %": printed_text(row),
        "Measured, %": error_text(row) or escape.NONE,
        "Gap, points": gap_of(row) or escape.NONE,
        "Seeds trained": trained(row),
    }


def reported_table(papers: Mapping[str, Paper], dataset: str, model: str) -> pd.DataFrame:
    """Return every figure that a source prints for a model on a data set."""
    rows = []
    for paper in papers.values():
        for row in paper.reported:
            if (row.dataset, row.model) != (dataset, model):
                continue
            protocol = row.protocol
            conditions = [
                f"augmentation: {protocol.augmentation or 'not stated'}",
                f"training images: {escape.count(protocol.training_images) if protocol.training_images else 'not stated'}",
                f"{protocol.evaluation} set" if protocol.evaluation == "test" else "validation images",
                f"runs: {protocol.runs or 'not stated'}" + (f" ({protocol.statistic})" if protocol.statistic else ""),
                *([f"spread: ±{protocol.spread:g}"] if protocol.spread is not None else []),
                *([f"selection: {protocol.selection}"] if protocol.selection else []),
                f"epoch: {protocol.epoch or 'not stated'}",
            ]
            notes = [row.note, f"read in {row.secondary}" if row.secondary else None]
            rows.append(
                {
                    "Error %": str(row.printed),
                    "As printed": row.label,
                    "Source": Link(
                        paper.title + ("" if paper.year == "unknown" else f" ({paper.year})"), paper.url, inside=False
                    ),
                    "Place": row.where,
                    "Kind": "judged: the source's own recipe"
                    if row.kind == "target"
                    else "shown for comparison, not judged",
                    "Protocol": "; ".join(conditions),
                    "Note": " ".join(note for note in notes if note),
                }
            )
    return pd.DataFrame(rows, columns=["Error %", "As printed", "Source", "Place", "Kind", "Protocol", "Note"])


def anatomy_table(variant: CardAnatomy) -> pd.DataFrame:
    """Return output, parameters and MACs of each stage, with the paper's own values if its table prints them."""
    rows = []
    has_paper = any(stage.get("paper") for stage in variant.stages)
    for stage in variant.stages or variant.layers:
        paper = stage.get("paper") or {}
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
                "Paper: output": " × ".join(str(n) for n in paper.get("output", ())),
                "Paper: parameters": escape.short(paper.get("parameters", ""), 40),
                "Paper: operations": escape.short(paper.get("macs", ""), 40),
                "Differs": "≠ " + ", ".join(str(name) for name in differs) if differs else "",
            }
        rows.append(row)
    return pd.DataFrame(rows)


def recipe_table(recipe: Mapping[str, Any]) -> pd.DataFrame:
    """Return the fields and values of a recipe, sorted by field."""
    return pd.DataFrame([{"Field": name, "Value": value_text(value)} for name, value in sorted(recipe.items())])


def value_text(value: Any) -> str:
    """Return a recipe's value as text. A rule becomes `SGD(learning_rate 0.1, momentum 0.9)`."""
    if isinstance(value, Mapping):
        fields = [f"{name} {value_text(field)}" for name, field in value.items() if name != "rule"]
        return escape.short(f"{value.get('rule', '')}({', '.join(fields)})", 300)
    if isinstance(value, (list, tuple)):
        return "; ".join(
            ", ".join(str(v) for v in item) if isinstance(item, (list, tuple)) else str(item) for item in value
        )
    return escape.short(value, 300)


def reproduce_commands(dataset: str, model: str, card: Card | None, counted: pd.DataFrame) -> str:
    """Return the commands that train a model here and that repeat one published record, if there is one.

    Readers paste them into a shell, so suites of a card that do not exist are left out.
    """
    variant = card.datasets.get(dataset) if card else None
    suites = [
        name for name in (card.suites if card and variant else ()) if name == dataset or name.startswith(dataset + "-")
    ]
    fitting = sorted((s for s in SUITES.values() if dataset in s.datasets), key=lambda suite: not suite.every_model)
    suites = [*suites, *(card.suites if card else ()), *(suite.name for suite in fitting)]
    suites = [name for name in suites if name in SUITES]
    first = counted.iloc[0] if len(counted) else None
    options = f" --profile {first['profile']}" if first is not None and first["profile"] != PROFILES[0] else ""
    options += " --allow-unverified-data" if first is not None and first["data"] == "unverified" else ""
    lines = [f"runner submit --suite {suites[0] if suites else 'SUITE'} --model {model}{options}"]
    published = counted[~counted["local"].astype(bool)]
    if len(published):
        record = published.iloc[0]
        lines.append(f"runner reproduce {record['key']}-{record['run'][:8]}")
    return "\n".join(lines)


def attempts_table(attempts: pd.DataFrame, dataset: str, model: str, papers: Mapping[str, Paper]) -> pd.DataFrame:
    """Return the results of others who tried for this model's figures."""
    rows = attempts[(attempts["dataset"] == dataset) & (attempts["model"] == model)]
    return pd.DataFrame(
        {
            "Who": rows["who"],
            "Error %": rows["printed"].fillna(escape.NONE),
            "Target": rows["reported"].map(escape.percent),
            "Gap": [escape.percent(gap, signed=True) for gap in rows["gap"]],
            "Remark": rows["remark"].fillna(""),
            "Source of the figure": [cite(papers.get(key)) or key for key in rows["paper"]],
        }
    ).reset_index(drop=True)
