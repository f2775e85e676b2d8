"""The runs behind a board row, and their learning curves."""

from pathlib import Path

import pandas as pd

from benchmarks.reading import Evidence
from benchmarks.records import CURVE_COLUMNS


def runs_of(evidence: Evidence, dataset: str, model: str) -> pd.DataFrame:
    """Return all runs of a model on a data set, counted or not; the column `standing` says which count."""
    runs = evidence.runs
    return runs[(runs["dataset"] == dataset) & (runs["model"] == model)].reset_index(drop=True)


def curve_path(record: Path) -> Path:
    """Return the path of a record's curve: curve.csv in a job's folder, <stem>.curve.csv for a published record."""
    return record.with_name("curve.csv") if record.name == "record.json" else record.with_suffix(".curve.csv")


def read_curve(path: Path) -> pd.DataFrame | None:
    """Return a curve with CURVE_COLUMNS, one row per epoch; None if the file is missing or is not a curve."""
    try:
        curve = pd.read_csv(path, dtype=float)
        if tuple(curve.columns) != CURVE_COLUMNS or curve.empty:
            return None
        return curve.astype({"epoch": int})
    except (OSError, ValueError):  # pandas' parser errors are ValueErrors
        return None


def curves(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the curves of these runs, one row per epoch: run, seed, profile, data, standing and CURVE_COLUMNS.

    Runs without a readable curve are left out; `runner verify` reports them.
    """
    run_columns = ["run", "seed", "profile", "data", "standing"]
    frames = []
    for row in runs.to_dict("records"):
        curve = read_curve(curve_path(Path(row["path"])))
        if curve is not None:
            frames.append(curve.assign(**{name: row[name] for name in run_columns}))
    columns = [*run_columns, *CURVE_COLUMNS]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
