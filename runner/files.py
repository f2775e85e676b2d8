"""Read and write JSON and JSON lines as other processes write and read them: torn lines and missing files are no error."""

import json
import os
from pathlib import Path
from typing import Any

from pydantic_core import from_json

LINE_BYTES = 4096  # more than a line of metrics.jsonl and one torn after it take


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append one JSON line in a single write, so that a reader never sees half of one from a living writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if file.tell() and not _ends_with_newline(path):
            file.write(b"\n")  # a line torn by a crash stays alone
        file.write(json.dumps(value, sort_keys=True).encode() + b"\n")


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole JSON object of a .jsonl file; a torn line is passed over, a missing file is empty."""
    try:
        content = path.read_bytes()
    except OSError:
        return []
    return [value for line in content.split(b"\n") if (value := _parse(line)) is not None]


def read_last_line(path: Path) -> dict[str, Any]:
    """The last whole JSON object of a .jsonl file, {} where there is none; reads no more than the file's end."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LINE_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return {}
    return next((value for line in reversed(lines) if (value := _parse(line)) is not None), {})


def read_json(path: Path) -> dict[str, Any] | None:
    """A small JSON object, or None where it is missing or torn."""
    try:
        return _parse(path.read_bytes())
    except OSError:
        return None


def _parse(text: bytes) -> dict[str, Any] | None:
    """A JSON object, or None where it's torn; pydantic's parser, since a status may read tens of thousands.

    An integer beyond 64 bits was never written here, and can't be made a float: such an object counts as torn.
    """
    try:
        value = from_json(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or any(isinstance(item, int) and item.bit_length() > 63 for item in value.values()):
        return None
    return value
