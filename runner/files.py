"""Read and write JSON and JSON lines that several processes share. Torn lines and missing files are not errors."""

import json
import os
from pathlib import Path
from typing import Any

from pydantic_core import from_json

LINE_BYTES = 4096  # more than one line of metrics.jsonl plus a torn one after it


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append one JSON line in a single write, so that no reader sees half a line of a running writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if file.tell() and not _ends_with_newline(path):
            file.write(b"\n")  # end a line that a crash tore
        file.write(json.dumps(value, sort_keys=True).encode() + b"\n")


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return every complete JSON object of a .jsonl file. Torn lines are skipped; a missing file is empty."""
    try:
        content = path.read_bytes()
    except OSError:
        return []
    return [value for line in content.split(b"\n") if (value := _parse(line)) is not None]


def read_last_line(path: Path) -> dict[str, Any]:
    """Return the last complete JSON object of a .jsonl file, or {}. Only the last LINE_BYTES are read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LINE_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return {}
    return next((value for line in reversed(lines) if (value := _parse(line)) is not None), {})


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a small file; None if it is missing or torn."""
    try:
        return _parse(path.read_bytes())
    except OSError:
        return None


def _parse(text: bytes) -> dict[str, Any] | None:
    """Return a JSON object; None if it is torn. pydantic's parser is used because a status may read tens of thousands.

    An integer beyond 64 bits is never written here and cannot become a float, so such an object counts as torn.
    """
    try:
        value = from_json(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or any(isinstance(item, int) and item.bit_length() > 63 for item in value.values()):
        return None
    return value
