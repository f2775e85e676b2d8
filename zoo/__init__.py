"""Declare the models: one architecture per file, with torch and numpy only.

To add a model, add a file that declares `MODELS`. `load_models` imports every such module of this package. If a file cannot be
loaded, `problems()` has a line about it, and the models of the other files still load.
"""

import dataclasses
import importlib
import logging
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from zoo.plain import nearest
from zoo.spec import ModelSpec

# Modules that declare no model.
HELPERS = {
    "spec",
    "recipe",
    "optimizers",
    "schedules",
    "initialisers",
    "plain",
    "anatomy",
    "handwritten",
    "lecun_networks",
}


def load_models() -> dict[str, ModelSpec]:
    """Return every declared model by name, in the order of files and declarations.

    A file that cannot be loaded is left out. A name that two files declare is left out too. Each is logged once as a warning.
    """
    return _load()[0]


def problems() -> tuple[str, ...]:
    """Return a line with place and reason for each file of the zoo that cannot be loaded, and for each duplicate name."""
    return _load()[1]


@cache
def _load() -> tuple[dict[str, ModelSpec], tuple[str, ...]]:
    declared: list[tuple[str, ModelSpec]] = []
    lines = []
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in HELPERS):
        try:
            declared += [(module, spec) for spec in _declared(module)]
        except Exception as error:  # an error in one model's file must not remove other models
            lines.append(_line(module, error))
    files: dict[str, list[str]] = {}
    for module, spec in declared:
        files.setdefault(spec.name, []).append(f"zoo/{module}.py")
    lines += [
        f"{places[0]}: declares the model '{name}', and so does {places[1]}: rename one; until then neither counts"
        for name, places in files.items()
        if len(places) > 1
    ]
    for line in lines:
        logging.getLogger(__name__).warning("%s", line)
    return {spec.name: spec for _, spec in declared if len(files[spec.name]) == 1}, tuple(lines)


def _declared(module: str) -> Iterator[ModelSpec]:
    """Yield the models of one module.

    Raise what the module raises, and ValueError if it declares something else.
    """
    models = getattr(importlib.import_module(f"zoo.{module}"), "MODELS", None)
    if models is None:
        raise ValueError("declares no MODELS, expected MODELS = (ModelSpec(...),)")
    if isinstance(models, ModelSpec):
        raise ValueError("MODELS is a ModelSpec, expected a tuple: a comma is missing, as in (ModelSpec(...),)")
    for spec in models:
        if not isinstance(spec, ModelSpec):
            raise ValueError(f"MODELS holds {spec!r:.60}, expected a ModelSpec")
        yield spec


# --- messages about a file, in one line ----------------------------------------------------------------------------------


def _line(module: str, error: Exception) -> str:
    """Return `zoo/FILE.py:LINE: what is wrong`."""
    own = f"zoo/{module}.py"
    place = _place(error)
    if place is None:
        return f"{own}: {_in_words(error)}"
    file, number = place
    return f"{own}:{number}: {_in_words(error)}" if file == own else f"{own}: imports {file}, which can't be loaded"


def _place(error: Exception) -> tuple[str, int] | None:
    """Return the model file and the line in which an error occurred, or None if no model file is involved."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
    folders = {Path(folder) for folder in __path__}
    models = [
        (f"zoo/{Path(name).name}", number or 1)
        for name, number in places
        if Path(name).parent in folders and Path(name).stem not in HELPERS | {"__init__"}
    ]
    return models[-1] if models else None


_UNEXPECTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r"(\w+)\.__init__\(\) missing \d+ required .*?arguments?: (.*)")


def _in_words(error: Exception) -> str:
    text = " ".join(str(traceback.TracebackException.from_exception(error)).split())
    if isinstance(error, SyntaxError):
        return error.msg
    if match := _UNEXPECTED.search(text):
        return f"{match[1]} has no field '{match[2]}'{_nearest(match[2], _fields(match[1]))}"
    if match := _MISSING.search(text):
        return f"{match[1]} lacks {match[2]}"
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


def _fields(part: str) -> list[str]:
    """Return the fields of a part of the recipe language or of a spec, found by class name."""
    for helper in sorted(HELPERS):
        kind: Any = getattr(sys.modules.get(f"zoo.{helper}"), part, None)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return [field.name for field in dataclasses.fields(kind)]
    return []


def _nearest(name: str, fields: list[str]) -> str:
    initials = {"".join(word[0] for word in field.split("_")): field for field in fields if "_" in field}
    near = initials.get(name) or nearest(name, fields)
    return (f": did you mean '{near}'?" if near else "") + (f" (fields: {', '.join(fields)})" if fields else "")
