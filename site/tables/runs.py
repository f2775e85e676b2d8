"""Tabulate the runs of a model, and the details of one run."""

import statistics
from collections.abc import Mapping
from typing import Any

import escape
import pandas as pd

from benchmarks.datasets import DATASETS
from benchmarks.labels import MARKS, SEED_ADDED
from benchmarks.leaderboard import PROFILES, Card
from benchmarks.plural import number
from benchmarks.records import WHOLE_TRAININGS, RunRecord, utc
from benchmarks.verdicts import MIN_SEEDS
from tables.common import LIVE, Link, Links, naive_utc

STANDING = {
    "counted": "counted",
    "outdated": "not counted: another revision or recipe",
    "overridden": "not counted: changed recipe",
    "validation": "not counted: error on held-out training images",
    "duplicate": "not counted: the same weights as another record",
}


def counted_first(runs: pd.DataFrame) -> pd.DataFrame:
    """Sort the runs that count before the others, and keep the order otherwise."""
    return runs.sort_values("standing", key=lambda s: s != "counted", kind="stable", ignore_index=True)


RUN_CELLS = [
    *("Run", "Job", "Seed", "Error %", "Outcome", "Caveats", "Ended (UTC)", "Time", "Images/s", "Hardware"),
    *("Status", "Overrides", "By"),
]


def runs_table(runs: pd.DataFrame, links: Links = LIVE, key: bool = False) -> pd.DataFrame:
    """Return a table of runs, one row for each. Columns in which every run has the default value are left out."""
    rows = []
    for run in runs.to_dict("records"):
        rows.append(
            {
                "Run": Link(run["run"][:8], links.run(run["run"])),
                **({"Job": escape.short(run["key"], 120)} if key else {}),
                "Seed": run["seed"],
                "Error %": run["test_error"],
                "Outcome": run["outcome"],
                "Caveats": run_marks(run),
                "Ended (UTC)": run["finished"],
                "Time": float(run["train_seconds"]),
                "Images/s": float(run["images_per_second"]),
                "Hardware": escape.short(run["hardware"], 80),
                "Status": STANDING[run["standing"]],
                "Overrides": "" if run["overrides"] == "{}" else escape.short(run["overrides"], 200),
                "By": "" if escape.missing(run["submitted_by"]) else escape.short(run["submitted_by"], 80),
            }
        )
    table = pd.DataFrame(rows, columns=[name for name in RUN_CELLS if key or name != "Job"])
    table["Ended (UTC)"] = naive_utc(table["Ended (UTC)"])
    defaults = [name for name in ("Caveats", "Overrides", "By") if not table[name].map(bool).any()]
    defaults += ["Status"] if (table["Status"] == STANDING["counted"]).all() else []
    return table.drop(columns=defaults)


RUN_FORMATS = {"Time": escape.duration, "Images/s": escape.count}  # formats of columns that two decimals do not suit


def costs_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the time of a run of this model by hardware and profile.

    Only runs that trained the unchanged recipe to its end are used, and duplicates are among them.
    """
    trainings = runs[runs["standing"].isin(["counted", "duplicate"]) & runs["outcome"].isin(WHOLE_TRAININGS)]
    rows = []
    for (hardware, profile), group in trainings.groupby(["hardware", "profile"], sort=False):
        # statistics.median handles infinity, which a hostile record may have, without a warning.
        seconds = statistics.median(group["train_seconds"].tolist())
        rows.append(
            {
                "Hardware": escape.short(hardware, 80),
                "Profile": profile,
                "Runs": len(group),
                "Time per run": seconds,
                f"{MIN_SEEDS} runs in sequence": MIN_SEEDS * seconds,
                "Images/s": statistics.median(group["images_per_second"].tolist()),
            }
        )
    table = pd.DataFrame(rows, columns=COST_CELLS)
    return table.sort_values("Time per run", ignore_index=True)


COST_CELLS = ["Hardware", "Profile", "Runs", "Time per run", f"{MIN_SEEDS} runs in sequence", "Images/s"]
COST_FORMATS = {COST_CELLS[3]: escape.duration, COST_CELLS[4]: escape.duration, "Images/s": escape.count}


def run_marks(run: Mapping[Any, Any]) -> list[str]:
    """Return the caveats of one run's number in words."""
    flags = {
        "local": run["local"],
        MARKS["U"]: run["data"] == "unverified",
        f"profile {run['profile']}": run["profile"] != PROFILES[0],
        "changed recipe": run["overrides"] != "{}",
        SEED_ADDED: run["sequential"],
        "uncommitted changes": run["dirty"] is True or run["dirty"] == True,  # noqa: E712  # numpy's own True
        "no commit": escape.missing(run["commit"]),
        MARKS["R"]: run["forced"],
    }
    return [name for name, holds in flags.items() if holds]


def find_runs(runs: pd.DataFrame, text: str) -> pd.DataFrame:
    """Return the runs whose id begins with `text`, or whose key is `text`."""
    text = text.strip()
    if not text:
        return runs.iloc[0:0]
    tail = text.rsplit("-", 1)[-1] if "/" in text else text
    return runs[runs["run"].str.startswith(tail) | (runs["key"] == text)] if len(runs) else runs


