"""Compare two to four models side by side, and mark the recipe fields that differ."""

import address
import escape
import source
import streamlit as st
import widgets
from charts.runs import compare_figure
from tables.common import datasets_of, runs_behind, titles_of
from tables.compare import compare_table

from benchmarks.leaderboard import default_view

reading = source.current()
board, evidence = reading.board, reading.evidence
ours = board[board["model"].notna()]
names = datasets_of(ours)
widgets.title("Compare")
if not names:
    widgets.empty("There is no model yet.", "runner models --write-cards")
    st.stop()
dataset = widgets.dataset_of_page("compare", board, names)
models_of_dataset = list(dict.fromkeys(ours.loc[ours["dataset"] == dataset, "model"]))
titles = titles_of(evidence.cards)
requested = address.values_of("models")
models: list[str] = st.multiselect(
    "Two to four models",
    models_of_dataset,
    max_selections=4,
    placeholder="choose two to four",
    format_func=lambda name: escape.short(titles.get(name, name), 60),
    **address.follow("models", [name for name in requested if name in models_of_dataset][:4], "compare"),
)
if missing := [name for name in requested if name not in models_of_dataset]:
    names_of = ", ".join(titles.get(name, name) for name in missing)
    st.caption(escape.md(f"Not on {widgets.dataset_title(dataset)}: {names_of}.", 200))
if len(models) < 2:
    widgets.empty(
        "Choose two or more models: their facts, recipes and runs are then shown side by side, with ≠ where recipes differ."
    )
    st.stop()
rows = default_view(ours[(ours["dataset"] == dataset) & ours["model"].isin(models)])
by_name = {row.model: row for row in rows.itertuples(index=False)}
runs = runs_behind(evidence.runs, rows)
if len(runs):
    widgets.figure(
        compare_figure(runs, [by_name[name] for name in models], [titles.get(name, name) for name in models]),
        alt="Test error of every run that counts, by model, with mean, 95 % interval and the printed error. "
        "The table below has the numbers.",
        key="runs",
    )
else:
    widgets.empty(
        "None of these models has run yet.",
        f"runner submit --suite {widgets.suite_of(dataset)} " + " ".join(f"--model {name}" for name in models),
    )
only = st.toggle("Only differences", **address.follow("only", address.value_of("only") == "True", "compare"))
table = compare_table(evidence, board, dataset, models)
if only:
    table = table[table[models].nunique(axis=1) > 1]
widgets.table(table.rename(columns=titles), "The models side by side; ≠ marks recipe fields that differ")
