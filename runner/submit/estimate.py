"""Estimate training times: from this machine's earlier runs, from running jobs, or roughly from multiply-accumulates."""

import contextlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.canonical import canonical_json
from benchmarks.datasets import get_dataset
from benchmarks.records import WHOLE_TRAININGS, Job, RecordError, load
from runner.jobs.find import all_jobs
from runner.jobs.paths import results_folder

OPERATIONS_A_MAC = 6  # a multiplication and an addition, forward and twice backward
CPU_RATE = 6e10  # operations per second: measured by `runner bench` for the larger networks on one core

# Data set, model, profile and overrides: epochs of such jobs take about the same time on one device.
Kind = tuple[str, str, str, str]


def kind_of(job: Job) -> Kind:
    """Return the kind of a job. An override of `epochs` is left out, because it does not change the time of an epoch."""
    overrides = {name: value for name, value in job.overrides.items() if name != "epochs"}
    return job.dataset, job.model, job.profile, canonical_json(overrides)


def epoch_images(job: Job) -> int:
    """Return how many images an epoch of the job trains on."""
    from zoo.recipe import recipe_from

    dataset = get_dataset(job.dataset)
    try:
        recipe = recipe_from(job.effective_recipe)
    except ValueError:  # of another version of the recipe language
        return dataset.train_size
    return recipe.images_per_epoch(dataset.training_images(recipe.holdout, recipe.subset))


def measured_seconds(device: str) -> dict[Kind, float]:
    """Return the training seconds of an epoch of each kind that was trained here: the median of its runs.

    `device` is "cpu" or "cuda"; runs on the other are left out, and so are runs that diverged and stopped early.
    """
    seconds: dict[Kind, list[float]] = {}
    for paths in all_jobs():
        if not paths.record.exists():
            continue
        with contextlib.suppress(RecordError):  # damaged or of a later version: `runner verify` reports it
            record = load(paths.record)
            epochs = record.job.most_epochs
            if epochs and record.environment.device == device and record.outcome in WHOLE_TRAININGS:
                seconds.setdefault(kind_of(record.job), []).append(record.train_seconds / epochs)
    return {kind: statistics.median(values) for kind, values in seconds.items()}


def expected_seconds(planned: Sequence[Job], device: str) -> float | None:
    """Return training seconds from earlier runs of the same kinds on this device here; None if one kind has no run."""
    measured = measured_seconds(device)
    if any(kind_of(job) not in measured for job in planned):
        return None
    return sum(measured[kind_of(job)] * (job.most_epochs or 1) for job in planned)


def epoch_operations(jobs: Iterable[Job]) -> dict[Kind, float]:
    """Return the operations of an epoch of each job's kind, from the models' cards; 0 for a model without a card."""
    from benchmarks.cards import read_cards

    cards, _ = read_cards(results_folder() / "cards")
    operations: dict[Kind, float] = {}
    for job in jobs:
        facts: Any = cards[job.model].datasets.get(job.dataset) if job.model in cards else None
        operations[kind_of(job)] = OPERATIONS_A_MAC * ((facts and facts.macs) or 0) * epoch_images(job)
    return operations


def rough_seconds(planned: Sequence[Job]) -> float:
    """Return training seconds on one CPU slot, from the multiply-accumulates on the models' cards.

    A model without a card adds 0.
    """
    operations = epoch_operations(planned)
    return sum(operations[kind_of(job)] * (job.most_epochs or 1) for job in planned) / CPU_RATE


def seconds_left(
    epochs_left: Sequence[tuple[Job, float]],
    seconds: Mapping[Kind, float],
    operations: Mapping[Kind, float],
    slots: int,
) -> float | None:
    """Return the seconds until these jobs have trained their remaining epochs on `slots` slots.

    `seconds` holds the measured seconds of an epoch by kind. A kind that has not been measured takes its operations at
    the rate of the measured kinds, or their mean seconds where it has no card. None if nothing is measured.
    """
    if not seconds:
        return None
    known = [kind for kind in seconds if operations.get(kind)]
    rate = sum(operations[kind] for kind in known) / sum(seconds[kind] for kind in known) if known else 0.0
    mean = statistics.fmean(seconds.values())

    def epoch_seconds(kind: Kind) -> float:
        if kind in seconds:
            return seconds[kind]
        return operations[kind] / rate if rate and operations.get(kind) else mean

    parts = [epoch_seconds(kind_of(job)) * epochs for job, epochs in epochs_left]
    return max([sum(parts) / slots, *parts], default=0.0)