def run_summary(record: RunRecord) -> dict[str, str]:
    """Return the main values of a run for the top of its page."""
    return {
        f"{'Test' if record.protocol.evaluation == 'test' else 'Held-out'} error, %": escape.percent(record.test_error),
        "Outcome": record.outcome,
        "Seed": str(record.job.seed),
        "Run": record.run8,
    }


def how_measured(record: RunRecord) -> pd.DataFrame:
    """Return how a run's number was measured, as questions and answers."""
    protocol, environment, source, data = record.protocol, record.environment, record.source, record.data
    exact = "none: the run diverged"
    if record.wrong is not None:
        exact = f"{record.wrong:,} of {record.test_images:,} images wrong: {escape.percent(record.test_error)} %"
    best = "–"
    if record.best_epoch is not None and record.best_test_error is not None:
        best = f"{escape.percent(record.best_test_error)} % at epoch {record.best_epoch}"
        best += ": not used, because it is chosen on the test set"
    answers = {
        "Error": exact,
        "Which epoch": "the last that was trained, as in the protocol",
        "Evaluated on": "the whole test set"
        if protocol.evaluation == "test"
        else f"{protocol.holdout:,} training images held out",
        "Best epoch (diagnostic only)": best,
        "Outcome": record.outcome + (f" in epoch {record.diverged_epoch}" if record.diverged_epoch else ""),
        "Final training loss": escape.NONE if record.final_train_loss is None else f"{record.final_train_loss:.4g}",
        "Training images": f"{protocol.training_images:,}",
        "Augmentation": protocol.augmentation,
        "Data": "official files (md5)" if data.verified else f"UNVERIFIED: {data.provenance or 'no official md5'}",
        "Profile": record.job.profile,
        "Precision": ", ".join(f"{name} {value}" for name, value in sorted(environment.precision.items())),
        "Hardware": f"{environment.hardware} ({environment.device}, {environment.threads} threads)",
        "Software": ", ".join(
            f"{name} {value}"
            for name, value in (
                ("Python", environment.python),
                ("torch", environment.torch),
                ("CUDA", environment.cuda),
                ("cuDNN", environment.cudnn),
                ("driver", environment.driver),
            )
            if value
        )
        + f"; {environment.platform}",
        "Code": (source.commit or "unknown commit") + (" with uncommitted changes" if source.dirty else ""),
        "Time": f"{escape.duration(record.train_seconds)} of training, {record.images_per_second:,.0f} images/s"
        if record.images_per_second < 1e15
        else f"{escape.duration(record.train_seconds)} of training",
        "Started, ended": f"{utc(record.started)}, {utc(record.finished)}",
        "Attempts": f"{record.attempts}"
        + (", one of them with another build, device, code or data" if record.forced_resume else ""),
        "Submitted by": record.submitted_by or escape.NONE,
    }
    return _two_columns(answers)


def checklist(record: RunRecord, row: Mapping[str, Any] | None, card: Card | None) -> pd.DataFrame:
    """Fill in the questions of the usual reproducibility checklists (NeurIPS, ACL, ML Reproducibility Challenge)."""
    variant = card.datasets.get(record.job.dataset) if card else None
    dataset = DATASETS.get(record.job.dataset)
    n = int(row["n"]) if row else 0
    spread = "none for a single run"
    if row and not escape.missing(row["sd"]):
        spread = f"standard deviation {row['sd']:.2f} over seeds (n - 1); 95 % t-interval of the mean ± {row['half_width']:.2f}"
    departures = "; ".join(str(d.get("topic", "")) for d in variant.departures) if variant else ""
    answers = {
        "How many runs does the row have?": f"{n} of {number(row['seeds'], 'seed')} trained ({number(row['runs'], 'run')})"
        if row
        else "this run is in no row",
        "Which error bars?": spread,
        "What was random?": f"by seed {record.job.seed}: initial weights, and order, augmentation and dropout where random",
        "Data split": f"official split: {dataset.train_size:,} training, {dataset.test_size:,} test images"
        if dataset
        else "unknown data set",
        "How were hyper-parameters chosen?": "as in the source; if it does not say, we chose, and the departures say how",
        "Departures from the source": departures or ("none declared" if variant else "unknown: the model has no card"),
        "Hyper-parameters known?": f"yes: {len(record.job.effective_recipe)} fields, sha256 {record.recipe_sha256[:12]}",
        "Changed from the recipe": escape.short(record.job.overrides, 200) if record.job.overrides else "nothing",
        "Compute": f"{escape.duration(record.train_seconds)} on {record.environment.hardware}",
        "Model size": f"{escape.count(record.parameters)} parameters"
        + (f", {escape.compact(variant.macs)} multiply-accumulates per image" if variant and variant.macs else ""),
        "Code": record.source.commit or "unknown commit",
        "Is the code exactly this commit?": {True: "no: uncommitted changes", False: "yes", None: "unknown"}[
            record.source.dirty
        ],
        "Weights": f"sha256 {record.weights_sha256[:16]}…",
        "Learning curve": f"sha256 {record.curve_sha256[:16]}…",
        "How to repeat it": f"runner reproduce {record.job.dataset}/{record.job.model}/{record.file_stem}",
    }
    return _two_columns(answers)


def _two_columns(answers: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame({"What": list(answers), "Answer": [escape.short(text, 600) for text in answers.values()]})
