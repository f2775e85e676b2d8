"""A mistake in a model's file or a source is one line: file, place, what was expected, the nearest name. Others go on."""

import logging
import sys
from pathlib import Path

import pytest

import zoo
from benchmarks.papers import load_papers
from benchmarks.reading import read
from runner.new_model import MODEL
from runner.reporting.contract import problems, suite_problems, target_problems
from zoo.plain import check_types
from zoo.recipe import SGD, Recipe
from zoo.spec import ModelSpec, Variant

GOOD = MODEL.format(name="mlp800", paper="mlp800")


@pytest.fixture
def other_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write files beside those of the zoo, and load all of them: (models, problems)."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    monkeypatch.setattr(zoo, "__path__", [*zoo.__path__, str(folder)])
    before = set(sys.modules)

    def load(**files: str) -> tuple[dict[str, ModelSpec], tuple[str, ...]]:
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        zoo._load.cache_clear()
        return zoo.load_models(), zoo.problems()

    yield load
    zoo._load.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("zoo."):
            del sys.modules[name]
            delattr(zoo, name.removeprefix("zoo."))


def line_of(text: str) -> int:
    return GOOD.splitlines().index(next(line for line in GOOD.splitlines() if text in line)) + 1


INIT = '(("*.weight", "he_normal", 1.0), ("*.bias", "constant", 0.0))'
MISTAKES = [  # (what stands in the template, what is typed instead, the line that is named, what is said)
    ("epochs=20,", "epochs=20", "    epochs=20", "invalid syntax. Perhaps you forgot a comma?"),
    ("from zoo.spec import Departure", "from zoo.spec import Departur", "from zoo.spec", "ImportError: cannot import"),
    ("SGD(learning_rate=0.1", "SGD(lr=0.1", "optimizer=", "SGD has no field 'lr': did you mean 'learning_rate'?"),
    ("SGD(learning_rate=0.1", "SGD(learn_rate=0.1", "optimizer=", "SGD has no field 'learn_rate': did you mean 'learning"),
    ("epochs=20,", "", "RECIPE", "Recipe lacks 'epochs'"),
    (INIT, '("*.weight", "he_normal", 1.0)', "RECIPE", "init is ('*.weight', 'he_normal', 1.0), expected a tuple of "
     "(a word, a word, a number): a comma is missing, as in (('*.weight', 'he_normal', 1.0),)"),
    (INIT, '(("*.weight", "he_norml", 1.0),)', "RECIPE", "init's kind is 'he_norml': did you mean 'he_normal'?"),
    ('"standardise"', '"standardize"', "RECIPE", "preprocessing is 'standardize': did you mean 'standardise'?"),
    ("learning_rate=0.1", 'learning_rate="0.1"', "optimizer=", "learning_rate is '0.1', expected a number"),
    ("after=(10, 15)", "after=15", "schedule=", "after is 15, expected a tuple of whole numbers: a comma is missing"),
    ('("mnist",)', '("mnist")', "    ModelSpec(", "suites is 'mnist', expected a tuple of words: a comma is missing"),
    ("parameters=1_498", 'parameters="1498"', 'Variant(', "parameters is '1498', expected a whole number"),
    ('name="mlp800"', 'name="MLP 800"', "    ModelSpec(", "name is 'MLP 800', expected small letters, digits, _ and -"),
    ("MODELS = (", "MODEL = (", "", "declares no MODELS, expected MODELS = (ModelSpec(...),)"),
]  # fmt: skip


@pytest.mark.parametrize(("good", "typed", "place", "says"), MISTAKES, ids=[m[1] or "epochs" for m in MISTAKES])
def test_a_mistake_in_a_models_file_is_one_line_and_the_other_models_are_there(
    other_zoo, caplog, good, typed, place, says
):
    assert good in GOOD
    with caplog.at_level(logging.WARNING):
        models, lines = other_zoo(mlp800=GOOD.replace(good, typed))
    [line] = lines
    where = f"zoo/mlp800.py:{line_of(place)}: " if place else "zoo/mlp800.py: "
    if "syntax" not in says:  # Python names the line after it
        assert line.startswith(where), line
    assert says in line
    assert "\n" not in line
    assert caplog.messages == [line]
    assert "mlp800" not in models
    assert "nin_dropout" in models


