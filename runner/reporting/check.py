"""Check everything that a model needs before a pull request, for `runner check NAME`, and report what is missing.

It writes what can be derived from the code alone, the model's card and its digest. Then it runs the contract tests of the
model and verifies its published records. Nothing is trained.
"""

import io
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import zoo
from benchmarks.checkout import root
from benchmarks.errors import UserError, unknown
from benchmarks.files import write_atomically
from benchmarks.papers import load_papers
from benchmarks.plural import number
from runner.jobs.paths import results_folder
from runner.reporting import digests
from runner.reporting.cards import card_json, card_of
from runner.reporting.verify import verify
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    import pytest

FILES = ("tests/test_zoo.py", "tests/test_papers.py", "tests/test_architecture.py")


@dataclass(frozen=True)
class Line:
    """One line of the report. `wrong` means that a pull request would not pass."""

    topic: str
    text: str
    wrong: bool = False


def run(names: Sequence[str], dry_run: bool, say: Callable[[str], object] = print) -> int:
    """Check models, or all without names, and print one line for each item that was written, is right or is missing.

    Return exit code 1 if something is wrong, else 0. `dry_run` writes nothing and counts outdated files as missing. Raise
    UserError for an unknown model or outside a checkout.
    """
    models = zoo.load_models()
    for name in names:
        if name not in models:
            raise unknown("model", name, models)
    if not (root() / FILES[0]).is_file():
        raise UserError(f"{root()} has no {FILES[0]}: run this command in a checkout of the repository")
    specs = [models[name] for name in (dict.fromkeys(names) or models)]
    lines = {spec.name: [card_line(spec, dry_run), digest_line(spec, dry_run), source_line(spec)] for spec in specs}
    errors, warnings = verify(results_folder())
    for spec in specs:
        lines[spec.name] += record_lines(spec, errors, warnings)
    for topic, text in contract_problems(specs):
        lines.setdefault(topic, []).append(Line("contract", text, wrong=True))
    for name, model_lines in lines.items():
        say(name or "every model")
        for line in model_lines:
            say(f"  {'✗' if line.wrong else ' '} {line.topic:<9} {line.text}")
    wrong = sum(line.wrong for model_lines in lines.values() for line in model_lines)
    say("Nothing is missing." if not wrong else f"{wrong} to fix: the lines with ✗")
    return 1 if wrong else 0


# --- derived from the code -------------------------------------------------------------------------------------------


def card_line(spec: ModelSpec, dry_run: bool) -> Line:
    """Write the model's card if it differs from the code; return the line to report."""
    file, content = results_folder() / "cards" / f"{spec.name}.json", card_json(card_of(spec))
    if file.exists() and file.read_text(encoding="utf-8") == content:
        return Line("card", f"{short(file)} matches the code")
    if dry_run:
        return Line(
            "card", f"{short(file)} does not match the code; write it with: runner check {spec.name}", wrong=True
        )
    write_atomically(file, content)
    return Line("card", f"written: {short(file)}")


def digest_line(spec: ModelSpec, dry_run: bool) -> Line:
    """Write the model's missing or outdated digests; return the line to report."""
    if not spec.variants:
        return Line("digest", "none, because the network is for analysis only")
    file = short(digests.digest_file(spec.name))
    fresh, changed = digests.refresh(spec, results_folder())
    if not changed:
        return Line("digest", f"{file} matches the code ({', '.join(spec.variants)})")
    if dry_run:
        return Line(
            "digest",
            f"{file} does not match the code ({', '.join(changed)}); write it with: runner check {spec.name}",
            wrong=True,
        )
    digests.write_digests(spec.name, fresh)
    return Line("digest", f"written: {file} ({', '.join(changed)})")


# --- sources and records ---------------------------------------------------------------------------------------------


def source_line(spec: ModelSpec) -> Line:
    """Return the line that says how many printed errors the model is compared with."""
    if spec.paper is None:
        return Line("source", "none, so its rows have no printed error")
    papers = load_papers()
    if spec.paper not in papers:
        return Line("source", f"benchmarks/papers/{spec.paper}.toml is missing, but the model names it", wrong=True)
    rows = [row for paper in papers.values() for row in paper.reported if row.model == spec.name]
    if not rows:
        return Line("source", f"{spec.paper}: no [[reported]] row names the model")
    targets = sum(row.kind == "target" for row in rows)
    judged = number(targets, "target") if targets else "all of kind context, so there is no verdict"
    return Line("source", f"{spec.paper}: {number(len(rows), 'printed error')}, {judged}")


