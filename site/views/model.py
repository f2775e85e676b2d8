"""Show one model on one data set: printed and measured errors, cost, and how to repeat the runs."""

import address
import escape
import source
import streamlit as st
import widgets
from contents import MOST_CURVES, model_page
from tables.common import Link, authors_of, titles_of
from tables.runs import COST_FORMATS, RUN_FORMATS

from benchmarks.datasets import DATASETS
from benchmarks.leaderboard import CardVariant

LISTED_RUNS = 50
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

widgets.title(f"{title} on {widgets.dataset_title(dataset)}")
page = model_page(reading, dataset, model, listed=LISTED_RUNS)
if paper := page.paper:
    year = "" if paper.year == "unknown" else f", {paper.year}"
    st.markdown(f"{escape.md(paper.title)}, {escape.md(authors_of(paper), 200)}{year}: <{paper.url}>")

row = page.row
if row is not None:
    widgets.summary(page.summary)
    st.markdown(escape.md(page.reason))
    widgets.marks_line(page.marks)
    if not escape.missing(row.provenance):
        st.warning("Unverified data: " + escape.md(row.provenance), icon=":material/warning:")
    if not page.run_count:
        widgets.empty("No run of this model has ended yet. To train it:", page.command)
    to_board = Link(f"The leaderboard of {widgets.dataset_title(dataset)}", f"./?dataset={dataset}")
    widgets.link(to_board)
    if page.every_row:
        with st.expander("Every row of this model: profiles and data are never pooled"):
            widgets.board(page.every_row, "Every row of this model")

if page.run_count:
    st.header("Our runs")
    seeds, learning = st.columns(2)
    with seeds:
        if page.seeds_figure is not None:
            widgets.figure(
                page.seeds_figure,
                alt="Test error of each seed, with our mean and the printed error. The table below has the numbers.",
                key="seeds",
            )
            st.caption("Each seed's test error after the last epoch. Click a point to open its run.")
        else:
            widgets.empty("None of these runs counts: the column Status of the table says why.")
    with learning:
        if page.curves_figure is not None:
            widgets.figure(
                page.curves_figure,
                alt="Training error (dotted) and test error (solid) by epoch, one line per seed, with the printed error.",
                key="curves",
            )
            caption = "Learning curves. Solid: test error. Dotted: training error."
            if page.counted_count > MOST_CURVES:
                caption += f" The first {MOST_CURVES} of {page.counted_count} runs."
            st.caption(caption)
        elif page.counted_count:
            widgets.empty("These records have no curve files.")
    widgets.table(page.runs, "Every run of this model on this data set", RUN_FORMATS)
    if page.run_count > LISTED_RUNS:
        st.caption(f"The first {LISTED_RUNS} of {page.run_count} runs.")
    if len(page.costs):
        st.header("What it costs")
        widgets.table(page.costs, "Time of a run by hardware and profile", COST_FORMATS)
        st.caption("Measured: the median of the runs on that hardware. With more slots, seeds run concurrently.")
    st.header("Reproduce it")
    st.code(page.command, language="bash", wrap_lines=True)

if len(page.reported):
    st.header("What the sources say")
    widgets.table(page.reported, "Every figure that a source prints for this model")
if len(page.claims):
    st.header("Claims")
    widgets.table(page.claims.drop(columns="Data set"), "Claims about this model")
if len(page.attempts):
    st.header("Known attempts by others")
    st.caption("What others measured when they tried to reproduce the printed figure, with their own code and recipes.")
    widgets.table(page.attempts, "Known attempts by others to reproduce this figure")

variant = page.variant
if variant:
    if isinstance(variant, CardVariant):
        st.header("Recipe")
        st.caption(f"Augmentation: {escape.md(variant.augmentation or 'unknown')}; revision {variant.revision}.")
        widgets.table(page.recipe, "The recipe, field by field")
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
    label = "Layers with output shape, parameters and multiply-accumulates, next to the paper's own numbers"
    widgets.table(page.anatomy, label)
    if "Differs" in page.anatomy:
        st.caption("≠ marks numbers that differ from the paper's table. The departures give the reasons.")
    if dataset not in DATASETS:
        widgets.empty(
            "This network is too large to train here. It is only analysed layer by layer and compared with the paper's table."
        )
elif row is not None:
    widgets.empty(
        "This model has no card, so its layers, recipe and departures are unknown.",
        "runner models --write-cards",
    )
