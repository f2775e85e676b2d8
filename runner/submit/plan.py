"""Suite x zoo -> jobs -> jobs still to do: pure functions."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from benchmarks.datasets import get_dataset
from benchmarks.errors import UserError, unknown
from benchmarks.records import Job
from benchmarks.suites import SUITES, Suite
from zoo.spec import ModelSpec, Recipe, Variant, plain


def parse_override(text: str) -> tuple[str, Any]:
    """`FIELD=VALUE` as a field of the recipe and a value of its type; raises UserError saying what was expected.

    Tuples are written as JSON: `milestones=[10,15]`.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"'{text}': expected FIELD=VALUE, such as learning_rate=0.05")
    hints = get_type_hints(Recipe)
    if name not in hints:
        raise unknown("recipe field", name, hints)
    adapter = TypeAdapter(hints[name])
    try:
        return name, value if hints[name] is str else adapter.validate_json(value)
    except ValidationError as error:
        kind = getattr(hints[name], "__name__", "value") if hints[name] in (int, float, bool) else "JSON list"
        problem = error.errors(include_url=False)[0]["msg"]
        raise UserError(f"{name}={value}: expected a {kind}: {problem}") from error


def models_of(suite: Suite, models: Mapping[str, ModelSpec]) -> dict[str, ModelSpec]:
    """The models whose spec declares this suite; of one for every model, those with a recipe for a data set of it."""
    if suite.every_model:
        return {name: spec for name, spec in models.items() if not spec.variants.keys().isdisjoint(suite.datasets)}
    return {name: spec for name, spec in models.items() if suite.name in spec.suites}


def make_jobs(
    suite: Suite,
    models: Mapping[str, ModelSpec],
    *,
    only: Iterable[str] = (),
    seeds: Iterable[int] = (),
    profile: str = "reference",
    overrides: Mapping[str, Any] | None = None,
) -> list[Job]:
    """Every job of a suite, in the order dataset, model, setting of the sweep, seed.

    `only` narrows the models, `seeds` replaces the suite's, `overrides` (by recipe field) are laid over the suite's own and
    over its sweep, whose settings may become equal by that: equal jobs are one. An override equal to the recipe's own value
    is dropped. Raises UserError for a model outside the suite or a value that can't be trained with.
    """
    members = models_of(suite, models)
    wanted = list(only) or list(members)
    for name in wanted:
        if name not in models:
            raise unknown("model", name, members)
        if name not in members:
            others = [other.name for other in SUITES.values() if name in models_of(other, models)]
            elsewhere = f" (it's in {', '.join(others)})" if others else ""
            raise UserError(
                f"model '{name}' isn't in the suite '{suite.name}'{elsewhere}: it has {', '.join(members) or 'no models'}"
            )
    settings = [dict(suite.overrides) | dict(setting) | dict(overrides or {}) for setting in suite.sweep]
    made: dict[str, Job] = {}
    for dataset in suite.datasets:
        for name in members:
            variant = members[name].variants.get(dataset)
            if name not in wanted or variant is None:
                continue
            recipe = variant.recipe
            for changes in settings:
                different = {field: value for field, value in changes.items() if getattr(recipe, field) != value}
                _check(f"{dataset}/{name}", dataset, recipe, different)
                for seed in dict.fromkeys(seeds or suite.seeds):
                    job = _job(dataset, name, variant, different, profile, seed)
                    made.setdefault(job.fingerprint, job)
    if not made:
        raise UserError(f"the suite '{suite.name}' has no model with a recipe for {', '.join(suite.datasets)}")
    return list(made.values())


def _job(dataset: str, model: str, variant: Variant, overrides: dict[str, Any], profile: str, seed: int) -> Job:
    try:
        return Job(
            dataset=dataset,
            model=model,
            revision=variant.revision,
            recipe=variant.recipe.to_dict(),
            overrides={field: plain(overrides[field]) for field in sorted(overrides)},
            profile=profile,
            seed=seed,
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise UserError(f"{problem['loc'][-1]} {problem['input']!r}: {problem['msg']}") from error


def _check(what: str, dataset: str, recipe: Recipe, changes: dict[str, Any]) -> None:
    from runner.training.preprocess import PREPROCESSING

    try:
        effective = dataclasses.replace(recipe, **changes)
    except ValueError as error:
        raise UserError(f"{what}: {error}") from error
    if effective.preprocessing not in PREPROCESSING:
        raise unknown("preprocessing", effective.preprocessing, PREPROCESSING)
    facts = get_dataset(dataset)
    left = facts.training_images(effective.holdout)
    if left <= 0:
        most = facts.train_size + facts.validation_size
        raise UserError(f"{what}: holdout is {effective.holdout}, expected less than its {most} training images")
    if effective.drop_last and effective.batch_size > left:
        raise UserError(f"{what}: drop_last leaves no batch: batch_size is {effective.batch_size}, the images fewer")


def suites_table(models: Mapping[str, ModelSpec]) -> list[dict[str, Any]]:
    """One row a suite, for `runner suites`: name, description, datasets, models, seeds, jobs."""
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
