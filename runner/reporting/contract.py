"""Check zoo, sources and suites against each other; each problem is one line with file, place and nearest name."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.papers import FOLDER, Paper, load_papers, targets, unknown_names
from benchmarks.sanity import unknown_text
from benchmarks.suites import SUITES
from zoo.spec import ModelSpec


def problems(papers: Path = FOLDER) -> list[str]:
    """Return a line for each problem of this zoo and these sources; raise PaperError for an unreadable source."""
    import zoo

    models, sources = zoo.load_models(), load_papers(papers)
    if zoo.problems():  # sources may name a model of a file that failed to load
        return list(zoo.problems())
    lines = unknown_names(sources, {name: spec.paper for name, spec in models.items()})
    return lines + suite_problems(models) + target_problems(models, sources)


def suite_problems(models: Mapping[str, ModelSpec]) -> list[str]:
    """Return a line for each suite that a model declares and that is unknown or has none of the model's data sets."""
    lines = []
    for model, spec in models.items():
        for name in spec.suites:
            if name not in SUITES:
                lines.append(f"zoo/: model '{model}': suites: {unknown_text('suite', name, SUITES)}")
            elif not set(SUITES[name].datasets) & spec.variants.keys():
                needed = " or ".join(SUITES[name].datasets)
                lines.append(f"zoo/: model '{model}': suites: '{name}' expects a recipe for {needed}")
    return lines


def target_problems(models: Mapping[str, ModelSpec], papers: Mapping[str, Paper]) -> list[str]:
    """Return a line for each paper figure that judges a model without a recipe, or a recipe without declared departures."""
    lines = []
    for (dataset, name), (paper, row) in targets(papers).items():
        here = f"benchmarks/papers/{paper.key}.toml: '{row.label}' ({row.printed}) judges {name} on {dataset}"
        spec = models.get(name)
        variant = spec.variants.get(dataset) if spec else None
        if spec is not None and variant is None:
            lines.append(f'{here}, but it has no recipe there: write one in zoo/, or set kind = "context"')
        elif variant is not None and not variant.departures and not variant.to_the_letter:
            lines.append(
                f"{here}, but its recipe declares no departure: add a Departure for each choice of ours, or set "
                'to_the_letter="the place that states the whole recipe", or kind = "context"'
            )
    return lines
