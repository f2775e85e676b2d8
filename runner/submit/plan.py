"""Derive the jobs of a suite from the zoo: pure functions."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

import zoo.recipe
from benchmarks.datasets import get_dataset
from benchmarks.errors import UserError, unknown
from benchmarks.records import Job
from benchmarks.suites import SUITES, Suite
from zoo.plain import paths_of, to_plain_at, with_value
from zoo.recipe import Moment, Recipe, Shuffled, Stage
from zoo.spec import ModelSpec, Variant

# Other tools' names of these fields, too different from ours for a guess by spelling.
ELSEWHERE = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "num_epochs": "epochs",
    "scheduler": "schedule",
    "optim": "optimizer",
}


def unknown_field(name: str, known: Iterable[str]) -> UserError:
    """Return the error for an unknown recipe field: with our name for another tool's field, else with the nearest name."""
    if name.lower() in ELSEWHERE:
        return UserError(f"unknown recipe field '{name}': did you mean '{ELSEWHERE[name.lower()]}'?")
    return unknown("recipe field", name, known)


def parse_override(text: str) -> tuple[str, Any]:
    """Return the name and the value of `FIELD=VALUE`; the value is parsed as JSON if possible, else it is the text itself.

    `override` checks whether a recipe has the field and accepts the value. Raise UserError for another form, or for a name
    that is no field of any recipe.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"{text!r}: expected FIELD=VALUE, such as learning_rate=0.05")
    if name.rpartition(".")[2] not in field_names():
        raise unknown_field(name, field_names())
    try:
        return name, json.loads(value, parse_constant=lambda constant: constant)
    except ValueError:
        return name, value


def parse_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """Return the fields of several `FIELD=VALUE`; raise UserError if one field is set twice."""
    overrides: dict[str, Any] = {}
    for name, value in map(parse_override, texts):
        if name in overrides:
            raise UserError(f"--set {name} is given twice; to train with several values, use --sweep {name}=A,B")
        overrides[name] = value
    return overrides


def parse_sweep(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Return the settings of several `FIELD=A,B,C`: every combination of their values; one empty setting without texts.

    Write values that contain commas as JSON: `schedule.after=[10,15],[20,25]`. Raise UserError as `parse_override` does.
    """
    settings: list[dict[str, Any]] = [{}]
    for text in texts:
        name, _, listed = text.partition("=")
        parse_override(text)  # raises for another form or an unknown field
        if name in settings[0]:
            raise UserError(f"--sweep {name} is given twice; give all its values at once, as in --sweep {name}=A,B,C")
        try:
            values = json.loads(f"[{listed}]", parse_constant=lambda constant: constant)
        except ValueError:
            values = [parse_override(f"{name}={value}")[1] for value in listed.split(",")]
        if not listed or "" in values:
            raise UserError(f"--sweep {text}: expected FIELD=A,B,C, such as learning_rate=0.01,0.05")
        settings = [setting | {name: value} for setting in settings for value in values]
    return settings


@cache
def field_names() -> list[str]:
    """Return every field that a recipe or a part of one can have, without the part's name."""
    parts = [
        value for value in vars(zoo.recipe).values() if isinstance(value, type) and dataclasses.is_dataclass(value)
    ]
    return sorted({field.name for part in parts for field in dataclasses.fields(part) if part not in (Moment, Stage)})


def resolve_field(recipe: Recipe, name: str) -> str:
    """Return the dotted name of a recipe's field: `name` itself, or the one that ends with it ('learning_rate').

    Raise UserError if no field of this recipe matches, or several do.
    """
    paths = paths_of(recipe)
    if name in paths:
        return name
    matches = [path for path in paths if path.endswith(f".{name}")]
    if len(matches) > 1:
        raise UserError(f"the recipe field '{name}' is ambiguous: expected {' or '.join(matches)}")
    if not matches:
        raise unknown_field(name, [*paths, *(path.rpartition(".")[2] for path in paths)])
    return matches[0]


