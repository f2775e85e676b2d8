"""Makes what tests need: valid records, and published folders of them."""

import functools
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.canonical import sha256_of
from benchmarks.datasets import get_dataset
from benchmarks.leaderboard import Card, read_cards
from benchmarks.records import DataFacts, Environment, Job, Protocol, RunRecord, Source, record_json, save

RECIPE: dict[str, Any] = {"epochs": 3, "batch_size": 128, "learning_rate": 0.1}
STARTED = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def digest(*parts: Any) -> str:
    """A sha256 that is the same for the same parts."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def curve_text(last_error: float | None, epochs: int = 3, last_loss: float | None = 0.1) -> str:
    """A curve whose last epoch has this test error; None stands for a loss that was not finite."""
    rows = ["epoch,learning_rate,train_loss,train_error,test_loss,test_error"]
    rows += [f"{epoch},0.1,{2 / epoch},{60 / epoch},1.5,{50 / epoch}" for epoch in range(1, epochs)]
    if last_error is None:
        rows.append(f"{epochs},0.1,,90.0,,")
    else:
        rows.append(f"{epochs},0.1,{last_loss},1.0,0.5,{last_error}")
    return "\n".join(rows) + "\n"


def make_record(
    error: float = 10.4,
    *,
    dataset: str = "cifar10",
    model: str = "nin_dropout",
    seed: int = 0,
    revision: int = 1,
    recipe: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    profile: str = "reference",
    outcome: str = "finished",
    verified: bool = True,
    augmentation: str = "none",
    training_images: int = 50_000,
    test_images: int = 10_000,
    **changes: Any,
) -> RunRecord:
    """A valid record with that test error in percent; `changes` replace any of its fields."""
    recipe = RECIPE if recipe is None else recipe
    job = Job(
        dataset=dataset,
        model=model,
        revision=revision,
        recipe=recipe,
        overrides=overrides or {},
        profile=profile,
        seed=seed,
    )
    diverged = outcome == "diverged"
    loss = None if diverged else 2.302 if outcome == "collapsed" else 0.1
    wrong = None if diverged else round(error * test_images / 100)
    exact = None if wrong is None else 100 * wrong / test_images
    epochs = job.effective_recipe["epochs"]
    holdout = job.effective_recipe.get("holdout", 0)
    one = digest(job.fingerprint, outcome, wrong, verified)
    fields = {
        "run": one[:32],
        "key": job.key,
        "fingerprint": job.fingerprint,
        "job": job,
        "outcome": outcome,
        "diverged_epoch": epochs if diverged else None,
        "wrong": wrong,
        "test_images": None if diverged else test_images,
        "final_train_loss": loss,
        "protocol": Protocol(
            evaluation="validation" if holdout else "test",
            augmentation=augmentation,
            training_images=training_images - holdout,
            holdout=holdout,
        ),
        "parameters": 966_986,
        "recipe_sha256": job.recipe_sha256,
        "images_per_second": round(epochs * (training_images - holdout) / 600, 1),
        "train_seconds": 600.0,
        "environment": Environment(
            device="cuda",
            hardware="NVIDIA H200",
            platform="Linux",
            python="3.11.7",
            torch="2.11.0",
            threads=8,
            precision={"tf32": False},
        ),
        "source": Source(commit="a" * 40, dirty=False, sha256=digest("source")),
        "data": DataFacts(
            sha256=digest("data", verified),
            verified=verified,
            provenance=None if verified else "92 images differ from the official ones.",
        ),
        "started": STARTED,
        "finished": STARTED + timedelta(minutes=30),
        "attempts": 1,
        "curve_sha256": hashlib.sha256(curve_text(exact, epochs, loss).encode()).hexdigest(),
        "weights_sha256": digest("nan") if diverged else digest("weights", one),
    }
    return RunRecord.model_validate(fields | changes)


def curve_of(record: RunRecord) -> str:
    """The curve that `make_record` gave the record's sha256 of."""
    epochs = record.job.effective_recipe["epochs"]
    return curve_text(record.test_error, epochs, record.final_train_loss)


