"""How long jobs will train: by what the same models took here before, else roughly by their arithmetic."""

import contextlib
import statistics
from collections.abc import Sequence

from benchmarks.datasets import get_dataset
from benchmarks.records import Job, RecordError, load
from runner.jobs.find import all_jobs
from runner.jobs.paths import results_folder

OPERATIONS_A_MAC = 6  # a multiplication and an addition, forward and twice backward
CPU_RATE = 6e10  # operations a second: what `runner bench` measured for the larger networks on one core


def expected_seconds(planned: Sequence[Job]) -> float | None:
    """Training seconds by what the same models took here before; None where one of them never ran here."""
    known: dict[tuple[str, str, str], list[float]] = {}
    for paths in all_jobs():
        if not paths.record.exists():
            continue
        with contextlib.suppress(RecordError):  # a later version's, or torn: `runner verify` says so
            record = load(paths.record)
            epochs = record.job.most_epochs
            if epochs:
                trained = (record.job.dataset, record.job.model, record.job.profile)
                known.setdefault(trained, []).append(record.train_seconds / epochs)
    total = 0.0
    for job in planned:
        seen = known.get((job.dataset, job.model, job.profile))
        if seen is None:
            return None
        total += statistics.median(seen) * (job.most_epochs or 1)
    return total


def rough_seconds(planned: Sequence[Job]) -> float:
    """Training seconds on one CPU slot by the multiply-accumulates on the models' cards; models without a card add none."""
    from benchmarks.leaderboard import read_cards

    cards, _ = read_cards(results_folder() / "cards")
    total = 0.0
    for job in planned:
        if job.model in cards and job.dataset in cards[job.model].datasets:
            images = get_dataset(job.dataset).train_size * (job.most_epochs or 1)
            total += OPERATIONS_A_MAC * (cards[job.model].datasets[job.dataset].macs or 0) * images / CPU_RATE
    return total
