"""Convert recipes to JSON data and back, in whole or by field, such as 'optimizer.learning_rate'.

A part is an object with the fields that differ from their defaults. If a field allows several classes of parts, the key
"rule" has the name of the class.
"""

import dataclasses
import difflib
import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

RULE = "rule"
Part = TypeVar("Part")


def to_plain(value: Any, with_rule: bool = False) -> Any:
    """Return a recipe, a part or a value as JSON data. Tuples become lists; fields with their default are left out.

    `with_rule` adds the class of a part under the key "rule", which is needed if the field allows several classes.
    """
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    hints = get_type_hints(type(value))
    data = {RULE: type(value).__name__} if with_rule else {}
    for f in dataclasses.fields(value):
        content = getattr(value, f.name)
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if content != default:
            data[f.name] = to_plain(content, with_rule=_needs_rule(hints[f.name]))
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
    """Return the JSON data of the field with this dotted name, as in `to_plain(recipe)`."""
    *parents, name = path.split(".")
    part: Any = recipe
    for parent in parents:
        part = getattr(part, parent)
    return to_plain(getattr(part, name), with_rule=_needs_rule(get_type_hints(type(part))[name]))


def with_value(recipe: Part, path: str, data: Any) -> Part:
    """Return the recipe with the field of this dotted name set from JSON data. Raise ValueError as `from_plain` does."""
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
    """Return the value of type `kind` that JSON data describe. Raise ValueError with what was expected if there is none.

    `name` is the field's name, for the message. A part without a "rule" has the class of `default`, the field's default.
    """
    parts = _parts(kind)
    if isinstance(data, Mapping):
        if not parts:
            raise ValueError(f"{name} is {_shortened(data)}, expected {_in_words(kind)}")
        return _part_from(parts, data, name, default)
    if data is None and type(None) in _alternatives(kind):
        return None
    for simple in _alternatives(kind):
        value = _simple_from(simple, data, name)
        if value is not _NO_MATCH:
            return value
    raise ValueError(f"{name} is {_shortened(data)}, expected {_in_words(kind)}")


_NO_MATCH = object()  # None may be a value


def _simple_from(kind: Any, data: Any, name: str) -> Any:
    """Return the value of a type that is not a part, or _NO_MATCH if the data do not fit it."""
    if get_origin(kind) is tuple:
        if not isinstance(data, (list, tuple)):
            return _NO_MATCH
        items = get_args(kind)
        if items[-1] is ...:
            return tuple(from_plain(items[0], item, name) for item in data)
        if len(data) != len(items):
            return _NO_MATCH
        return tuple(from_plain(item_kind, item, name) for item_kind, item in zip(items, data, strict=True))
    if kind is float and isinstance(data, (int, float)) and not isinstance(data, bool):
        number = float(data) if abs(data) < 1e300 else float("inf")
        return number if number - number == 0 else _NO_MATCH  # neither infinity nor NaN
    if kind in (int, bool, str) and type(data) is kind:
        return data
    return _NO_MATCH


def _part_from(parts: tuple[type, ...], data: Mapping[str, Any], name: str, default: Any) -> Any:
    names = {part.__name__: part for part in parts}
    rule = data.get(RULE, type(default).__name__ if dataclasses.is_dataclass(default) else None)
    if rule is None and len(parts) == 1:
        rule = parts[0].__name__
    if rule not in names:
        raise ValueError(f"{name} has the rule {_shortened(rule)}, expected one of: {', '.join(names)}")
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


def check_types(part: Any) -> None:
    """Raise ValueError, naming the field, if a dataclass has a value of a type that it does not declare."""
    for name, kind in _hints(part.__class__).items():
        value = getattr(part, name)
        if not _is_a(value, kind):
            expected = _in_words(kind).replace("a list", "a tuple").replace("[", "(").replace("]", ")")
            comma = any(_is_a(value, item) for item in _items(kind))
            as_in = f": a comma is missing, as in ({_shortened(value)},)" if comma else ""
            raise ValueError(f"{name} is {_shortened(value)}, expected {expected}{as_in}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return {f.name: get_type_hints(kind)[f.name] for f in dataclasses.fields(kind)}


def _is_a(value: Any, kind: Any) -> bool:
    """Return whether a value has a field's type. Types without a check, such as functions and mappings, always match."""
    if len(_alternatives(kind)) > 1:
        return any(_is_a(value, one) for one in _alternatives(kind))
    if get_origin(kind) is tuple:
        items = get_args(kind)
        if not isinstance(value, tuple):
            return False
        kinds = (items[0],) * len(value) if items[-1] is ... else items
        return len(kinds) == len(value) and all(map(_is_a, value, kinds))
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind) if isinstance(kind, type) and get_origin(kind) is None else True


def _items(kind: Any) -> list[Any]:
    """Return the item types of the tuples of any length that a type allows."""
    tuples = [get_args(one) for one in _alternatives(kind) if get_origin(one) is tuple]
    return [items[0] for items in tuples if items[-1] is ...]


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _parts(kind: Any) -> tuple[type, ...]:
    """Return the dataclasses that a field's type allows."""
    return tuple(one for one in _alternatives(kind) if dataclasses.is_dataclass(one) and isinstance(one, type))


def _needs_rule(kind: Any) -> bool:
    """Return whether JSON data must name the class of a part: if the type allows several classes, or other values too."""
    return bool(_parts(kind)) and len(_alternatives(kind)) > 1


def _in_words(kind: Any) -> str:
    """Return a description of a type, such as 'a number or a Ramp'."""
    simple = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "null"}
    words = []
    for one in _alternatives(kind):
        if one in simple:
            words.append(simple[one])
        elif get_origin(one) is tuple:
            items = get_args(one)
            if items[-1] is ...:
                words.append(f"a list of {_several(items[0], simple)}")
            else:
                words.append("[" + ", ".join(_in_words(item) for item in items) + "]")
        else:
            words.append(f"a {one.__name__}")
    return " or ".join(words)


def _several(kind: Any, simple: Mapping[Any, str]) -> str:
    """Return a description of a list's items, such as 'whole numbers' or '[a word, a number]'."""
    if kind in simple:
        return f"{simple[kind].removeprefix('a ')}s"
    return f"{kind.__name__}s" if isinstance(kind, type) and get_origin(kind) is None else _in_words(kind)


def _shortened(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 60 else f"{text[:57]}..."


def require_known(name: str, value: str, known: Iterable[str]) -> None:
    """Raise ValueError, naming the field and the nearest name, unless its value is one of `known`."""
    known = list(known)
    if value not in known:
        near = nearest(value, known)
        hint = f"did you mean '{near}'? " if near else ""
        raise ValueError(f"{name} is '{value}': {hint}expected one of: {', '.join(known)}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant, None if no name is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)), None)


def require_positive(name: str, value: float) -> None:
    """Raise ValueError, naming the field, unless its value is above 0."""
    if not value > 0:
        raise ValueError(f"{name} is {value}, expected more than 0")


def require_not_negative(name: str, value: float) -> None:
    """Raise ValueError, naming the field, unless its value is 0 or more."""
    if not value >= 0:
        raise ValueError(f"{name} is {value}, expected 0 or more")
