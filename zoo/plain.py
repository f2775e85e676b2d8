"""Recipes as JSON and back, and single fields of them by dotted name: 'optimizer.learning_rate'.

A part is written as an object of the fields that differ from their defaults. Where a field admits several parts, the key
"rule" names the part's class.
"""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

RULE = "rule"
Part = TypeVar("Part")


def to_plain(value: Any, named: bool = False) -> Any:
    """Return a recipe, a part or a value of one as JSON data: tuples as lists, fields with their default left out.

    `named` writes the part's class under the key "rule": where a field admits several.
    """
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    hints = get_type_hints(type(value))
    data = {RULE: type(value).__name__} if named else {}
    for f in dataclasses.fields(value):
        content = getattr(value, f.name)
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if content != default:
            data[f.name] = to_plain(content, named=_is_named(hints[f.name]))
    return data


def paths_of(value: Any, prefix: str = "") -> list[str]:
    """Return the dotted name of every field of a recipe and of its parts: 'epochs', 'optimizer.learning_rate', ..."""
    paths = []
    for f in dataclasses.fields(value):
        content = getattr(value, f.name)
        paths.append(prefix + f.name)
        if dataclasses.is_dataclass(content):
            paths += paths_of(content, f"{prefix}{f.name}.")
    return paths


def to_plain_at(recipe: Any, path: str) -> Any:
    """Return the JSON of the field with this dotted name, as `to_plain` writes it into the recipe's."""
    *parents, name = path.split(".")
    part: Any = recipe
    for parent in parents:
        part = getattr(part, parent)
    return to_plain(getattr(part, name), named=_is_named(get_type_hints(type(part))[name]))


def with_value(recipe: Part, path: str, data: Any) -> Part:
    """Return the recipe with JSON data in the field of this dotted name; raises ValueError as `from_plain` does."""
    changed: Part = _with(recipe, path.split("."), data, path)
    return changed


def _with(part: Any, names: list[str], data: Any, path: str) -> Any:
    name, *rest = names
    if rest:
        value = _with(getattr(part, name), rest, data, path)
    else:
        value = from_plain(get_type_hints(type(part))[name], data, path, getattr(part, name))
    try:
        return dataclasses.replace(part, **{name: value})
    except ValueError as error:
        own = path.rpartition(f"{name}{''.join('.' + r for r in rest)}")[0]
        raise error if rest else ValueError(f"{own}{error}") from error


def from_plain(kind: Any, data: Any, name: str, default: Any = None) -> Any:
    """Return JSON data as a value of the type `kind`; raises ValueError, in words, where it isn't one.

    `name` is the field's, for the message; `default` is its default value, whose class a part without a "rule" has.
    """
    parts = _parts(kind)
    if isinstance(data, Mapping):
        if not parts:
            raise ValueError(f"{name} is {_shown(data)}, expected {_in_words(kind)}")
        return _part_from(parts, data, name, default)
    if data is None and type(None) in _alternatives(kind):
        return None
    for simple in _alternatives(kind):
        value = _simple_from(simple, data, name)
        if value is not _NO:
            return value
    raise ValueError(f"{name} is {_shown(data)}, expected {_in_words(kind)}")


_NO = object()


def _simple_from(kind: Any, data: Any, name: str) -> Any:
    """Return the value, or _NO where the data are no such thing."""
    if get_origin(kind) is tuple:
        if not isinstance(data, (list, tuple)):
            return _NO
        items = get_args(kind)
        if items[-1] is ...:
            return tuple(from_plain(items[0], item, name) for item in data)
        if len(data) != len(items):
            return _NO
        return tuple(from_plain(item_kind, item, name) for item_kind, item in zip(items, data, strict=True))
    if kind is float and isinstance(data, (int, float)) and not isinstance(data, bool):
        number = float(data) if abs(data) < 1e300 else float("inf")
        return number if number - number == 0 else _NO  # neither infinity nor NaN
    if kind in (int, bool, str) and type(data) is kind:
        return data
    return _NO


def _part_from(parts: tuple[type, ...], data: Mapping[str, Any], name: str, default: Any) -> Any:
    names = {part.__name__: part for part in parts}
    rule = data.get(RULE, type(default).__name__ if dataclasses.is_dataclass(default) else None)
    if rule is None and len(parts) == 1:
        rule = parts[0].__name__
    if rule not in names:
        raise ValueError(f"{name} has the rule {_shown(rule)}, expected one of: {', '.join(names)}")
    part = names[rule]
    hints, fields = get_type_hints(part), {f.name: f for f in dataclasses.fields(part)}
    for key in data:
        if key != RULE and key not in fields:
            raise ValueError(f"{name} has no field '{key}', expected one of: {', '.join(fields)}")
    values = {}
    for key, f in fields.items():
        own = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        where = f"{name}.{key}" if name else key
        if key in data:
            values[key] = from_plain(hints[key], data[key], where, own)
        elif own is dataclasses.MISSING:
            raise ValueError(f"{where} is missing, expected {_in_words(hints[key])}")
    try:
        return part(**values)
    except ValueError as error:
        raise ValueError(f"{name}.{error}" if name else str(error)) from error


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _parts(kind: Any) -> tuple[type, ...]:
    """The dataclasses that a field's type admits."""
    return tuple(one for one in _alternatives(kind) if dataclasses.is_dataclass(one) and isinstance(one, type))


def _is_named(kind: Any) -> bool:
    """Tell whether JSON names a part's class here: where a field admits several, or plain values too."""
    return bool(_parts(kind)) and len(_alternatives(kind)) > 1


def _in_words(kind: Any) -> str:
    """Say what a type admits: 'a number or a Ramp'."""
    simple = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "null"}
    words = []
    for one in _alternatives(kind):
        if one in simple:
            words.append(simple[one])
        elif get_origin(one) is tuple:
            items = get_args(one)
            if items[-1] is ...:
                inner = items[0]
                words.append("a list" if inner not in simple else f"a list of {simple[inner].removeprefix('a ')}s")
            else:
                words.append("[" + ", ".join(_in_words(item) for item in items) + "]")
        else:
            words.append(f"a {one.__name__}")
    return " or ".join(words)


def _shown(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 60 else f"{text[:57]}..."


def require_positive(name: str, value: float) -> None:
    """Raise ValueError, naming the field, unless its value is above 0."""
    if not value > 0:
        raise ValueError(f"{name} is {value}, expected more than 0")


def require_not_negative(name: str, value: float) -> None:
    """Raise ValueError, naming the field, unless its value is 0 or more."""
    if not value >= 0:
        raise ValueError(f"{name} is {value}, expected 0 or more")
