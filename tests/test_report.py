"""What `runner report` prints, in each format."""

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from helpers import copy_cards, make_record, make_seeds, publish_records, run_locally
from rich.console import Console

from benchmarks.errors import UserError
from benchmarks.labels import unpublished_line
from benchmarks.leaderboard import Evidence, default_view, make_board, make_claims, read
from runner.reporting.formats import Format
from runner.reporting.markdown import measured_table
from runner.reporting.report import Selection, render
from runner.reporting.report import show as show_report
from runner.reporting.terminal import print_table

ROOT = Path(__file__).resolve().parent.parent

FIVE = [10.3, 10.5, 10.6, 10.55, 10.65]
KEYS = [
    "dataset",
    "model",
    "label",
    "profile",
    "data",
    "n",
    "seeds",
    "runs",
    "trained",
    "mean",
    "sd",
    "reported",
    "gap",
]
KEYS += [
    "verdict",
    "reason",
    "seeds_to_go",
    "error",
    "errors",
    "half_width",
    "prediction",
    "tolerance",
    "paper",
    "where",
]
KEYS += [
    "printed",
    "printed_label",
    "context",
    "note",
    "family",
    "augmentation",
    "parameters",
    "macs",
    "train_minutes",
    "hardware",
]
KEYS += ["local", "outdated", "sequential", "dirty", "forced", "newest", "provenance", "keys", "marks"]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Five seeds of nin_dropout, fast and local ones of nin_fc, three on unverified data of nin_augmentation."""
    root = tmp_path_factory.mktemp("evidence")
    results, runs = root / "results", root / ".runs"
    publish_records(results, *make_seeds(FIVE), *make_seeds([10.0], profile="fast"))
    publish_records(
        results, *make_seeds([8.8, 8.9, 9.0], model="nin_augmentation", augmentation="flip", verified=False)
    )
    run_locally(runs, *make_seeds([11.9, 12.0, 12.1, 12.3, 12.2], model="nin_fc", profile="fast"))
    run_locally(runs, make_record(90.0, seed=9, model="nin", outcome="collapsed"))
    return read(results, runs)


def show(suite: str | None, fmt: str, **asked) -> None:
    show_report(Selection(suite, **asked), fmt)


BOARDS: list[tuple[Evidence, pd.DataFrame, pd.DataFrame]] = []  # the last evidence with its board and claims


def text_of(evidence: Evidence, fmt: str, suite: str | None = "cifar10", **options) -> str:
    if not BOARDS or BOARDS[0][0] is not evidence:
        board = make_board(evidence, ["cifar10"])
        BOARDS[:] = [(evidence, board, make_claims(board, evidence.papers))]
    [(_, board, claims)] = BOARDS
    return render(suite, board, claims, evidence.papers, fmt, **options)


def test_json_holds_every_row_with_exactly_the_documented_keys(evidence: Evidence) -> None:
    rows = json.loads(text_of(evidence, "json"))
    assert all(list(row) == KEYS for row in rows)
    assert len(rows) == len(make_board(evidence, ["cifar10"]))
    [dropout] = [row for row in rows if row["model"] == "nin_dropout" and row["profile"] == "reference"]
    assert {name: dropout[name] for name in ("n", "runs", "trained", "mean", "reported", "gap", "verdict", "data")} == {
        "n": 5,
        "runs": 5,
        "trained": 1.0,
        "mean": 10.52,
        "reported": 10.41,
        "gap": 0.11,
        "verdict": "reproduced",
        "data": "verified",
    }


def test_only_what_was_measured(evidence: Evidence) -> None:
    board = make_board(evidence, ["cifar10"])
    head, rule, *lines = measured_table(board).splitlines()
    assert head.count("|") == rule.count("|") == 8
    assert [line.split(" | ")[1].replace("\\", "") for line in lines] == [
        row.label for row in default_view(board).itertuples() if row.runs > 0
    ]
    assert all(line.startswith("| CIFAR-10 | ") and line.count("|") == 8 for line in lines)


def test_the_readme_s_table_is_of_the_published_records() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("<!-- make results -->\n")[2].partition("<!-- end -->")[0]
    assert shown == measured_table(make_board(read(ROOT / "results"))) + "\n", "run: make results"


def test_json_is_null_where_nothing_is_defined(evidence: Evidence) -> None:
    rows = json.loads(text_of(evidence, "json"))
    [collapsed] = [row for row in rows if row["model"] == "nin"]
    assert (collapsed["n"], collapsed["runs"], collapsed["trained"]) == (0, 1, 0.0)
    assert collapsed["mean"] is None
    [single] = [row for row in rows if row["model"] == "nin_dropout" and row["profile"] == "fast"]
    assert (single["mean"], single["sd"]) == (10.0, None)
    rival = next(row for row in rows if row["label"] == "CNN + Spearmint")
    unknown = ("model", "profile", "data", "trained", "mean", "sd", "gap", "verdict", "reason")
    assert all(rival[name] is None for name in unknown)
    assert (rival["n"], rival["runs"], rival["reported"]) == (0, 0, 14.98)
    [waiting] = [row for row in rows if row["model"] == "nin_fc_dropout"]
    assert (waiting["verdict"], waiting["trained"], waiting["runs"]) == ("not run", None, 0)


def test_csv_holds_the_rows_of_the_json(evidence: Evidence) -> None:
    rows = list(csv.DictReader(io.StringIO(text_of(evidence, "csv"))))
    expected = json.loads(text_of(evidence, "json"))
    assert list(rows[0]) == KEYS

    def cell(value) -> str:
        return "; ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)

    assert rows == [{name: cell(value) for name, value in row.items()} for row in expected]


def test_json_holds_what_the_table_shows_and_what_it_rests_on(evidence: Evidence) -> None:
    rows = json.loads(text_of(evidence, "json"))
    [dropout] = [row for row in rows if row["model"] == "nin_dropout" and row["profile"] == "reference"]
    assert dropout["half_width"] == pytest.approx(0.1677, abs=1e-4)
    assert dropout["errors"] == FIVE
    assert (dropout["paper"], dropout["where"], dropout["printed"]) == ("lin2013", "Table 1", "10.41")
    assert (dropout["hardware"], dropout["train_minutes"]) == (["NVIDIA H200"], 10.0)
    assert dropout["newest"] == "2026-05-01T12:30:00Z"
    assert dropout["keys"] == [f"cifar10/nin_dropout/reference-seed{seed}" for seed in range(5)]
    [local] = [row for row in rows if row["model"] == "nin_fc" and row["runs"]]
    assert local["marks"] == ["local: not published", "profile fast"]


def test_the_table_fits_80_columns_and_needs_no_colour(evidence: Evidence) -> None:
    text = text_of(evidence, "table")
    tables, _, notes = text.partition("Unverified data")
    assert max(len(line) for line in tables.splitlines()) <= 80
    assert "\x1b" not in text
    line = next(line for line in text.splitlines() if line.split()[1:2] == ["nin_dropout"])
    assert "10.52 ± 0.17" in line  # t(0.975, 4) = 2.776, times the seeds' deviation of 0.135, by sqrt(5)
    assert "5 of 5" in line
    assert "✓ reproduced" in line
    assert "published only" in text
    assert "92 images differ from the official ones." in notes
    assert "nin_dropout is" not in tables  # no claim about it can be judged yet


def test_numbers_that_are_not_plain_are_marked_and_the_marks_explained(evidence: Evidence) -> None:
    text = text_of(evidence, "table")
    lines = {line.split()[1]: line for line in text.splitlines() if len(line.split()) > 1}
    assert " U " in lines["nin_augmentation"]
    assert " LF " in lines["nin_fc"]
    assert "L: local: not published." in text.replace("\n", " ")
    assert "(unverified data)" in text_of(evidence, "markdown")


def test_every_judged_row_has_its_reason(evidence: Evidence) -> None:
    text = " ".join(text_of(evidence, "table").split())
    assert "nin_dropout: mean 10.52 of 5 seeds is 0.11 above the paper's 10.41, within the 95 % prediction" in text
    assert "nin_fc (profile fast): mean 12.10" in text
    assert "nin: none of 1 trained so far." in text


def test_the_report_says_what_to_type_next(evidence: Evidence, tmp_path: Path) -> None:
    text = text_of(evidence, "table")
    [line] = [
        line
        for line in text.splitlines()
        if line.startswith("Some models have not run: runner submit --suite cifar10 --model")
    ]
    assert "--model nin_fc_dropout" in line
    assert "--model nin_augmentation" not in line
    assert "runner report --suite cifar10 --format csv" in text
    submit = "Run them: runner submit --suite cifar10"
    for needed in (
        f"nin 5. {submit} --model nin --until-decided",  # its one seed collapsed: five more
        f"nin_augmentation 2. {submit} --model nin_augmentation --allow-unverified-data --until-decided",
    ):
        assert f"Seeds needed for a verdict: {needed}\n" in text
    nothing = text_of(read(tmp_path / "nowhere"), "table")
    assert "No run of 'cifar10' has ended yet. Start with: runner submit --suite cifar10\n" in nothing


def test_an_inconclusive_row_says_how_many_seeds_would_decide_it_and_the_command(tmp_path: Path) -> None:
    publish_records(tmp_path, *make_seeds([10.06, 10.23, 10.41, 10.59, 10.76], profile="fast"))
    text = text_of(read(tmp_path), "table")
    assert "? inconclusive" in text
    assert "about 15 more seeds would probably decide it" in " ".join(text.split())
    command = "runner submit --suite cifar10 --model nin_dropout --profile fast --until-decided\n"
    assert f"Seeds needed for a verdict: nin_dropout 15. Run them: {command}" in text


def test_the_report_compares_fast_with_reference(tmp_path: Path) -> None:
    ten = [10.3 + i / 100 for i in range(10)]
    publish_records(tmp_path, *make_seeds(ten), *make_seeds(ten[:9], profile="fast"))
    text = " ".join(text_of(read(tmp_path), "table").split())
    assert (
        "Profiles … not yet known: nin_dropout on cifar10, fast compared with reference: 10 of reference and 9 of fast"
        in text
    )
    publish_records(tmp_path, make_record(10.4, seed=9, profile="fast"))
    for fmt in ("table", "markdown"):
        assert "✓ equivalent" in text_of(read(tmp_path), fmt)


def test_a_report_of_a_model_has_its_rows_its_claims_and_nothing_else(
    own_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_records(own_root / "results", *make_seeds(FIVE), *make_seeds(FIVE, model="nin_augmentation"))
    show("cifar10", "markdown", models=["nin_dropout"])
    text = capsys.readouterr().out
    table, _, claims = text.partition("## Claims")
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 1
    assert "nin\\_dropout" in rows[0]
    assert claims
    show(None, "csv", models=["nin_dropout", "nin"])
    names = {line.split(",")[1] for line in capsys.readouterr().out.splitlines()[1:]}
    assert names == {"nin_dropout", "nin"}
    for suite, name, message in (
        ("cifar10", "lenet5", "is not in the suite 'cifar10' (it is in mnist"),
        ("cifar10", "nin_dropuot", "did you mean 'nin_dropout'"),
        (None, "lennet5", "did you mean 'lenet5'"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            show(suite, "table", models=[name])


def test_a_board_states_the_commit_and_day_it_is_of(
    tmp_path: Path, own_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_records(own_root / "results", *make_seeds(FIVE))
    show("cifar10", "table")
    assert "Outside a git checkout, newest record 2026-05-01." in capsys.readouterr().out
    git = ["git", "-C", str(own_root), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "Records"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout[:12]
    for fmt in ("table", "markdown"):
        show("cifar10", fmt)
        assert f"As of commit {commit}, newest record 2026-05-01." in capsys.readouterr().out
    next((own_root / "results").rglob("*.json")).write_text("{")
    show("cifar10", "table")
    assert f"As of commit {commit}+," in capsys.readouterr().out


def test_where_no_source_reports_anything_the_report_says_where_one_does(tmp_path: Path) -> None:
    records = make_seeds([5.0, 6.0], dataset="digits", model="lenet", test_images=360, training_images=1_437)
    publish_records(tmp_path, *records)
    evidence = read(tmp_path)
    board = make_board(evidence, ["digits"])
    text = render("quickstart", board, make_claims(board, evidence.papers), evidence.papers, "table")
    assert "○ not judged" in text
    assert "Why" not in text
    assert "runner submit --suite mnist\n" in text


def test_a_printed_error_that_is_only_shown_is_in_brackets_and_the_report_says_so() -> None:
    evidence = read(Path(__file__).parent.parent / "results")
    board = make_board(evidence, ["mnist"], ["linear"])
    board = board[board["model"] == "linear"]
    text = render("classics", board, make_claims(board, evidence.papers), evidence.papers, "markdown")
    assert "| (12.0) |" in text
    assert "No printed error judges these rows. Those in brackets are shown for comparison." in text
    assert "No source reports" not in text


def test_markdown_is_a_table_whose_cells_carry_no_markup_of_their_own(tmp_path: Path) -> None:
    sentence = "<b>x</b> | [link](http://evil)"
    record = make_record(10.4, verified=False)
    data = record.data.model_copy(update={"provenance": sentence})
    publish_records(tmp_path, make_record(10.4, verified=False, data=data))
    text = text_of(read(tmp_path), "markdown")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} <= {8, 5}
    assert r"\<b\>x\</b\> \| \[link\](http://evil)" in text


def test_control_characters_from_a_record_never_reach_the_terminal(tmp_path: Path) -> None:
    record = make_record(10.4, verified=False)
    data = record.data.model_copy(update={"provenance": "red \x1b[31m alert\x07"})
    publish_records(tmp_path, make_record(10.4, verified=False, data=data))
    for fmt in ("table", "markdown"):
        assert not {"\x1b", "\x07"} & set(text_of(read(tmp_path), fmt))


def test_claims_are_listed_below_with_their_place(evidence: Evidence) -> None:
    text = " ".join(text_of(evidence, "table").split())
    assert "… more seeds Dropout between the mlpconv layers" in text
    assert "(lin2013, Section 4.2)" in text
    assert "· not run Translation and flipping lower" in text


def test_a_narrow_or_coloured_console_shows_the_same_words(evidence: Evidence) -> None:
    board = make_board(evidence, ["cifar10"])
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="truecolor")
    print_table(console, "cifar10", board, make_claims(board, evidence.papers))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[32m✓ reproduced" in text
    narrow = render("cifar10", board, make_claims(board, evidence.papers), evidence.papers, "table", width=60)
    assert max(map(len, narrow.splitlines())) > 60  # a command stays in one piece
    for words in ("10.52 ± 0.17", "✓ reproduced", "10.41"):
        assert words in " ".join(narrow.split())


@pytest.mark.parametrize("fmt", Format)
def test_everything_can_be_reported_without_naming_a_suite(fmt: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(None, fmt)
    out = capsys.readouterr().out
    assert out.endswith("\n")
    if fmt == "table":
        assert "MNIST" in out
        assert "No run has ended yet. Start with: runner submit --suite quickstart" in out


def test_a_suite_is_reported_from_this_checkouts_runs_and_results(
    own_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_records(own_root / "results", *make_seeds(FIVE))
    run_locally(own_root / ".runs", make_record(10.2, seed=7))
    (own_root / "results" / "cifar10" / "nin_dropout" / "torn.json").write_text("{")
    show("nin_ablation", "json")
    captured = capsys.readouterr()
    [row] = [row for row in json.loads(captured.out) if row["model"] == "nin_dropout"]
    assert row["n"] == 6
    assert "torn.json" in captured.err
    with pytest.raises(UserError, match="did you mean 'nin_ablation'"):
        show("nin_ablatoin", "json")


@pytest.mark.parametrize(
    ("same", "other", "says"),
    [
        (0, 0, None),
        (0, 1, "Unpublished in this checkout: 1 run. Outside"),
        (0, 2, "Unpublished in this checkout: 2 runs. Outside"),
        (1, 0, "1 run, 1 with weights bit-identical to a published run, counted once."),
        (1, 2, "3 runs, 1 with weights bit-identical to a published run, counted once."),
        (3, 0, "3 runs, 3 with weights bit-identical to a published run, counted once."),
    ],
)
def test_the_report_says_how_many_runs_are_unpublished(
    own_root: Path, capsys: pytest.CaptureFixture[str], same: int, other: int, says: str | None
) -> None:
    published = make_seeds(FIVE)
    publish_records(own_root / "results", *published)
    again = [record.model_copy(update={"run": f"{record.job.seed:032x}"}) for record in published[:same]]
    new = [make_record(10.0, seed=seed) for seed in (7, 8)][:other]
    elsewhere = make_record(0.5, dataset="mnist", model="nin", test_images=10_000, training_images=60_000)
    run_locally(own_root / ".runs", *again, *new, elsewhere)
    show("nin_ablation", "markdown")
    out = capsys.readouterr().out
    assert (says in out) if says else ("this checkout" not in out)
    assert f"{5 + other} of {5 + other}" in out


def test_equal_weights_in_another_row_are_two_measurements(own_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a CPU `fast` may well give the bits of `reference`: it has a row of its own all the same."""
    published = make_seeds(FIVE)
    publish_records(own_root / "results", *published)
    same = {"weights_sha256": published[0].weights_sha256}
    run_locally(own_root / ".runs", make_record(FIVE[0], seed=0, profile="fast", **same))
    show("nin_ablation", "table")
    assert "Unpublished in this checkout: 1 run. " in capsys.readouterr().out


