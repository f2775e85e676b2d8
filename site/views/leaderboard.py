"""Show the overall result and the leaderboard of one data set, ranked by error."""

import address
import escape
import source
import streamlit as st
import widgets
from charts.board import gap_figure, gap_order
from tables.board import OF_THESE_PAPERS, RIVALS, board_rows, elsewhere, filtered, options, ranked_view
from tables.common import datasets_of

from benchmarks.answer import answer_details, answer_of, answer_sentence
from benchmarks.datasets import DATASETS
from benchmarks.labels import LEGEND, as_csv, as_json, equivalence_sentence
from benchmarks.leaderboard import PROFILES

PAGE = "leaderboard"
FILTERS = ("search", "profile", "rivals", "family", "augmentation", "verdict", "hardware")
reading = source.current()
board, papers = reading.board, reading.evidence.papers
names = datasets_of(board)

widgets.title("Do the numbers in the papers hold?", tab="Leaderboard")
if not names:
    widgets.empty("There is no model, source or record yet.", "runner submit --suite quickstart")
    st.stop()

answer = answer_of(board)
details = [
    *answer_details(answer),
    "Each row shows a printed error and the error that its recipe gives here over several seeds.",
]
st.html(
    f'<p class="lead">{escape.markup(answer_sentence(answer))}</p><p class="beside">{escape.markup(" ".join(details))}</p>'
)
dataset = widgets.dataset_of_page(PAGE, board, names)
dataset_title, test_size = DATASETS[dataset].title, DATASETS[dataset].test_size


def clear() -> None:
    """Remove every filter from the address."""
    for name in FILTERS:
        address.write(name, None)


active_filters = {name: values for name in FILTERS if (values := address.values_of(name))}
with st.expander("Search and filter", icon=":material/filter_alt:", key="filter"):
    search = st.text_input(
        "Search",
        placeholder="a model, a paper's title or author, an arXiv number, a printed error",
        max_chars=200,
        **address.follow("search", (address.value_of("search") or "")[:200], PAGE),
    )
    left, middle, right = st.columns(3)
    profiles = left.multiselect(
        "Profile",
        PROFILES,
        placeholder="for each model the row with the most seeds",
        help="reference: IEEE float32, deterministic. fast: may change rounding, never the recipe.",
        **address.follow("profile", [name for name in active_filters.get("profile", []) if name in PROFILES], PAGE),
    )
    rivals = left.selectbox(
        "Printed figures without a model",
        RIVALS,
        **address.follow(
            "rivals", next((n for n in active_filters.get("rivals", []) if n in RIVALS), OF_THESE_PAPERS), PAGE
        ),
    )
    view = ranked_view(board, dataset, rivals, profiles)
    offered = options(view)
    chosen = {}
    for place, name, title in (
        (middle, "family", "Family"),
        (middle, "augmentation", "Augmentation"),
        (right, "verdict", "Verdict"),
        (right, "hardware", "Hardware"),
    ):
        # A value that only the address has stays selected, so that such a link shows no rows instead of all rows.
        values = [*offered[name], *(value for value in active_filters.get(name, []) if value not in offered[name])]
        chosen[name] = place.multiselect(
            title,
            values,
            placeholder="all",
            **address.follow(name, active_filters.get(name, []), PAGE),
        )

shown = filtered(view, **chosen, search=search or "", papers=papers)
ran = view[view["runs"] > 0]
if active_filters:
    with st.container(horizontal=True, vertical_alignment="center"):
        filter_text = "; ".join(f"{name}: {', '.join(values)}" for name, values in active_filters.items())
        st.markdown(f"**{len(shown)} of {len(view)} rows.** Filter: {escape.md(filter_text, 200)}")
        st.button("Clear the filter", icon=":material/filter_alt_off:", on_click=clear)
    if other := elsewhere(board, dataset, search or "", papers):
        places = ", ".join(f"{DATASETS[name].title} ({count})" for name, count in other.items())
        st.caption(escape.md(f"Rows of other data sets match the search too: {places}."))
elif not len(ran):
    line = f"No run on {dataset_title} has ended yet. The table shows what the sources print and what others measured."
    widgets.empty(line, f"runner submit --suite {widgets.suite_of(dataset)}")
if not len(shown):
    widgets.empty("No row matches these filters. Remove one, or search for a shorter text.")
    st.stop()

dataset_answer = answer_of(board[board["dataset"] == dataset])
if dataset_answer.printed and len(names) > 1:
    line = " ".join([answer_sentence(dataset_answer), *answer_details(dataset_answer)])
    st.html(f'<p class="beside of-board"><b>{dataset_title}.</b> {escape.markup(line)}</p>')
curves = source.small_curves(reading, shown)
rows = board_rows(shown, papers, reading.attempts, curves)
widgets.board(rows, f"Leaderboard of {dataset_title}: printed error, measured error, gap, verdict and reason")
st.caption(f"{dataset_title}, {test_size:,} test images. {LEGEND}")

unverified = shown[(shown["data"] == "unverified") & (shown["runs"] > 0)]
for sentence in unverified["provenance"].dropna().unique():
    st.warning("Unverified data: " + escape.md(sentence), icon=":material/warning:")

if shown["mean"].notna().any() and len(gap_order(shown)):
    st.header("The same rows as a figure")
    alt = f"Printed and measured test errors on {dataset_title}, largest gap first. The table above has the numbers."
    widgets.figure(gap_figure(shown), alt=alt, key="gaps")
    st.caption(
        "Bars: 95 % interval of the mean. Grey: the 95 % prediction interval of one new run. Click a point for its model."
    )

rows_for_files = shown if active_filters else board[board["dataset"] == dataset]
with st.container(horizontal=True):
    for kind, text, mime in (
        ("CSV", as_csv(rows_for_files), "text/csv"),
        ("JSON", as_json(rows_for_files), "application/json"),
    ):
        st.download_button(
            kind, text, f"reprozoo-{dataset}.{kind.lower()}", mime, icon=":material/download:", on_click="ignore"
        )
equal = reading.equivalences[reading.equivalences["dataset"] == dataset]
if len(equal):
    with st.expander("Profiles: does fast give the errors of reference?", expanded=True):
        for row in equal.itertuples():
            st.markdown("- " + escape.md(equivalence_sentence(row)))
