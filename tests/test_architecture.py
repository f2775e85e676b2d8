"""The arrows of the house: who may import whom, what stays light, and what no file may hold."""

import ast
import functools
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from setuptools import find_packages

HERE = Path(__file__).resolve().parent.parent
OURS = {"benchmarks", "zoo", "runner", "site", "tests"}
MAY_IMPORT = {
    "benchmarks": {"benchmarks"},
    "zoo": {"zoo"},
    "runner": {"runner", "benchmarks", "zoo"},
    "site": {"benchmarks"},
}
HEAVY = {"torch", "torchvision", "mlflow", "streamlit"}


def sources(folder: str) -> list[Path]:
    return sorted((HERE / folder).rglob("*.py"))


def every_source(*folders: str) -> list:
    """The files of a folder at once; each file of zoo/ by itself, since `runner check` runs the tests of a model's file."""
    whole = [pytest.param(sources(folder), id=folder) for folder in folders if folder != "zoo"]
    each = [pytest.param([path], id=path.relative_to(HERE).as_posix()) for path in sources("zoo")]
    return whole + each * ("zoo" in folders)


def package(path: Path) -> str:
    return path.relative_to(HERE).parts[0]


@functools.cache
def parsed(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """The first names of all imports of a file, also of those inside functions."""
    return frozenset(named_by(ast.walk(parsed(path)), path))


def named_by(nodes: Iterable[ast.AST], path: Path) -> set[str]:
    """The first names of what these nodes import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the whole name"
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("paths", every_source("benchmarks", "zoo", "runner", "site"))
def test_arrows(paths):
    wrong = {path.name: sorted((imported(path) & OURS) - MAY_IMPORT[package(path)]) for path in paths}
    assert not any(wrong.values()), f"imports that may not be: {wrong}"


@pytest.mark.parametrize("folder", ["benchmarks", "site"])
def test_boards_need_no_framework(folder):
    allowed = {"streamlit"} if folder == "site" else set()
    assert not {path.name: names for path in sources(folder) if (names := (imported(path) & HEAVY) - allowed)}


@pytest.mark.parametrize("paths", every_source("zoo"))
def test_zoo_needs_torch_and_numpy_only(paths):
    for path in paths:
        assert imported(path) <= {"numpy", "torch", "zoo", *sys.stdlib_module_names}


@pytest.mark.parametrize("paths", every_source("benchmarks", "zoo", "runner", "site"))
def test_only_tracking_knows_mlflow(paths):
    elsewhere = [path for path in paths if path.parent != HERE / "runner" / "tracking"]
    assert not [path for path in elsewhere if "mlflow" in imported(path)]


def test_tracking_imports_mlflow_in_functions_only():
    for path in sources("runner/tracking"):
        assert "mlflow" not in named_by(parsed(path).body, path)


# --- the rooms of the runner -------------------------------------------------------------------------------------------

# A job's way through the runner, backwards: a room imports only rooms below its own line. docs/structure.md shows it.
ROOMS = (
    ("__main__",),
    ("cli",),
    ("commands",),
    ("quickstart",),
    ("reporting",),
    ("bench",),
    ("doctor", "new_model", "site"),
    ("submit",),
    ("engines",),
    ("worker",),
    ("tracking",),
    ("training",),
    ("data",),
    ("jobs",),
    ("console", "files", "locks", "nvml", "sources", "text"),
)
MOST_LINES = 400
LONGER = {  # and why
    "zoo/handwritten.py": "forward and backward passes that share their buffers",
}


def arrows(folder: str) -> dict[str, set[str]]:
    """For each module of a package: the package's modules that it imports, also inside functions."""
    paths = {".".join(path.relative_to(HERE).with_suffix("").parts): path for path in sources(folder)}
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    targets: dict[str, set[str]] = {}
    for name, path in paths.items():
        names = set()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        targets[name] = (names & paths.keys()) - {name}
    return targets


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_a_room_imports_only_rooms_below_it():
    line = {name: number for number, names in enumerate(ROOMS) for name in names}
    graph = arrows("runner")
    assert {room(module) for module in graph} == {"", *line}, "a room that ROOMS doesn't place"
    wrong = [
        f"{module} imports {target}"
        for module, targets in graph.items()
        for target in targets
        if room(module) != room(target) and room(target) and line[room(target)] <= line[room(module)]
    ]
    assert not wrong


@pytest.mark.parametrize("folder", ["runner", "benchmarks", "zoo"])
def test_no_modules_import_each_other_in_a_circle(folder):
    left = arrows(folder)
    while ends := {module for module, targets in left.items() if not targets & left.keys()}:
        left = {module: targets for module, targets in left.items() if module not in ends}
    assert not left, f"in a circle, or above one: {sorted(left)}"


@pytest.mark.parametrize("paths", every_source("runner", "benchmarks", "zoo", "site"))
def test_a_file_is_short_or_has_a_reason(paths):
    lines = {path.relative_to(HERE).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    long = {name: count for name, count in lines.items() if count > MOST_LINES and name not in LONGER}
    assert not long, f"more than {MOST_LINES} lines: split by subject: {long}"


def test_a_class_of_the_runner_is_the_only_one_of_its_name():
    homes: dict[str, list[str]] = {}
    for path in sources("runner"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name.lstrip("_"), []).append(path.name)
    assert not {name: files for name, files in homes.items() if len(files) > 1}


def test_site_is_no_package():
    """A module of the standard library has its name, and would be taken for it or hide it."""
    assert not (HERE / "site" / "__init__.py").exists()


# --- what an import loads ----------------------------------------------------------------------------------------------


def loaded_by(*modules: str) -> set[str]:
    """The top-level modules in memory after a fresh process imported these."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_all_of_benchmarks_loads_no_framework():
    modules = [".".join(path.relative_to(HERE).with_suffix("").parts) for path in sources("benchmarks")]
    loaded = loaded_by(*(name.removesuffix(".__init__") for name in modules))
    assert not loaded & HEAVY


@pytest.mark.skipif(not (HERE / "runner" / "cli.py").exists(), reason="there is no runner/cli.py yet")
def test_commands_start_light():
    """`runner --help` and `runner status` answer in well under half a second; submit tracks, so tracking is light too."""
    assert not loaded_by("runner.cli", "runner.jobs.paths", "runner.tracking.background") & (
        HEAVY | {"pandas", "scipy", "sklearn"}
    )


# --- what no file may hold ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models() -> set[str]:
    from zoo import load_models

    return set(load_models())


@pytest.mark.parametrize("folder", ["runner", "benchmarks"])
def test_no_branch_on_a_models_name(folder, models):
    """What a model needs that others don't, its spec carries. A heuristic: no string that is a model's name."""
    names = {}
    for path in sources(folder):
        strings = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Constant)]
        names |= {f"{path.name}:{node.lineno}": node.value for node in strings if node.value in models}
    assert not names, f"a model is named: {names}"


def test_every_package_is_shipped_and_nothing_else():
    """Automatic discovery would ship site/ and tests/ too."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())
    shipped = find_packages(str(HERE), include=project["tool"]["setuptools"]["packages"]["find"]["include"])
    on_disk = {
        ".".join(init.parent.relative_to(HERE).parts)
        for p in MAY_IMPORT
        for init in (HERE / p).rglob("__init__.py")
        if p != "site"
    }
    assert set(shipped) == on_disk


def test_locked_requirements_hold_exact_versions_and_no_address():
    lines = (HERE / "requirements.lock").read_text().splitlines()
    assert lines
    for line in lines:
        requirement = line.split(";")[0].strip()
        assert "==" in requirement, line
        assert "/" not in line, line
        assert not line.startswith("-"), line


def test_no_file_names_a_package_registry():
    """Installers know where packages come from, or are told by their user's own settings: no file of ours says it."""
    hosts = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"))]
    options = ["--" + name for name in ("index-url", "extra-index-url", "find-links")]
    listed = subprocess.run(["git", "-C", str(HERE), "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    paths = [HERE / name for name in listed.stdout.split("\0") if name]
    assert len(paths) > 300
    for path in paths:
        if path.exists() and path.suffix != ".png":
            text = path.read_text(encoding="utf-8")
            words = hosts if path.suffix == ".md" else [*hosts, *options]  # a page may name the option for a folder
            assert not [word for word in words if word in text], path