def test_an_unknown_format_names_the_known_ones(evidence: Evidence) -> None:
    with pytest.raises(UserError, match="did you mean 'json'"):
        text_of(evidence, "jsn")


# --- LaTeX, a source's own tables, held-out choices ------------------------------------------------------------------------


def test_latex_has_a_booktabs_table_a_data_set_whose_figures_are_cited(evidence: Evidence) -> None:
    text = text_of(evidence, "latex", as_of="As of commit abc, 50 % new.")
    assert text.count("\\toprule") == text.count("\\begin{table}") == 1
    line = next(line for line in text.splitlines() if line.strip().startswith("nin\\_dropout"))
    cells = ["nin\\_dropout", "10.52 $\\pm$ 0.17", "5 of 5", "10.41~\\cite{lin2013}", "+0.11", "reproduced \\\\"]
    assert [cell.strip() for cell in line.split(" & ")] == cells
    assert "50 \\% new" in text


@pytest.mark.skipif(not (shutil.which("pdflatex") and shutil.which("bibtex")), reason="no LaTeX here")
def test_the_latex_of_a_report_compiles_with_its_bibliography(evidence: Evidence, tmp_path: Path) -> None:
    (tmp_path / "refs.bib").write_text(text_of(evidence, "bibtex"))
    board = text_of(evidence, "latex")
    (tmp_path / "page.tex").write_text(
        "\\documentclass{article}\n\\usepackage{array,booktabs}\n\\begin{document}\n"
        f"{board}\\bibliographystyle{{plain}}\n\\bibliography{{refs}}\n\\end{{document}}\n"
    )
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page"]
    for command in (latex, ["bibtex", "page"], latex, latex):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    assert "undefined" not in done.stdout  # every citation has its entry


