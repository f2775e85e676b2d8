"""The exception for a user's mistake, and its message for an unknown name."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can correct. Its one line says what was wrong, what was expected and what to do.

    `runner` prints it on stderr without a traceback and exits with code 2.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for an unknown name. It suggests the nearest known name and lists all of them."""
    names = sorted(known)
    near = nearest(name, names)
    hint = f"did you mean '{near}'? " if near else ""
    return UserError(f"unknown {kind} {name!r}: {hint}known: {', '.join(names) or '(none)'}")


def nearest(name: str, known: Iterable[str], similarity: float = 0.5) -> str | None:
    """Return the known name that was probably meant; None if no name has the similarity, from 0 to 1 (equal)."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=similarity)), None)
