"""What a pull request is checked for before anyone reads it: the contract tests of the models it changes, its records.

    make check-pr                     against origin/main
    make check-pr BASE=my-branch      against another commit

Needs no secrets and no GPU. Exit code 1 where something is wrong; `--list` says what would be checked, as JSON.
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
    """What is to be checked, each sorted."""

    models: tuple[str, ...] = ()  # whose contract tests run
    tests: tuple[str, ...] = ()  # files that run whole
    records: tuple[str, ...] = ()  # files below results/ that `runner verify` must have nothing against


def changed_files(root: Path, base: str) -> list[str]:
    """What differs from the commit at which this branch left `base`, uncommitted and new files included, deleted ones not."""

    def git(*words: str) -> list[str]:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"check-pr: {done.stderr.strip()}; is '{base}' fetched?")
        return [line for line in done.stdout.split("\0") if line]

    [fork] = git("merge-base", base, "HEAD")
    changed = git("diff", "-z", "--name-only", "--no-renames", "--diff-filter=d", fork.strip())
    return sorted({*changed, *git("ls-files", "-z", "--others", "--exclude-standard")})


def plan(changed: Iterable[str], models: Mapping[str, Iterable[str]]) -> Checks:
    """What to check for these changed files; `models` are the names that each module of the zoo declares.

    A module of the zoo that declares none is shared by all, as the training loop is: then every model is tested.
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
        elif folder == "results" and path != "results/README.md":  # whatever else lies there has to be in its place
            records.add(path.removesuffix(".curve.csv") + ".json" if path.endswith(".curve.csv") else path)
        if folder == "tests" and Path(path).name.startswith("test_") and path.endswith(".py"):
            tests.add(path)
        if path.endswith(".py"):
            tests.add("tests/test_architecture.py")
    return Checks(*(tuple(sorted(found)) for found in (names, tests, records)))


def declared_models() -> dict[str, list[str]]:
    """The models of each module of the zoo; importing them is part of the check."""
    found = {}
    for path in sorted((ROOT / "zoo").glob("*.py")):
        module = importlib.import_module(f"zoo.{path.stem}" if path.stem != "__init__" else "zoo")
        found[path.stem] = [spec.name for spec in getattr(module, "MODELS", ())]
    return found


def contract_tests(models: Iterable[str]) -> list[str]:
    """The ids of the tests in tests/test_zoo.py that are about one of these models."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/test_zoo.py", "--collect-only", "-q"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    about = re.compile(rf"\[(?:[a-z0-9]+/)?(?:{'|'.join(map(re.escape, models))})\]$")
    return [line for line in done.stdout.splitlines() if about.search(line)]


def problems_of(records: Iterable[str]) -> list[str]:
    """What `runner verify` finds wrong with these files among all of results/; missing ones (a lone curve) included."""
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
    """Check, say what was checked, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", default="origin/main")
    parser.add_argument("--list", action="store_true", help="say what would be checked, as JSON")
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    checks = plan(changed_files(ROOT, given.base), declared_models())
    if given.list:
        print(json.dumps(asdict(checks), indent=2))
        return 0
    problems = problems_of(checks.records) if checks.records else []
    for line in problems:
        print(f"error: {line}")
    wanted = [*checks.tests, *(contract_tests(checks.models) if checks.models else [])]
    print(
        f"{len(checks.models)} models, {len(wanted)} tests or files of tests, {len(checks.records)} records", flush=True
    )
    code = subprocess.run([sys.executable, "-m", "pytest", *wanted], cwd=ROOT, check=False).returncode if wanted else 0
    return 1 if problems or code else 0


if __name__ == "__main__":
    sys.exit(main())
