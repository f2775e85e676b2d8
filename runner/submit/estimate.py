"""Estimate training times from earlier runs on this machine, or roughly from multiply-accumulates."""

import contextlib
import statistics
from collections.abc import Sequence

from benchmarks.datasets import get_dataset
from benchmarks.records import Job, RecordError, load
from runner.jobs.find import all_jobs
from runner.jobs.paths import results_folder

OPERATIONS_A_MAC = 6  # a multiplication and an addition, forward and twice backward
CPU_RATE = 6e10  # operations per second: measured by `runner bench` for the larger networks on one core


def expected_seconds(planned: Sequence[Job]) -> float | None:
    """Return training seconds from earlier runs of the same models here; None if one of them never ran here."""
    seconds_per_epoch: dict[tuple[str, str, str], list[float]] = {}
    for paths in all_jobs():
        if not paths.record.exists():
            continue
        with contextlib.suppress(RecordError):  # damaged or of a later version: `runner verify` reports it
            record = load(paths.record)
            epochs = record.job.most_epochs
            if epochs:
                trained = (record.job.dataset, record.job.model, record.job.profile)
                seconds_per_epoch.setdefault(trained, []).append(record.train_seconds / epochs)
    total = 0.0
    for job in planned:
        earlier = seconds_per_epoch.get((job.dataset, job.model, job.profile))
        if earlier is None:
            return None
        total += statistics.median(earlier) * (job.most_epochs or 1)
    return total


def rough_seconds(planned: Sequence[Job]) -> float:
    """Return training seconds on one CPU slot, from the multiply-accumulates on the models' cards.

    A model without a card adds 0.
    """
    from benchmarks.leaderboard import read_cards

    cards, _ = read_cards(results_folder() / "cards")
    total = 0.0
    for job in planned:
        if job.model in cards and job.dataset in cards[job.model].datasets:
            images = get_dataset(job.dataset).train_size * (job.most_epochs or 1)
            total += OPERATIONS_A_MAC * (cards[job.model].datasets[job.dataset].macs or 0) * images / CPU_RATE
    return total
