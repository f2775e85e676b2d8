"""Whoever reads a submit's output may leave (`| head`, a dead tee): the work goes on, and no line is lost."""

import contextlib
import os
import sys

import pytest

from runner.console import READER_GONE, Console


@pytest.fixture
def piped():
    """Make a console that writes into a pipe: (the end to read, the console)."""
    files = []

    def make(elsewhere):
        read, write = os.pipe()
        files.append(os.fdopen(write, "w"))
        return read, Console(elsewhere, file=files[0])

    yield make
    with contextlib.suppress(BrokenPipeError):
        files[0].close()


def test_a_submit_writes_on_into_a_file_when_its_reader_has_left(piped, tmp_path, capfd):
    path = tmp_path / ".runs" / "submit-1.txt"
    read, console = piped(lambda: path)
    console.print("seen")
    assert os.read(read, 100) == b"seen\n"
    os.close(read)
    for line in ("the first that nobody read", "the second", "the third"):
        console.print(line)
    assert path.read_text() == "the first that nobody read\nthe second\nthe third\n"
    assert capfd.readouterr().err == f"{READER_GONE} {path}\n"


def test_standard_error_goes_along_where_it_is_the_same_pipe(piped, tmp_path, monkeypatch):
    """`2>&1 | head`; a file, as of `2>log`, goes on being written."""
    path = tmp_path / "submit-1.txt"
    read, console = piped(lambda: path)
    same = os.dup(console.file.fileno())
    os.close(read)
    with os.fdopen(same, "w", buffering=1) as errors:
        monkeypatch.setattr("runner.console.STDERR", same)
        monkeypatch.setattr("sys.stderr", errors)
        console.print("nobody read this")
        print("nor this", file=sys.stderr)
    text = path.read_text()
    assert "nobody read this\n" in text
    assert text.endswith("nor this\n")


def test_other_commands_end(piped):
    read, console = piped(None)
    os.close(read)
    with pytest.raises(BrokenPipeError):
        console.print("nobody reads this")
