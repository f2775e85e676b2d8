"""Show layers, parameters and multiply-accumulates for `runner models`, and write the cards that the site reads."""

import functools
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.canonical import flat, sha256_of
from benchmarks.datasets import get_dataset
from benchmarks.errors import unknown
from benchmarks.files import write_atomically
from benchmarks.leaderboard import make_board, read
from benchmarks.plural import number
from benchmarks.suites import SUITES
from runner.jobs.paths import results_folder, runs_folder
from runner.reporting.header import header
from runner.submit.plan import models_of
from zoo import load_models
from zoo.anatomy import Unfilled, agrees, count_parameters, take_apart
from zoo.plain import to_plain
from zoo.spec import Anatomy, ModelSpec, Printed, Variant

if TYPE_CHECKING:
    from rich.console import Console

Place = Callable[[], AbstractContextManager[Any]]  # the context in which a network is built for inspection
META: Place = functools.partial(torch.device, "meta")


def card_of(spec: ModelSpec, only: str | None = None, place: Place = META) -> dict[str, Any]:
    """Return a model's card as JSON data: every fact that its code declares. `only` limits it to one data set.

    Its networks are built in the context `place`; anatomy.Unfilled is faster for a single model.
    """
    return {
        "name": spec.name,
        "title": spec.title,
        "family": spec.family,
        "paper": spec.paper,
        "suites": sorted(suite.name for suite in SUITES.values() if models_of(suite, {spec.name: spec})),
        "datasets": {dataset: _trained(spec, dataset, place) for dataset in spec.variants if only in (None, dataset)},
        "anatomy": {
            dataset: _taken_apart(facts, facts.shape, place)
            for dataset, facts in spec.anatomy.items()
            if only in (None, dataset)
        },
    }


def _trained(spec: ModelSpec, dataset: str, place: Place) -> dict[str, Any]:
    variant = spec.variants[dataset]
    recipe = variant.recipe.to_dict()
    return {
        "revision": variant.revision,
        "recipe": recipe,
        "recipe_sha256": sha256_of(recipe),
        "augmentation": str(variant.recipe.augmentation),
        **_taken_apart(variant, get_dataset(dataset).shape, place),
    }


def _taken_apart(what: Variant | Anatomy, shape: tuple[int, int, int], place: Place) -> dict[str, Any]:
    """Return layers, stages and counts, each stage with the paper's figures. `parameters` includes training-only heads.

    `shape` is (C, H, W). Raise ValueError if the paper's figures name an unknown stage.
    """
    with place():
        model = what.build()
    layers, stages = take_apart(model, shape)
    counts = {"parameters": count_parameters(model), "macs": sum(layer.macs for layer in layers)}
    total = {"output": None, "depth": sum(stage.depth for stage in stages), **counts}
    unknown_stages = what.printed.keys() - {stage.name for stage in stages} - {"total"}
    if unknown_stages:
        raise ValueError(f"printed: the network has no stage {', '.join(sorted(unknown_stages))}")
    return {
        **counts,
        "depth": total["depth"],
        "departures": [{"topic": d.topic, "text": d.text} for d in what.departures],
        "layers": [layer.to_dict() for layer in layers],
        "stages": [stage.to_dict() | _paper(what.printed.get(stage.name), stage.to_dict()) for stage in stages],
        **_paper(what.printed.get("total"), total),
    }


def _paper(printed: Printed | None, ours: dict[str, Any]) -> dict[str, Any]:
    """Return the paper's figures of a stage and the names of those that ours do not match; empty if it prints none."""
    if printed is None:
        return {}
    figures = {name: to_plain(value) for name, value in vars(printed).items() if value is not None}
    differs = [
        name
        for name, value in figures.items()
        if not (agrees(value, ours[name]) if isinstance(value, str) else value == ours[name])
    ]
    return {"paper": figures, "differs": differs}


def _facts(card: dict[str, Any]) -> dict[str, Any]:
    """Return a card's facts by data set, including networks that are declared for inspection only."""
    return card["datasets"] | card["anatomy"]


