"""What a contributor meets: the check of a pull request, forms and workflows that parse, the citation."""

import importlib.util
import re
import subprocess
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


def test_an_unknown_base_is_one_line(repository) -> None:
    with pytest.raises(SystemExit, match="is 'nowhere' fetched"):
        check_pr.changed_files(repository[0], "nowhere")


def test_only_the_changed_models_are_tested_and_all_where_shared_code_changed() -> None:
    assert check_pr.plan(["README.md"], MODELS) == check_pr.Checks()
    assert check_pr.plan(["zoo/lenet.py"], MODELS).models == ("lenet",)
    for shared in ("zoo/spec.py", "runner/training/loop.py"):
        assert check_pr.plan([shared], MODELS).models == ("lenet", "nin", "nin_dropout")
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
    assert "run: is the run of" in problem
    assert check_pr.problems_of(["results/cifar10/nin/gone.json"])[0].endswith("gone.json: file: is missing")


def test_the_contract_tests_of_a_model_are_its_own() -> None:
    ids = check_pr.contract_tests(["nin"])
    assert any("[cifar10/nin]" in line for line in ids)
    assert all(line.endswith(("/nin]", "[nin]")) for line in ids)


def test_every_declared_model_belongs_to_a_module() -> None:
    from zoo import load_models

    declared = check_pr.declared_models()
    assert sorted(name for names in declared.values() for name in names) == sorted(load_models())
    assert declared["spec"] == []


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
    assert "run: make check-pr" in (workflows / "pr.yml").read_text()
    assert "\ncheck-pr: setup" in (HERE / "Makefile").read_text()


def test_the_citation_names_the_version_and_licence_of_the_package() -> None:
    citation = yaml.safe_load((HERE / "CITATION.cff").read_text())
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "type"} <= citation.keys()
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
