"""Lock files (flock). The kernel releases a lock when the process that holds it ends, also after `kill -9`."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError


@contextmanager
def locked_within(path: Path, patience: float) -> Iterator[bool]:
    """Hold a file's exclusive lock; yield False if another process holds it for longer than `patience` seconds.

    Child processes do not inherit the lock. Raise UserError if the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open(path)
    try:
        deadline = time.monotonic() + patience
        while not (held := _try(descriptor)) and time.monotonic() <= deadline:
            time.sleep(0.05)
        yield held
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, if_busy: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """Hold a file's exclusive lock, waiting for it; `if_busy` is called once before a wait.

    If the file system has no locks, continue without one. What is built under this lock is renamed into place at the
    end, so two builders only waste time.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if_busy()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass
        yield


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold a file's shared lock. Any number of processes may hold it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open(path)
    try:
        _flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path, *, or_shared: bool = False) -> bool:
    """Return whether a process holds the exclusive lock of a file (with `or_shared`, any lock). The file need not exist.

    The probe itself takes the lock for an instant.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_EX if or_shared else fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


class InheritableLock:
    """A file's exclusive lock that child processes can inherit. It is held until all of them have ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; return False if another process holds it."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = _open(self.path, 0o600)
        if not _try(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def descriptors(self) -> tuple[int, ...]:
        """Return the descriptors that a child has to inherit (`pass_fds`)."""
        return () if self._descriptor is None else (self._descriptor,)

    def release(self) -> None:
        """Release the lock. A child that inherited it continues to hold it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open(path: Path, mode: int = 0o666) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)


def _try(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    return _flock(descriptor, kind | fcntl.LOCK_NB)


def _flock(descriptor: int, kind: int) -> bool:
    """Take a lock; return False if another process holds it. Raise UserError if the file system has no locks."""
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        raise UserError(
            f"{_name(descriptor)}: this file system has no file locks ({error.strerror}), so two workers could "
            "train the same job: mount it with locks, or set REPROZOO_ROOT to a folder on another disk"
        ) from error
    return True


def _name(descriptor: int) -> str:
    with suppress(OSError):
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    return "a lock"
