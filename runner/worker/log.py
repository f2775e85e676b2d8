"""The log of a job."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


class Log:
    """log.txt: the worker's lines and, inside `capture`, what libraries write to standard output and error."""

    def __init__(self, path: Path, echo: Callable[[str], None] | None) -> None:
        self.path, self.echo = path, echo
        path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, line: str) -> None:
        # A full disk must not end a training.
        with contextlib.suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write(line.rstrip("\n") + "\n")
        if self.echo is not None:
            self.echo(line)

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """Send this process's standard output and error into the log."""
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        target = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for descriptor in kept:
                os.close(descriptor)
