"""Terminals, file systems, groups and clones of other kinds: each is one clear line, or nothing at all."""

import errno
import fcntl
import io
import os
import stat
import subprocess
import sys

import pytest
from helpers import make_record, publish_records
from pydantic import ValidationError

from benchmarks.errors import UserError
from runner import cli, locks


def test_output_that_cannot_hold_a_character_shows_another(own_root, monkeypatch):
    """`runner report` prints a typographic sign for each verdict, here that of a model that has not run."""
    publish_records(own_root / "results", make_record())
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="ascii", write_through=True))
    monkeypatch.setattr(sys, "argv", ["runner", "report", "--suite", "cifar10"])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    assert ending.value.code == 0
    assert b"nin_dropout" in output.getvalue()
    assert b"?" in output.getvalue()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_named_with_what_to_do(tmp_path, monkeypatch, number):
    def away(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", away)
    place = rf"{tmp_path}/lock: this file system has no file locks .*REPROZOO_ROOT"
    with pytest.raises(UserError, match=place), locks.locked_within(tmp_path / "lock", 0):
        pass
    with pytest.raises(UserError, match="no file locks"), locks.shared(tmp_path / "shared"):
        pass


def test_the_umask_decides_who_may_take_a_lock(tmp_path):
    before = os.umask(0o002)
    try:
        with locks.locked_within(tmp_path / "lock", 0), locks.shared(tmp_path / "shared"):
            modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("lock", "shared")]
    finally:
        os.umask(before)
    assert modes == [0o664, 0o664]


def test_a_clone_that_converts_line_endings_keeps_the_bytes_of_curves_and_sources(checkout, tmp_path):
    """Digests are over bytes."""

    def git(*words):
        subprocess.run(["git", "-c", "core.autocrlf=true", *words], check=True, capture_output=True)

    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    for name, content in ((".gitattributes", (checkout / ".gitattributes").read_bytes()), ("curve.csv", b"a,b\n1,2\n")):
        (origin / name).write_bytes(content)
    git("init", "-q", str(origin))
    git("-C", str(origin), "add", "-A")
    git("-C", str(origin), "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "one")
    git("clone", "-q", str(origin), str(clone))
    assert (clone / "curve.csv").read_bytes() == b"a,b\n1,2\n"


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-12:00", "1600-01-01T00:00:00Z"])
def test_a_date_that_no_calendar_here_can_hold_is_refused(moment):
    with pytest.raises(ValidationError, match="between the years 1970 and 2262"):
        make_record(**{"started" if moment < "2" else "finished": moment})
