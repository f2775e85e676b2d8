"""The result of a check, and helpers that several checks share."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Status = Literal["ok", "warning", "problem"]
GIB = 2**30
CLOCK_WARNING, CLOCK_PROBLEM = 5.0, 60.0  # seconds between two clocks; leases are valid for 180


@dataclass(frozen=True)
class Check:
    """The result of a check: `message` is one line; `fix` is what to do, empty if nothing. Both are keys of `doctor --json`."""

    name: str
    status: Status
    message: str
    fix: str = ""


def ok(name: str, message: str) -> Check:
    """Return a result that needs no action."""
    return Check(name, "ok", message)


def warning(name: str, message: str, fix: str) -> Check:
    """Return a result that limits the work but does not stop it."""
    return Check(name, "warning", message, fix)


def problem(name: str, message: str, fix: str) -> Check:
    """Return a result that keeps something from running."""
    return Check(name, "problem", message, fix)


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Yield a new file of one byte in the folder and remove it afterwards."""
    path = folder / f".doctor-{secrets.token_hex(6)}"
    try:
        path.write_bytes(b"x")
        yield path
    finally:
        path.unlink(missing_ok=True)


def compare_clocks(name: str, apart: float, whose: str) -> Check:
    """Return the check of two clocks that differ by `apart` seconds."""
    message = f"{whose} differ by {apart:.1f} s"
    if apart > CLOCK_PROBLEM:
        return problem(
            name,
            message,
            "synchronise the clocks with NTP, because a job counts as running for three minutes after its lease",
        )
    if apart > CLOCK_WARNING:
        return warning(name, message, "synchronise the clocks with NTP")
    return ok(name, message)
