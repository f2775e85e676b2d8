"""The console of the commands, and where its output goes when whoever read it has left: `| head`, a dead tee, no terminal."""

import os
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import rich.console

STDERR = 2  # its descriptor
NOBODY = "runner: nobody reads this output any more; the work goes on, and what it says goes to"


class Console(rich.console.Console):
    """Prints lines. A command that has work to do gives `elsewhere`, the file that takes the rest when the reader leaves."""

    def __init__(self, elsewhere: Callable[[], Path] | None = None, **options: Any) -> None:
        super().__init__(highlight=False, **options)
        self.elsewhere = elsewhere

    def on_broken_pipe(self) -> None:
        """Go on in the file `elsewhere`, without a lost line; raise BrokenPipeError where there is none: the command ends."""
        if self.elsewhere is None:
            raise BrokenPipeError
        path = self.elsewhere()
        lead([self.file.fileno()], path)
        del self._buffer[:]  # the file object holds it too, and writes it now
        self.file.flush()
        try:
            print(f"{NOBODY} {path}", file=sys.stderr, flush=True)
        except OSError:
            lead([STDERR], path)  # the same pipe


def lead(descriptors: Iterable[int], path: Path) -> None:
    """Lead open descriptors to a file from now on; those of files stay as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for descriptor in descriptors:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.dup2(target, descriptor)
    os.close(target)
