"""LaTeX: escaped text, and tables for the package booktabs."""

from collections.abc import Iterable, Sequence

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≠": r"$\neq$",
    "−": r"$-$",
    "–": "--",
    "…": r"\dots{}",
    "[": "{[}",  # LaTeX reads [ and * as options of the line break before a row
    "*": "{*}",
} | {character: f"\\{character}" for character in "#$%&_{}"}


class Raw(str):
    """Text that is already LaTeX, such as a citation, and must not be escaped."""

    __slots__ = ()


def escape(text: object) -> str:
    """Return text escaped for LaTeX, and for BibTeX inside braces. Control characters become spaces."""
    return "".join(_ESCAPES.get(c, c if c.isprintable() else " ") for c in str(text))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], columns: Sequence[str], caption: str, label: str) -> str:
    """Return a table environment for the package booktabs. All cells except `Raw` ones are escaped.

    `columns` has one of LaTeX's column types for each heading: "lrrr", or ["p{3cm}", "r", "r", "r"].
    Raise ValueError for another number.
    """
    if len(columns) != len(heads):
        raise ValueError(f"{len(columns)} columns for {len(heads)} headings")
    lines = [" & ".join(map(escape, heads)) + r" \\", r"\midrule"]
    lines += [" & ".join(c if isinstance(c, Raw) else escape(c) for c in row) + r" \\" for row in rows]
    body = "\n".join(f"    {line}" for line in (r"\toprule", *lines, r"\bottomrule"))
    return (
        "\\begin{table}\n  \\centering\\small\n"
        f"  \\caption{{{escape(caption)}}}\n  \\label{{{label}}}\n"
        f"  \\begin{{tabular}}{{{''.join(columns)}}}\n{body}\n  \\end{{tabular}}\n\\end{{table}}\n"
    )
