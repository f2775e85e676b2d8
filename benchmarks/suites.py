"""Suites: named sets of data sets, seeds and overrides.

A suite does not list models. Each model's spec in `zoo/` declares its suites, and `runner/submit/plan.py` joins the two, so
that adding a model changes no shared list.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.errors import unknown


@dataclass(frozen=True)
class Suite:
    """A named set of jobs: every declared model x data set x seed, with the same overrides.

    A sweep has several sets of overrides. Each is added to the common ones, and every job runs once per set. A suite with
    `every_model` contains all models with a recipe for one of its data sets, whether they declare it or not.
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
        "quickstart-mnist",
        "one published recipe that takes a few minutes; part of quickstart",
        ("mnist",),
        seeds=(0,),
    ),
    Suite("mnist", "the headline models on MNIST", ("mnist",)),
    Suite("cifar10", "the headline models on CIFAR-10", ("cifar10",)),
    Suite("cifar100", "the headline models on CIFAR-100", ("cifar100",)),
    Suite("svhn", "the headline models on SVHN", ("svhn",)),
    Suite("mnist-full", "every model that has an MNIST recipe", ("mnist",), every_model=True),
    Suite("cifar10-full", "every model that has a CIFAR-10 recipe", ("cifar10",), every_model=True),
    Suite("cifar100-full", "every model that has a CIFAR-100 recipe", ("cifar100",), every_model=True),
    Suite("svhn-full", "every model that has an SVHN recipe", ("svhn",), every_model=True),
    Suite(
        "all",
        "every model on MNIST, CIFAR-10, CIFAR-100 and SVHN",
        ("mnist", "cifar10", "cifar100", "svhn"),
        every_model=True,
    ),
    Suite(
        "classics",
        "models whose whole published recipe runs on one CPU core, in minutes to a day",
        ("mnist", "cifar10"),
    ),
    Suite(
        "nin_ablation",
        "the effect of dropout, augmentation and global average pooling on NiN (its Tables 1 and 5)",
        ("cifar10",),
    ),
    Suite(
        "allconv_rates",
        "the paper's four learning rates for each All-CNN network, compared on held-out training images",
        ("cifar10",),
        seeds=(0,),
        overrides={"holdout": 10_000},
        sweep=tuple({"learning_rate": rate} for rate in (0.25, 0.1, 0.05, 0.01)),
    ),
)

SUITES: dict[str, Suite] = {suite.name: suite for suite in _ALL}


def get_suite(name: str) -> Suite:
    """Return the suite of that name; raise UserError with the nearest valid name if there is none."""
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    return SUITES[name]
