"""The site: escaping, frames, figures, every page in every state, the export. A browser's part: test_site_browser.py."""

import dataclasses
import html
import json
import math
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import address
import escape
import export
import pandas as pd
import pytest
import render
import source
import typer
from charts.board import cost_figure, free_labels, gap_figure, gap_order
from charts.claims import claims_figure
from charts.common import GREY, SERIES, VERDICT_STYLES
from charts.runs import compare_figure, seeds_figure
from contents import model_page
from helpers import (
    MARKUP,
    copy_cards,
    fill_root,
    fill_with_markup,
    make_record,
    make_seeds,
    many_records,
    publish_records,
    run_locally,
)
from markdown_it import MarkdownIt
from streamlit.testing.v1 import AppTest
from tables.board import GROUPS, RIVALS, board_rows, elsewhere, filtered, ranked_view
from tables.claims import claims_table, none_decided
from tables.common import marks, row_of_run, runs_behind, titles_of
from tables.compare import compare_table, cost_view
from tables.model import anatomy_table, reproduce_commands
from tables.progress import progress_table
from tables.runs import checklist, costs_table, find_runs, run_marks, run_summary

from benchmarks.answer import CHECKED, answer_details, answer_of, answer_sentence
from benchmarks.errors import UserError
from benchmarks.labels import MARKS, SYMBOLS, as_csv, with_cited_rows
from benchmarks.leaderboard import BOARD_COLUMNS, default_view, frame_of, make_board, make_claims, read
from runner import cli
from runner.reporting.texts import ranked

SITE = Path(__file__).resolve().parent.parent / "site"
PAGES = ("leaderboard", "model", "run", "claims", "cost", "compare", "progress", "method")
STATES = {"empty": lambda root: None, "full": fill_root, "markup": fill_with_markup}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A root in each state, which tests only read."""
    folders = {state: tmp_path_factory.mktemp(state) for state in STATES}
    for state, fill in STATES.items():
        fill(folders[state])
    return folders


@pytest.fixture
def at(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Take the root of a state for this test: its reading is made once for all of them."""
    return lambda state: monkeypatch.setenv("REPROZOO_ROOT", str(roots[state]))


def reading_at(root: Path) -> source.Reading:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROZOO_ROOT", str(root))
        return source.current()


@pytest.fixture(scope="module")
def full(roots: dict[str, Path]) -> source.Reading:
    return reading_at(roots["full"])


@pytest.fixture(scope="module")
def hostile(roots: dict[str, Path]) -> source.Reading:
    return reading_at(roots["markup"])


def view_of(reading: source.Reading, dataset: str = "cifar10", **more) -> pd.DataFrame:
    return ranked_view(reading.board, dataset, **more)


# --- escaping ----------------------------------------------------------------------------------------------------------


class Words(HTMLParser):
    """The text and the tags of HTML, as a browser would take them."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags, self.links = "", [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]
        assert not [name for name, _ in attrs if name.startswith("on")], (tag, attrs)

    def handle_data(self, data):
        self.text += data


def parsed(text: str) -> Words:
    found = Words()
    found.feed(text)
    found.close()
    return found


@pytest.mark.parametrize(
    "text", [MARKUP, "# heading", "- item", "1. item", "a\n\n    code", "|a|b|\n|-|-|", "~~x~~", "\\*"]
)
def test_markdown_shows_text_from_files_as_it_is(text):
    """Against another implementation of Markdown, with HTML and every extension on that it has."""
    shown = parsed(MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(escape.md(text)))
    assert set(shown.tags) <= {"p"}
    assert shown.text.strip().replace(escape.JOINER, "") == escape.short(text)


@pytest.mark.parametrize(
    "text", [":smile:", ":red[x]", ":material/home:", "https://evil.example", "a@b.example", "www.b.example"]
)
def test_what_streamlit_replaces_after_parsing_is_parted(text):
    shown = parsed(MarkdownIt("commonmark").render(escape.md(text))).text
    assert not re.search(r":\w|@\w|www\.", shown)


def test_figures_show_text_from_files_as_it_is():
    shown = escape.label(MARKUP, 1_000)
    assert not re.search(r"[<>$]", shown)
    assert html.unescape(shown) == escape.short(MARKUP, 1_000)


def test_no_gap_reads_minus_zero():
    assert [escape.percent(gap, signed=True) for gap in (-0.004, 0.0, 0.115, -0.31)] == [
        "+0.00",
        "+0.00",
        "+0.12",
        "-0.31",
    ]


def test_long_text_is_cut_and_control_characters_go():
    assert escape.short("x" * 1_000, 10) == "x" * 9 + "…"
    assert escape.short("a\x1b[31m\u202eb\nc") == "a [31m b c"


@pytest.mark.parametrize(
    ("value", "said"), [(None, "–"), (966_986, "966,986"), (10**40, "1e+40"), (math.inf, "inf"), (math.nan, "–")]
)
def test_counts_however_absurd(value, said):
    assert escape.count(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(45, "45 s"), (738, "12.3 min"), (7_560, "2.1 h"), (1e308, "1e+308 s"), (None, "–")]
)
def test_durations(value, said):
    assert escape.duration(value) == said


# --- colours -----------------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """WCAG 2.1, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


