"""One board per data set: measured beside reported, ranked by error, and the picture that says it at a glance."""

import charts
import escape
import source
import streamlit as st
import widgets
from tables.board import RIVALS, board_table, filtered, options, plain_board, ranked_view, set_apart, summary
from tables.common import datasets_of, marks

from benchmarks.datasets import DATASETS
from benchmarks.leaderboard import PROFILES
from benchmarks.wording import LEGEND, as_csv, as_json, verdict_words

reading = source.current()
board = reading.board
names = datasets_of(board)

st.title("Do the numbers in the papers hold?")
st.markdown("The test errors that papers print, beside what their recipes give here, over several seeds.")
if not names:
    widgets.empty("There is no model, source or record here yet.", "runner submit --suite quickstart")
    st.stop()

dataset = widgets.dataset_of_page(board, names)
facts = DATASETS[dataset]
headline = st.empty()

with st.expander("Filter", icon=":material/filter_alt:", key="filter"):
    search = st.text_input(
        "Search", key="search", bind="query-params", placeholder="a model, a paper, a table", max_chars=200
    )
    left, middle, right = st.columns(3)
    profiles = left.multiselect(
        "Profile",
        PROFILES,
        key="profile",
        bind="query-params",
        placeholder="each model's row with the most seeds",
        help="reference: IEEE float32, deterministic. fast: may change rounding, never the recipe.",
    )
    rivals = left.selectbox("Figures that are published only", RIVALS, key="rivals", bind="query-params")
    view = ranked_view(board, dataset, rivals, profiles)
    offered = options(view)
    chosen = {}
    for place, name, title in (
        (middle, "family", "Family"),
        (middle, "augmentation", "Augmentation"),
        (right, "verdict", "Verdict"),
        (right, "hardware", "Hardware"),
    ):
        # A value that only the address names stays chosen, so that a link shows an honest nothing rather than all.
        values = [*offered[name], *(v for v in st.query_params.get_all(name) if v not in offered[name])]
        chosen[name] = place.multiselect(title, values, key=name, bind="query-params", placeholder="all")

shown = filtered(view, **chosen, search=search or "")
ran = view[view["runs"] > 0]
headline.markdown(escape.md(f"{facts.title}: {summary(view)}."))
if not len(ran):
    widgets.empty(
        f"No run on {facts.title} has ended yet: below stands what the sources print.",
        f"runner submit --suite {widgets.suite_of(dataset)}",
    )
if not len(shown):
    widgets.empty("No row fits these filters. Take one away, or search for something shorter.")
    st.stop()

table = board_table(shown, reading.evidence.papers, source.small_curves(reading, shown))
config = st.column_config
beside, picture = st.columns([3, 2], gap="medium")
with beside:
    st.dataframe(
        set_apart(table),
        hide_index=True,
        placeholder="–",
        height="content" if len(table) <= 20 else 720,
        alt=f"Leaderboard of {facts.title}: {len(table)} rows with measured error, reported error, gap and verdict. "
        "The same as plain text stands below, under “As plain text”.",
        column_config={
            "#": config.NumberColumn(pinned=True, format="%d", width=40, help="Rank by error, before any filter."),
            "Page": config.LinkColumn(
                "Model",
                display_text=r"#(.*)$",
                pinned=True,
                alignment="left",
                width=190,
                help="Leads to the model's page; of what is published only, to its source.",
            ),
            "Model": None,  # the same text without its link, for the plain table
            "Measured": config.NumberColumn(
                "Measured %", format="%.2f", width=82, help="Mean over the seeds that trained."
            ),
            "±": config.NumberColumn(format="%.2f", width=52, help="Half-width of the 95 % interval of the mean."),
            "Verdict": config.TextColumn(width=122),
            "Trained": config.TextColumn(width=62, help="Seeds that trained, of those that ran."),
            "Reported": config.NumberColumn("Reported %", format="%.2f", width=82),
            "Gap": config.NumberColumn(format="%+.2f", width=60, help="Measured - reported, percentage points."),
            "Marks": config.ListColumn(width=110, help="What isn't plain about this row's numbers."),
            "Curve": config.LineChartColumn(
                "By epoch", width=84, y_min=0, help="Test error by epoch of the first seed that trained."
            ),
            "Parameters": config.NumberColumn(format="compact", width=86),
            "MACs": config.NumberColumn(format="compact", width=70, help="Multiply-accumulates an image."),
            "Minutes a run": config.NumberColumn(
                format="%.1f", width=92, help="Of training, on the hardware beside it."
            ),
            "Hardware": config.TextColumn(width=150),
            "Last run": config.DatetimeColumn(format="YYYY-MM-DD", width=92),
            "Source": config.TextColumn(width=150),
            "Why": config.TextColumn(width=420),
        },
    )
    st.caption(
        f"{facts.title}, {facts.test_size:,} test images. {LEGEND} On a grey ground: published only, no model of ours."
    )
with picture:
    if len(charts.gap_order(shown)):
        widgets.figure(
            charts.gap_figure(shown),
            alt=f"Reported and measured test errors on {facts.title}, largest gap first. The table beside it has the numbers.",
            key="gaps",
        )
        st.caption("Bars: 95 % interval of the mean. Grey: where one new run would fall. Click a point for its model.")

marked = sorted({mark for row in shown.itertuples() for mark in marks(row)})
widgets.marks_line(marked)
unverified = shown[(shown["data"] == "unverified") & (shown["runs"] > 0)]
for sentence in unverified["provenance"].dropna().unique():
    st.warning("Unverified data: " + escape.md(sentence), icon=":material/warning:")

rows_for_files = (
    board[board["dataset"] == dataset] if not any(chosen.values()) and not search and not profiles else shown
)
with st.container(horizontal=True):
    st.download_button(
        "CSV",
        as_csv(rows_for_files),
        f"reprozoo-{dataset}.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
    )
    st.download_button(
        "JSON",
        as_json(rows_for_files),
        f"reprozoo-{dataset}.json",
        "application/json",
        icon=":material/download:",
        on_click="ignore",
    )
with st.expander("As plain text"):
    widgets.plain_table(plain_board(table), alt=f"The leaderboard of {facts.title} as plain text")
equal = reading.equivalences[reading.equivalences["dataset"] == dataset]
if len(equal):
    with st.expander("Profiles: does fast give the errors of reference?", expanded=True):
        for row in equal.itertuples():
            said = f"{verdict_words(row.verdict)}: {row.label}, {row.profile} beside reference: {row.reason}."
            st.markdown("- " + escape.md(said))
