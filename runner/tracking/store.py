"""Locate MLflow's store, lock it, and shorten its errors. mlflow itself is imported only when it is needed."""

import logging
import os
import re
import secrets
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from runner.jobs.paths import runs_folder
from runner.locks import locked_within

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOGIN = "If it needs a login, set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the default waits over four minutes for an unreachable server
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
}


def store_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the absolute address of this checkout's own SQLite file."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return uri or f"sqlite:///{runs_folder() / 'mlflow.db'}"


def unfit_folder() -> str | None:
    """Return why MLflow cannot have its SQLite file in this checkout's .runs; None if it can, or if the store is elsewhere.

    MLflow and SQLAlchemy parse a file's address differently if the path contains ? or %.
    """
    if os.environ.get("MLFLOW_TRACKING_URI", "").strip() or not {"?", "%"} & set(str(runs_folder())):
        return None
    return (
        f"MLflow can't use a file in {runs_folder()}, because the path contains ? or %: set REPROZOO_ROOT to another "
        "folder, or MLFLOW_TRACKING_URI to another store; then run `runner sync`"
    )


def database_of(uri: str) -> Path | None:
    """Return the SQLite file of a store's address; None for another kind of store."""
    return Path(unquote(uri[len("sqlite:///") :].partition("?")[0])) if uri.startswith("sqlite:///") else None


def ui_command() -> str:
    """Return what to type to see the runs: `mlflow ui` on the database, or a server's address."""
    uri = store_uri()
    if _is_server(uri):
        return without_password(uri)
    return f"{_mlflow_program()} ui --backend-store-uri {shlex.quote(without_password(uri))}"


def how_to_see(datasets: Iterable[str]) -> str:
    """Return where to see the runs of some data sets, each an experiment: the command, and the page to open.

    MLflow's own start page shows no experiment.
    """
    names, uri = list(dict.fromkeys(datasets)), store_uri()
    page = "/#/experiments" + (f"?experimentSearchFilter={quote(names[0])}" if len(names) == 1 else "")
    if uri.startswith("databricks"):
        return ui_command()
    return (
        ui_command().rstrip("/") + page if _is_server(uri) else f"{ui_command()}, then open http://127.0.0.1:5000{page}"
    )


def _mlflow_program() -> str:
    """Return the shortest name by which a shell in this folder finds this environment's mlflow."""
    ours = Path(sys.executable).with_name("mlflow")
    if not ours.exists() or shutil.which("mlflow") == str(ours):
        return "mlflow"
    near = ours.relative_to(Path.cwd()) if ours.is_relative_to(Path.cwd()) else ours
    return shlex.quote(str(near))


def _is_server(uri: str) -> bool:
    return uri.startswith(("http:", "https:", "databricks"))


def without_password(uri: str) -> str:
    """Return the store's address without its credentials."""
    return re.sub(r"//[^/@]*@", "//", uri)


def writing(patience: float) -> AbstractContextManager[bool]:
    """Hold the lock of the one process of this checkout that writes to MLflow.

    Yield False if another process holds it for longer than `patience` seconds.
    """
    return locked_within(runs_folder() / "mlflow.lock", patience)


def create_store(client_class: "type[MlflowClient]", path: Path) -> None:
    """Create and migrate a new SQLite store under a temporary name, then rename it.

    A kill during the migrations, which take seconds, would leave a store that MLflow can neither open nor repair.
    """
    if path.parent == runs_folder():  # here the lock excludes other writers
        for leftover in path.parent.glob(f".{path.name}.*.tmp*"):
            leftover.unlink(missing_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    os.close(os.open(fresh, os.O_CREAT | os.O_WRONLY, 0o666))  # else SQLite makes it 0644, whatever the umask
    client_class(tracking_uri=f"sqlite:///{fresh}").search_experiments(max_results=1)
    if not path.exists():
        fresh.rename(path)


def artifacts_beside(database: Path) -> Path:
    """Return the artifact folder of an SQLite store."""
    return database.with_name("mlflow-artifacts")


def update_artifact_addresses(database: sqlite3.Connection, artifacts: Path) -> None:
    """Update the artifact addresses of a store that was moved together with its artifacts.

    MLflow stores absolute addresses. Without this, new artifacts would go to the old place, which would be created
    again.
    """
    try:
        rows = database.execute("SELECT experiment_id, name, artifact_location FROM experiments").fetchall()
    except sqlite3.OperationalError:  # an empty database, or one of a later MLflow
        return
    for experiment, name, old in rows:
        new = (artifacts / name).as_uri()
        ours = str(old).endswith(f"/{artifacts.name}/{name}") and old != new
        if not ours or (not (artifacts / name).exists() and Path(unquote(urlsplit(old).path)).exists()):
            continue
        database.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (new, experiment))
        database.execute(
            "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
            "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
            (new, len(old) + 1, experiment, len(old) + 1, f"{old}/"),
        )
    database.commit()


class MlflowMissingError(Exception):
    """Raised if mlflow is not installed."""


def mlflow_client() -> Any:
    """Return MLflow's client class. Raise MlflowMissingError. The first import takes seconds."""
    try:
        from mlflow.tracking import MlflowClient
    except ModuleNotFoundError as error:
        raise MlflowMissingError from error
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):  # they log to stderr what our warning says already
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MlflowClient


def is_about_the_store(error: Exception) -> bool:
    """Return whether an error concerns the whole store (it fails or has lost data) rather than one job."""
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return False  # a file of the job that was moved to old/ meanwhile
    response = getattr(error, "response", None)  # requests.HTTPError, when an artifact is sent to a server
    if response is not None:
        return response.status_code >= 500
    if hasattr(error, "get_http_status_code"):  # MlflowException
        return error.get_http_status_code() >= 500 or error.get_http_status_code() == 404
    return isinstance(error, (OSError, sqlite3.Error))


def line_of(error: BaseException) -> str:
    """Return the error's first line, without credentials.

    A line of more than 200 characters, as for a failed connection, is reduced to the system's message inside it. Without
    one it is cut off.
    """
    text = without_password(" ".join(str(error).split("\n")[0].split())) or type(error).__name__
    if len(text) <= 200:
        return text
    system = re.search(r"\[Errno -?\d+\] ([\w ]+)|timed out", text)
    return (system[1] or system[0]) if system else text[:197] + "..."


def behind_file() -> Path:
    """Return the file that exists while jobs may end: MLflow may lack data if it is left by a kill or by a SLURM queue."""
    return runs_folder() / "mlflow.behind"


def mark_behind() -> None:
    """Note that jobs may end without anyone sending them to MLflow. The next submit that waits for its jobs sends them."""
    behind_file().parent.mkdir(parents=True, exist_ok=True)
    behind_file().touch()


def is_behind() -> bool:
    """Return whether a submit was killed, or a server unreachable, before MLflow had everything. Needs no mlflow."""
    return behind_file().exists()