THEMES = tomllib.loads((SITE / ".streamlit" / "config.toml").read_text())["theme"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_figures_have_contrast_in_both_themes(theme):
    colours = THEMES[theme]
    for ground in ("backgroundColor", "secondaryBackgroundColor"):
        for ink in ("textColor", "linkColor", "codeTextColor"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for colour in (*SERIES, GREY):
        assert contrast(colour, colours["backgroundColor"]) >= 3, colour


def test_no_verdict_is_shown_by_colour_alone():
    assert len({symbol for _, symbol in VERDICT_STYLES.values()}) >= 6
    words = ("reproduced", "better", "worse", "inconclusive", "more seeds", "not comparable")
    judged = [VERDICT_STYLES[word] for word in words]
    assert len({symbol for _, symbol in judged}) == len(judged)
    assert set(VERDICT_STYLES) <= set(SYMBOLS)


# --- frames ------------------------------------------------------------------------------------------------------------


def test_filters_do_not_change_ranks(full):
    view = view_of(full)
    for_one = filtered(view, family=["NiN"], search="dropout")
    assert 0 < len(for_one) < len(view)
    ranks = view.set_index("label")["rank"]
    assert list(ranks[for_one["label"]].dropna()) == list(for_one["rank"].dropna())


def test_only_measured_rows_are_ranked_and_they_come_first(full):
    view = view_of(full)
    assert list(view["group"]) == sorted(view["group"], key=GROUPS.index)
    measured = view[view["rank"].notna()]
    assert set(measured["model"]) == set(view.loc[view["mean"].notna(), "model"])
    in_order = measured.sort_values("rank")
    assert list(in_order["rank"]) == list(range(1, int(view["mean"].notna().sum()) + 1))
    assert list(in_order["mean"]) == sorted(view["mean"].dropna())
    first = view[view["group"] == "measured"]
    assert list(first["mean"].dropna()) == sorted(first["mean"].dropna())
    assert view.loc[view["group"] == "printed only", "model"].isna().all()
    assert (view.loc[view["group"] == "not run", "runs"] == 0).all()


@pytest.mark.parametrize("rivals", RIVALS)
def test_a_row_has_the_same_rank_on_the_site_and_in_the_terminal(full, rivals):
    reported = with_cited_rows(full.board[full.board["dataset"] == "cifar10"])
    in_terminal = {row.label: rank for rank, row in ranked(reported) if rank}
    on_site = board_rows(view := view_of(full, rivals=rivals), full.evidence.papers, full.attempts, [()] * len(view))
    assert {row["name"]: row["rank"] for row in on_site if row["rank"]} == in_terminal
    assert len(in_terminal) >= 5


@pytest.mark.parametrize("search", ["Network In Network", "10.41", "1312.4400", "shuicheng yan", "table 1 2013 NIN"])
def test_a_search_finds_what_a_reader_knows_of_nin(full, search):
    found = filtered(view_of(full), search=search, papers=full.evidence.papers)
    assert "nin_dropout" in set(found["model"])
    assert len(found) < len(view_of(full))
    assert set(found["paper"]) == {"lin2013"} or search in ("10.41", "table 1 2013 NIN")


def test_a_search_on_the_wrong_board_says_where_it_fits(full):
    papers = full.evidence.papers
    assert not len(filtered(view_of(full, "mnist"), search="10.41", papers=papers))
    assert elsewhere(full.board, "mnist", "10.41", papers)["cifar10"] >= 1
    assert elsewhere(full.board, "mnist", " ", papers) == {}


def test_the_answer_counts_each_printed_number_once_and_unverified_data_separately(full):
    answer = answer_of(full.board)
    ours = full.board[full.board["model"].notna() & full.board["reported"].notna()]
    assert answer.printed == len(set(zip(ours["dataset"], ours["model"], strict=True)))
    best = default_view(ours[ours["data"] != "unverified"])
    for word in CHECKED:
        assert answer.checked[word] == (best["verdict"] == word).sum(), word
    assert answer.checked.total() >= 3
    assert answer.sequential == 1  # strided_a
    sentence = answer_sentence(answer)
    assert f"Of {answer.printed} printed numbers" in sentence
    assert f"{answer.checked.total()} have a verdict" in sentence
    nobody = answer_of(full.board[full.board["runs"] == 0])
    assert "none has a verdict yet" in answer_sentence(nobody)
    assert "No printed number" in answer_sentence(answer_of(full.board.iloc[0:0]))


def test_a_number_checked_on_unverified_data_only_is_counted_separately(tmp_path):
    cards = copy_cards(tmp_path)
    variant = cards["nin_dropout"].datasets["cifar10"]
    own = {"recipe": variant.recipe, "revision": variant.revision, "verified": False}
    publish_records(tmp_path, *make_seeds([10.4, 10.41, 10.42, 10.4, 10.41], **own))
    answer = answer_of(make_board(read(tmp_path)))
    assert (answer.checked.total(), answer.unverified.total()) == (0, 1)
    assert "on unverified data: 1" in " ".join(answer_details(answer))


def test_a_model_that_has_not_run_shows_the_results_of_others(full):
    rows = board_rows(view_of(full), full.evidence.papers, full.attempts, [()] * len(view_of(full)))
    waiting = {row["name"]: row for row in rows if row["group"] == "not run"}
    tried = full.attempts[full.attempts["error"].notna() & (full.attempts["dataset"] == "cifar10")]
    beside = [row for row in waiting.values() if row["why"] and "for comparison" not in row["why"]]
    assert beside
    for row in beside:
        assert re.match(r"Other attempts at [\d.]+( or [\d.]+)* gave .*[\d.]+", row["why"])
    titles = titles_of(full.evidence.cards)
    assert {row["name"] for row in beside} == {titles[m] for m in tried["model"].dropna() if titles[m] in waiting}


def test_marks_are_in_the_cell_of_the_measured_number(full):
    rows = board_rows(view_of(full), full.evidence.papers, full.attempts, [()] * len(view_of(full)))
    html_of = render.render("one_board.html", rows=rows, label="x")
    cell = re.search(r'<td role="cell" class="number measured"[^>]*>(?:(?!</td>).)*unverified data', html_of, re.S)
    assert cell, "the mark is not in the measured cell"
    marked = next(row["marks"] for row in rows if row["name"].startswith("NiN + dropout + aug"))
    assert marked[0][1] == MARKS["U"]


def test_a_claim_tells_where_each_side_did_run(tmp_path):
    cards = copy_cards(tmp_path)

    def seeds(model, **more):
        variant = cards[model].datasets["cifar10"]
        return make_seeds([10.4] * 2, model=model, recipe=variant.recipe, revision=variant.revision, **more)

    publish_records(tmp_path, *seeds("nin"), *seeds("nin_dropout", verified=False))
    evidence = read(tmp_path)
    board = make_board(evidence)
    claims = make_claims(board, evidence.papers)
    table = claims_table(claims, evidence.papers, board, titles_of(evidence.cards)).set_index("Claim")
    [why] = table.loc[[text.startswith("Dropout between") for text in table.index], "Why"]
    assert "NiN + dropout has runs: 2 on unverified data" in why
    assert "NiN has runs: 2 on verified data" in why
    assert "no run" not in why.lower()


def test_costs_are_listed_by_profile(full):
    runs = full.evidence.runs
    own = runs[(runs["model"] == "nin") & (runs["dataset"] == "cifar10")]
    table = costs_table(own).set_index("Profile")
    for profile, row in table.iterrows():
        took = own.loc[own["profile"] == profile, "train_seconds"]
        assert row["Time per run"] == took.median()
        assert row["5 runs in sequence"] == 5 * took.median()
    assert set(table.index) == {"reference", "fast"}


def test_the_cost_of_a_run_is_the_median():
    records = [make_record(seed=seed, train_seconds=took) for seed, took in enumerate((600.0, 700.0, 6_000.0))]
    [row] = costs_table(frame_of([(record, Path("a"), False) for record in records], {})).to_dict("records")
    assert (row["Time per run"], row["5 runs in sequence"]) == (700.0, 3_500.0)


def test_a_run_that_diverged_early_is_no_cost_of_a_training():
    records = [make_record(train_seconds=6_000.0)]
    records += [make_record(seed=s, outcome="diverged", train_seconds=60.0) for s in range(1, 5)]
    [row] = costs_table(frame_of([(record, Path("a"), False) for record in records], {})).to_dict("records")
    assert (row["Runs"], row["Time per run"], row["5 runs in sequence"]) == (1, 6_000.0, 30_000.0)


def test_the_error_on_held_out_images_is_not_called_a_test_error():
    held_out = make_record(12.0, overrides={"holdout": 10_000}, test_images=10_000)
    assert next(iter(run_summary(held_out))) == "Held-out error, %"
    assert next(iter(run_summary(make_record()))) == "Test error, %"


def test_labels_of_the_frontier_dont_cover_one_another():
    near = pd.DataFrame(
        {"label": ["A" * 20] * 3, "cost": [1e5, 1.01e5, 1e7], "error": [10.0, 9.99, 5.0], "frontier": True}
    )
    assert free_labels(near, "cost") == {1, 2}  # the better of two that collide
    assert free_labels(near.iloc[0:0], "cost") == set()


@pytest.mark.parametrize(
    ("chosen", "holds"),
    [
        ({"family": ["NiN"]}, lambda row: row.family == "NiN"),
        ({"verdict": ["reproduced"]}, lambda row: row.verdict == "reproduced"),
        ({"verdict": ["published only"]}, lambda row: pd.isna(row.model)),
        ({"hardware": ["NVIDIA H200"]}, lambda row: "NVIDIA H200" in row.hardware),
        ({"search": "table 1 NIN"}, lambda row: "nin" in f"{row.label}{row.model}{row.paper}{row.where}".lower()),
        ({"search": "("}, lambda row: "(" in f"{row.label}{row.where}{row.printed_label}"),
        ({"augmentation": ["none"]}, lambda row: row.augmentation == "none"),
    ],
)
def test_a_filter_keeps_what_it_says_and_all_of_it(full, chosen, holds):
    view = view_of(full)
    kept = filtered(view, **chosen)
    assert 0 < len(kept) < len(view)
    assert all(holds(row) for row in kept.itertuples())
    if "search" not in chosen:
        assert len(kept) == sum(bool(holds(row)) for row in view.itertuples())


def test_a_profile_shows_its_rows_and_never_pools(full):
    fast = view_of(full, profiles=["fast"])
    assert set(fast.loc[fast["runs"] > 0, "profile"]) == {"fast"}
    assert set(view_of(full).loc[lambda v: v["runs"] > 0, "profile"]) == {"reference"}


def test_rivals_are_chosen(full):
    none, these, every = (view_of(full, rivals=name)["model"].isna().sum() for name in ("none", *RIVALS[:2]))
    assert none == 0 < these < every


def test_every_mark_is_shown_next_to_its_number(full):
    view = view_of(full).set_index("model")
    beside = {name: marks(row) for name, row in zip(view.index, view.itertuples(), strict=True)}
    assert beside["nin_augmentation"] == [MARKS["U"]]
    assert beside["strided_a"] == [MARKS["S"]]
    assert beside["nin_fc"] == [MARKS["L"]]
    assert beside["nin_dropout"] == []
    runs = full.evidence.runs
    changed = runs[runs["overrides"] != "{}"].iloc[0]
    assert "changed recipe" in run_marks(changed)


def test_the_frontier_is_what_nothing_cheaper_beats(full):
    rows = cost_view(full.board, "cifar10", "parameters")
    assert rows["frontier"].any()
    for row in rows[rows["mean"].notna()].itertuples():
        cheaper = rows[(rows["parameters"] <= row.parameters) & (rows.index != row.Index) & rows["mean"].notna()]
        assert row.frontier == (not (cheaper["mean"] <= row.mean).any())


def test_a_model_of_which_no_seed_trained_has_no_point_on_the_cost_figure(tmp_path):
    own = copy_cards(tmp_path)["nin_dropout"].datasets["cifar10"]
    facts = {"recipe": own.recipe, "revision": own.revision, "outcome": "diverged"}
    publish_records(tmp_path, *(make_record(seed=seed, **facts) for seed in range(5)))
    assert "nin_dropout" not in set(cost_view(make_board(read(tmp_path)), "cifar10", "macs")["model"])


def test_compare_marks_exactly_the_fields_that_differ(full):
    models = ["nin", "nin_dropout", "strided_a"]
    table = compare_table(full.evidence, full.board, "cifar10", models)
    recipe = table[table["What"].str.startswith("recipe: ")]
    assert (recipe["Differs"] == "≠").any()
    for line in recipe.to_dict("records"):
        field = line["What"].removeprefix("recipe: ")
        values = [full.evidence.cards[name].datasets["cifar10"].recipe.get(field) for name in models]
        assert (line["Differs"] == "≠") == any(value != values[0] for value in values), field


def test_runs_behind_a_row_are_of_one_profile_and_counted(full):
    rows = view_of(full)
    found = runs_behind(full.evidence.runs, rows[rows["model"] == "nin"])
    assert set(found["profile"]) == {"reference"}
    assert len(found) == 5


def test_a_command_to_copy_names_only_suites_that_exist(full, hostile):
    nothing = full.evidence.runs.iloc[0:0]
    card = hostile.evidence.cards["nin_dropout"]
    assert card.suites == (MARKUP,)
    command = reproduce_commands("cifar10", "nin_dropout", card, nothing)
    assert command == "runner submit --suite cifar10-full --model nin_dropout"
    card = full.evidence.cards["nin_dropout"]
    assert "--suite cifar10 " in reproduce_commands("cifar10", "nin_dropout", card, nothing)


def test_a_run_is_found_by_id_beginning_and_key(full):
    runs = full.evidence.runs
    one = runs.iloc[0]
    for text in (one["run"], one["run"][:8], f" {one['run'][:8]} ", f"{one['key']}-{one['run'][:8]}"):
        assert list(find_runs(runs, text)["run"]) == [one["run"]]
    assert one["run"] in set(find_runs(runs, one["key"])["run"])
    assert not len(find_runs(runs, ""))
    assert not len(find_runs(runs, "(.*"))


def test_the_checklist_answers_from_record_and_row(full):
    runs = full.evidence.runs
    run = runs[(runs["model"] == "nin_dropout") & (runs["standing"] == "counted")].iloc[0]
    row = view_of(full).set_index("model").loc["nin_dropout"].to_dict()
    record = source.record_of(run)
    answers = checklist(record, row, full.evidence.cards["nin_dropout"]).set_index("What")["Answer"]
    assert answers["How many runs does the row have?"] == "5 of 5 seeds trained (5 runs)"
    again = checklist(record, row | {"runs": 6}, None).set_index("What")["Answer"]
    assert again["How many runs does the row have?"] == "5 of 5 seeds trained (6 runs)"
    assert answers["Which error bars?"].startswith(f"standard deviation {row['sd']:.2f}")
    assert answers["How to repeat it"] == f"runner reproduce {run['key']}-{run['run'][:8]}"
    assert not (answers == "").any()


def test_a_run_belongs_to_the_row_that_counts_it_and_any_other_to_none(full):
    runs = full.evidence.runs
    assert {"counted", "overridden"} <= set(runs["standing"])
    for run in runs.to_dict("records"):
        row = row_of_run(full.board, run)
        if run["standing"] == "counted":
            assert run["key"] in row["keys"]
        else:
            assert row is None


def test_a_network_that_is_only_analysed_has_a_page_without_results(full):
    page = model_page(full, "imagenet", "googlenet")
    assert page.row is None
    assert (page.summary, page.reason, page.run_count, page.seeds_figure, page.recipe) == ({}, "", 0, None, None)
    assert page.paper.key == full.evidence.cards["googlenet"].paper
    assert len(page.anatomy)


def test_a_page_lists_the_first_runs_and_counts_all(full):
    page = model_page(full, "cifar10", "nin_dropout", listed=2)
    assert len(page.runs) == 2 < page.run_count
    assert page.counted_count == 5


def test_the_anatomy_shows_the_papers_own_numbers(full):
    table = anatomy_table(full.evidence.cards["googlenet"].anatomy["imagenet"])
    first = table.iloc[0]
    assert (first["Paper: parameters"], first["Paper: operations"]) == ("2.7K", "34M")
    assert first["Differs"] == "≠ parameters, macs"


def test_progress_puts_what_runs_first_and_takes_holes():
    rows = [
        {"key": "a", "state": "done", "epoch": 3, "epochs": 3, "test_error": 1.0, "outcome": "finished", "attempts": 1},
        {"key": "b", "state": "running", "epoch": 1, "epochs": 4, "test_error": None, "outcome": None, "attempts": 1},
        {"key": MARKUP, "state": "later"},
    ]
    table = progress_table(rows)
    assert list(table["State"]) == ["running", "done", "later"]
    assert list(table["Progress"]) == [25.0, 100.0, 0.0]


def test_one_run_and_one_claim_are_singular():
    template = render.environment().get_template("runs.html")

    def body(count: int) -> str:
        values = {"runs": pd.DataFrame({"Run": ["a"] * count}), "formats": {}, "table": lambda *_: ""}
        return "".join(template.blocks["body"](template.new_context(values)))

    assert "<p>1 run.</p>" in body(1)
    assert "<p>2 runs, the newest first.</p>" in body(2)
    assert none_decided(1).startswith("This claim is not decided, because it needs 5")
    assert none_decided(3).startswith("None of these 3 claims is decided, because each needs 5")


def test_files_to_download_are_those_of_the_report(full, at, runner):
    at("full")
    code, out, _ = runner("report", "--format", "csv")
    assert code == 0
    assert as_csv(full.board) == out


# --- figures -----------------------------------------------------------------------------------------------------------


def test_the_gap_figure_is_sorted_and_holds_the_boards_numbers(full):
    view = view_of(full)
    figure = gap_figure(view)
    rows = gap_order(view)
    gaps = rows["gap"].dropna()
    assert list(gaps) == sorted(gaps, reverse=True)
    measured = {}
    for trace in figure.data:
        if trace.customdata is not None and trace.name != "printed":
            assert trace.name.split(maxsplit=1)[1] in SYMBOLS
            for x, width, target in zip(trace.x, trace.error_x.array, trace.customdata, strict=True):
                measured[target[1]] = (x, width)
    ran = view[view["mean"].notna() & view["model"].notna()]
    assert set(measured) == set(ran["model"])
    for row in ran.itertuples():
        assert measured[row.model] == (pytest.approx(row.mean), pytest.approx(row.half_width))


def test_a_context_figure_is_in_brackets_and_in_the_reason(full):
    view = view_of(full)
    rows = board_rows(view, full.evidence.papers, full.attempts, [()] * len(view))
    shown = dict(zip(view["model"], rows, strict=True))
    assert shown["conv_fc_dropout"]["printed"] == "(15.99)"
    assert "15.99 (Lin et al. 2013, Section 4.6) is shown for comparison" in shown["conv_fc_dropout"]["why"]
    assert shown["nin_dropout"]["printed"] == "10.41"


def test_a_claim_of_equality_has_the_band_that_counts_as_equal(full):
    titles = titles_of(full.evidence.cards)
    [band] = [trace for trace in claims_figure(full.claims, titles).data if trace.name == "counts as equal"]
    margins = full.claims["margin"].dropna()
    assert len(margins)
    assert list(band.x) == [x for margin in margins for x in (-margin, margin, None)]


def test_points_lead_to_runs(full):
    rows = view_of(full)
    row = next(rows[rows["model"] == "nin_dropout"].itertuples())
    runs = runs_behind(full.evidence.runs, rows[rows["model"] == "nin_dropout"])
    [points] = [trace for trace in seeds_figure(runs, row).data if trace.name == "finished"]
    assert {tuple(target) for target in points.customdata} == {("run", run) for run in runs["run"]}


def test_a_band_ends_where_errors_do():
    row = {"label": "A", "model": "a", "dataset": "digits", "mean": 2.0, "half_width": 1.0, "prediction": 5.0}
    empty = dict.fromkeys(BOARD_COLUMNS) | {"profile": "reference", "data": "verified", "verdict": "not judged"}
    view = pd.DataFrame([empty | row | {"n": 5, "runs": 5, "error": 2.0}]).astype({"reported": float, "gap": float})
    band = next(trace for trace in gap_figure(view).data if trace.name == "95 % for one new run")
    assert list(band.x[:2]) == [0.0, 7.0]


def test_a_page_opens_with_a_data_set_that_sources_report_on(tmp_path):
    """Digits have more rows, but no paper's number to set beside them."""
    publish_records(tmp_path, *(make_record(10.0, dataset="digits", model=name) for name in ("lenet", "nin")))
    names = ["digits", "mnist", "cifar10"]
    assert address.default_dataset(make_board(read(tmp_path)), names) == "digits"
    publish_records(tmp_path, make_record(0.9, dataset="mnist", model="lenet"))
    assert address.default_dataset(make_board(read(tmp_path)), names) == "mnist"


def test_a_collapsed_run_doesnt_crush_the_scale(full):
    rows = view_of(full)
    row = next(rows[rows["model"] == "nin_fc"].itertuples())
    runs = runs_behind(full.evidence.runs, rows[rows["model"] == "nin_fc"])
    figure = seeds_figure(runs, row)
    assert set(runs["outcome"]) == {"finished", "collapsed", "diverged"}
    low, high = figure.layout.yaxis.range
    assert 10 < low < high < 15
    shown = [y for trace in figure.data if trace.customdata is not None for y in trace.y]
    assert len(shown) == len(runs)
    assert all(low < y < high for y in shown)


@pytest.mark.parametrize("state", ["full", "hostile"])
def test_no_figure_carries_markup_from_files(state, request):
    reading = request.getfixturevalue(state)
    view = view_of(reading)
    row = next(view[view["model"] == "nin_dropout"].itertuples())
    runs = runs_behind(reading.evidence.runs, view[view["model"] == "nin_dropout"])
    cost = cost_view(reading.board, "cifar10", "parameters")
    figures = [
        gap_figure(view),
        seeds_figure(runs, row),
        claims_figure(reading.claims, {"nin": MARKUP, "nin_dropout": MARKUP}),
        cost_figure(cost, "parameters", "Parameters"),
        compare_figure(runs, [row], [row.label]),
    ]
    for figure in figures:
        text = json.loads(figure.to_json())
        tags = {tag for value in _strings(text) for tag in re.findall(r"<\s*/?\s*(\w+)", value)}
        assert tags <= {"b", "br", "extra"}
        assert not [value for value in _strings(text) if "$" in value]


def _strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)


def test_figures_of_nothing(full):
    nothing = full.board.iloc[0:0]
    gap_figure(ranked_view(nothing, "cifar10"))
    claims_figure(make_claims(nothing, {}), {})
    cost_figure(cost_view(nothing, "cifar10", "macs"), "macs", "MACs")


# --- pages -------------------------------------------------------------------------------------------------------------


def open_page(page: str, **query: str) -> AppTest:
    app = AppTest.from_file(str(SITE / "app.py"), default_timeout=120)
    app.switch_page(f"views/{page}.py")
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


class Html:
    """An element of st.html, as the tests read it: text, tags and links."""

    def __init__(self, body: str) -> None:
        self.body = body
        self.value = parsed(re.sub(r"(?s)<(script|style)>.*?</\1>", "", body)).text

    @classmethod
    def all(cls, app: AppTest) -> list["Html"]:
        """Every one of a page."""
        return [cls(element.proto.body) for element in app.get("html")]


def html_board(app: AppTest) -> str:
    """The board's HTML."""
    return next(element.body for element in Html.all(app) if 'class="board"' in element.body)


def said(app: AppTest) -> str:
    kinds = (
        Html.all(app),
        app.title,
        app.header,
        app.subheader,
        app.markdown,
        app.caption,
        app.info,
        app.warning,
        app.error,
        app.code,
    )
    return "\n".join(str(element.value) for kind in kinds for element in kind)


@pytest.mark.parametrize("state", STATES)
def test_every_page_in_every_state(state, at):
    """An empty page also says what to type, and no page writes markup of a record."""
    at(state)
    app = open_page(PAGES[0])
    for page in PAGES:
        app.switch_page(f"views/{page}.py").run()
        assert not app.exception, page
        assert not app.error, page
        assert app.title, page
        assert "Errors are in percent" in said(app), page
        if state == "empty" and page in ("leaderboard", "run", "cost", "claims", "progress"):
            assert_commands_exist(app)
        if state == "markup" and page not in ("progress", "method"):
            assert_no_markup(app)


def assert_commands_exist(app: AppTest) -> None:
    """A page shows commands of the runner, each of which there is."""
    commands = [code.value.split() for code in app.code]
    assert commands
    assert {words[0] for words in commands} == {"runner"}
    assert {words[1] for words in commands} <= set(typer.main.get_command(cli.app).commands)


def assert_no_markup(app: AppTest) -> None:
    """A page's text from records is text: no tag, link or formula comes of it."""
    for element in Html.all(app):
        if not element.body.startswith(("<script>", "<style>")):  # the site's own
            found = parsed(element.body)
            assert not set(found.tags) & {"script", "iframe", "object"}
            pictures = re.findall(r'<img src="([^"]*)', element.body)
            assert all(address.startswith("data:image/svg+xml") for address in pictures)
            assert not [link for link in found.links if "evil" in link]
    kinds = (app.markdown, app.header, app.title, app.warning, app.info, app.caption)
    for text in [element.value for kind in kinds for element in kind]:
        found = parsed(MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(text))
        assert not set(found.tags) & {"img", "script"}, text
        assert not [link for link in found.links if "evil" in link], text
        assert "$x^2$" not in text


def test_one_record_is_enough(own_root):
    publish_records(own_root / "results", make_record(10.5))
    app = open_page("leaderboard", dataset="cifar10")
    assert "1 of" in said(app)
    for page in PAGES[1:-2]:  # what runs now and the method don't depend on it
        app.switch_page(f"views/{page}.py").run()
        assert not app.exception, page


def test_a_deep_link_opens_what_it_names(at):
    at("full")
    app = open_page("model", model="nin_dropout", dataset="cifar10")
    assert app.title[0].value.startswith("NiN")
    assert re.search(r"Verdict\s*✓ reproduced", said(app))
    run = source.current().evidence.runs.iloc[0]
    app = open_page("run", run=run["run"][:8])
    assert escape.md(run["key"]) in said(app)
    board = html_board(open_page("leaderboard", dataset="cifar10", verdict="reproduced"))
    assert set(re.findall(r'<td role="cell" class="verdict"><b class="\w+">([^<]+)', board)) == {"✓ reproduced"}
    compared = open_page("compare", dataset="cifar10", models=["nin", "nin_dropout"])
    [head] = [re.findall(r'class="sort">([^<]*)<', h.body) for h in Html.all(compared) if "<thead>" in h.body]
    assert head[2:] == ["NiN", "NiN + dropout"]


def test_a_link_to_what_isnt_here_says_so(at):
    at("full")
    for page, query in (
        ("model", {"model": "nin_dropuot"}),
        ("leaderboard", {"dataset": "svhn10"}),
        ("run", {"run": "ffffffff"}),
    ):
        app = open_page(page, **query)
        assert not app.exception
        assert [w for w in app.warning if escape.md(next(iter(query.values()))) in w.value], page
    assert "No row matches" in said(open_page("leaderboard", dataset="cifar10", verdict="perfect"))


def test_pages_show_marks_and_provenance(at):
    at("full")
    text = said(open_page("model", model="nin_augmentation", dataset="cifar10"))
    assert "Caveats" in text
    assert "92 images differ" in text


def test_the_page_of_a_model_or_run_writes_no_markup_of_its_records(hostile, at):
    at("markup")
    run = hostile.evidence.runs.iloc[0]["run"][:8]
    for app in (open_page("model", model="nin_dropout", dataset="cifar10"), open_page("run", run=run)):
        assert not app.exception
        assert_no_markup(app)


def test_a_wrong_source_is_a_sentence(own_root, monkeypatch):
    def broken(*_, **__):
        raise UserError("papers/x.toml: reported[1].error: is 104, expected at most 100")

    monkeypatch.setattr(source, "read", broken)  # the real folder of sources is the package's own
    app = open_page("leaderboard")
    assert not app.exception
    assert "expected at most 100" in said(app)


def test_progress_asks_the_runner(own_root):
    run_locally(own_root / ".runs", make_record(10.5))
    record = make_seeds([12.0], model="nin_fc")[0]
    folder = own_root / ".runs" / f"{record.key}-{record.fingerprint[:8]}"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(record.job.canonical())
    table = open_page("progress").dataframe[0].value
    assert {"done", "pending"} == set(table["State"])


def test_where_there_is_no_runner_progress_says_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(UserError, match="could not be read"):
        source.status()


# --- reading -----------------------------------------------------------------------------------------------------------


def test_a_reading_is_kept_until_a_file_changes(own_root, monkeypatch):
    monkeypatch.setattr(source, "PATIENCE", 0)
    publish_records(own_root / "results", *make_seeds([10.0, 10.1]))
    first = source.current()
    assert source.current() is first
    publish_records(own_root / "results", make_record(10.2, seed=2))
    second = source.current()
    assert len(second.evidence.runs) == 3
    record = next((own_root / "results").glob("*/*/*.json"))
    record.write_text("{")
    assert len(source.current().evidence.runs) == 2
    assert str(record) in source.current().evidence.problems[0]
    record.unlink()
    assert not source.current().evidence.problems


def test_known_records_give_the_same_frame(tmp_path):
    many_records(tmp_path, 80)
    known = {}
    first = read(tmp_path, known=known)
    assert len(known) == 80
    assert not first.problems
    pd.testing.assert_frame_equal(read(tmp_path, known=known).runs, first.runs)
    pd.testing.assert_frame_equal(read(tmp_path).runs, first.runs)
    assert make_board(first)["runs"].sum() == 80


@pytest.mark.slow
def test_site_needs_neither_torch_nor_mlflow(own_root):
    """Every page and the export, in a process of their own: what is in memory afterwards."""
    fill_root(own_root)
    code = f"""
import sys
sys.path.insert(0, {str(SITE)!r})
from pathlib import Path
from streamlit.testing.v1 import AppTest
import export, source
for page in {PAGES!r}:
    app = AppTest.from_file({str(SITE / "app.py")!r}, default_timeout=120)
    app.switch_page(f"views/{{page}}.py").run()
    assert not app.exception, app.exception
export.export(source.current(), Path({str(own_root / "out")!r}))
print(*{{name.split(".")[0] for name in sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not set(done.stdout.split()) & {"torch", "torchvision", "mlflow", "zoo", "runner"}


# --- the export --------------------------------------------------------------------------------------------------------


def of(reading: source.Reading, *datasets: str) -> source.Reading:
    """The part of a reading that is about some data sets, with one of each one's models that wait: fewer pages."""
    board, runs = reading.board, reading.evidence.runs
    board = board[board["dataset"].isin(datasets)]
    waiting = board[board["model"].notna() & (board["runs"] == 0)]
    board = board.drop(waiting.index.difference(waiting.drop_duplicates("dataset").index))
    evidence = dataclasses.replace(reading.evidence, runs=runs[runs["dataset"].isin(datasets)])
    claims = make_claims(board, evidence.papers)
    return dataclasses.replace(reading, board=board, evidence=evidence, claims=claims)


def test_export_is_whole_and_every_link_leads_somewhere(full, tmp_path):
    """With one run of each outcome and row: other seeds' pages are alike."""
    full = of(full, "cifar10", "mnist")
    runs = full.evidence.runs.drop_duplicates(["dataset", "model", "profile", "outcome", "standing"])
    full = dataclasses.replace(full, evidence=dataclasses.replace(full.evidence, runs=runs))
    pages = export.export(full, tmp_path / "out")
    texts = {page.name: page.read_text() for page in sorted((tmp_path / "out").glob("*.html"))}
    assert len(texts) == pages
    for name, text in texts.items():
        seen = parsed(re.sub(r"(?s)<script.*?</script>", "", text))
        assert seen.tags.count("h1") == 1
        scripts = re.findall(r'<script[^>]*src="([^"]+)"', text)
        for link in (*seen.links, *scripts):
            if not link.startswith(("http", "data:", "#")):
                assert (tmp_path / "out" / link).exists(), (name, link)
        assert scripts == ["site.js", *["plotly.min.js", "figures.js"] * ('class="figure"' in text)], name
        assert '<link rel="icon" type="image/svg+xml" href="icon.svg">' in text
        assert re.search(r'<meta name="description" content="[^"]{20,}', text), name
        assert not re.search(r"\b(nan|None|NaT)\b", seen.text), name
    titles = [re.search("<title>(.*?)</title>", text)[1] for name, text in texts.items() if "board-" not in name]
    assert len(set(titles)) == len(titles)
    runs = full.evidence.runs
    assert {f"run-{run[:8]}.html" for run in runs["run"]} <= texts.keys()
    start = texts["index.html"]
    assert answer_sentence(answer_of(full.board)) in parsed(start).text
    assert "<h2>CIFAR-10</h2>" in start
    board = texts["board-cifar10.html"]
    assert "✓ reproduced" in board
    assert "unverified data" in board
    assert (tmp_path / "out" / "cifar10.csv").read_text() == as_csv(full.board[full.board["dataset"] == "cifar10"])


def pictures_of(text: str) -> list[str]:
    return re.findall(r'<img src="([^"]*)', text)


def test_the_export_gets_its_address_from_an_option(full, tmp_path):
    reading = dataclasses.replace(of(full, "mnist"), repository="https://git.example/o/r")
    out = tmp_path / "out"
    export.export(reading, out, export.Site("Our zoo", "https://o.example/r"))
    start = (out / "index.html").read_text()
    assert '<link rel="canonical" href="https://o.example/r/">' in start
    assert "· Our zoo</title>" in start
    assert '<a href="https://git.example/o/r">' in start
    assert '<base href="https://o.example/r/">' in (out / "404.html").read_text()
    run = reading.evidence.runs[~reading.evidence.runs["local"]].iloc[0]
    record = f"https://git.example/o/r/blob/HEAD/results/{run['dataset']}/{run['model']}/{Path(run['path']).name}"
    assert record.replace("+", "%2B") in (out / f"run-{run['run'][:8]}.html").read_text().replace("+", "%2B")


@pytest.mark.parametrize(
    "address", ["ftp://x.example", "https://u:p@x.example", "javascript:alert(1)", "https://x/?a=1"]
)
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(UserError, match="expected an address"):
        export.address_of("--base-url", address)


def test_export_of_markup_is_text(hostile, tmp_path):
    export.export(of(hostile, "cifar10"), tmp_path / "out")
    for page in (tmp_path / "out").glob("*.html"):
        text = page.read_text()
        seen = parsed(text)
        assert all(link.startswith(("icon.svg", "data:image/svg+xml")) for link in pictures_of(text))
        assert not [link for link in seen.links if "evil" in link]
        assert "<script>alert" not in text
        for data in re.findall(r'(?s)<script type="application/json"[^>]*>(.*?)</script>', text):
            assert "<" not in data
            json.loads(data)


def test_export_overwrites_its_own_and_nothing_else(full, tmp_path):
    few = dataclasses.replace(full.evidence, runs=full.evidence.runs.iloc[:1])
    full = dataclasses.replace(full, board=full.board[full.board["dataset"] == "digits"], evidence=few)
    export.export(full, tmp_path / "out")
    stale = tmp_path / "out" / "model-cifar10-gone.html"
    stale.write_text("old")
    export.export(full, tmp_path / "out")
    assert not stale.exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.html").write_text("mine")
    with pytest.raises(UserError, match="has other files"):
        export.export(full, mine)
    assert (mine / "thesis.html").read_text() == "mine"


@pytest.mark.slow
def test_the_command_exports(own_root, runner, tmp_path):
    publish_records(own_root / "results", make_record(10.5))
    code, out, err = runner("site", "--export", str(tmp_path / "out"))
    assert (code, err) == (0, "")
    assert "index.html" in out
    (tmp_path / "file").write_text("")
    code, _, err = runner("site", "--export", str(tmp_path / "file"))
    assert code == 2
    assert len(err.splitlines()) == 1


def test_the_command_refuses_in_one_line(runner, at, tmp_path, monkeypatch, capfd):
    at("empty")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["export.py", str(tmp_path / "file")])
    assert export.main() == 2
    assert capfd.readouterr().err == f"runner: {tmp_path / 'file'} is a file, expected a folder\n"
    code, _, err = runner("site", "--port", "70000")
    assert (code, err) == (2, "runner: --port is 70000, expected 1 to 65535\n")
