"""What a check finds, and what several of them share."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Status = Literal["ok", "warning", "problem"]
GIB = 2**30
CLOCK_WARNING, CLOCK_PROBLEM = 5.0, 60.0  # seconds between two clocks; leases are believed for 180


@dataclass(frozen=True)
class Check:
    """What was found: `says` is one line; `mend` what to do, empty where there is nothing to do."""

    name: str
    status: Status
    says: str
    mend: str = ""


def ok(name: str, says: str) -> Check:
    """Nothing to do."""
    return Check(name, "ok", says)


def warning(name: str, says: str, mend: str) -> Check:
    """Work goes on, less well."""
    return Check(name, "warning", says, mend)


def problem(name: str, says: str, mend: str) -> Check:
    """Something won't run."""
    return Check(name, "problem", says, mend)


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A new file for a check, removed afterwards."""
    path = folder / f".doctor-{secrets.token_hex(6)}"
    try:
        path.write_bytes(b"x")
        yield path
    finally:
        path.unlink(missing_ok=True)


def compare_clocks(name: str, apart: float, whose: str) -> Check:
    """Judge two clocks that are `apart` seconds apart."""
    says = f"{whose} are {apart:.1f} s apart"
    if apart > CLOCK_PROBLEM:
        return problem(
            name, says, "set the clocks by NTP: leases of other hosts are believed by them for three minutes"
        )
    if apart > CLOCK_WARNING:
        return warning(name, says, "set the clocks by NTP")
    return ok(name, says)
