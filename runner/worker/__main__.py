"""`python -m runner.worker BUNDLE.json`: run a bundle of jobs in this process."""

import signal
import sys
from pathlib import Path

from benchmarks.errors import UserError
from runner.worker.attempt import Worker, run_bundle
from runner.worker.options import Bundle
from runner.worker.process import STOP_SIGNALS, prepare_environment


def main(argv: list[str]) -> int:
    """Run the bundle of a file; a stop signal leads to a checkpoint after the step and a clean exit. Return the exit code."""
    if len(argv) != 1:
        print("usage: python -m runner.worker BUNDLE.json", file=sys.stderr)
        return 2
    try:
        bundle = Bundle.read(Path(argv[0]))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    worker = Worker(bundle.options)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: worker.stopping.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal doesn't stop the work
    prepare_environment(bundle.options.device, bundle.options.threads)
    run_bundle(bundle.folders, worker)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
