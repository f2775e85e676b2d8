"""LaTeX: text escaped for it, and tables with booktabs' rules."""

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
} | {character: f"\\{character}" for character in "#$%&_{}"}


class Raw(str):
    """Text that is LaTeX already: a citation in a cell."""

    __slots__ = ()


def escape(text: object) -> str:
    """Return text that LaTeX, and BibTeX inside braces, print as it is. Control characters become blanks."""
    return "".join(_ESCAPES.get(c, c if c.isprintable() else " ") for c in str(text))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], columns: str, caption: str, label: str) -> str:
    """Return a table environment for the package booktabs; cells that aren't Raw are escaped here.

    `columns` are LaTeX's column letters, one a heading: `lrrr`.
    """
    if len(columns) != len(heads):
        raise ValueError(f"{len(columns)} columns for {len(heads)} headings")
    lines = [" & ".join(map(escape, heads)) + r" \\", r"\midrule"]
    lines += [" & ".join(c if isinstance(c, Raw) else escape(c) for c in row) + r" \\" for row in rows]
    body = "\n".join(f"    {line}" for line in (r"\toprule", *lines, r"\bottomrule"))
    return (
        "\\begin{table}\n  \\centering\n"
        f"  \\caption{{{escape(caption)}}}\n  \\label{{{label}}}\n"
        f"  \\begin{{tabular}}{{{columns}}}\n{body}\n  \\end{{tabular}}\n\\end{{table}}\n"
    )
