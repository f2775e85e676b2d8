"""The cards of the models, results/cards/<model>.json: the zoo's facts of a model, so that a reader needs no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.records import Name, Sha256, problems_of


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class CardAnatomy(_Card):
    """What a card says of a network taken apart: all there is of one never trained here, such as VGG's at 224x224."""

    parameters: int
    macs: int | None = None
    depth: int | None = None
    departures: tuple[dict[str, Any], ...] = ()
    layers: tuple[dict[str, Any], ...] = ()
    stages: tuple[dict[str, Any], ...] = ()  # the layers as the paper's table groups them, its own values beside


class CardVariant(CardAnatomy):
    """What a card says of a model on a data set that it's trained on."""

    revision: Annotated[int, Field(ge=1)]
    recipe: dict[str, Any]
    recipe_sha256: Sha256
    augmentation: str | None = None


class Card(_Card):
    """results/cards/<model>.json: the zoo's facts of a model, so that a reader needs no torch."""

    name: Name
    title: str
    family: str
    paper: Name | None = None
    suites: tuple[str, ...] = ()
    datasets: dict[Name, CardVariant]
    anatomy: dict[Name, CardAnatomy] = {}


def read_cards(folder: Path) -> tuple[dict[str, Card], list[str]]:
    """Every card by model, and a line for each problem."""
    cards, problems = {}, []
    for path in sorted(folder.glob("*.json")):
        if path.is_symlink() or folder.is_symlink():
            continue  # a stray: see benchmarks/published.py
        try:
            card = Card.model_validate_json(path.read_bytes())
        except OSError as error:
            problems.append(f"{path}: can't be read: {error.strerror}")
        except ValidationError as error:
            problems += [f"{path}: {problem}" for problem in problems_of(error)]
        else:
            if card.name == path.stem:
                cards[card.name] = card
            else:
                problems.append(f"{path}: name: is '{card.name}', the file's name says '{path.stem}'")
    return cards, problems


def models_of_suite(cards: Mapping[str, Card], suite: str) -> set[str]:
    """The models whose cards name the suite."""
    return {card.name for card in cards.values() if suite in card.suites}
