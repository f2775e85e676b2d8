"""The checkout that commands work on, and its git commit."""

import os
import subprocess
from pathlib import Path

from benchmarks.errors import UserError

PACKAGES = Path(__file__).resolve().parent.parent  # the folder that holds benchmarks, zoo and runner


def root() -> Path:
    """Return the folder that holds .runs/ and results/: REPROZOO_ROOT if it is set, else the checkout of this package.

    Raise UserError if the package is installed without a checkout, because it must not write into site-packages.
    """
    override = os.environ.get("REPROZOO_ROOT")
    if override:
        return Path(override).expanduser().resolve()
    if PACKAGES.name in ("site-packages", "dist-packages"):
        raise UserError(
            "reprozoo is installed without its checkout: set REPROZOO_ROOT to the folder for .runs/ and results/, "
            "such as: export REPROZOO_ROOT=~/reprozoo"
        )
    return PACKAGES


def git(folder: Path, *arguments: str) -> str | None:
    """Return the output of a git command in `folder`; None if git fails, is missing, or `folder` is not a checkout's top.

    A folder inside another repository does not count: that repository's commit says nothing about our sources.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    return _git(folder, *arguments) if top and Path(top).resolve() == folder.resolve() else None


def _git(folder: Path, *arguments: str) -> str | None:
    # GIT_DIR and its kind would point git at another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def commit_of(folder: Path) -> str | None:
    """Return the abbreviated commit of a checkout, with `+` after it for uncommitted changes; None outside git."""
    return git(folder, "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+") or None
