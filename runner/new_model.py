"""Write the two files of a new model (`runner new-model NAME`) from templates that run unchanged.

TODO marks what the contributor has to write. The contract tests name each TODO that is left.
"""

import keyword
import re
from collections.abc import Callable
from pathlib import Path

from benchmarks.checkout import root
from benchmarks.errors import UserError
from benchmarks.files import write_atomically
from zoo import HELPERS, load_models

MODEL = '''"""TODO: what this network is, where it is from, and what its source claims.

    runner submit --suite mnist --model {name}          TODO: the error that the source reports

TODO: the layers in a sentence or two.

Departures (also data below): TODO: each point where we differ from the source, or where it does not state what it did.
"""

from collections import OrderedDict

from torch import nn

from zoo.recipe import SGD, Recipe, Steps
from zoo.spec import Departure, ModelSpec, Variant


def {name}(channels: int, classes: int) -> nn.Sequential:
    """Return the network: float (N, channels, H, W) -> logits (N, classes)."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 8, 5, stride=2, padding=2),
            relu1=nn.ReLU(inplace=True),
            average=nn.AvgPool2d(3),
            flatten=nn.Flatten(),
            fc=nn.Linear(8 * 4 * 4, classes),
        )
    )


RECIPE = Recipe(  # zoo/recipe.py explains these fields and lists the others
    epochs=20,
    batch_size=128,
    preprocessing="standardise",
    optimizer=SGD(learning_rate=0.1, momentum=0.9),
    schedule=Steps(after=(10, 15), factor=0.1),
    init=(("*.weight", "he_normal", 1.0), ("*.bias", "constant", 0.0)),
    weight_decay=1e-4,
)

MODELS = (
    ModelSpec(
        name="{name}",
        title="TODO: the name that readers of the paper know",
        family="TODO: the family that the leaderboard groups it with",
        paper="{paper}",  # the name of its file in benchmarks/papers
        suites=("mnist",),
        variants={{
            "mnist": Variant(
                build=lambda: {name}(channels=1, classes=10),
                recipe=RECIPE,
                parameters=1_498,
                departures=(Departure("recipe", "TODO: what we chose, and why."),),
            ),
        }},
    ),
)
'''

PAPER = """title = "TODO: the paper's title"
authors = ["TODO: Last, First"]
year = 2000
venue = "TODO: journal, conference or site"
url = "https://example.org/TODO"
read = "TODO: the text from which you read the numbers"

# Write one row for each error that the source prints, with the printed digits. Use kind "target" if it is of the source's
# own model and recipe, which ours follow, else "context". TODO: fill in, and remove the comment signs.
# [[reported]]
# dataset = "mnist"
# label = "as printed"
# model = "{name}"
# error = 0.00
# where = "Table 1"
# kind = "target"
# protocol = {{ augmentation = "none", training_images = 60_000 }}
"""

NEXT = """Next:
  1. fill in what is marked TODO in both files
  2. runner models {name}    shows the network layer by layer
  3. runner try {name}       trains the first steps on the real images, to see whether it learns
  4. runner check {name}     writes its card and its digest, runs its tests, and lists what is missing
CONTRIBUTING.md walks through an example."""


def create(name: str, say: Callable[[str], object], paper: str | None = None) -> None:
    """Write zoo/NAME.py and benchmarks/papers/PAPER.toml; without `paper`, the source is named as the model.

    An existing source is not changed: two models may come from one paper. Raise UserError for an invalid name or one
    that exists.
    """
    model, source = paths_of(name, paper)
    files = {model: MODEL.format(name=name, paper=source.stem)}
    if paper is None or not source.exists():
        files[source] = PAPER.format(name=name)
    for path, content in files.items():
        write_atomically(path, content)
    for path in files:
        say(f"written: {path}")
    if source not in files:
        say(f"kept: {source}, which exists already; name the model in its [[reported]] rows")
    say(NEXT.format(name=name))


def paths_of(name: str, paper: str | None = None) -> tuple[Path, Path]:
    """Return the paths of the model's file and its source's. Raise UserError for an invalid or existing name."""
    for word, what in ((name, "a model's name"), (paper or name, "the key of a source")):
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", word) or keyword.iskeyword(word):
            raise UserError(f"'{word}' can't be {what}: expected lower-case letters, digits and _, such as my_network")
    zoo, papers = root() / "zoo", root() / "benchmarks" / "papers"
    if not zoo.is_dir() or not papers.is_dir():
        raise UserError(f"{root()} is not a checkout with zoo/ and benchmarks/papers/: run this command in one")
    files = zoo / f"{name}.py", papers / f"{paper or name}.toml"
    if name in load_models() or name in HELPERS:
        raise UserError(f"the zoo already has '{name}': choose another name")
    for path in files[: 1 if paper else 2]:
        if path.exists():
            raise UserError(f"{path} exists: choose another name, or edit that file")
    return files