def record_lines(spec: ModelSpec, errors: Iterable[str], warnings: Iterable[str]) -> list[Line]:
    """Return the lines that say how many records are published and what `runner verify` finds wrong with them."""
    folders = [results_folder() / dataset / spec.name for dataset in spec.variants]
    records = [file for folder in folders for file in folder.glob("*.json")]
    own = tuple(f"{folder}/" for folder in folders)
    lines = [Line("records", text.removeprefix(f"{root()}/"), wrong=True) for text in errors if text.startswith(own)]
    lines += [
        Line("records", f"warning: {text.removeprefix(f'{root()}/')}") for text in warnings if text.startswith(own)
    ]
    if records or not spec.variants:
        return [Line("records", f"{len(records)} published"), *lines]
    suite = f"--suite {spec.suites[0]} " if spec.suites else "--suite SUITE "
    train = f"runner submit {suite}--model {spec.name}; runner publish --model {spec.name}"
    return [Line("records", f"none published yet; train and publish with: {train}"), *lines]


# --- the contract tests --------------------------------------------------------------------------------------------------


def contract_problems(models: Sequence[ModelSpec]) -> list[tuple[str, str]]:
    """Run the contract tests of these models; return (model, problem) for each failure.

    The model is "" if a failure concerns no single model. Raise UserError without pytest, or if pytest itself fails.
    """
    try:
        import pytest
    except ImportError as error:
        raise UserError("the contract tests need pytest: make setup") from error
    watcher = Contracts([spec.name for spec in models], {file_of(spec) for spec in models})
    options = ["--import-mode=importlib", "-o", "addopts="]
    options += ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:terminal"]
    place = ["-c", str(root() / "pyproject.toml"), "--rootdir", str(root())]
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        code = pytest.main([*options, *place, *(str(root() / file) for file in FILES)], plugins=[watcher])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not watcher.problems:
        raise UserError(
            f"pytest ended with {code!r}: {output.getvalue().strip() or 'for details run: python -m pytest'}"
        )
    return watcher.problems


class Contracts:
    """A pytest plugin that selects the tests of some models and their files, and collects failures."""

    def __init__(self, models: Iterable[str], files: Iterable[str]) -> None:
        names = "|".join(map(re.escape, models))
        self._about = re.compile(rf"\[(?:[a-z0-9]+/)?({names})\]$")
        self._files = re.compile(rf"\[({'|'.join(map(re.escape, files))})\]$")
        self.problems: list[tuple[str, str]] = []

    def wants(self, test: str, marked: bool = False) -> bool:
        """Return whether to run the test with this id. `marked` tests cover every model and are cheap."""
        return marked or bool(self._about.search(test) or self._files.search(test))

    def pytest_collection_modifyitems(self, config: "pytest.Config", items: "list[pytest.Item]") -> None:
        """Deselect the other tests."""
        contract_items = [
            item for item in items if self.wants(item.nodeid, item.get_closest_marker("contract") is not None)
        ]
        config.hook.pytest_deselected(items=[item for item in items if item not in contract_items])
        items[:] = contract_items

    def pytest_collectreport(self, report: "pytest.CollectReport") -> None:
        """Record a test file that cannot be loaded."""
        if report.failed:
            self.problems.append(("", f"{report.nodeid}: {str(report.longrepr).strip().splitlines()[-1]}"))

    def pytest_runtest_logreport(self, report: "pytest.TestReport") -> None:
        """Record a failed test with the first line of its message."""
        if report.failed:
            match = self._about.search(report.nodeid)
            self.problems.append(
                (match[1] if match else "", f"{first_line(report)} ({report.nodeid.partition('::')[2]})")
            )


def first_line(report: "pytest.TestReport") -> str:
    """Return the first line of an assertion's message, without its class name."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    return text.strip().partition("\n")[0].removeprefix("AssertionError: ")


# --- helpers ---------------------------------------------------------------------------------------------------------


def file_of(spec: ModelSpec) -> str:
    """Return the file that declares a model, relative to the checkout: 'zoo/nin.py'. Raise ValueError if none does."""
    for module in pkgutil.iter_modules(zoo.__path__):
        # A module that failed to load has no MODELS.
        declared = getattr(sys.modules.get(f"zoo.{module.name}"), "MODELS", ())
        if any(one is spec for one in declared):
            return f"zoo/{module.name}.py"
    raise ValueError(f"no module of the zoo declares {spec.name}")


def short(path: Path) -> str:
    """Return a path relative to the checkout."""
    return str(path.relative_to(root())) if path.is_relative_to(root()) else str(path)
