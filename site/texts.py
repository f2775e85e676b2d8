"""Read the texts of the page "Method" from the files of the checkout that contain them."""

import re
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
    """Return results/README.md without its first heading, because the page has its own."""
    lines = _text(CHECKOUT / "results" / "README.md").splitlines()
    return "\n".join(line for line in lines if not line.startswith("# "))


def add_a_model() -> str:
    """Return the README's section on adding a model, or an empty text if it has none."""
    _, _, after = _text(CHECKOUT / "README.md").partition("\n## Add a model in three steps\n")
    section = after.partition("\n## ")[0].strip()
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", section)  # the site does not serve the checkout's files


def not_comparable(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that cannot be compared with their printed figure, with the reason."""
    return pd.DataFrame(
        {
            "Data set": [get_dataset(name).title for name in rows["dataset"]],
            "Model": rows["label"].map(clean),
            "Profile": rows["profile"],
            "Why": rows["reason"].map(clean),
        }
    )
