"""What is wrong with a source's file, in one line that a contributor can act on: its figures, its names, its fields."""

import difflib
from collections.abc import Iterable
from decimal import Decimal
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from benchmarks.datasets import DATASETS

# How many classes the data sets have that sources print figures for. Nothing is trained on ImageNet here.
CLASSES = {name: dataset.classes for name, dataset in DATASETS.items()} | {"imagenet": 1000}
SMALLEST_ERROR = Decimal("0.1")  # percent: no source has less on any of these data sets


def implausible(dataset: str, error: Decimal) -> str | None:
    """Say why a printed error (percent) can't be one, and what it may be instead; None where it can."""
    constant = 100 - Decimal(100) / CLASSES[dataset]
    if error > constant:
        return f"{error} is worse than a constant answer ({constant:g} % on {dataset}): an accuracy? Then write {100 - error}"
    if error < SMALLEST_ERROR:
        return f"{error} is below {SMALLEST_ERROR} %, where no source is: a fraction? Then write {error * 100:f}"
    return None


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """Say that a name is not one of `known`, with the nearest that is, else with all of them where they are few."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.6)
    hint = f": did you mean '{near[0]}'?" if near else f" (known: {', '.join(known)})" if 0 < len(known) <= 12 else ""
    return f"unknown {kind} {shown(name)}{hint}"


def shown(value: object) -> str:
    """Spell a value from a TOML file as it would stand there, cut to one short line."""
    text = str(value) if isinstance(value, Decimal) else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def wrong_fields(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """Return one line for each wrong field of a row: `field: what is wrong, what is expected`."""
    lines = []
    for item in error.errors(include_url=False):
        place = [str(part) for part in item["loc"]]
        lines.append(": ".join(part for part in (".".join(place), _wrong(item, schema)) if part))
    return lines


_PATTERNS = {
    "arxiv": "a number such as 1312.4400",
    "doi": "a DOI such as 10.1109/5.726791",
    "url": "an address that begins with http:// or https://",
}
_NAME = "lower-case letters, digits, _ and -"


def _wrong(item: Any, schema: type[BaseModel]) -> str:
    kind, value, context = item["type"], shown(item["input"]), item.get("ctx", {})
    field = str(item["loc"][-1]) if item["loc"] else ""
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return unknown("field", field, _fields(schema, item["loc"][:-1]))
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_too_short":
        return "is empty"
    expected = {
        "string_type": "text in quotes",
        "tuple_type": f"a list in brackets, such as [{value}]",
        "list_type": f"a list in brackets, such as [{value}]",
        "too_short": "at least one entry",
        "literal_error": context.get("expected", ""),
        "string_pattern_mismatch": _PATTERNS.get(field, _NAME),
        "int_type": "a whole number without quotes",
        "int_from_float": "a whole number",
        "finite_number": "a finite number",
        "greater_than": f"more than {context.get('gt')}",
        "greater_than_equal": f"at least {context.get('ge')}",
        "less_than": f"less than {context.get('lt')}",
        "less_than_equal": f"at most {context.get('le')}",
        "model_type": 'a table, such as { augmentation = "none" }',
    }.get(kind)
    return f"is {value}, expected {expected}" if expected else f"is {value}: {item['msg']}"


def _fields(schema: type[BaseModel], place: Iterable[Any]) -> list[str]:
    """The names that a table may hold, at a place inside a row."""
    for part in place:
        schema = next((model for model in _models(schema.model_fields[str(part)].annotation)), schema)
    return [field.alias or name for name, field in schema.model_fields.items()]


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    """The schemas that an annotation names."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        for part in get_args(annotation):
            yield from _models(part)
    elif get_origin(annotation) is not Literal and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
