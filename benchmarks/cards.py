"""Model cards, results/cards/<model>.json: what the zoo knows about each model, readable without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.records import Name, Sha256, problems_of


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class CardAnatomy(_Card):
    """The layers, counts and departures of a network: all that is known of one that is never trained here."""

    parameters: int
    macs: int | None = None
    depth: int | None = None
    departures: tuple[dict[str, Any], ...] = ()
    layers: tuple[dict[str, Any], ...] = ()
    stages: tuple[dict[str, Any], ...] = ()  # the layers grouped as in the paper's table, with the values it prints


class CardVariant(CardAnatomy):
    """A model on one data set that it is trained on: its anatomy, revision and recipe."""

    revision: Annotated[int, Field(ge=1)]
    recipe: dict[str, Any]
    recipe_sha256: Sha256
    augmentation: str | None = None


class Card(_Card):
    """The content of results/cards/<model>.json."""

    name: Name
    title: str
    family: str
    paper: Name | None = None
    suites: tuple[str, ...] = ()
    datasets: dict[Name, CardVariant]
    anatomy: dict[Name, CardAnatomy] = {}


def read_cards(folder: Path) -> tuple[dict[str, Card], list[str]]:
    """Return the cards of a folder by model name, and one line for each problem.

    Symbolic links are skipped.
    """
    cards, problems = {}, []
    for path in sorted(folder.glob("*.json")):
        if path.is_symlink() or folder.is_symlink():
            continue  # `benchmarks.published` lists it as a stray
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
                problems.append(f"{path}: name: is '{card.name}', expected '{path.stem}', the file's name")
    return cards, problems


def models_of_suite(cards: Mapping[str, Card], suite: str) -> set[str]:
    """Return the names of the models whose cards list the suite."""
    return {card.name for card in cards.values() if suite in card.suites}
