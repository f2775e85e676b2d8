"""Write the commands and options in docs/commands.md from the help texts in runner/commands/ (`make docs`)."""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import typer

from runner.cli import app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
START, END = "<!-- make docs -->\n", "<!-- end -->"
SHARED_BY = 3  # an option with the same text in at least this many commands is listed once
PLACEHOLDERS = {"str": "NAME", "int": "N", "float": "X", "path": "PATH"}


def commands() -> Iterator[tuple[str, Any]]:
    """Yield each command with its full name, such as 'runner data prepare', in the order of `runner --help`."""
    yield from _below("runner", typer.main.get_command(app))


def _below(name: str, group: Any) -> Iterator[tuple[str, Any]]:
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _below(f"{name} {word}", command)
        else:
            yield f"{name} {word}", command


def options(command: Any) -> list[Any]:
    """Return a command's options, without its arguments."""
    return [parameter for parameter in command.params if parameter.param_type_name == "option"]


def anchor(heading: str) -> str:
    """Return the anchor of one of the page's headings."""
    return heading.lower().replace(" ", "-")


def cell(text: str) -> str:
    """Return text escaped for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", r"\|")


def value_of(option: Any, context: Any) -> str:
    """Return the placeholder of an option's value, such as 'N' or 'reference|fast'. It is empty for a flag."""
    if option.is_flag:
        return ""
    kind = re.sub(r"^<(list\[)?|\]?>$", "", option.get_help_record(context)[0].split()[-1])  # '--seed <list[int]>'
    return PLACEHOLDERS.get(kind, kind)


def option_line(option: Any, context: Any) -> str:
    """Return an option's line in a list: its names, value, help text and default."""
    value = value_of(option, context)
    names = ", ".join(f"`{name} {value}`".replace(" `", "`") for name in sorted(option.opts, key=len, reverse=True))
    default = getattr(option.default, "value", option.default)
    has_default = isinstance(default, str | int | float) and not isinstance(default, bool) and default != ""
    note = " Required." if option.required else f" Default: `{default}`." if has_default else ""
    return f"- {names}: {' '.join(option.help.split())}{note}"


def section(name: str, command: Any, lines: list[str], shared: Collection[str]) -> str:
    """Return a command's section: description, examples or usage, arguments and options.

    `lines` are the lines of its options. Those in `shared` are listed by name only.
    """
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    words = [a.metavar or (a.name.upper() if a.required else f"[{a.name.upper()}]") for a in arguments]
    paragraphs = [" ".join(text.split()) for text in command.help.split("\n\n")]
    examples = [text for text in paragraphs if text.startswith("runner ")]
    usage = [" ".join([name, *words, "[OPTIONS]"])] if words and not examples else []
    items = [f"- `{word}`: {' '.join(a.help.split())}" for word, a in zip(words, arguments, strict=True)]
    items += [line for line in lines if line not in shared]
    also = [line[2 : line.index(": ")] for line in lines if line in shared]
    if also:
        items.append(f"- [Shared](#shared-options): {', '.join(also)}")
    text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph not in examples)
    code = "\n".join(["```", *examples, *usage, "```"]) if examples or usage else ""
    return "\n\n".join(part for part in (f"### {name}", text, code, "\n".join(items)) if part)


def listing() -> str:
    """Return the generated part of the page."""
    every = dict(commands())
    lines = {
        name: [option_line(option, typer.Context(command)) for option in options(command)]
        for name, command in every.items()
    }
    counts = Counter(line for own in lines.values() for line in own)
    shared = [line for line, count in counts.items() if count >= SHARED_BY]
    table = ["| command | what it does |", "|---|---|"]
    for name, command in every.items():
        table.append(f"| [`{name}`](#{anchor(name)}) | {cell(command.help.partition(chr(10))[0])} |")
    parts = ["\n".join(table), "## Shared options", "\n".join(shared), "## Each command"]
    parts += [section(name, command, lines[name], shared) for name, command in every.items()]
    return "\n\n".join(parts) + "\n"


def page() -> str:
    """Return the whole page with its generated part up to date."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    return f"{head}{START}{listing()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
