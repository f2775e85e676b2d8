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
    """The result of a check: `says` is one line; `mend` is what to do, empty if nothing. Both are keys of `doctor --json`."""

    name: str
    status: Status
    says: str
    mend: str = ""


def ok(name: str, says: str) -> Check:
    """Return a result that needs no action."""
    return Check(name, "ok", says)


def warning(name: str, says: str, mend: str) -> Check:
    """Return a result that limits the work but does not stop it."""
    return Check(name, "warning", says, mend)


def problem(name: str, says: str, mend: str) -> Check:
    """Return a result that keeps something from running."""
    return Check(name, "problem", says, mend)


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
    says = f"{whose} differ by {apart:.1f} s"
    if apart > CLOCK_PROBLEM:
        return problem(
            name,
            says,
            "synchronise the clocks with NTP, because a job counts as running for three minutes after its lease",
        )
    if apart > CLOCK_WARNING:
        return warning(name, says, "synchronise the clocks with NTP")
    return ok(name, says)
