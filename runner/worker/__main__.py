"""Run a bundle of jobs in this process: `python -m runner.worker BUNDLE.json`."""

import signal
import sys
from pathlib import Path

from benchmarks.errors import UserError
from runner.worker.attempt import Worker, run_bundle
from runner.worker.options import Bundle
from runner.worker.process import STOP_SIGNALS, prepare_environment


def main(argv: list[str]) -> int:
    """Run the bundle in a file and return the exit code: 2 for a usage error or an unreadable bundle, else 0.

    A stop signal leads to a checkpoint after the current step and a clean exit.
    """
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
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # closing the terminal does not stop the work
    prepare_environment(bundle.options.device, bundle.options.threads)
    run_bundle(bundle.folders, worker)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
