"""Format numbers and tables as text, the same wherever they are printed."""

from collections.abc import Sequence

from benchmarks.plural import number


def duration(seconds: float | None) -> str:
    """Return '72 days', '1 h 50 min', '12 min' or '40 s'; '?' for None."""
    if seconds is None:
        return "?"
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    if seconds >= 48 * 3600:
        return f"{round(seconds / 86_400)} days"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def ago(seconds: float) -> str:
    """Return how long ago something was, such as '3 days ago'."""
    for unit, scale in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= scale:
            count = int(seconds // scale)
            return f"{number(count, unit)} ago"
    return "just now"


def percent(value: float | None) -> str:
    """Return an error as '10.41 %'; '-' for None or NaN."""
    return "-" if value is None or value != value else f"{value:.2f} %"


def amount(count: float) -> str:
    """Return bytes as '171 MB', in decimal units, as for disks and data sets."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} bytes"


def one_line(text: str) -> str:
    """Return a foreign text with only printable characters, on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def first_line(error: BaseException) -> str:
    """Return an error's first line; its type if it has no message."""
    return one_line(str(error).strip().split("\n")[0]) or type(error).__name__


def columns(table: Sequence[Sequence[str]], left: int | None = None) -> list[str]:
    """Return one line per row, its cells in columns: the first `left` columns (None: all) align left, the others right.

    rich is not used: it takes a millisecond per row and truncates cells if the output is piped.
    """
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if left is None or place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in table
    ]


def markdown_table(table: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table with the first row as heading: the first `left` columns align left, the others right."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "|" + "|".join("---" if place < left else "---:" for place in range(len(table[0]))) + "|")
    return "\n".join(lines)
