"""The figures of repositories and rivals, and others' attempts, held to a second list typed from references/papers.md."""

from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.leaderboard import make_attempts
from benchmarks.papers import PaperError, ReportedProtocol, differences, load_attempts, load_papers
from benchmarks.records import Protocol

# A.1 (maxout's protocol), A.3 and A.4: file -> data set -> errors in the order of the reference.
FIGURES = {
    "bearpaw": {"cifar10": "6.66", "cifar100": "28.05"},
    "bigballon": {"cifar10": "6.47"},
    "chengyangfu": {"cifar10": "7.6"},
    "chenyaofo": {"cifar10": "7.21 6.00 5.84 6.09", "cifar100": "29.22 25.37 26.00 26.13"},
    "dagleaves": {"mnist": "0.44 0.53", "cifar10": "20.05", "cifar100": "52.15"},
    "ericmingjie": {"cifar10": "6.23", "cifar100": "27.88"},
    "geifmany": {"cifar10": "6.44", "cifar100": "29.52"},
    "goodfellow2013": {"cifar10": "11.68 13.2 9.38", "cifar100": "38.57 41.48"},
    "mitmul": {"cifar10": "6.58"},
    "nyquixt": {"cifar10": "5.8"},
    "simplenet": {"cifar100": "24.28"},
    "weiaicunzai": {"cifar100": "31.36 28.00 27.07 27.77 21.97"},
    "wideresnet_logs": {"cifar10": "6.32 6.18 7.36 7.15"},
}

# Where the reference gives accuracies: the error is 100 minus them.
ACCURACIES = {
    "ericmingjie": "93.77 72.12",
    "chenyaofo": "92.79 94.00 94.16 93.91",
    "bigballon": "93.53",
    "chengyangfu": "92.4",
    "geifmany": "93.56 70.48",
    "mitmul": "93.42",
    "nyquixt": "94.2",
    "simplenet": "75.72",
    "wideresnet_logs": "93.68 93.82",
}

# D.1 to D.4: (file, data set, figure tried for) -> what was got, in the order of the reference; - where it is only words.
TRIED = {
    ("lin2013", "cifar10", "10.41"): "10.4 10.36 10.33 - 10.89 9.6 12 11.8 14 90",
    ("lin2013", "cifar10", "8.81"): "8.88 8.75 8.37 8.22 9.03 8.1 7.36 7.43 12.06 11.4 34.5",
    ("lin2013", "cifar100", "35.68"): "28.39",
    ("lin2013", "svhn", "2.35"): "3.76",
    ("springenberg2014", "cifar10", "9.08"): "9.75 10.5 10.69 11.17 12.74",
    ("springenberg2014", "cifar10", "7.25"): "9.12 -",
    ("goodfellow2013", "cifar10", "11.68"): "11.62",
    ("goodfellow2013", "cifar10", "9.38"): "9.45",
}
# asnadyvt's other eleven models: the paper's figure -> theirs.
ELEVEN = "12.47:15.16 13.46:18.23 10.21:11.44 10.30:12.47 10.20:13.52 10.98:15.56 9.33:11.84 9.10:11.84 9.74:11.11"
ELEVEN += " 10.19:12.91 9.31:11.09"


def test_every_figure_of_these_sources_is_as_printed() -> None:
    found: dict[str, dict[str, str]] = {}
    papers = load_papers()
    for key in FIGURES:
        for row in papers[key].reported:
            of = found.setdefault(key, {})
            of[row.dataset] = f"{of.get(row.dataset, '')} {row.printed}".strip()
    assert found == FIGURES


def test_errors_are_a_hundred_less_the_accuracies() -> None:
    papers = load_papers()
    for key, accuracies in ACCURACIES.items():
        errors = [100 - Decimal(text) for text in accuracies.split()]
        assert [row.printed for row in papers[key].reported][: len(errors)] == errors, key


