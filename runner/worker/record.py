"""Build the results of a finished attempt: weights, curve and record."""

import csv
import hashlib
import io
import platform
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from benchmarks.datasets import get_dataset
from benchmarks.errors import UserError
from benchmarks.records import (
    CURVE_COLUMNS,
    DataFacts,
    Environment,
    Job,
    Protocol,
    RunRecord,
    TrailEntry,
    problems_of,
    record_json,
)
from runner import nvml
from runner.sources import source

if TYPE_CHECKING:
    import torch

    from runner.training.loop import Trained
    from zoo.recipe import Recipe


def make_record(
    job: Job,
    run: str,
    trained: "Trained",
    recipe: "Recipe",
    *,
    starts: list[dict[str, Any]],
    environment: Environment,
    data: DataFacts,
    sequential: bool,
    submitted_by: str | None,
) -> RunRecord:
    """Return the record of a trained job; `starts` are the start lines of all its attempts, oldest first."""
    started = datetime.fromtimestamp(starts[0]["time"] / 1000, UTC)
    scored = [row for row in trained.curve if row["test_error"] is not None]
    best = min(scored, key=lambda row: row["test_error"], default=None)
    return RunRecord(
        run=run,
        key=job.key,
        fingerprint=job.fingerprint,
        job=job,
        outcome=trained.outcome,
        diverged_epoch=trained.curve[-1]["epoch"] if trained.outcome == "diverged" else None,
        wrong=trained.wrong,
        test_images=trained.test_images,
        best_epoch=best["epoch"] if best else None,
        best_test_error=round(best["test_error"], 6) if best else None,
        final_train_loss=trained.curve[-1]["train_loss"],
        chance_loss=round(trained.chance_loss, 6),
        protocol=Protocol(
            evaluation="validation" if recipe.holdout else "test",
            augmentation=str(recipe.augmentation),
            training_images=get_dataset(job.dataset).training_images(recipe.holdout, recipe.subset),
            holdout=recipe.holdout,
        ),
        parameters=trained.parameters,
        recipe_sha256=job.recipe_sha256,
        images_per_second=round(trained.trained_images / max(trained.train_seconds, 1e-9), 1),
        train_seconds=round(trained.train_seconds, 3),
        environment=environment,
        source=source(),
        data=data,
        started=started,
        finished=max(started, datetime.now(UTC)),  # the clock may have been set back meanwhile
        attempts=len(starts),
        forced_resume=trained.forced_resume,
        sequential=sequential,
        curve_sha256=hashlib.sha256(curve_csv(trained.curve).encode()).hexdigest(),
        weights_sha256=weights_sha256(trained.weights),
        submitted_by=submitted_by,
        trail=tuple(TrailEntry(**facts) for facts in trained.trail),
    )


def weights_bytes(weights: dict[str, Any]) -> bytes:
    """Return the content of the weights file, as torch.save writes it."""
    import torch

    buffer = io.BytesIO()
    torch.save(weights, buffer)
    return buffer.getvalue()


def curve_csv(curve: list[dict[str, Any]]) -> str:
    """Return the curve as CSV without times, so that the same training gives the same bytes."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CURVE_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    return out.getvalue()


def weights_sha256(weights: dict[str, Any]) -> str:
    """Return the sha256 over name, dtype, shape and little-endian bytes of each tensor, sorted by name.

    The file itself is never hashed, because the file format is torch's and may change.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{list(value.shape)}\0".encode())
        raw = value.reshape(-1).view(torch.uint8).numpy()
        if sys.byteorder == "big":
            raw = raw.reshape(-1, value.element_size())[:, ::-1]
        digest.update(raw.tobytes())
    return digest.hexdigest()


def environment(device: "torch.device", switches: dict[str, Any]) -> Environment:
    """Return hardware, driver and versions for the record. Raise UserError for values that no record can hold."""
    import torch

    from runner.training import profiles

    cuda = device.type == "cuda"
    try:
        return Environment(
            device=device.type,
            hardware=profiles.device_name(device),
            platform=platform.platform(),
            python=platform.python_version(),
            torch=str(torch.__version__),
            cuda=torch.version.cuda if cuda else None,
            cudnn=str(torch.backends.cudnn.version()) if cuda else None,
            driver=nvml.driver_version() if cuda else None,
            threads=torch.get_num_threads(),
            precision=switches,
        )
    except ValidationError as error:
        raise UserError(f"a fact of this run does not fit into a record: {problems_of(error)[0]}") from error


def rehearse(job: Job, run: str, recipe: "Recipe", facts: dict[str, Any], **known: Any) -> None:
    """Build the final record from what is known before the first step; raise UserError if it is invalid.

    A training then cannot fail at its end for a reason that was known at its start. `facts` are this attempt's entry in
    the trail, `known` the keyword arguments of `make_record`.
    """
    from runner.training.loop import Trained

    row = dict.fromkeys(CURVE_COLUMNS, 0.0) | {"epoch": 1}
    result = Trained("finished", [row], 0, 1, {}, 1.0, 1, 1.0, 1, forced_resume=False, trail=[facts])
    try:
        record_json(make_record(job, run, result, recipe, **known)).encode()
    except ValidationError as error:
        raise UserError(f"a fact of this run does not fit into a record: {problems_of(error)[0]}") from error
    except UnicodeEncodeError as error:
        raise UserError(f"a fact of this run does not fit into a record: {error.object!r:.80} is not UTF-8") from error