def wait_for(condition: Callable[[], object], seconds: float = 240) -> None:
    """Ask until it holds. The time is generous, so that a busy machine is no fault."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def make_seeds(errors: list[float], **changes: Any) -> list[RunRecord]:
    """A record for each error, with seeds 0, 1, 2, ..."""
    return [make_record(error, seed=seed, **changes) for seed, error in enumerate(errors)]


def publish_records(results: Path, *records: RunRecord) -> None:
    """Write records and curves where `runner publish` would."""
    for record in records:
        folder = results / record.job.dataset / record.job.model
        save(record, folder / f"{record.file_stem}.json")
        (folder / f"{record.file_stem}.curve.csv").write_text(curve_of(record))


def run_locally(runs: Path, *records: RunRecord) -> None:
    """Write records and curves as a worker leaves them in .runs."""
    for record in records:
        folder = runs / f"{record.key}-{record.fingerprint[:8]}"
        save(record, folder / "record.json")
        (folder / "curve.csv").write_text(curve_of(record))
        (folder / "job.json").write_text(record.job.canonical())


def copy_cards(results: Path) -> dict[str, Card]:
    """This checkout's cards of the models, copied into another results folder: recipes without torch."""
    shutil.copytree(Path(__file__).parent.parent / "results" / "cards", results / "cards")
    return read_cards(results / "cards")[0]


def fill_root(root: Path) -> None:
    """Every model's card, and runs of some of them: judged, too few, fast beside reference, unverified, failed, not counted."""
    results = root / "results"
    cards = copy_cards(results)

    def seeds(model: str, errors: list[float], dataset: str = "cifar10", **changes: Any) -> list[RunRecord]:
        variant = cards[model].datasets[dataset]
        own = {"recipe": variant.recipe, "revision": variant.revision, "augmentation": variant.augmentation}
        return make_seeds(errors, model=model, dataset=dataset, parameters=variant.parameters, **own | changes)

    publish_records(results, *seeds("nin", [14.5, 14.6, 14.4, 14.5, 14.55]))
    publish_records(results, *seeds("nin", [14.5, 14.7], profile="fast"))
    publish_records(results, *seeds("nin_dropout", [10.3, 10.5, 10.6, 10.55, 10.65]))
    publish_records(results, *seeds("nin_dropout", [10.2], overrides={"learning_rate": 0.05}))
    publish_records(results, *seeds("nin_dropout", [10.9], overrides={"holdout": 10_000}))
    publish_records(results, *seeds("nin_augmentation", [8.8, 8.9, 9.0], verified=False))
    publish_records(results, *seeds("strided_a", [13.0, 13.1, 12.9, 13.0, 13.05], sequential=True))
    publish_records(results, *seeds("convpool_a", [10.2, 10.3, 10.1, 10.2, 10.25]))
    publish_records(results, *seeds("conv_gap", [16.0, 16.1]))
    publish_records(results, *seeds("lenet", [0.9, 0.95], dataset="mnist", training_images=60_000))
    failed = [make_record(90.0, seed=5, outcome="collapsed"), make_record(seed=6, outcome="diverged")]
    for record in failed:
        own = seeds("nin_fc", [12.0])[0].job
        job = own.model_copy(update={"seed": record.job.seed})
        publish_records(
            results,
            record.model_copy(
                update={"job": job, "key": job.key, "fingerprint": job.fingerprint, "recipe_sha256": job.recipe_sha256}
            ),
        )
    run_locally(root / ".runs", *seeds("nin_fc", [11.9, 12.0, 12.1, 12.3, 12.2]))


def many_records(results: Path, count: int) -> None:
    """So many records of the real zoo's models, quickly written: one text a model, with seed and run replaced."""
    pairs = [(card, name) for card in copy_cards(results).values() for name in card.datasets]
    for position, (model, dataset) in enumerate(pairs):
        variant = model.datasets[dataset]
        folder = results / dataset / model.name
        folder.mkdir(parents=True)
        for seed in range(position, count, len(pairs)):
            error = 10 + (seed * 7919 % 997) / 1000
            record = make_record(
                error,
                dataset=dataset,
                model=model.name,
                seed=seed,
                recipe=variant.recipe,
                revision=variant.revision,
                test_images=get_dataset(dataset).test_size,
                run=f"{seed:032x}",
            )
            (folder / f"{record.file_stem}.json").write_text(record_json(record))


