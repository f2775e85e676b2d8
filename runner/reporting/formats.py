"""Name the formats of a report. Separate from the report itself, whose imports a command's help need not wait for."""

from enum import StrEnum


class Format(StrEnum):
    """The output format of a report."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"
    latex = "latex"
    bibtex = "bibtex"
