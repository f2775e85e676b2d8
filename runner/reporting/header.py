"""The first lines of `runner models NAME` for each data set: source, reported figure, cost, and the command."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmarks.board import default_view
from benchmarks.labels import caveats_of, clean, error_text, trained_text, verdict_words
from benchmarks.papers import Paper
from benchmarks.plural import number
from benchmarks.records import WHOLE_TRAININGS


def header(
    name: str,
    dataset: str,
    card: Mapping[str, Any],
    board: pd.DataFrame,
    runs: pd.DataFrame,
    papers: Mapping[str, Paper],
) -> list[str]:
    """Return the lines. `board` and `runs` are frames of the read-model, `card` is the model's own."""
    view = default_view(board)
    rows = view[(view["dataset"] == dataset) & (view["model"] == name)]
    row: Any = next(rows.itertuples(index=False), None)
    lines = []
    paper = papers.get(row.paper if row is not None and isinstance(row.paper, str) else card["paper"])
    if paper is not None:
        year = "" if paper.year == "unknown" else f" ({paper.year})"
        lines.append(f"Source: {paper.title}{year}, {paper.url}")
    if row is not None and isinstance(row.printed, str):
        lines.append(f"Reported: {row.printed} % ({row.where})")
    else:
        lines.append("Reported: no error that this model is judged by")
    if row is not None and row.runs:
        trained = f"{trained_text(row)} seeds trained" + (f", {caveats_of(row)}" if caveats_of(row) else "")
        lines.append(f"Measured: {error_text(row) or 'no error'} % ({trained}): {verdict_words(row.verdict)}")
    lines.append(f"Cost: {cost(name, dataset, card, runs)}")
    suites = card["suites"]
    if dataset in card["datasets"] and suites:
        suite = next((suite for suite in suites if suite == dataset), suites[0])
        lines.append(f"Run it: runner submit --suite {suite} --model {name}")
    return lines


def cost(name: str, dataset: str, card: Mapping[str, Any], runs: pd.DataFrame) -> str:
    """Return the cost of a training: multiply-accumulates, and median minutes on each kind of hardware with records."""
    facts = card["datasets"].get(dataset) or card["anatomy"][dataset]
    parts = [f"{facts['macs']:,} multiply-accumulates per image"]
    if "recipe" in facts and isinstance(facts["recipe"].get("epochs"), int):
        parts.append(f"{facts['recipe']['epochs']} epochs")
    whole = (runs["standing"] == "counted") & runs["outcome"].isin(WHOLE_TRAININGS)
    counted = runs[(runs["dataset"] == dataset) & (runs["model"] == name) & whole]
    for (hardware, profile), group in counted.groupby(["hardware", "profile"], sort=True):
        minutes = group["train_seconds"].median() / 60
        duration = f"{minutes / 60:,.1f} h" if minutes >= 120 else f"{minutes:,.1f} min"
        parts.append(f"{duration} per run on {clean(hardware)} ({profile}, {number(len(group), 'run')})")
    if counted.empty and "recipe" in facts:
        parts.append(
            "time unknown, because no whole run is recorded yet; runner submit --dry-run estimates it for this machine"
        )
    return "; ".join(parts)
