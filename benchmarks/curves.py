"""The runs behind a row, and their learning curves."""

from pathlib import Path

import pandas as pd

from benchmarks.reading import Evidence
from benchmarks.records import CURVE_COLUMNS


def runs_of(evidence: Evidence, dataset: str, model: str) -> pd.DataFrame:
    """Every run of a model on a data set, counted or not, with its `standing`."""
    runs = evidence.runs
    return runs[(runs["dataset"] == dataset) & (runs["model"] == model)].reset_index(drop=True)


def curve_path(record: Path) -> Path:
    """The curve beside a record: curve.csv of a job's folder, <stem>.curve.csv among published ones."""
    return record.with_name("curve.csv") if record.name == "record.json" else record.with_suffix(".curve.csv")


def read_curve(path: Path) -> pd.DataFrame | None:
    """A curve with CURVE_COLUMNS, one row an epoch; None where there is none or it isn't one: `runner verify` says so."""
    try:
        curve = pd.read_csv(path, dtype=float)
        if tuple(curve.columns) != CURVE_COLUMNS or curve.empty:
            return None
        return curve.astype({"epoch": int})
    except (OSError, ValueError):  # pandas' parser errors are ValueErrors
        return None


def curves(runs: pd.DataFrame) -> pd.DataFrame:
    """The curves of these runs, one row an epoch: run, seed, profile, data, standing and CURVE_COLUMNS.

    A curve that is missing or isn't one is passed over.
    """
    named = ["run", "seed", "profile", "data", "standing"]
    found = []
    for row in runs.to_dict("records"):
        curve = read_curve(curve_path(Path(row["path"])))
        if curve is not None:
            found.append(curve.assign(**{name: row[name] for name in named}))
    columns = [*named, *CURVE_COLUMNS]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)
