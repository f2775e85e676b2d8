"""Makes what tests need: valid records, and published folders of them."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.records import DataFacts, Environment, Job, Protocol, RunRecord, Source, save

RECIPE: dict[str, Any] = {"epochs": 3, "batch_size": 128, "learning_rate": 0.1}
STARTED = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def digest(*parts: Any) -> str:
    """A sha256 that is the same for the same parts."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def curve_text(last_error: float | None, epochs: int = 3, last_loss: float | None = 0.1) -> str:
    """A curve whose last epoch has this test error; None stands for a loss that was not finite."""
    rows = ["epoch,learning_rate,train_loss,train_error,test_loss,test_error"]
    rows += [f"{epoch},0.1,{2 / epoch},{60 / epoch},1.5,{50 / epoch}" for epoch in range(1, epochs)]
    if last_error is None:
        rows.append(f"{epochs},0.1,,90.0,,")
    else:
        rows.append(f"{epochs},0.1,{last_loss},1.0,0.5,{last_error}")
    return "\n".join(rows) + "\n"


def make_record(
    error: float = 10.4,
    *,
    dataset: str = "cifar10",
    model: str = "nin_dropout",
    seed: int = 0,
    revision: int = 1,
    recipe: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    profile: str = "reference",
    outcome: str = "finished",
    verified: bool = True,
    augmentation: str = "none",
    training_images: int = 50_000,
    test_images: int = 10_000,
    **changes: Any,
) -> RunRecord:
    """A valid record with that test error in percent; `changes` replace any of its fields."""
    recipe = RECIPE if recipe is None else recipe
    job = Job(
        dataset=dataset,
        model=model,
        revision=revision,
        recipe=recipe,
        overrides=overrides or {},
        profile=profile,
        seed=seed,
    )
    diverged = outcome == "diverged"
    loss = None if diverged else 2.302 if outcome == "collapsed" else 0.1
    wrong = None if diverged else round(error * test_images / 100)
    exact = None if wrong is None else 100 * wrong / test_images
    epochs = job.effective_recipe["epochs"]
    holdout = job.effective_recipe.get("holdout", 0)
    one = digest(job.fingerprint, outcome, wrong, verified)
    fields = {
        "run": one[:32],
        "key": job.key,
        "fingerprint": job.fingerprint,
        "job": job,
        "outcome": outcome,
        "diverged_epoch": epochs if diverged else None,
        "wrong": wrong,
        "test_images": None if diverged else test_images,
        "final_train_loss": loss,
        "protocol": Protocol(
            evaluation="validation" if holdout else "test",
            augmentation=augmentation,
            training_images=training_images - holdout,
            holdout=holdout,
        ),
        "parameters": 966_986,
        "recipe_sha256": job.recipe_sha256,
        "images_per_second": 1_000.0,
        "train_seconds": 600.0,
        "environment": Environment(
            device="cuda",
            hardware="NVIDIA H200",
            platform="Linux",
            python="3.11.7",
            torch="2.11.0",
            threads=8,
            precision={"tf32": False},
        ),
        "source": Source(commit="a" * 40, dirty=False, sha256=digest("source")),
        "data": DataFacts(
            sha256=digest("data", verified),
            verified=verified,
            provenance=None if verified else "92 images differ from the official ones.",
        ),
        "started": STARTED,
        "finished": STARTED + timedelta(minutes=30),
        "attempts": 1,
        "curve_sha256": hashlib.sha256(curve_text(exact, epochs, loss).encode()).hexdigest(),
        "weights_sha256": digest("nan") if diverged else digest("weights", one),
    }
    return RunRecord.model_validate(fields | changes)


def curve_of(record: RunRecord) -> str:
    """The curve that `make_record` gave the record's sha256 of."""
    epochs = record.job.effective_recipe["epochs"]
    return curve_text(record.test_error, epochs, record.final_train_loss)


def make_seeds(errors: list[float], **changes: Any) -> list[RunRecord]:
    """A record for each error, with seeds 0, 1, 2, ..."""
    return [make_record(error, seed=seed, **changes) for seed, error in enumerate(errors)]


def publish_records(results: Path, *records: RunRecord) -> None:
    """Write records and curves where `runner publish` would."""
    for record in records:
        folder = results / record.job.dataset / record.job.model
        save(record, folder / f"{record.file_stem}.json")
        (folder / f"{record.file_stem}.curve.csv").write_text(curve_of(record))


def run_locally(runs: Path, *records: RunRecord) -> None:
    """Write records and curves as a worker leaves them in .runs."""
    for record in records:
        folder = runs / f"{record.key}-{record.fingerprint[:8]}"
        save(record, folder / "record.json")
        (folder / "curve.csv").write_text(curve_of(record))
        (folder / "job.json").write_text(record.job.canonical())
