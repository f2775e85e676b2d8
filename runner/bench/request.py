"""Define what to measure: a model on a data set, for how long. Choose the models and suites that can be measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.datasets import get_dataset
from benchmarks.errors import UserError, unknown
from benchmarks.suites import SUITES, Suite, get_suite
from runner.submit import plan
from runner.worker.options import JsonModel, RunOptions


class BenchRequest(JsonModel):
    """What to measure of one model, and for how long: about `seconds` seconds after start-up."""

    model: str
    dataset: str
    profile: str = "reference"
    seconds: float = 20.0
    repeats: int = 9
    options: RunOptions = RunOptions()


def choose(dataset: str, names: Sequence[str], models: Mapping[str, Any]) -> list[str]:
    """Return the models to measure on a data set: `names`, or its headline models if `names` is empty.

    Raise UserError for a model that is not in the zoo or has no recipe for the data set.
    """
    get_dataset(dataset)
    for name in names:
        if name not in models:
            raise unknown("model", name, models)
        if dataset not in models[name].variants:
            known = ", ".join(models[name].variants) or "no data set"
            raise UserError(f"model '{name}' has no recipe for '{dataset}', only for {known}")
    headline = plan.models_of(get_suite(dataset), models) if dataset in SUITES else {}
    trainable = [name for name, spec in models.items() if dataset in spec.variants]
    return list(dict.fromkeys(names)) or [name for name in trainable if name in headline] or trainable


def suite_of(dataset: str, model: str, models: Mapping[str, Any]) -> Suite:
    """Return a suite that trains the model's whole recipe on the data set. Raise UserError if there is none."""
    choose(dataset, [model], models)
    for suite in SUITES.values():
        whole = suite.datasets == (dataset,) and not suite.overrides and suite.sweep == ({},)
        if whole and model in plan.models_of(suite, models):
            return suite
    raise UserError(f"no suite trains '{model}' on '{dataset}': add one to the model's suites")
