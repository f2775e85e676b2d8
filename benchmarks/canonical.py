"""Write JSON in one canonical form, so that equal values have equal texts; change, compare and hash recipes as JSON."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Json = Any  # a number, string, boolean or null, or a list or object of them: the value of a recipe field

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Json) -> str:
    """Return the canonical text of a JSON value: sorted keys, no spaces, non-ASCII unescaped. NaN raises ValueError."""
    return _CANONICAL.encode(value)


def sha256_of(value: Json) -> str:
    """Return the sha256 of the canonical JSON of a value, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def with_overrides(recipe: Mapping[str, Json], overrides: Mapping[str, Json]) -> dict[str, Json]:
    """Return a recipe's JSON with the overrides, which have dotted names. A whole part is replaced before its fields."""
    result = dict(recipe)
    for path, value in sorted(overrides.items()):
        *parts, field = path.split(".")
        table = result
        for part in parts:
            inner = table.get(part)
            table[part] = dict(inner) if isinstance(inner, Mapping) else {}
            table = table[part]
        table[field] = value
    return result


def flat(recipe: Mapping[str, Json], prefix: str = "") -> dict[str, Json]:
    """Return a recipe's JSON as one level: dotted names for the fields of parts, and each part's name for its rule."""
    fields: dict[str, Json] = {}
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            inner = dict(value)
            if "rule" in inner:
                fields[prefix + name] = inner.pop("rule")
            fields |= flat(inner, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def differing_fields(one: Mapping[str, Json], other: Mapping[str, Json]) -> dict[str, tuple[str, str]]:
    """Return the fields in which two recipes' JSON differ: dotted name -> both values as JSON text, or 'not there'."""
    both = flat(one), flat(other)
    pairs = {
        name: tuple(canonical_json(fields[name]) if name in fields else "not there" for fields in both)
        for name in sorted(both[0].keys() | both[1].keys())
    }
    return {name: (a, b) for name, (a, b) in pairs.items() if a != b}
