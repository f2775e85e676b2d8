"""Identify the code that runs: reject modules from elsewhere, start processes on the same code, describe it for records."""

import hashlib
import os
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pydantic import ValidationError

from benchmarks.checkout import git
from benchmarks.errors import UserError
from benchmarks.records import Source, problems_of

HERE = Path(__file__).resolve().parent.parent  # the folder that holds this runner
PACKAGES = ("benchmarks", "zoo", "runner")


def python(*arguments: str) -> list[str]:
    """Return the command of a Python process that does not import from its working directory."""
    return [sys.executable, "-P", *arguments]


def child_variables() -> dict[str, str]:
    """Return the variables with which a Python process and its children import this process's modules."""
    variables = {"PYTHONSAFEPATH": "1"}
    if HERE.name not in ("site-packages", "dist-packages"):  # these must not precede the standard library
        variables["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return variables


def check_modules() -> None:
    """Raise UserError if a package of ours is imported from another place than this runner, as by PYTHONPATH."""
    for name in PACKAGES:
        spec = find_spec(name)
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        _refuse_elsewhere(name, next((place for place in places if place), None))
    for name, module in sys.modules.copy().items():  # a thread may be importing
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in PACKAGES and file:
            _refuse_elsewhere(name, file)


@cache  # a place is looked at once, however often this process asks
def _refuse_elsewhere(name: str, place: str | None) -> None:
    own = HERE / name.partition(".")[0]
    if place is None or not Path(place).resolve().is_relative_to(own):
        raise UserError(
            f"{name} is imported from {place}, but the runner from {HERE / 'runner'}: start `runner` (not `python -m runner`) "
            "of the intended checkout, with PYTHONPATH empty"
        )


@cache
def source() -> Source:
    """Return the commit (or REPROZOO_COMMIT), whether our sources differ from it, and a digest of the sources.

    Call it first when a bundle starts, because the files may change while it trains. Raise UserError if a module was
    loaded from another place, or for a REPROZOO_COMMIT that no record can hold.
    """
    check_modules()
    digest = hashlib.sha256()
    for path in sorted(p for package in PACKAGES for p in (HERE / package).rglob("*.py")):
        digest.update(f"{path.relative_to(HERE).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    commit = git(HERE, "rev-parse", "HEAD")
    changed = git(HERE, "status", "--porcelain", "--", *PACKAGES) if commit else None
    try:
        return Source(
            commit=commit or os.environ.get("REPROZOO_COMMIT"),
            dirty=None if changed is None else bool(changed),
            sha256=digest.hexdigest(),
        )
    except ValidationError as error:
        raise UserError(f"REPROZOO_COMMIT is not valid: {problems_of(error)[0]}; correct or unset it") from error
