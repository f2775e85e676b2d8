"""Show one model on one data set: printed and measured errors, cost, and how to repeat the runs."""

import address
import escape
import source
import streamlit as st
import widgets
from charts.runs import curves_figure, seeds_figure
from tables.board import board_rows, others_sentence
from tables.claims import claims_table
from tables.common import Link, authors_of, marks, runs_behind, sentence, titles_of
from tables.model import anatomy_table, attempts_table, model_facts, recipe_table, reported_table, reproduce_commands
from tables.runs import COST_FORMATS, RUN_FORMATS, costs_table, counted_first, runs_table

from benchmarks.datasets import DATASETS
from benchmarks.leaderboard import CardVariant, curves, default_view, runs_of

reading = source.current()
board, evidence = reading.board, reading.evidence
ours = board[board["model"].notna()]
titles = titles_of(evidence.cards)
anatomies = {name for name, card in evidence.cards.items() if card.anatomy and not card.datasets}
models = sorted({*map(str, ours["model"]), *anatomies}, key=lambda name: str(titles.get(name, name)).casefold())

if not models:
    widgets.title("Model")
    widgets.empty("There is no model yet, because there is no card and no record.", "runner models --write-cards")
    st.stop()
widgets.warn_unknown("model", models, "model")


def datasets_of(name: str) -> list[str]:
    """Return the data sets on which a model is trained, judged ones first, then those of its layer analysis."""
    card = evidence.cards.get(name)
    return address.datasets_of_model(ours, name) + (list(card.anatomy) if card else [])


def other_model() -> None:
    """Show another model, on the same data set if it has that one."""
    name = str(st.session_state["model_model"])
    address.write("model", name)
    if address.value_of("dataset") not in datasets_of(name):
        address.write("dataset", datasets_of(name)[0])


left, right = st.columns(2)
first_model = address.default_model(ours, address.carried().get("dataset")) if len(ours) else models[0]
model = address.settle("model", models, first_model)
left.selectbox(
    "Model",
    models,
    format_func=lambda name: escape.short(titles.get(name, name), 60),
    **address.follow("model", model, "model") | {"on_change": other_model, "args": ()},
)
address.carry(model=model)
card = evidence.cards.get(model)
datasets = datasets_of(model)
title = escape.short(titles.get(model, model), 60)
widgets.warn_unknown("dataset", datasets, f"data set of {title}")
with right:
    dataset = widgets.choose_dataset("model", datasets, datasets[0])

variant = card and (card.datasets.get(dataset) or card.anatomy.get(dataset))
widgets.title(f"{title} on {widgets.dataset_title(dataset)}")
paper = evidence.papers.get(card.paper) if card and card.paper else None
if paper:
    year = "" if paper.year == "unknown" else f", {paper.year}"
    st.markdown(f"{escape.md(paper.title)}, {escape.md(authors_of(paper), 200)}{year}: <{paper.url}>")

rows = ours[(ours["model"] == model) & (ours["dataset"] == dataset)]
runs = counted_first(runs_of(evidence, dataset, model))
counted = runs_behind(runs, default_view(rows)) if len(rows) else runs.iloc[0:0]
command = reproduce_commands(dataset, model, card, counted)
row = next(default_view(rows).itertuples()) if len(rows) else None
if row is not None:
    widgets.facts(model_facts(row, evidence.papers))
    others = others_sentence(reading.attempts, row)
    line = sentence(row.reason) + (f" {others}" if others and not row.runs else "")
    st.markdown(escape.md(line))
    widgets.marks_line(marks(row))
    if not escape.missing(row.provenance):
        st.warning("Unverified data: " + escape.md(row.provenance), icon=":material/warning:")
    if not len(runs):
        widgets.empty("No run of this model has ended yet. To train it:", command)
    to_board = Link(f"The leaderboard of {widgets.dataset_title(dataset)}", f"./?dataset={dataset}")
    widgets.link(to_board)
    if len(rows) > 1:
        with st.expander("Every row of this model: profiles and data are never pooled"):
            each = rows.assign(rank=None, group="measured")
            widgets.board(
                board_rows(each, evidence.papers, reading.attempts, [()] * len(rows)), "Every row of this model"
            )

