"""`runner site`: starts the Streamlit scripts of site/, or has them written as plain HTML.

site/ is no package and imports nothing of the runner: it is started as a program, and hears what only the runner knows
(which root, how to open MLflow) through its environment.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

from benchmarks.checkout import root
from benchmarks.errors import UserError
from runner.tracking import QUIET, ui_command

SITE = Path(__file__).resolve().parent.parent / "site"


def serve(port: int, address: str) -> None:
    """Become the server; returns only by UserError, for a port that is taken or missing scripts."""
    _check_scripts()
    if not 1 <= port <= 65_535:
        raise UserError(f"--port is {port}, expected 1 to 65535")
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"can't listen on {address}, port {port}: {error}; try --port {port % 65_535 + 1}"
            ) from error
    words = [sys.executable, str(SITE / "serve.py"), str(port), address]
    sys.stdout.flush()
    os.execve(sys.executable, words, _environment())


def export(folder: Path) -> int:
    """Write the boards as HTML files into a folder; returns the exit code."""
    _check_scripts()
    return subprocess.run(
        [sys.executable, str(SITE / "export.py"), str(folder)], env=_environment(), check=False
    ).returncode


def _check_scripts() -> None:
    if not (SITE / "app.py").exists():
        raise UserError(
            f"the site's scripts aren't at {SITE}: they come with a checkout, not with an installed package"
        )


def _environment() -> dict[str, str]:
    above = [str(SITE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"REPROZOO_ROOT": str(root()), "REPROZOO_MLFLOW": ui_command(), "PYTHONPATH": os.pathsep.join(above)}
    return dict(os.environ) | QUIET | own