MARKUP = (
    "<img src=x onerror=alert(1)><script>alert(2)</script> **bold** _it_ [link](https://evil.example) $x^2$ :smile: "
    ":red[red] `code` # h | a | www.evil.example https://evil.example a@evil.example -> {{ 7*7 }} %{x} &amp; \u202e"
)


def fill_with_markup(root: Path) -> None:
    """Records and a card with markup in every text field, absurd numbers, and a file that is none."""
    results = root / "results"
    recipe = {**RECIPE, "init": MARKUP, "rates": [[MARKUP, 1.0]]}
    parts = dict.fromkeys(("hardware", "platform", "python", "torch", "cuda", "cudnn", "driver"), MARKUP)
    environment = Environment(device="cuda", threads=1, precision={"tf32": MARKUP}, **parts)
    for seed in range(6):
        record = make_record(
            10.4 + 0.1 * seed,
            seed=seed,
            recipe=recipe,
            augmentation=MARKUP,
            environment=environment,
            source=Source(commit=MARKUP, dirty=True, sha256=digest("source")),
            data=DataFacts(sha256=digest("data"), verified=False, provenance=MARKUP),
            submitted_by=MARKUP[:200],
            parameters=10**12,
            train_seconds=1e12,
            images_per_second=1e12,
            started=datetime(1970, 1, 1, tzinfo=UTC),
            finished=datetime(2262, 1, 1, tzinfo=UTC),
        )
        publish_records(results, record)
        (results / "cifar10" / "nin_dropout" / f"{record.file_stem}.curve.csv").write_text("epoch\n" * seed)
    layer = {"name": MARKUP, "kind": MARKUP, "output": [MARKUP], "parameters": 3, "macs": 4, "differs": [MARKUP]}
    layer["paper"] = {"parameters": MARKUP, "macs": MARKUP, "output": [MARKUP]}
    variant = {
        "revision": 1,
        "recipe": recipe,
        "recipe_sha256": sha256_of(recipe),
        "parameters": 10**30,
        "macs": 10**30,
    }
    variant |= {"augmentation": MARKUP, "stages": [layer, {}], "departures": [{"topic": MARKUP, "text": MARKUP}, {}]}
    card = {"name": "nin_dropout", "title": MARKUP, "family": MARKUP, "paper": "lin2013", "suites": [MARKUP]}
    (results / "cards").mkdir(parents=True)
    (results / "cards" / "nin_dropout.json").write_text(json.dumps(card | {"datasets": {"cifar10": variant}}))
    (results / "cards" / "torn.json").write_text("{")
    (results / "cifar10" / "nin_dropout" / "torn.json").write_text(MARKUP)


@functools.cache
def models_of_every_kind() -> frozenset[str]:
    """A few small models of the zoo that together have every kind of layer and every kind of rule of its recipes.

    What holds for a kind is tested with these; with the other models, which have the same kinds at other sizes, by the
    tests marked `slow`.
    """
    import math

    import torch

    from zoo import load_models

    kinds: dict[str, set[str]] = {}
    sizes: dict[str, int] = {}
    for spec in load_models().values():
        for dataset in sorted(spec.variants, key=lambda name: math.prod(get_dataset(name).shape))[:1]:
            variant = spec.variants[dataset]
            with torch.device("meta"):
                network = variant.build()
            recipe = variant.recipe
            parts = [recipe.optimizer, recipe.schedule, recipe.order, getattr(recipe.optimizer, "momentum", None)]
            names = {type(part).__name__ for part in [*network.modules(), *parts]}
            names |= {name for name in ("max_norm", "lr_multipliers", "second_stage") if getattr(recipe, name)}
            names |= {name for name in ("flip", "translate") if getattr(recipe.augmentation, name)}
            names |= {spec.loss.__qualname__, f"curvature {spec.curvature is not None}"}
            kinds[spec.name] = names
            sizes[spec.name] = sum(parameter.numel() for parameter in network.parameters())
    chosen: set[str] = set()
    missing = set().union(*kinds.values())
    while missing:
        name = max(kinds, key=lambda model: (len(kinds[model] & missing), -sizes[model]))
        chosen.add(name)
        missing -= kinds[name]
    return frozenset(chosen)