def test_none_of_these_figures_judges_a_model_of_another_recipe() -> None:
    papers = load_papers()
    for key in FIGURES:
        own = {"goodfellow2013": {("target", "maxout"), ("target", "maxout_augmentation")}}.get(key, set())
        assert {(row.kind, row.model) for row in papers[key].reported} == {("context", None)} | own


def test_what_is_known_of_how_a_figure_came_about_stands_beside_it() -> None:
    papers = load_papers()
    epochs = {key: {row.protocol.epoch for row in papers[key].reported} for key in FIGURES}
    assert epochs["weiaicunzai"] == epochs["chengyangfu"] == {"best"}
    assert epochs["wideresnet_logs"] == {"last", "best"}
    assert epochs["nyquixt"] == {None}  # not said
    secondary = {key for key in FIGURES for row in papers[key].reported if row.secondary}
    assert secondary == {"simplenet"}
    assert all(row.secondary for row in papers["springenberg2014"].reported)  # its own text could not be read
    [hysts] = papers["hysts2018"].reported
    assert (hysts.protocol.epoch, hysts.protocol.runs, hysts.protocol.statistic) == ("last", 3, "median")
    assert {row.protocol.epoch for row in papers["kuangliu2017"].reported} == {"best"}
    images = {str(row.printed): row.protocol.training_images for row in papers["goodfellow2013"].reported}
    assert (images["11.68"], images["13.2"], images["41.48"]) == (50_000, 40_000, 40_000)
    assert "ImageNet" in papers["bigballon"].reported[0].label


def test_a_best_epochs_error_is_never_compared_in_silence() -> None:
    ours = Protocol(evaluation="test", augmentation="none", training_images=50_000)
    [clause] = differences(ReportedProtocol(augmentation="none", training_images=50_000, epoch="best"), ours)
    assert clause == "the paper's error is that of its best epoch, ours of the last"
    assert differences(ReportedProtocol(augmentation="none", training_images=50_000, epoch="last"), ours) == []


# --- others' attempts ------------------------------------------------------------------------------------------------------


def test_every_attempt_is_as_in_the_reference() -> None:
    found: dict[tuple[str, str, str], str] = {}
    for key, attempts in load_attempts().items():
        for attempt in attempts:
            place = (key, attempt.dataset, str(attempt.reported))
            found[place] = f"{found.get(place, '')} {attempt.error or '-'}".strip()
    eleven = dict(pair.split(":") for pair in ELEVEN.split())
    assert found == TRIED | {("springenberg2014", "cifar10", figure): error for figure, error in eleven.items()}


def test_each_attempt_is_at_a_figure_that_its_source_printed() -> None:
    papers = load_papers()
    for key, attempts in load_attempts().items():
        if key not in papers:
            continue  # a source comes with its models
        printed = {(row.dataset, row.printed) for row in papers[key].reported}
        assert {(attempt.dataset, attempt.reported) for attempt in attempts} <= printed, key


def test_attempts_become_rows_that_name_the_model_and_the_gap() -> None:
    frame = make_attempts(load_papers(), load_attempts())
    row = frame[frame["who"] == "jiecaoyu/pytorch-nin-cifar10"].to_dict("records")[0]
    assert (row["model"], row["reported"], row["printed"], row["gap"]) == ("nin_dropout", 10.41, "10.36", -0.05)
    words = frame[frame["who"] == "matconvnet"].to_dict("records")[0]
    assert pd.isna(words["printed"])
    assert pd.isna(words["gap"])


def test_a_wrong_attempt_is_named_with_file_row_and_field(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(
        '[[attempt]]\ndataset = "mnist"\nreported = 1.0\nwho = "A"\nerror = 101\n[[x]]\n'
    )
    with pytest.raises(PaperError) as caught:
        load_attempts(tmp_path)
    assert "one.toml: attempt 1 ('A'): error: " in str(caught.value)
    assert "one.toml: x: only [[attempt]] rows" in str(caught.value)
