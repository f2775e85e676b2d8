"""Suites: named sets of data sets, seeds and overrides.

A suite names no models: a model's spec in `zoo/` declares the suites it is in, and `runner/plan.py` joins the two, so
that adding a model edits no shared list.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.errors import unknown


@dataclass(frozen=True)
class Suite:
    """A named set of jobs-to-be: every declared model x data set x seed, with the same overrides.

    A sweep is several sets of overrides, each laid over the common ones: every job once for each of them. With
    `every_model` a model belongs to it by having a recipe for one of its data sets, and declares nothing.
    """

    name: str
    description: str
    datasets: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    sweep: tuple[Mapping[str, Any], ...] = ({},)
    every_model: bool = False


_ALL = (
    Suite("quickstart", "three small networks on real 8x8 digits, in minutes on two cores", ("digits",), seeds=(0, 1)),
    Suite(
        "quickstart-mnist", "a paper's whole recipe in the fewest minutes: what quickstart adds", ("mnist",), seeds=(0,)
    ),
    Suite("mnist", "the headline models on MNIST", ("mnist",)),
    Suite("cifar10", "the headline models on CIFAR-10", ("cifar10",)),
    Suite("cifar100", "the headline models on CIFAR-100", ("cifar100",)),
    Suite("svhn", "the headline models on SVHN", ("svhn",)),
    Suite("mnist-full", "every model that has an MNIST recipe", ("mnist",), every_model=True),
    Suite("cifar10-full", "every model that has a CIFAR-10 recipe", ("cifar10",), every_model=True),
    Suite("cifar100-full", "every model that has a CIFAR-100 recipe", ("cifar100",), every_model=True),
    Suite("svhn-full", "every model that has an SVHN recipe", ("svhn",), every_model=True),
    Suite("all", "every model on each of the four", ("mnist", "cifar10", "cifar100", "svhn"), every_model=True),
    Suite("classics", "papers whose whole recipes run on one CPU core in minutes to hours", ("mnist", "cifar10")),
    Suite(
        "nin_ablation",
        "what dropout, augmentation and global average pooling give NiN (its Tables 1 and 5)",
        ("cifar10",),
    ),
    Suite(
        "allconv_rates",
        "which of the paper's four rates suits which All-CNN network, on held-out training images, never the test set",
        ("cifar10",),
        seeds=(0,),
        overrides={"holdout": 10_000},
        sweep=tuple({"learning_rate": rate} for rate in (0.25, 0.1, 0.05, 0.01)),
    ),
)

SUITES: dict[str, Suite] = {suite.name: suite for suite in _ALL}


def get_suite(name: str) -> Suite:
    """The suite of that name; raises UserError naming the nearest valid one."""
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    return SUITES[name]
