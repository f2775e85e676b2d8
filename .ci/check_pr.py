"""Check what a pull request changes: the contract tests of its models, its sources and its records.

    make check-pr                     compares with upstream/main if it exists, else with origin/main
    make check-pr BASE=my-branch      compares with another commit

Published records must not change. Needs no secrets and no GPU. Exit code 1 if a check fails; `--list` prints what would be
checked, as JSON.
"""

import argparse
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Checks:
    """Models, test files and records to check, each sorted."""

    models: tuple[str, ...] = ()  # names that must pass `runner check`
    tests: tuple[str, ...] = ()  # test files to run in full
    records: tuple[str, ...] = ()  # files below results/ that must pass `runner verify`


def changed_files(root: Path, base: str) -> list[str]:
    """Return the files that differ from the commit at which this branch left `base`, sorted.

    Uncommitted and untracked files are included; deleted files are not.
    Raises SystemExit with git's own message when git fails.
    """
    untracked = _git(root, base, "ls-files", "-z", "--others", "--exclude-standard")
    return sorted({*_differing(root, base, "d"), *untracked})


def altered_records(root: Path, base: str) -> list[str]:
    """Return the published records and curves that this branch changed or deleted, sorted: published files stay."""
    return [
        path for path in _differing(root, base, "AC", "results") if re.fullmatch(r"results/(?!cards/)[^/]+/.+", path)
    ]


def _differing(root: Path, base: str, but: str, *below: str) -> list[str]:
    """Return the files that differ from the fork, sorted; `but` are the letters of the kinds of change to leave out."""
    [fork] = _git(root, base, "merge-base", base, "HEAD")
    names = ("-z", "--name-only", "--no-renames", f"--diff-filter={but.lower()}")
    return sorted(_git(root, base, "diff", *names, fork.strip(), "--", *below))


def _git(root: Path, base: str, *words: str) -> list[str]:
    process = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"check-pr: {process.stderr.strip()}; fetch '{base}' first")
    return [line for line in process.stdout.split("\0") if line]


def plan(changed: Iterable[str], models: Mapping[str, Iterable[str]]) -> Checks:
    """Return what to check for these changed files. `models` maps each module of the zoo to the models it declares.

    All models share a zoo module that declares none, and they share the training loop. A change there tests every model.
    """
    names, tests, records = set(), set(), set()
    everyone = {name for declared in models.values() for name in declared}
    for path in changed:
        folder = path.partition("/")[0]
        if folder == "zoo" and path.endswith(".py"):
            names |= set(models.get(Path(path).stem) or everyone)
        elif path.startswith("runner/training/"):
            names |= everyone
        elif path.startswith(("benchmarks/papers/", "benchmarks/attempts/")):
            tests |= {"tests/test_papers.py", "tests/test_sources.py"}
        elif folder == "results" and path != "results/README.md":  # every other file there must be a valid record
            records.add(path.removesuffix(".curve.csv") + ".json" if path.endswith(".curve.csv") else path)
        if folder == "tests" and Path(path).name.startswith("test_") and path.endswith(".py"):
            tests.add(path)
        if path.startswith("tests/digests/"):
            names |= {Path(path).stem} & everyone
        if path.endswith(".py"):
            tests.add("tests/test_architecture.py")
    return Checks(*(tuple(sorted(items)) for items in (names, tests, records)))


def declared_models() -> dict[str, list[str]]:
    """Return the names of the models that each module of the zoo declares.

    Importing the modules is part of the check: raises SystemExit if a file cannot be loaded.
    """
    import zoo

    if zoo.problems():
        raise SystemExit("\n".join(f"check-pr: {line}" for line in zoo.problems()))
    names = {}
    for path in sorted((ROOT / "zoo").glob("*.py")):
        module = importlib.import_module(f"zoo.{path.stem}" if path.stem != "__init__" else "zoo")
        names[path.stem] = [spec.name for spec in getattr(module, "MODELS", ())]
    return names


def default_base(root: Path) -> str:
    """Return the branch that a pull request targets: upstream/main if it exists, because a fork's origin is the fork."""
    process = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--quiet", "--verify", "upstream/main"], capture_output=True, check=False
    )
    return "origin/main" if process.returncode else "upstream/main"


def problems_of(records: Iterable[str]) -> list[str]:
    """Return the errors of `runner verify` that concern these files, and print its warnings about them.

    All of results/ is verified. A missing file is an error too, such as the record of a curve.
    """
    from runner.reporting.verify import verify

    paths = [ROOT / record for record in records]
    errors, warnings = verify(ROOT / "results")
    own = tuple(f"{path}: " for path in paths)
    for line in warnings:
        if line.startswith(own):
            print(f"warning: {line}")
    return [line for line in errors if line.startswith(own)] + [
        f"{p}: file: is missing" for p in paths if not p.exists() and not p.is_symlink()
    ]


def main() -> int:
    """Run the checks, print what was checked, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", default="")
    parser.add_argument("--list", action="store_true", help="print what would be checked, as JSON")
    options = parser.parse_args()
    base = options.base or default_base(ROOT)
    sys.path.insert(0, str(ROOT))
    checks = plan(changed_files(ROOT, base), declared_models())
    if options.list:
        print(json.dumps(asdict(checks), indent=2))
        return 0
    counts = {"model": checks.models, "test file": checks.tests, "record": checks.records}
    totals = [f"{len(items)} {noun}{'s' * (len(items) != 1)}" for noun, items in counts.items()]
    print(f"since {base}: {', '.join(totals)}")
    problems = problems_of(checks.records) if checks.records else []
    problems += [
        f"{path}: file: was published and is changed or deleted here; records stay as they are, whatever their result"
        for path in altered_records(ROOT, base)
    ]
    for line in problems:
        print(f"error: {line}")
    sys.stdout.flush()
    commands = []
    if checks.models:
        commands.append(["runner", "check", "--dry-run", *checks.models])
    if checks.tests:
        commands.append(["pytest", "-q", *checks.tests])
    codes = [subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=False).returncode for words in commands]
    return 1 if problems or any(codes) else 0


if __name__ == "__main__":
    sys.exit(main())