def test_a_sources_table_keeps_its_order_and_labels_and_adds_our_numbers(
    own_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_records(own_root / "results", *make_seeds(FIVE))
    show(None, "json", paper="lin2013", table="table 1")
    rows = json.loads(capsys.readouterr().out)
    assert [(row["label"], row["printed"]) for row in rows] == [  # NiN's Table 1, line by line
        ("Stochastic Pooling", "15.13"),
        ("CNN + Spearmint", "14.98"),
        ("Conv. maxout + Dropout", "11.68"),
        ("NIN + Dropout", "10.41"),
        ("CNN + Spearmint + Data Augmentation", "9.50"),
        ("Conv. maxout + Dropout + Data Augmentation", "9.38"),
        ("DropConnect + 12 networks + Data Augmentation", "9.32"),
        ("NIN + Dropout + Data Augmentation", "8.81"),
    ]
    assert (rows[3]["mean"], rows[3]["verdict"]) == (10.52, "reproduced")
    for fmt in ("table", "markdown", "latex"):
        show(None, fmt, paper="lin2013", table="Table 1")
        text = capsys.readouterr().out
        assert "10.52" in text
        assert "+0.11" in text
        assert text.index("15.13") < text.index("10.41") < text.index("9.50") < text.index("8.81")
    show(None, "markdown", paper="lin2013")
    assert capsys.readouterr().out.count("\n|---|") == 7  # Tables 1 to 5, Sections 4.2 and 4.6


@pytest.mark.parametrize("fmt", ["table", "markdown", "latex", "csv", "json"])
def test_a_number_of_another_profile_or_data_is_marked_in_every_format(
    fmt: str, own_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_records(own_root / "results", *make_seeds(FIVE, profile="fast", verified=False))
    for selection in ({"paper": "lin2013", "table": "Table 1"}, {"measured": True}):
        show(None, fmt, **selection)
        text = " ".join(capsys.readouterr().out.split())
        assert "unverified data" in text, selection
        assert "fast" in text, selection


def test_a_number_with_long_caveats_leaves_a_sources_table_its_other_columns(
    own_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    publish_records(own_root / "results", *make_seeds(FIVE, profile="fast", verified=False, sequential=True))
    show(None, "table", paper="lin2013", table="Table 1")
    _, heads, *lines = capsys.readouterr().out.splitlines()
    assert heads.split() == ["As", "printed", "Model", "here", "Printed", "Measured", "Seeds", "Gap", "Verdict"]
    assert max(map(len, lines[:-2])) <= 80  # the last two are empty and the commit's, which is kept in one piece
    ours = next(line for line in lines if "10.52" in line)
    for cell in ("NIN + Dropout", "10.41", "5 of 5", "+0.11"):
        assert cell in ours


def test_a_suite_of_settings_is_reported_by_its_held_out_images(
    own_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards = copy_cards(own_root / "results")
    own = cards["allcnn_c"].datasets["cifar10"]
    facts = {"model": "allcnn_c", "recipe": own.recipe, "revision": own.revision}
    publish_records(own_root / "results", *make_seeds([12.5], **facts, overrides={"holdout": 10_000}))
    show("allconv_rates", "table")
    text = capsys.readouterr().out
    assert "12.50" in text
    assert "No run" not in text
    show("allconv_rates", "markdown")
    assert "newest record 20" in capsys.readouterr().out


def test_the_owner_s_runs_that_did_not_train_are_not_called_averaged(own_root: Path) -> None:
    publish_records(own_root / "results", *make_seeds(FIVE))
    run_locally(own_root / ".runs", make_record(90.0, seed=0, outcome="collapsed", run="f" * 32))
    line = unpublished_line(read(own_root / "results", own_root / ".runs").runs)
    assert line == "Unpublished in this checkout: 1 run, 1 did not train."


def test_a_table_or_source_that_is_not_there_is_named_in_one_line(own_root: Path) -> None:
    with pytest.raises(UserError, match="unknown table of lin2013 'Table 9'"):
        show(None, "table", paper="lin2013", table="Table 9")
    with pytest.raises(UserError, match="unknown source 'lin2031': did you mean 'lin2013'"):
        show(None, "table", paper="lin2031")
    with pytest.raises(UserError, match="needs the option --paper"):
        show(None, "table", table="Table 1")


def test_settings_on_held_out_images_are_listed_best_first(own_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rate, errors in [(0.05, [12.0, 12.2]), (0.02, [11.0, 11.4]), (None, [13.0])]:
        overrides = {"holdout": 10_000} | ({} if rate is None else {"learning_rate": rate})
        publish_records(own_root / "results", *make_seeds(errors, overrides=overrides))
    publish_records(own_root / "results", *make_seeds([10.0]))  # on the test set: no choice
    show(None, "json", holdout=True)
    rows = json.loads(capsys.readouterr().out)
    assert [(row["setting"], row["mean"], row["n"], row["holdout"]) for row in rows] == [
        ("learning_rate=0.02", 11.2, 2, 10_000),
        ("learning_rate=0.05", 12.1, 2, 10_000),
        ("", 13.0, 1, 10_000),
    ]
    for fmt in ("table", "markdown", "latex"):
        show(None, fmt, holdout=True)
        text = capsys.readouterr().out
        assert text.index("0.02") < text.index("0.05") < text.index("the recipe")


def test_repeated_runs_of_a_seed_are_mentioned(tmp_path: Path) -> None:
    again = make_record(10.4, seed=0, run="f" * 32, weights_sha256="f" * 64)
    publish_records(tmp_path, *make_seeds(FIVE), again)
    text = text_of(read(tmp_path), "table")
    assert "5 of 5 (6 runs)" in text
    assert "Several runs of a seed count as one: nin_dropout 6 runs of 5 seeds." in text