def test_a_doubled_name_is_one_line_with_both_files_and_neither_counts(other_zoo):
    models, [line] = other_zoo(mlp800=GOOD.replace('name="mlp800"', 'name="nin"'))
    assert line == (
        "zoo/mlp800.py: declares the model 'nin', and so does zoo/nin.py: rename one; until then neither counts"
    )
    assert "nin" not in models
    assert "nin_dropout" in models


def test_a_file_that_imports_a_broken_one_says_so(other_zoo):
    _, lines = other_zoo(mlp800="x = (", a="from zoo.mlp800 import x\nMODELS = ()\n")
    assert lines == (
        "zoo/a.py: imports zoo/mlp800.py, which can't be loaded",
        "zoo/mlp800.py:1: '(' was never closed",
    )


def test_every_file_of_this_zoo_loads_and_agrees_with_the_sources():
    assert problems() == []


def test_a_broken_file_is_the_one_problem_of_the_contract(other_zoo):
    _, lines = other_zoo(mlp800="x = (")
    assert problems() == list(lines)


def spec_of(**changes) -> ModelSpec:
    recipe = Recipe(
        epochs=1,
        batch_size=1,
        preprocessing="unit",
        optimizer=SGD(learning_rate=0.1),
        init=(("*", "constant", 0.0),),
    )
    variant = Variant(build=lambda: None, recipe=recipe, parameters=1, **changes)
    return ModelSpec(name="m", title="M", family="F", paper="one", suites=("mnits",), variants={"mnist": variant})


def test_an_unknown_suite_and_one_of_other_data_sets_are_named():
    assert suite_problems({"m": spec_of()}) == ["zoo/: model 'm': suites: unknown suite 'mnits': did you mean 'mnist'?"]
    here = ModelSpec(name="m", title="M", family="F", paper=None, suites=("svhn",))
    assert suite_problems({"m": here}) == ["zoo/: model 'm': suites: 'svhn' expects a recipe for svhn"]


PAPER = """title = "T"
authors = ["A, B"]
year = 2003
venue = "V"
url = "https://example.org"
read = "all of it"

[[reported]]
dataset = "mnist"
label = "MLP"
model = "m"
error = 1.6
where = "Table 1"
kind = "target"
"""


def test_a_target_whose_recipe_declares_no_departure_is_asked_about(tmp_path):
    (tmp_path / "one.toml").write_text(PAPER)
    papers = load_papers(tmp_path)
    [line] = target_problems({"m": spec_of()}, papers)
    assert line.startswith(
        "benchmarks/papers/one.toml: 'MLP' (1.6) judges m on mnist, but its recipe declares no departure: add"
    )
    assert target_problems({"m": spec_of(to_the_letter="its appendix")}, papers) == []
    assert target_problems({"m": spec_of(departures=(zoo.spec.Departure("recipe", "ours"),))}, papers) == []
    without = ModelSpec(name="m", title="M", family="F", paper=None, suites=())
    assert "write one in zoo/" in target_problems({"m": without}, papers)[0]


def test_the_board_names_a_source_whose_model_is_not_there(tmp_path, monkeypatch):
    """Held against the cards, so that the report needs no torch."""
    monkeypatch.setattr("benchmarks.reading.PACKAGES", tmp_path)
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "one.toml").write_text(PAPER.replace('"m"', '"mlp80"'))
    [line] = read(tmp_path / "results", papers=tmp_path / "papers").problems
    assert line.startswith("benchmarks/papers/one.toml: reported 1 ('MLP'): model: unknown model 'mlp80'")


def test_a_field_of_another_type_is_named():
    with pytest.raises(
        ValueError, match=r"departures is Departure.*expected a tuple of Departures: a comma is missing"
    ):
        spec_of(departures=zoo.spec.Departure("recipe", "ours"))
    with pytest.raises(ValueError, match="revision is True, expected a whole number"):
        spec_of(revision=True)
    check_types(spec_of())
