"""What a contributor meets: the check of a pull request, forms and workflows that parse, the citation."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).resolve().parent.parent


def load_script():
    spec = importlib.util.spec_from_file_location("check_pr", HERE / ".ci" / "check_pr.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_pr = load_script()
MODELS = {"nin": ["nin", "nin_dropout"], "lenet": ["lenet"], "spec": []}


# --- the check of a pull request -----------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path):
    """A repository whose branch left main, which went on by itself; returns its folder and a git command."""

    def git(*words: str) -> None:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    def write(path: str, text: str = "x") -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    git("init")
    for path in ("zoo/nin.py", "zoo/lenet.py", "README.md", "old.txt"):
        write(path)
    git("add", "-A")
    git("commit", "-m", "first")
    git("checkout", "-b", "mine")
    git("checkout", "main")
    write("zoo/lenet.py", "theirs")
    git("commit", "-am", "main goes on")
    git("checkout", "mine")
    return tmp_path, git, write


def test_what_changed_is_what_this_branch_changed(repository) -> None:
    folder, git, write = repository
    assert check_pr.changed_files(folder, "main") == []
    write("zoo/nin.py", "mine")
    (folder / "old.txt").unlink()
    git("commit", "-am", "mine")
    write("README.md", "not committed yet")
    write("results/cifar10/nin/reference ü.json")
    assert check_pr.changed_files(folder, "main") == ["README.md", "results/cifar10/nin/reference ü.json", "zoo/nin.py"]


def test_published_records_that_a_branch_changes_or_deletes_are_named(repository) -> None:
    """A deleted record would change a mean, and nobody would have verified anything."""
    folder, git, write = repository
    record = "results/mnist/lenet/reference-seed0.json"
    curve = record.replace(".json", ".curve.csv")
    for path in (record, curve, "results/README.md", "results/cards/lenet.json"):
        write(path)
    git("add", "-A")
    git("commit", "-m", "published")
    git("branch", "-f", "main")
    write("results/mnist/lenet/reference-seed1.json")
    for path in ("results/README.md", "results/cards/lenet.json", "zoo/nin.py"):
        write(path, "mine")
    assert check_pr.altered_records(folder, "main") == []
    write(record, "a better error")
    (folder / curve).unlink()
    assert check_pr.altered_records(folder, "main") == [curve, record]
    git("add", "-A")
    git("commit", "-m", "mine")
    git("mv", record, record.replace("seed0", "seed9"))
    assert check_pr.altered_records(folder, "main") == [curve, record]


def test_an_unknown_base_is_one_line(repository) -> None:
    with pytest.raises(SystemExit, match="fetch 'nowhere' first"):
        check_pr.changed_files(repository[0], "nowhere")


def test_a_fork_is_compared_with_the_project_not_with_itself(repository) -> None:
    folder, git, _ = repository
    assert check_pr.default_base(folder) == "origin/main"
    git("update-ref", "refs/remotes/upstream/main", "HEAD")
    assert check_pr.default_base(folder) == "upstream/main"


def test_only_the_changed_models_are_tested_and_all_where_shared_code_changed() -> None:
    assert check_pr.plan(["README.md"], MODELS) == check_pr.Checks()
    assert check_pr.plan(["zoo/lenet.py"], MODELS).models == ("lenet",)
    for shared in ("zoo/spec.py", "runner/training/loop.py"):
        assert check_pr.plan([shared], MODELS).models == ("lenet", "nin", "nin_dropout")
    assert check_pr.plan(["tests/digests/nin.json", "tests/digests/gone.json"], MODELS).models == ("nin",)
    assert "tests/test_papers.py" in check_pr.plan(["benchmarks/papers/lin2013.toml"], MODELS).tests


def test_changed_records_are_verified_also_by_their_curves() -> None:
    changed = [
        "results/mnist/lenet/a.json",
        "results/mnist/lenet/b.curve.csv",
        "results/cards/nin.json",
        "results/README.md",
    ]
    checked = ("results/cards/nin.json", "results/mnist/lenet/a.json", "results/mnist/lenet/b.json")
    assert check_pr.plan(changed, MODELS).records == checked


def test_a_changed_record_is_held_against_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers import make_record, publish_records

    from zoo import load_models

    recipe = load_models()["nin_dropout"].variants["cifar10"].recipe.to_dict()
    old, wrong = make_record(recipe=recipe, parameters=1), make_record(seed=1, recipe=recipe)
    new = make_record(seed=2, recipe=recipe, run=wrong.run)
    publish_records(tmp_path / "results", old, wrong, new)
    monkeypatch.setattr(check_pr, "ROOT", tmp_path)
    name = f"results/cifar10/nin_dropout/{new.file_stem}.json"
    [problem] = check_pr.problems_of([name])  # not the old one's: it isn't this pull request's
    assert "run: is also the run of" in problem
    assert check_pr.problems_of(["results/cifar10/nin/gone.json"])[0].endswith("gone.json: file: is missing")


def test_every_declared_model_belongs_to_a_module() -> None:
    from zoo import load_models

    declared = check_pr.declared_models()
    assert sorted(name for names in declared.values() for name in names) == sorted(load_models())
    assert declared["spec"] == []


# --- CONTRIBUTING's example, as a pull request ---------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with this checkout's files, as they are now, in one commit on main."""
    names = subprocess.run(["git", "-C", str(HERE), "ls-files", "-z"], capture_output=True, check=False).stdout.decode()
    if not names:
        pytest.skip("this checkout isn't a git repository")
    folder = tmp_path / "project"
    for name in filter(None, names.split("\0")):
        if (HERE / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, folder / name)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "A")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@example.org")
    for name in ("REPROZOO_ROOT", "MAKEFLAGS", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "the project"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


@pytest.fixture
def fork(project: Path, tmp_path: Path):
    """A clone of the project, and a function that runs one command line in it: (exit code, output).

    Its .venv holds links to this environment's programs. They are newer than the clone's pyproject.toml, so that make
    installs nothing.
    """
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(project), str(clone)], check=True)
    (clone / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != ".installed":
            (clone / ".venv" / entry.name).symlink_to(entry)
    (clone / ".venv" / ".installed").touch()
    path = f"{clone / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1", "PATH": path}

    def call(line: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-c", line], cwd=clone, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return clone, call


@pytest.mark.slow  # a process for each command, each loading torch
def test_the_example_of_contributing_is_a_pull_request_whose_check_is_green(fork) -> None:
    clone, call = fork
    example = (HERE / "CONTRIBUTING.md").read_text().split("### A complete example")[1].split("\n## ")[0]
    steps = re.findall(r"(?:In `([^`]+)`:\n\n)?```\w*\n(.*?)```", example, flags=re.DOTALL)
    assert [path for path, _ in steps] == ["", "zoo/cnn2.py", "benchmarks/papers/cnn2.toml", ""]
    lines = []
    for path, block in steps:
        if path:
            assert (clone / path).exists(), f"runner new-model didn't write {path}"
            (clone / path).write_text(block)
            continue
        for line in block.splitlines():
            code, output = call(line)
            assert code == 0, f"{line}\n{output}"
            print(f"$ {line}\n{output}")
            lines.append(line)
    assert lines[-1] == "make check-pr"
    assert "since origin/main: 1 model," in output
    assert "Nothing is missing." in output
    assert call("git status --porcelain") == (0, "")
    assert '"cnn2"' in (clone / "results" / "cards" / "cnn2.json").read_text()
    model = clone / "zoo" / "cnn2.py"  # and it is red where something is missing
    model.write_text(model.read_text().replace("431_080", "431_081"))
    code, output = call("make check-pr")
    assert code != 0
    assert "cnn2 on mnist declares parameters=431,081, it has 431,080" in output


# --- the notebook --------------------------------------------------------------------------------------------------------


def cells(kind: str) -> list[tuple[str, list[str]]]:
    """The notebook's cells of a kind: text and tags."""
    notebook = json.loads((HERE / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    found = [cell for cell in notebook["cells"] if cell["cell_type"] == kind]
    assert not any(cell.get("outputs") for cell in found), "clear the notebook's outputs before a commit"
    return [("".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in found]


def test_the_notebook_says_that_no_hosted_gpu_was_tried_and_keeps_the_notebooks_torch() -> None:
    assert "**Not tried on a hosted GPU.**" in cells("markdown")[0][0]
    [install] = [text for text, tags in cells("code") if "install" in tags]
    assert '("torch", "torchvision")' in install
    assert '"--constraint"' in install


@pytest.mark.slow  # it trains the quickstart's smallest network
def test_the_notebook_trains_a_suite_shows_the_board_and_packs_records_that_verify(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cell by cell, but for the installation: this environment is installed. Then what was packed, in a fresh clone."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, (text, tags) in enumerate(cells("code")):
        if "install" not in tags:
            exec(compile(text, f"cell {number}", "exec"), names)
        if number == 0:
            assert (names["SUITE"], names["PROFILE"]) == ("quickstart", "fast")
            names |= {"REPOSITORY": str(project), "MODELS": ["lenet"], "SEEDS": 1}
    output = capsys.readouterr().out
    print(output)
    assert "1 job: 0 done, 1 to run" in output
    assert "LeNet-5" in output
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "-q", str(project), str(other)], check=True)
    shutil.unpack_archive(tmp_path / "records.zip", other)
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"], cwd=other, check=True, capture_output=True, text=True
    ).stdout.split()[1::2]
    assert sorted(Path(name).suffix for name in changed) == [".csv", ".json"]
    assert all(name.startswith("results/digits/lenet/fast-seed0") for name in changed)
    record = next(name for name in changed if name.endswith(".json"))
    assert json.loads((other / record).read_text())["source"]["dirty"] is False


# --- files that others read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((HERE / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_forms_and_workflows_parse(path: Path) -> None:
    data = yaml.safe_load(path.read_text())
    if path.parent.name == "workflows":
        assert data["permissions"] == {"contents": "read"}
        assert "pull_request_target" not in path.read_text()
        assert "secrets" not in re.sub(r"#.*", "", path.read_text())
        steps = [step for job in data["jobs"].values() for step in job["steps"]]
        used = [step["uses"] for step in steps if "uses" in step]
        assert used
        assert all(re.fullmatch(r"[\w/-]+@v\d+\.\d+\.\d+", name) for name in used), used
        assert not [step["run"] for step in steps if "${{" in step.get("run", "")], "text from outside goes through env"
    elif path.name != "config.yml":
        assert {"name", "description", "body"} <= data.keys()
        ids = [item["id"] for item in data["body"]]
        assert len(ids) == len(set(ids))
        assert all(item["attributes"]["label"] for item in data["body"])


def test_the_workflows_call_the_scripts_that_people_call() -> None:
    workflows = HERE / ".github" / "workflows"
    assert "run: bash .ci/run\n" in (workflows / "ci.yml").read_text()
    assert "run: bash .ci/light" in (workflows / "ci.yml").read_text()
    assert "run: bash .ci/lowest" in (workflows / "ci.yml").read_text()
    assert "run: make check-pr" in (workflows / "pr.yml").read_text()
    assert "\ncheck-pr: setup" in (HERE / "Makefile").read_text()


def test_every_python_that_is_admitted_is_tested() -> None:
    jobs = yaml.safe_load((HERE / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    assert jobs["light"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert project["requires-python"] == ">=3.11"


def test_the_light_tests_need_neither_torch_nor_mlflow() -> None:
    """Neither do the modules that they import from tests/: so they run where only the board's packages are installed."""
    lines = (HERE / ".ci" / "light").read_text()
    names = re.findall(r"tests/(test_\w+)\.py", lines)
    assert len(names) >= 6
    heavy = re.compile(r"^\s*(?:from|import) (?:torch|torchvision|mlflow|zoo|runner)\b", flags=re.MULTILINE)
    for name in [*names, "conftest", "helpers"]:
        top = re.sub(
            r"\n    .*", "", (HERE / "tests" / f"{name}.py").read_text()
        )  # what is imported in functions is theirs
        assert not heavy.search(top), name


def test_the_hooks_and_the_image_use_what_the_project_uses() -> None:
    hooks = yaml.safe_load((HERE / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for repository in hooks for hook in repository["hooks"]] == [
        ".venv/bin/ruff check --fix",
        ".venv/bin/ruff format",
    ]
    lines = [line.split() for line in (HERE / "Dockerfile").read_text().splitlines() if line and line[0].isupper()]
    known = {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "VOLUME", "ENTRYPOINT", "CMD", "LABEL", "USER", "EXPOSE"}
    assert {words[0] for words in lines} <= known
    tracked = {"requirements.lock", "pyproject.toml", "Makefile"}
    for words in lines:
        if words[0] == "COPY":
            assert all((HERE / path).exists() for path in words[1:-1] if not path.startswith("--")), words
    copied = {path for words in lines if words[0] == "COPY" for path in words[1:-1]}
    assert tracked <= copied


def test_an_installed_package_never_writes_into_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import checkout
    from benchmarks.errors import UserError

    monkeypatch.setattr(checkout, "PACKAGES", tmp_path / "lib" / "site-packages")
    assert checkout.root() != checkout.PACKAGES  # every test has REPROZOO_ROOT
    monkeypatch.delenv("REPROZOO_ROOT")
    with pytest.raises(UserError, match="set REPROZOO_ROOT to the folder"):
        checkout.root()


@pytest.mark.slow  # it builds the wheel, and starts processes
def test_the_wheel_reports_below_a_root_of_its_own_and_refuses_without_one(tmp_path: Path) -> None:
    sources, place, root = tmp_path / "sources", tmp_path / "site-packages", tmp_path / "own"
    for name in ("benchmarks", "zoo", "runner"):
        shutil.copytree(HERE / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HERE / name, sources)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('..'))"
    subprocess.run([sys.executable, "-c", build], cwd=sources, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, place, "zip")
    root.mkdir()

    def call(*words: str, **variables: str) -> tuple[int, str]:
        environment = {name: value for name, value in os.environ.items() if name != "REPROZOO_ROOT"}
        done = subprocess.run(
            [sys.executable, "-P", "-m", "runner", *words],
            cwd=tmp_path, env=environment | {"PYTHONPATH": str(place)} | variables,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    before = sorted(path for path in place.rglob("*") if "__pycache__" not in path.parts)
    for words in (["new-model", "mine"], ["status"], ["submit", "--suite", "quickstart", "--dry-run"]):
        code, output = call(*words)
        assert (code, output.count("\n")) == (2, 1), output
        assert "set REPROZOO_ROOT to the folder" in output
    assert call("status", REPROZOO_ROOT=str(root))[0] == 0
    code, output = call("submit", "--suite", "quickstart", "--model", "lenet", "--dry-run", REPROZOO_ROOT=str(root))
    assert (code, "2 jobs: 0 done, 2 to run" in output) == (0, True)
    code, output = call("report", "--suite", "quickstart", "--format", "csv", REPROZOO_ROOT=str(root))
    assert code == 0
    code, output = call("site", REPROZOO_ROOT=str(root))
    assert code == 2
    assert "an installed package has no site" in output
    code, output = call("new-model", "mine", REPROZOO_ROOT=str(root))
    assert code == 2
    assert "is not a checkout" in output
    assert sorted(path for path in place.rglob("*") if "__pycache__" not in path.parts) == before


def test_the_citation_has_the_licence_of_the_package_and_no_second_version() -> None:
    citation = yaml.safe_load((HERE / "CITATION.cff").read_text())
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "type"} <= citation.keys()
    assert citation["license"] == project["license"]
    assert "version" not in citation  # pyproject.toml alone has it; `runner --version` says it and the commit


def test_the_version_and_the_release_date_are_the_changelogs() -> None:
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((HERE / "CITATION.cff").read_text())
    headings = re.findall(r"^## (\S+?),? \(?(.*?)\)?$", (HERE / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    newest, state = headings[0]
    assert project["version"] == newest + (".dev0" if state == "not released yet" else "")
    assert citation["date-released"] == next(date for _, date in headings if date != "not released yet")