def listing(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of `models --json`."""
    return [
        {
            "name": card["name"],
            "paper": card["paper"],
            "family": card["family"],
            "suites": card["suites"],
            "parameters": {dataset: facts["parameters"] for dataset, facts in _facts(card).items()},
            "macs": {dataset: facts["macs"] for dataset, facts in _facts(card).items()},
        }
        for card in cards
    ]


def card_json(card: dict[str, Any]) -> str:
    """Return the text of a card's file."""
    return json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def show(name: str | None, dataset: str | None, *, write_cards: bool, as_json: bool, console: "Console") -> None:
    """Print the zoo or one model; write the cards on request. The JSON of one model includes its card.

    Raise UserError for an unknown name.
    """
    models = load_models()
    if name is not None and name not in models:
        raise unknown("model", name, models)
    if dataset is not None:
        searched = models.values() if name is None else [models[name]]
        known = {d for spec in searched for d in (*spec.variants, *spec.anatomy)}
        if dataset not in known:
            raise unknown("data set" if name is None else f"data set of {name}", dataset, known)
    specs = [models[name]] if name else [s for s in models.values() if dataset in (None, *s.variants, *s.anatomy)]
    place = Unfilled if name and not write_cards else META
    cards = [card_of(spec, None if write_cards else dataset, place) for spec in specs]
    if write_cards:
        for card in cards:
            write_atomically(results_folder() / "cards" / f"{card['name']}.json", card_json(card))
        console.print(f"{number(len(cards), 'card')} written to {results_folder() / 'cards'}", soft_wrap=True)
    elif as_json:
        details = [{} if name is None else {part: card[part] for part in ("datasets", "anatomy")} for card in cards]
        print(json.dumps([row | more for row, more in zip(listing(cards), details, strict=True)], indent=2))
    elif name is None:
        _show_all(cards, console)
    else:
        evidence = read(results_folder(), runs_folder())
        board = make_board(evidence, models={name})
        for on in _facts(cards[0]):
            for line in header(name, on, cards[0], board, evidence.runs, evidence.papers):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            console.print()
            _show_one(cards[0], on, console)


def _show_all(cards: list[dict[str, Any]], console: "Console") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("model", "data set", "parameters", "MACs", "suites"):
        table.add_column(
            column, justify="right" if column in ("parameters", "MACs") else "left", no_wrap=column == "model"
        )
    for card in cards:
        for i, (dataset, facts) in enumerate(_facts(card).items()):
            name, suites = (card["name"], ", ".join(card["suites"])) if i == 0 else ("", "")
            table.add_row(name, dataset, f"{facts['parameters']:,}", f"{facts['macs']:,}", suites)
    console.print(table)


def _show_one(card: dict[str, Any], dataset: str, console: "Console") -> None:
    from rich.table import Table

    facts = _facts(card)[dataset]
    table = Table(title=f"{card['title']} on {dataset}", title_justify="left", box=None, pad_edge=False)
    paper = any("paper" in row for row in (facts, *facts["stages"]))
    for column in ("layer", "kind", "output", "depth", "parameters", "MACs", *["paper"] * paper):
        table.add_column(column, justify="right" if column in ("depth", "parameters", "MACs") else "left")
    for stage in facts["stages"]:
        table.add_row(*_cells(stage), *[_printed(stage)] * paper)
        for layer in facts["layers"]:
            if layer["name"].startswith(f"{stage['name']}."):
                table.add_row(*_cells(layer | {"name": "  " + layer["name"].removeprefix(f"{stage['name']}.")}))
    in_training = facts["parameters"] - sum(stage["parameters"] for stage in facts["stages"])
    if in_training:
        table.add_row("in training only", "", "", "", f"{in_training:,}", "")
    table.add_section()
    table.add_row(*_cells(facts | {"name": "total", "kind": "", "output": []}), *[_printed(facts)] * paper)
    console.print(table)
    if paper:
        console.print(
            "paper: the numbers that the paper prints for a stage; ≠ where ours differs by more than one unit of the last digit"
        )
    if "recipe" in facts:
        console.print("\nRecipe")
        for field, value in flat(facts["recipe"]).items():
            console.print(f"  {field} = {json.dumps(value)}", markup=False, soft_wrap=True)
    else:
        console.print("\nFor analysis only: it has no recipe")
    console.print("\nDepartures" if facts["departures"] else "\nNo departures declared")
    for departure in facts["departures"]:
        console.print(f"  {departure['topic']}: {departure['text']}", markup=False)
    console.print()


def _cells(row: dict[str, Any]) -> list[str]:
    """Return layer, kind, output, depth, parameters and MACs of a row; a count of 0 is left blank."""
    counts = [f"{row[name]:,}" if row[name] else "" for name in ("depth", "parameters", "macs")]
    return [row["name"], row["kind"], "x".join(map(str, row["output"])), *counts]


def _printed(row: dict[str, Any]) -> str:
    """Return the paper's figures of a stage as text, with differences marked by ≠."""
    words = {"output": "", "depth": "depth ", "parameters": "", "macs": ""}
    ends = {"output": "", "depth": "", "parameters": "", "macs": " MACs"}
    parts = []
    for name, value in row.get("paper", {}).items():
        text = "x".join(map(str, value)) if isinstance(value, list) else str(value)
        parts.append("≠ " * (name in row["differs"]) + words[name] + text + ends[name])
    return ", ".join(parts)
