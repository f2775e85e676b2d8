"""Messages about mistakes in a source's file: implausible figures, unknown names, wrong fields. Each is one line."""

from collections.abc import Iterable
from decimal import Decimal
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from benchmarks.datasets import DATASETS
from benchmarks.errors import nearest

# The number of classes of each data set with printed figures. Nothing is trained on ImageNet here.
CLASSES = {name: dataset.classes for name, dataset in DATASETS.items()} | {"imagenet": 1000}
SIMILARITY = 0.6  # of a mistyped field to its name: a field that is only a little similar is reported as missing, too
SMALLEST_ERROR = Decimal("0.1")  # percent; no source reports less on any of these data sets


def implausible(dataset: str, error: Decimal) -> str | None:
    """Return why a printed error (percent) is implausible, and what was probably meant; None if it is plausible."""
    constant = 100 - Decimal(100) / CLASSES[dataset]
    if error > constant:
        worse = f"{error} is worse than a constant answer ({constant:g} % on {dataset})"
        return f"{worse}; if it is an accuracy, write {100 - error}"
    if error < SMALLEST_ERROR:
        return f"{error} is below {SMALLEST_ERROR} %, the smallest plausible error; if it is a fraction, write {error * 100:f}"
    return None


def unknown_text(kind: str, name: object, known: Iterable[str]) -> str:
    """Return the message for an unknown name. It suggests the nearest known name, or lists all if there are few."""
    names = sorted(known)
    near = nearest(str(name).lower(), names, SIMILARITY)
    hint = f": did you mean '{near}'?" if near else f" (known: {', '.join(names)})" if 0 < len(names) <= 12 else ""
    return f"unknown {kind} {as_toml(name)}{hint}"


def as_toml(value: object) -> str:
    """Return a value as it is written in TOML, shortened to 60 characters."""
    text = str(value) if isinstance(value, Decimal) else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def wrong_fields(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """Return one line for each wrong field of a row: `field: what is wrong, what was expected`."""
    items = error.errors(include_url=False)
    unknown_names = [str(item["loc"][-1]) for item in items if item["type"] == "extra_forbidden"]
    lines = []
    for item in items:
        path = [str(part) for part in item["loc"]]
        if item["type"] == "missing" and nearest(path[-1], unknown_names, SIMILARITY):
            continue  # mistyped: the line of the unknown field says so
        lines.append(": ".join(part for part in (".".join(path), _wrong(item, schema)) if part))
    return lines


_PATTERNS = {
    "arxiv": "a number such as 1312.4400",
    "doi": "a DOI such as 10.1109/5.726791",
    "url": "an address that begins with http:// or https://",
}
_NAME = "lower-case letters, digits, _ and -"


def _wrong(item: ErrorDetails, schema: type[BaseModel]) -> str:
    kind, value, context = item["type"], as_toml(item["input"]), item.get("ctx", {})
    field = str(item["loc"][-1]) if item["loc"] else ""
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return unknown_text("field", field, _fields(schema, item["loc"][:-1]))
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


def _fields(schema: type[BaseModel], place: Iterable[int | str]) -> list[str]:
    """Return the names of the fields that a table may have, at a place inside a row."""
    for part in place:
        schema = next((model for model in _models(schema.model_fields[str(part)].annotation)), schema)
    return [field.alias or name for name, field in schema.model_fields.items()]


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    """Yield the schemas in a type annotation."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        for part in get_args(annotation):
            yield from _models(part)
    elif get_origin(annotation) is not Literal and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
