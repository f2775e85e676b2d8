"""The one exception that stands for a user's mistake, and the sentence for an unknown name."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend: one line that says what was wrong, what was expected and what to do.

    `runner` prints it on stderr without a traceback and exits with code 2.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that isn't there: names the nearest valid one, else every valid one."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    listed = ", ".join(known) or "(none)"
    return UserError(f"unknown {kind} '{name}': {hint}known: {listed}")
