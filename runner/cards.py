"""What `runner models` shows: layers, parameters, multiply-accumulates; and the cards that spare the site torch."""

import json
from typing import Any

import torch

from benchmarks.datasets import get_dataset
from benchmarks.errors import unknown
from benchmarks.records import sha256_of, write_atomically
from runner.jobs import results_folder
from zoo import load_models
from zoo.anatomy import layers_of
from zoo.spec import ModelSpec


def card_of(spec: ModelSpec) -> dict[str, Any]:
    """A model's card: everything about it that its code says, as JSON data."""
    return {
        "name": spec.name,
        "title": spec.title,
        "family": spec.family,
        "paper": spec.paper,
        "suites": sorted(spec.suites),
        "datasets": {dataset: _on(spec, dataset) for dataset in spec.variants},
    }


def _on(spec: ModelSpec, dataset: str) -> dict[str, Any]:
    variant = spec.variants[dataset]
    with torch.device("meta"):
        model = variant.build()
    layers = layers_of(model.to_empty(device="cpu"), get_dataset(dataset).shape)
    recipe = variant.recipe.to_dict()
    return {
        "revision": variant.revision,
        "recipe": recipe,
        "recipe_sha256": sha256_of(recipe),
        "augmentation": variant.recipe.augmentation,
        "parameters": sum(layer.parameters for layer in layers),
        "macs": sum(layer.macs for layer in layers),
        "departures": [{"topic": d.topic, "text": d.text} for d in variant.departures],
        "layers": [layer.to_dict() for layer in layers],
    }


def listing(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `models --json`."""
    return [
        {
            "name": card["name"],
            "paper": card["paper"],
            "family": card["family"],
            "suites": card["suites"],
            "parameters": {dataset: facts["parameters"] for dataset, facts in card["datasets"].items()},
            "macs": {dataset: facts["macs"] for dataset, facts in card["datasets"].items()},
        }
        for card in cards
    ]


def card_json(card: dict[str, Any]) -> str:
    """A card's file."""
    return json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def show(name: str | None, dataset: str | None, *, write_cards: bool, as_json: bool, console: Any) -> None:
    """Print the zoo, or one model; write the cards where asked. Raises UserError for an unknown name."""
    models = load_models()
    if name is not None and name not in models:
        raise unknown("model", name, models)
    if dataset is not None:
        known = {d for spec in models.values() for d in spec.variants} if name is None else set(models[name].variants)
        if dataset not in known:
            raise unknown("data set" if name is None else f"data set of {name}", dataset, known)
    chosen = [models[name]] if name else [s for s in models.values() if dataset is None or dataset in s.variants]
    cards = [card_of(spec) for spec in chosen]
    if write_cards:
        for card in cards:
            write_atomically(results_folder() / "cards" / f"{card['name']}.json", card_json(card))
        console.print(f"{len(cards)} cards written to {results_folder() / 'cards'}", soft_wrap=True)
    elif as_json:
        print(json.dumps(listing(cards), indent=2))
    elif name is None:
        _show_all(cards, console)
    else:
        for on in [dataset] if dataset else cards[0]["datasets"]:
            _show_one(cards[0], on, console)


def _show_all(cards: list[dict[str, Any]], console: Any) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("model", "data set", "parameters", "MACs", "suites"):
        table.add_column(
            column, justify="right" if column in ("parameters", "MACs") else "left", no_wrap=column == "model"
        )
    for card in cards:
        for i, (dataset, facts) in enumerate(card["datasets"].items()):
            name, suites = (card["name"], ", ".join(card["suites"])) if i == 0 else ("", "")
            table.add_row(name, dataset, f"{facts['parameters']:,}", f"{facts['macs']:,}", suites)
    console.print(table)


def _show_one(card: dict[str, Any], dataset: str, console: Any) -> None:
    from rich.table import Table

    facts = card["datasets"][dataset]
    table = Table(title=f"{card['title']} on {dataset}", title_justify="left", box=None, pad_edge=False)
    for column in ("layer", "kind", "output", "parameters", "MACs"):
        table.add_column(column, justify="right" if column in ("parameters", "MACs") else "left")
    for layer in facts["layers"]:
        output = "x".join(map(str, layer["output"]))
        macs = f"{layer['macs']:,}" if layer["macs"] else ""
        parameters = f"{layer['parameters']:,}" if layer["parameters"] else ""
        table.add_row(layer["name"], layer["kind"], output, parameters, macs)
    table.add_section()
    table.add_row("total", "", "", f"{facts['parameters']:,}", f"{facts['macs']:,}")
    console.print(table)
    console.print("\nRecipe")
    for field, value in facts["recipe"].items():
        console.print(f"  {field} = {json.dumps(value)}", markup=False, soft_wrap=True)
    console.print("\nDepartures" if facts["departures"] else "\nNo departures declared")
    for departure in facts["departures"]:
        console.print(f"  {departure['topic']}: {departure['text']}", markup=False)
    console.print()
