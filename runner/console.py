"""Print a command's output, and redirect it to a file when its reader is gone: `| head`, a dead tee, no terminal."""

import os
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import rich.console

STDERR = 2  # file descriptor
READER_GONE = "runner: nothing reads this output any more; the work continues and writes to"


class Console(rich.console.Console):
    """A console whose output goes on in a file, that of `elsewhere`, if the reader closes the pipe."""

    def __init__(self, elsewhere: Callable[[], Path] | None = None, **options: Any) -> None:
        super().__init__(highlight=False, **options)
        self.elsewhere = elsewhere

    def on_broken_pipe(self) -> None:
        """Redirect the output to the file `elsewhere` without losing a line.

        Raise BrokenPipeError, which ends the command, if there is no such file.
        """
        if self.elsewhere is None:
            raise BrokenPipeError
        path = self.elsewhere()
        redirect([self.file.fileno()], path)
        del self._buffer[:]  # the file object has the same text and writes it now
        self.file.flush()
        try:
            print(f"{READER_GONE} {path}", file=sys.stderr, flush=True)
        except OSError:
            redirect([STDERR], path)  # the same pipe


def to_stderr(line: str) -> None:
    """Print a line to stderr at once."""
    print(line, file=sys.stderr, flush=True)


def redirect(descriptors: Iterable[int], path: Path) -> None:
    """Redirect open descriptors to the end of a file. Descriptors of regular files are left alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for descriptor in descriptors:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.dup2(target, descriptor)
    os.close(target)