if len(runs):
    st.header("Our runs")
    seeds, learning = st.columns(2)
    with seeds:
        widgets.figure(
            seeds_figure(counted, row),
            alt="Test error of each seed, with our mean and the printed error. The table below has the numbers.",
            key="seeds",
        )
        st.caption("Each seed's test error after the last epoch. Click a point to open its run.")
    with learning:
        by_epoch = curves(counted.head(10))
        if len(by_epoch):
            widgets.figure(
                curves_figure(by_epoch, row.reported if row else None, row.printed if row else None),
                alt="Training error (dotted) and test error (solid) by epoch, one line per seed, with the printed error.",
                key="curves",
            )
            which = f" The first 10 of {len(counted)} runs." if len(counted) > 10 else ""
            st.caption(f"Learning curves. Solid: test error. Dotted: training error.{which}")
        else:
            widgets.empty("These records have no curve files.")
    widgets.table(runs_table(runs.head(50)), "Every run of this model on this data set", RUN_FORMATS)
    if len(runs) > 50:
        st.caption(f"The first 50 of {len(runs)} runs.")
    costs = costs_table(runs)
    if len(costs):
        st.header("What it costs")
        widgets.table(costs, "Time of a run by hardware and profile", COST_FORMATS)
        st.caption("Measured: the median of the runs on that hardware. With more slots, seeds run concurrently.")
    st.header("Reproduce it")
    st.code(command, language="bash", wrap_lines=True)

printed = reported_table(evidence.papers, dataset, model)
claims = reading.claims
claims = claims[(claims["dataset"] == dataset) & ((claims["better"] == model) | (claims["worse"] == model))]
attempts = attempts_table(reading.attempts, dataset, model, evidence.papers)
if len(printed):
    st.header("What the sources say")
    widgets.table(printed, "Every figure that a source prints for this model")
if len(claims):
    st.header("Claims")
    shown = claims_table(claims, evidence.papers, board, titles).drop(columns="Data set")
    widgets.table(shown, "Claims about this model")
if len(attempts):
    st.header("Known attempts by others")
    st.caption("What others measured when they tried to reproduce the printed figure, with their own code and recipes.")
    widgets.table(attempts, "Known attempts by others to reproduce this figure")

if variant:
    if isinstance(variant, CardVariant):
        st.header("Recipe")
        st.caption(f"Augmentation: {escape.md(variant.augmentation or 'unknown')}; revision {variant.revision}.")
        widgets.table(recipe_table(variant.recipe), "The recipe, field by field")
    st.header("Departures from the source")
    departures = [
        f"- **{escape.md(departure.get('topic', ''))}**: {escape.md(departure.get('text', ''))}"
        for departure in variant.departures
        if departure
    ]
    st.markdown("\n".join(departures) or "No departure is declared.")
    st.header("Anatomy")
    st.markdown(
        f"{escape.count(variant.parameters)} parameters, {escape.compact(variant.macs)} multiply\\-accumulates per image, "
        f"depth {variant.depth or escape.NONE}."
    )
    anatomy = anatomy_table(variant)
    label = "Layers with output shape, parameters and multiply-accumulates, next to the paper's own numbers"
    widgets.table(anatomy, label)
    if "Differs" in anatomy:
        st.caption("≠ marks numbers that differ from the paper's table. The departures give the reasons.")
    if dataset not in DATASETS:
        widgets.empty(
            "This network is too large to train here. It is only analysed layer by layer and compared with the paper's table."
        )
elif len(rows):
    widgets.empty(
        "This model has no card, so its layers, recipe and departures are unknown.",
        "runner models --write-cards",
    )
