"""Load this checkout's results and runs for every page, and reload them when a file changes.

All visitors share one immutable reading. The files are checked at most every two seconds, and only changed records are parsed
again. So a page costs the same with ten records or ten thousand.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from tables.common import row_keys

from benchmarks.checkout import commit_of, root
from benchmarks.errors import UserError
from benchmarks.labels import as_of_line
from benchmarks.leaderboard import (
    ROW_KEY,
    Evidence,
    RowCache,
    Stamp,
    curve_path,
    files_of,
    make_attempts,
    make_board,
    make_claims,
    make_equivalences,
    read,
    read_curve,
)
from benchmarks.papers import load_attempts
from benchmarks.records import RecordError, RunRecord, load

CHECKOUT = Path(__file__).resolve().parent.parent
PATIENCE = 2.0  # seconds between two checks of the files
STATUS_TIMEOUT = 20  # seconds


@dataclass(frozen=True)
class Reading:
    """All data that the pages show."""

    evidence: Evidence
    board: pd.DataFrame
    claims: pd.DataFrame
    equivalences: pd.DataFrame
    attempts: pd.DataFrame
    as_of: str
    repository: str | None = None  # address of the records, code and sources


def is_address(text: str) -> bool:
    """Return whether a text is an http address without user name, password and query."""
    return bool(re.fullmatch(r"https?://[\w.-]+(:[0-9]+)?(/[\w.~-]+)*/?", text))


def repository() -> str | None:
    """Return the address of the project's repository from REPROZOO_REPOSITORY, or None if that is not an address."""
    address = os.environ.get("REPROZOO_REPOSITORY", "")
    return address.rstrip("/") if is_address(address) else None


class _Cache:
    """Cache of the last reading of one root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self.known: RowCache = {}
        self.files: dict[str, Stamp] | None = None
        self.checked = 0.0
        self.reading: Reading | None = None

    def current(self) -> Reading:
        with self.lock:
            if self.reading is None or time.monotonic() - self.checked > PATIENCE:
                results, runs = self.folder / "results", self.folder / ".runs"
                files = files_of(results, runs)
                if self.reading is None or files != self.files:
                    self.reading, self.files = make_reading(read(results, runs, known=self.known), self.folder), files
                self.checked = time.monotonic()
            return self.reading


_caches: dict[Path, _Cache] = {}


def current() -> Reading:
    """Return the current reading of this root. Raise PaperError if a source is invalid."""
    return _caches.setdefault(root(), _Cache(root())).current()


def make_reading(evidence: Evidence, folder: Path) -> Reading:
    """Build all frames from one set of evidence."""
    board = make_board(evidence)
    return Reading(
        evidence,
        board,
        make_claims(board, evidence.papers),
        make_equivalences(board),
        make_attempts(evidence.papers, load_attempts()),
        as_of_line(board["newest"].max(), commit_of(folder)),
        repository(),
    )


def record_of(run: Mapping[Any, Any]) -> RunRecord | None:
    """Return the whole record of a row of `evidence.runs`, or None if it can no longer be read."""
    try:
        return load(Path(run["path"]))
    except RecordError:
        return None


@lru_cache(maxsize=4_096)
def _errors_by_epoch(path: str, changed: int) -> tuple[float, ...]:
    curve = read_curve(Path(path))
    return () if curve is None else tuple(curve["test_error"].dropna())


def small_curve(record: str) -> tuple[float, ...]:
    """Return the test error of one run by epoch, for a table's cell. It is empty if there is no curve."""
    path = curve_path(Path(record))
    try:
        return _errors_by_epoch(str(path), path.stat().st_mtime_ns)
    except OSError:
        return ()


def small_curves(reading: Reading, view: pd.DataFrame) -> list[tuple[float, ...]]:
    """Return the curve of the first finished seed for each row of a board. It is empty if none has finished."""
    runs = reading.evidence.runs
    finished = runs[(runs["standing"] == "counted") & (runs["outcome"] == "finished")].drop_duplicates(ROW_KEY)
    first = dict(zip(row_keys(finished), finished["path"], strict=True))
    paths = [first.get(key) for key in row_keys(view)]
    return [small_curve(path) if path else () for path in paths]


def status() -> dict[str, Any]:
    """Run `runner status --json` in a child process and return its object.

    Raise UserError with one line if the runner is missing, fails, takes too long or answers in another form.
    """
    command = [sys.executable, "-P", "-m", "runner", "status", "--json"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=STATUS_TIMEOUT, check=True)
        answer = json.loads(process.stdout)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"`runner status --json` took more than {STATUS_TIMEOUT} s") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"`runner status --json` ended with code {error.returncode}: {last}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"`runner status --json` could not be read: {error}") from error
    if not isinstance(answer, dict) or not isinstance(answer.get("jobs"), list):
        raise UserError("`runner status --json` gave an unexpected answer")
    return answer
