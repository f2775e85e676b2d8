"""Tabulate the jobs of this checkout and their progress."""

from collections.abc import Iterable, Mapping
from typing import Any

import escape
import pandas as pd


def progress_table(jobs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the jobs of `runner status --json` as a table, running jobs first."""
    order = ("running", "failed", "killed", "interrupted", "pending", "done")
    rows = []
    for job in jobs:
        epoch, epochs = job.get("epoch"), job.get("epochs")
        has_progress = isinstance(epoch, (int, float)) and isinstance(epochs, (int, float)) and epochs > 0
        rows.append(
            {
                "State": str(job.get("state", "")),
                "Job": escape.short(job.get("key", ""), 200),
                "Progress": min(100.0, 100 * float(epoch) / float(epochs)) if has_progress else 0.0,  # type: ignore[arg-type]
                "Epoch": f"{epoch} of {epochs}" if has_progress else "",
                "Error %": job.get("test_error"),
                "Outcome": job.get("outcome") or "",
                "Attempts": job.get("attempts"),
            }
        )
    rows.sort(key=lambda row: (order.index(row["State"]) if row["State"] in order else len(order), row["Job"]))
    columns = ["State", "Progress", "Job", "Epoch", "Error %", "Outcome", "Attempts"]
    table = pd.DataFrame(rows, columns=columns)
    table["Error %"] = table["Error %"].astype(float)
    return table
