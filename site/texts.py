"""The checkout's own prose, read from the files that are its home."""

from pathlib import Path

import pandas as pd
from source import CHECKOUT

from benchmarks.datasets import get_dataset
from benchmarks.labels import clean


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def protocol() -> str:
    """results/README.md without its first heading: the page has one of its own."""
    lines = _text(CHECKOUT / "results" / "README.md").splitlines()
    return "\n".join(line for line in lines if not line.startswith("# "))


def add_a_model() -> str:
    """The README's section on adding a model; empty where it has none."""
    _, _, after = _text(CHECKOUT / "README.md").partition("\n## Add a model in three steps\n")
    return after.partition("\n## ")[0].replace("[CONTRIBUTING.md](CONTRIBUTING.md)", "CONTRIBUTING.md").strip()


def not_comparable(rows: pd.DataFrame) -> pd.DataFrame:
    """Which rows can't be set against their figure, and the reason."""
    return pd.DataFrame(
        {
            "Data set": [get_dataset(name).title for name in rows["dataset"]],
            "Model": rows["label"].map(clean),
            "Profile": rows["profile"],
            "Why": rows["reason"].map(clean),
        }
    )
