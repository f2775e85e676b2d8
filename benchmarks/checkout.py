"""Which checkout is meant, and what git says of it."""

import os
import subprocess
from pathlib import Path

from benchmarks.errors import UserError

PACKAGES = Path(__file__).resolve().parent.parent  # the folder that holds benchmarks, zoo and runner


def root() -> Path:
    """Return the checkout whose .runs and results are meant: REPROZOO_ROOT, else the one that holds this package.

    Raises UserError where neither is: an installed package must not write among other packages.
    """
    named = os.environ.get("REPROZOO_ROOT")
    if named:
        return Path(named).expanduser().resolve()
    if PACKAGES.name in ("site-packages", "dist-packages"):
        raise UserError(
            "reprozoo is installed without its checkout: REPROZOO_ROOT names the folder for .runs/ and results/, "
            "such as: export REPROZOO_ROOT=~/reprozoo"
        )
    return PACKAGES


def git(folder: Path, *words: str) -> str | None:
    """Return what a git command prints in a checkout's top folder; None where git fails or is not installed.

    A folder inside another repository is no checkout: that repository's commit says nothing of our sources.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    return _git(folder, *words) if top and Path(top).resolve() == folder.resolve() else None


def _git(folder: Path, *words: str) -> str | None:
    own = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }  # GIT_DIR means another one
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def commit_of(folder: Path) -> str | None:
    """Return the commit of a checkout, with `+` for uncommitted changes; None outside git."""
    return git(folder, "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+") or None
