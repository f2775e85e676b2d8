"""The text of `runner status`: a table of jobs, and how many are in each state."""

from collections.abc import Sequence

from benchmarks.plural import number
from runner.jobs.state import JobView, progress_of
from runner.submit.progress import SYMBOLS
from runner.submit.watch import QueueView
from runner.text import columns, percent

HEADER = ("", "job", "state", "epoch", "error", "tries")


def status_text(views: Sequence[JobView], queue: QueueView) -> str:
    """Return the jobs as a table, one line each, and a summary below it; there may be 10,000 jobs."""
    if not views:
        return "No job has been submitted in this checkout. Start with: runner submit --suite quickstart"
    table = [HEADER, *(_row(view, queue) for view in views)]
    return "\n".join([*columns(table), _summary(views, queue)])


def _row(view: JobView, queue: QueueView) -> tuple[str, ...]:
    facts, note = progress_of(view), queue.annotate(view.paths, view.state)
    unusual = facts["outcome"] if facts["outcome"] != "finished" else None
    return (
        SYMBOLS[view.state],
        facts["key"],
        (unusual or view.state) + (f" ({note})" if note else ""),
        f"{facts['epoch'] or 0}/{facts['epochs']}",
        percent(facts["test_error"]),
        str(facts["attempts"]),
    )


def _summary(views: Sequence[JobView], queue: QueueView) -> str:
    """Return '3 jobs: 1 done, 2 pending; 2 will start with the next `runner submit`'."""
    counts = {state: sum(view.state == state for view in views) for state in SYMBOLS}
    line = f"{number(len(views), 'job')}: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    if queue.trouble:
        return f"{line}; {queue.trouble}"
    left = sum(view.waits and not queue.will_run(view.paths, view.state) for view in views)
    return f"{line}; {left} will start with the next `runner submit`" if left else line
