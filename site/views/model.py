"""One model on one data set: what its source says, what we measured, how, and how to repeat it."""

import charts
import escape
import source
import streamlit as st
import widgets
from tables.board import board_table, plain_board
from tables.common import authors_of, marks, runs_behind, sentence, trained
from tables.model import anatomy_table, attempts_table, recipe_table, reported_table, reproduce_commands
from tables.runs import counted_first, runs_table

from benchmarks.datasets import DATASETS
from benchmarks.leaderboard import CardVariant, curves, default_view, runs_of
from benchmarks.wording import verdict_words

reading = source.current()
board, evidence = reading.board, reading.evidence
ours = board[board["model"].notna()]
anatomies = {name for name, card in evidence.cards.items() if card.anatomy and not card.datasets}
models = sorted(set(ours["model"]) | anatomies)

if not models:
    st.title("Model")
    widgets.empty("There is no model here yet: no card and no record.", "runner models --write-cards")
    st.stop()
widgets.asked_for("model", models, "model")


def title_of(name: str) -> str:
    """A card's title, escaped: what a widget shows is Markdown."""
    return escape.md(evidence.cards[name].title if name in evidence.cards else name, 60)


left, right = st.columns(2)
first = next(iter(ours[(ours["runs"] > 0) & ours["reported"].notna()]["model"]), models[0])
model = left.selectbox("Model", models, index=models.index(first), key="model", bind="query-params")
card = evidence.cards.get(model)
datasets = [name for name in DATASETS if ((ours["model"] == model) & (ours["dataset"] == name)).any()]
datasets += list(card.anatomy) if card else []
widgets.asked_for("dataset", datasets, f"data set of {model}")
with right:
    dataset = widgets.choose_dataset(datasets, datasets[0])

variant = card and (card.datasets.get(dataset) or card.anatomy.get(dataset))
st.title(f"{title_of(model)} on {widgets.dataset_title(dataset)}")
paper = evidence.papers.get(card.paper) if card and card.paper else None
if paper:
    year = "" if paper.year == "unknown" else f", {paper.year}"
    st.markdown(f"{escape.md(paper.title)}, {escape.md(authors_of(paper), 200)}{year}: <{paper.url}>")

rows = ours[(ours["model"] == model) & (ours["dataset"] == dataset)]
runs = counted_first(runs_of(evidence, dataset, model))
if len(rows):
    row = next(default_view(rows).itertuples())
    with st.container(horizontal=True):
        spread = "" if escape.missing(row.half_width) else f" ± {row.half_width:.2f}"
        st.metric("Measured, %", escape.percent(row.mean) + spread, border=True, width=200)
        st.metric("Reported, %", escape.NONE if escape.missing(row.printed) else row.printed, border=True, width=150)
        st.metric("Gap, points", escape.percent(row.gap, signed=True), border=True, width=150)
        st.metric("Verdict", verdict_words(row.verdict), border=True, width="content")
        st.metric("Seeds trained", trained(row), border=True, width=150)
    st.markdown(escape.md(sentence(row.reason)))
    widgets.marks_line(marks(row))
    if not escape.missing(row.provenance):
        st.warning("Unverified data: " + escape.md(row.provenance), icon=":material/warning:")
    if len(rows) > 1:
        with st.expander("Other rows of this model: profiles and data are never pooled"):
            others = board_table(rows.assign(rank=None), evidence.papers, [()] * len(rows))
            widgets.plain_table(plain_board(others).drop(columns="#"), alt="Every row of this model")

    printed = reported_table(evidence.papers, dataset, model)
    claims = reading.claims
    claims = claims[(claims["dataset"] == dataset) & ((claims["better"] == model) | (claims["worse"] == model))]
    if len(printed) or len(claims):
        st.header("What the sources say")
    if len(printed):
        widgets.plain_table(printed.drop(columns="Link"), alt="Every figure that a source prints for this model")
    if len(claims):
        st.markdown(
            "\n".join(
                f"- {escape.md(verdict_words(claim.verdict))}: {escape.md(claim.text)} ({escape.md(claim.where)})"
                for claim in claims.itertuples()
            )
        )

    st.header("Our runs")
    counted = runs_behind(runs, default_view(rows))
    command = reproduce_commands(dataset, model, card, counted)
    if len(runs):
        widgets.figure(
            charts.seeds_figure(counted, row),
            alt="Test error of each seed, with our mean and the reported error. The table below has the numbers.",
            key="seeds",
        )
        widgets.runs(runs_table(runs), alt="Every run of this model on this data set")
        st.header("Learning curves")
        found = curves(counted.head(10))
        if len(found):
            widgets.figure(
                charts.curves_figure(found, row.reported),
                alt="Training error (dotted) and test error (solid) by epoch, a line a seed.",
                key="curves",
            )
            which = f" The first 10 of {len(counted)} runs." if len(counted) > 10 else ""
            st.caption(f"Solid: test error. Dotted: training error.{which}")
        else:
            widgets.empty("No curve lies beside these records.")
    else:
        widgets.empty("No run of this model has ended here yet. To train it:", command)
    if len(runs):
        st.header("Reproduce it")
        st.code(command, language="bash", wrap_lines=True)

if variant:
    st.header("Anatomy")
    st.markdown(
        f"{escape.count(variant.parameters)} parameters, {escape.compact(variant.macs)} multiply\\-accumulates an image, "
        f"depth {variant.depth or escape.NONE}."
    )
    anatomy = anatomy_table(variant)
    st.dataframe(
        anatomy,
        hide_index=True,
        height="content",
        alt="Layers with output shape, parameters and multiply-accumulates, the paper's own numbers beside ours",
    )
    if "Differs" in anatomy:
        st.caption("≠ where our number isn't the one that the paper's table prints; Departures says why.")
    if dataset not in DATASETS:
        widgets.empty(
            "Too large to be trained here: this network is taken apart and compared with its paper's table only."
        )
    if isinstance(variant, CardVariant):
        st.header("Recipe")
        st.caption(f"Augmentation: {escape.md(variant.augmentation or 'not known')}; revision {variant.revision}.")
        widgets.plain_table(recipe_table(variant.recipe), alt="The recipe, field by field")
    st.header("Departures from the source")
    departures = [
        f"- **{escape.md(departure.get('topic', ''))}**: {escape.md(departure.get('text', ''))}"
        for departure in variant.departures
        if departure
    ]
    st.markdown("\n".join(departures) or "None is declared.")
elif len(rows):
    widgets.empty(
        "There is no card of this model here, so layers, recipe and departures are unknown.",
        "runner models --write-cards",
    )

attempts = attempts_table(reading.attempts, dataset, model)
if len(attempts):
    st.header("Known attempts by others")
    st.caption("What others got when they tried for the printed figure, in whatever way: other code, other recipes.")
    widgets.plain_table(attempts, alt="Known attempts by others at this figure")