def override(recipe: Recipe, changes: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe with `changes` (JSON values by field) applied, and those that have an effect, by dotted name.

    A whole part is replaced before its fields. Raise UserError, in one line, for a value that the recipe does not accept.
    """
    effective, paths = recipe, list[str]()
    for name in sorted(changes, key=lambda name: (name not in Recipe.__dataclass_fields__, name.count("."), name)):
        path = resolve_field(effective, name)
        try:
            effective = with_value(effective, path, changes[name])
        except ValueError as error:
            raise UserError(str(error)) from error
        if path in paths:
            raise UserError(f"the recipe field {path} is set twice")
        if not any(path.startswith(f"{whole}.") for whole in paths):
            paths.append(path)
    own = {path: to_plain_at(recipe, path) for path in paths_of(recipe)}
    different = {path: to_plain_at(effective, path) for path in sorted(paths)}
    return effective, {path: value for path, value in different.items() if own.get(path, _NOTHING) != value}


_NOTHING = object()  # differs from every value of a recipe field


def models_of(suite: Suite, models: Mapping[str, ModelSpec]) -> dict[str, ModelSpec]:
    """Return the models that declare this suite. For a suite of every model: those with a recipe for one of its data sets."""
    if suite.every_model:
        return {name: spec for name, spec in models.items() if not spec.variants.keys().isdisjoint(suite.datasets)}
    return {name: spec for name, spec in models.items() if suite.name in spec.suites}


def check_members(names: Iterable[str], suite: Suite, models: Mapping[str, ModelSpec]) -> None:
    """Raise UserError for the first of `names` that is not a model of the suite."""
    members = models_of(suite, models)
    for name in names:
        if name not in models:
            raise unknown("model", name, members)
        if name not in members:
            others = [other.name for other in SUITES.values() if name in models_of(other, models)]
            elsewhere = f" (it is in {', '.join(others)})" if others else ""
            raise UserError(
                f"model '{name}' is not in the suite '{suite.name}'{elsewhere}; "
                f"the suite has {', '.join(members) or 'no models'}"
            )


def make_jobs(
    suite: Suite,
    models: Mapping[str, ModelSpec],
    *,
    only: Iterable[str] = (),
    seeds: Iterable[int] = (),
    profile: str = "reference",
    overrides: Mapping[str, Any] | None = None,
    sweep: Iterable[Mapping[str, Any]] = ({},),
) -> list[Job]:
    """Return every job of a suite, in the order dataset, model, setting of the sweep, seed.

    `only` limits the models and `seeds` replaces the suite's. `overrides` (by recipe field) replace the suite's own and
    those of its sweep; jobs that become equal are merged. `sweep` is combined with all settings and replaces their values.
    An override equal to the recipe's own value is dropped. Raise UserError for a model outside the suite or a value that
    cannot be trained with.
    """
    members = models_of(suite, models)
    names = list(only) or list(members)
    check_members(names, suite, models)
    settings = [
        dict(suite.overrides) | dict(setting) | dict(overrides or {}) | dict(own)
        for setting in suite.sweep
        for own in sweep
    ]
    jobs: dict[str, Job] = {}
    for dataset in suite.datasets:
        for name in members:
            variant = members[name].variants.get(dataset)
            if name not in names or variant is None:
                continue
            for changes in settings:
                different = _checked(f"{dataset}/{name}", dataset, variant.recipe, changes)
                for seed in dict.fromkeys(seeds or suite.seeds):
                    job = _job(dataset, name, variant, different, profile, seed)
                    jobs.setdefault(job.fingerprint, job)
    if not jobs:
        raise UserError(f"the suite '{suite.name}' has no model with a recipe for {', '.join(suite.datasets)}")
    return list(jobs.values())


def _job(dataset: str, model: str, variant: Variant, overrides: dict[str, Any], profile: str, seed: int) -> Job:
    try:
        return Job(
            dataset=dataset,
            model=model,
            revision=variant.revision,
            recipe=variant.recipe.to_dict(),
            overrides=overrides,
            profile=profile,
            seed=seed,
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise UserError(f"{problem['loc'][-1]} {problem['input']!r}: {problem['msg']}") from error


def _checked(what: str, dataset: str, recipe: Recipe, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that differ from the recipe, by dotted name; raise UserError for a recipe that cannot be trained."""
    try:
        effective, different = override(recipe, changes)
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
    facts = get_dataset(dataset)
    left = facts.training_images(effective.holdout)
    if left <= 0:
        most = facts.train_size + facts.validation_size
        raise UserError(f"{what}: holdout is {effective.holdout}, expected less than its {most} training images")
    if effective.subset > left:
        raise UserError(f"{what}: subset is {effective.subset}, expected at most the {left} training images")
    left = facts.training_images(effective.holdout, effective.subset)
    if effective.second_stage is not None and effective.second_stage.images >= left:
        raise UserError(
            f"{what}: second_stage.images is {effective.second_stage.images}, expected less than the {left} training images"
        )
    if isinstance(effective.order, Shuffled) and effective.order.drop_last and effective.batch_size > left:
        raise UserError(
            f"{what}: batch_size is {effective.batch_size}, expected at most the {left} training images with drop_last"
        )
    return different


def suites_table(models: Mapping[str, ModelSpec]) -> list[dict[str, Any]]:
    """Return one row per suite for `runner suites`: name, description, datasets, models, seeds, jobs."""
    rows = []
    for suite in SUITES.values():
        pairs = [(d, n) for d in suite.datasets for n, s in models_of(suite, models).items() if d in s.variants]
        rows.append(
            {
                "name": suite.name,
                "description": suite.description,
                "datasets": list(suite.datasets),
                "models": sorted({name for _, name in pairs}),
                "seeds": list(suite.seeds),
                "jobs": len(pairs) * len(suite.sweep) * len(suite.seeds),
            }
        )
    return rows
