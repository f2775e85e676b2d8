"""Start the Streamlit site (`runner site`), or export it as plain HTML.

site/ is not a package and imports nothing of the runner. It is started as a program and gets what only the runner knows
(the root, the command for MLflow) as environment variables.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from benchmarks.checkout import root
from benchmarks.errors import UserError
from runner.sources import child_variables, python
from runner.tracking.store import QUIET, ui_command

SITE = Path(__file__).resolve().parent.parent / "site"


def serve(
    port: int, address: str, base_path: str = "", repository: str = "", title: str = "", base_url: str = ""
) -> None:
    """Replace this process by the server.

    Raise UserError for a port in use, missing scripts, and options that have no effect here. Does not return otherwise.
    """
    _check_scripts()
    _refuse({"--title": title, "--base-url": base_url}, "it needs --export DIR")
    if base_path and not re.fullmatch(r"/?[\w.~-]+(/[\w.~-]+)*/?", base_path):
        raise UserError(f"--base-path is '{base_path}', expected a path such as bench or tools/bench")
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
    command = python(str(SITE / "serve.py"), str(port), address)
    sys.stdout.flush()
    base = {"STREAMLIT_SERVER_BASE_URL_PATH": base_path.strip("/")} if base_path else {}
    os.execve(sys.executable, command, _environment(repository) | base)


def export(folder: Path, title: str = "", base_url: str = "", repository: str = "", base_path: str = "") -> int:
    """Write the boards as HTML files into a folder; return the exit code."""
    _check_scripts()
    _refuse({"--base-path": base_path}, "exported pages work below any path")
    options = {"--title": title, "--base-url": base_url, "--repository": repository}
    arguments = [f"{name}={value}" for name, value in options.items() if value]
    command = python(str(SITE / "export.py"), *arguments, "--", str(folder))
    return subprocess.run(command, env=_environment(), check=False).returncode


def _refuse(options: dict[str, str], why: str) -> None:
    for name, value in options.items():
        if value:
            raise UserError(f"{name} can't be used here: {why}")


def _check_scripts() -> None:
    if not (SITE / "app.py").exists():
        raise UserError(
            f"the site's scripts are not at {SITE}: run this command in a checkout, because an installed package has no site"
        )


def _environment(repository: str = "") -> dict[str, str]:
    """Return the environment of the site's process.

    It imports the site's own modules and ours, but nothing from the current folder.
    """
    folders = [str(SITE), str(SITE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"REPROZOO_ROOT": str(root()), "REPROZOO_MLFLOW": ui_command(), "PYTHONPATH": os.pathsep.join(folders)}
    own |= {"REPROZOO_REPOSITORY": repository} if repository else {}
    return os.environ | QUIET | child_variables() | own
