"""Every printed number compared with a second list, typed from references/papers.md A.1; messages for wrong files."""

from pathlib import Path

import pytest

from benchmarks.papers import (
    Paper,
    PaperError,
    ReportedProtocol,
    load_papers,
    targets,
    unknown_names,
)
from benchmarks.protocols import differences, unstated
from benchmarks.records import Protocol
from zoo import load_models

# Data set, place: the errors in the order of papers.md, as printed there; our models beside those that are NiN's own.
LIN2013 = {
    ("cifar10", "Table 1"): [
        ("15.13", "stochastic_pooling"),
        ("14.98", None),
        ("11.68", "maxout"),
        ("10.41", "nin_dropout"),
        ("9.50", None),
        ("9.38", "maxout_augmentation"),
        ("9.32", None),
        ("8.81", "nin_augmentation"),
    ],
    ("cifar10", "Section 4.2"): [("14.51", "nin")],
    ("cifar100", "Table 2"): [
        ("43.71", None),
        ("42.51", None),
        ("38.57", None),
        ("36.85", None),
        ("35.68", "nin_dropout"),
    ],
    ("svhn", "Table 3"): [
        ("2.80", None),
        ("2.78", None),
        ("2.68", None),
        ("2.47", None),
        ("2.35", "nin_dropout"),
        ("2.16", None),
        ("1.94", None),
    ],
    ("mnist", "Table 4"): [
        ("0.53", None),
        ("0.47", "stochastic_pooling"),
        ("0.47", "nin_dropout"),
        ("0.45", None),
    ],
    ("cifar10", "Table 5"): [("11.59", "nin_fc"), ("10.88", "nin_fc_dropout"), ("10.41", "nin_dropout")],
    ("cifar10", "Section 4.6"): [("17.56", "conv_fc"), ("15.99", "conv_fc_dropout"), ("16.46", "conv_gap")],
}

GOOD = """
title = "A"
authors = ["B, C"]
year = 2015
venue = "D"
url = "https://example.org"
read = "E"
[[reported]]
dataset = "cifar10"
label = "F"
model = "nin"
error = 9.50
where = "Table 1"
kind = "target"
"""


CLAIM = '[[claim]]\nid = "x"\ndataset = "cifar10"\nbetter = "vgg"\nworse = "nin"\ntext = "t"\nwhere = "w"\n'
TWO_ROWS = GOOD + '[[reported]]\ndataset = "cifar10"\nlabel = "G"\nmodel = "vgg"\nerror = 8.1\nwhere = "Table 1"\n'


@pytest.fixture(scope="module")
def lin2013() -> Paper:
    return load_papers()["lin2013"]


def test_every_row_of_lin2013_is_as_printed(lin2013: Paper) -> None:
    figures: dict[tuple[str, str], list[tuple[str, str | None]]] = {}
    for row in lin2013.reported:
        figures.setdefault((row.dataset, row.where), []).append((str(row.printed), row.model))
    assert figures == LIN2013


def test_rows_of_other_models_have_the_printed_labels(lin2013: Paper) -> None:
    labels = {(row.where, str(row.printed)): row.label for row in lin2013.reported}
    assert labels["Table 1", "9.32"] == "DropConnect + 12 networks + Data Augmentation"
    assert labels["Table 2", "36.85"] == "Tree based priors"
    assert labels["Table 3", "2.16"] == "Multi-digit Number Recognition"
    assert labels["Table 4", "0.53"] == "2-Layer CNN + 2-Layer NN"


def test_only_the_papers_own_models_are_targets_and_the_repeated_figure_is_context(lin2013: Paper) -> None:
    judged = {(dataset, model): row.error for (dataset, model), (_, row) in targets({"lin2013": lin2013}).items()}
    assert judged == {
        ("cifar10", "nin"): 14.51,
        ("cifar10", "nin_dropout"): 10.41,
        ("cifar10", "nin_augmentation"): 8.81,
        ("cifar10", "nin_fc"): 11.59,
        ("cifar10", "nin_fc_dropout"): 10.88,
        ("cifar100", "nin_dropout"): 35.68,
        ("svhn", "nin_dropout"): 2.35,
        ("mnist", "nin_dropout"): 0.47,
    }


def test_protocols_are_those_of_the_paper(lin2013: Paper) -> None:
    by_place = {(row.where, row.model): row.protocol for row in lin2013.reported if row.model}
    augmented = [place for place, protocol in by_place.items() if protocol.augmentation != "none"]
    assert augmented == [("Table 1", "maxout_augmentation"), ("Table 1", "nin_augmentation")]
    assert by_place["Table 1", "nin_dropout"].training_images == 50_000
    assert by_place["Table 3", "nin_dropout"].training_images == 598_388
    assert {row.label: row.protocol.networks for row in lin2013.reported if row.protocol.networks > 1} == {
        "DropConnect + 12 networks + Data Augmentation": 12
    }
    guessed = [row for row in lin2013.reported if row.where == "Section 4.6"]
    assert all(row.protocol.training_images is None and "not judged" in (row.note or "") for row in guessed)
    ambiguous = next(row for row in lin2013.reported if row.model == "nin")
    assert "ambiguous" in (ambiguous.note or "")


def test_each_claim_has_its_place_and_the_papers_own_two_errors(lin2013: Paper) -> None:
    figures = {}
    for claim in lin2013.claims:
        better, worse = (lin2013.figure(claim.dataset, model) for model in (claim.better, claim.worse))
        assert better is not None
        assert worse is not None
        figures[claim.better, claim.worse] = (claim.where, better.error, worse.error)
    assert figures == {
        ("nin_dropout", "nin"): ("Section 4.2", 10.41, 14.51),
        ("nin_augmentation", "nin_dropout"): ("Table 1", 8.81, 10.41),
        ("nin_dropout", "nin_fc"): ("Table 5", 10.41, 11.59),
        ("nin_dropout", "nin_fc_dropout"): ("Table 5", 10.41, 10.88),
        ("nin_fc_dropout", "nin_fc"): ("Table 5", 10.88, 11.59),
        ("conv_fc_dropout", "conv_fc"): ("Section 4.6", 15.99, 17.56),
        ("conv_gap", "conv_fc"): ("Section 4.6", 16.46, 17.56),
        ("nin_dropout", "maxout"): ("Table 1", 10.41, 11.68),
        ("nin_augmentation", "maxout_augmentation"): ("Table 1", 8.81, 9.38),
    }
    assert {claim.kind for claim in lin2013.claims} == {"less"}


# The other sources, typed again from references/papers.md A.2 to A.5: (file, data set, model) -> errors as printed.
OTHERS = {
    ("springenberg2014", "cifar10", "base_a"): ["12.47"],
    ("springenberg2014", "cifar10", "strided_a"): ["13.46"],
    ("springenberg2014", "cifar10", "convpool_a"): ["10.21"],
    ("springenberg2014", "cifar10", "allcnn_a"): ["10.30"],
    ("springenberg2014", "cifar10", "base_b"): ["10.20"],
    ("springenberg2014", "cifar10", "strided_b"): ["10.98"],
    ("springenberg2014", "cifar10", "convpool_b"): ["9.33"],
    ("springenberg2014", "cifar10", "allcnn_b"): ["9.10"],
    ("springenberg2014", "cifar10", "base_c"): ["9.74"],
    ("springenberg2014", "cifar10", "strided_c"): ["10.19"],
    ("springenberg2014", "cifar10", "convpool_c"): ["9.31"],
    ("springenberg2014", "cifar10", "allcnn_c"): ["9.08"],
    ("springenberg2014", "cifar10", "allcnn_c_augmentation"): ["7.25"],
    ("springenberg2014", "cifar10", None): ["4.41"],
    ("springenberg2014", "cifar100", "allcnn_c"): ["33.71"],
    ("springenberg2014", "imagenet", None): ["41.2"],
    ("zagoruyko2015", "cifar10", "vgg16"): ["7.55", "8.7"],
    ("zagoruyko2015", "cifar10", None): ["9.6", "8.1"],
    ("hysts2018", "cifar10", "vgg16_plain"): ["7.29"],
    ("kuangliu2017", "cifar10", "vgg16_plain"): ["7.36"],
    ("liu2015", "cifar10", "vgg16"): ["8.45"],
    ("liu2017", "cifar10", "vgg16_plain"): ["6.34"],
    ("liu2017", "cifar100", "vgg16_plain"): ["26.74"],
    ("liu2017", "svhn", "vgg16_plain"): ["2.17"],
    ("huyvnphan2020", "cifar10", "googlenet"): ["7.15"],
    ("huyvnphan2020", "cifar10", None): ["7.61", "5.78", "6.00", "6.05"],
    ("simonyan2014", "imagenet", "vgg_a"): ["29.6"],
    ("simonyan2014", "imagenet", None): ["29.7"],
    ("simonyan2014", "imagenet", "vgg_b"): ["28.7"],
    ("simonyan2014", "imagenet", "vgg_c"): ["27.3"],
    ("simonyan2014", "imagenet", "vgg_d"): ["25.6"],
    ("simonyan2014", "imagenet", "vgg_e"): ["25.5"],
    ("szegedy2014", "imagenet", "googlenet"): ["10.07", "9.15", "7.89"],
    ("szegedy2014", "imagenet", None): ["8.09", "7.62", "6.67"],
}


def test_every_row_of_the_other_sources_is_as_printed() -> None:
    papers = load_papers()
    figures: dict[tuple[str, str, str | None], list[str]] = {}
    for key in {key for key, _, _ in OTHERS}:
        for row in papers[key].reported:
            figures.setdefault((key, row.dataset, row.model), []).append(str(row.printed))
    assert figures == OTHERS


def test_figures_of_other_recipes_than_ours_are_context() -> None:
    papers = load_papers()
    judged = {place for place, (paper, _) in targets(papers).items() if paper.key in {key for key, _, _ in OTHERS}}
    own = {
        (dataset, model)
        for key, dataset, model in OTHERS
        if key == "springenberg2014" and dataset == "cifar10" and model
    }
    assert judged == own | {("cifar10", "vgg16")}


def test_a_figure_with_an_unknown_protocol_is_not_judged_and_its_note_says_why() -> None:
    """CIFAR-100's 33.71: we could not read whether its images were augmented; those of our run are not."""
    [row] = [row for row in load_papers()["springenberg2014"].reported if row.dataset == "cifar100"]
    assert (row.kind, row.protocol.augmentation) == ("context", None)
    assert "not judged" in (row.note or "")


@pytest.mark.contract
def test_a_model_has_a_recipe_for_each_of_its_targets() -> None:
    models = load_models()
    missing = [
        f"{paper.key}.toml reports {row.printed} for {model} on {dataset}: zoo/ needs a recipe for it, or the row is context"
        for (dataset, model), (paper, row) in targets(load_papers()).items()
        if model not in models or dataset not in models[model].variants
    ]
    assert not missing, "\n".join(missing)


@pytest.mark.contract
def test_every_model_and_source_that_papers_and_zoo_name_exists() -> None:
    problems = unknown_names(load_papers(), {name: spec.paper for name, spec in load_models().items()})
    assert not problems, "\n".join(problems)


def test_an_unknown_model_or_source_is_one_line_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path, "simard2003", TWO_ROWS.replace('"vgg"', '"vg16"') + CLAIM.replace('"vgg"', '"vg16"'))
    problems = unknown_names(load_papers(tmp_path), {"nin": None, "vgg16": "simard2003", "mlp800": "simard03"})
    assert problems == [
        "benchmarks/papers/simard2003.toml: reported 2 ('G'): model: unknown model 'vg16': did you mean 'vgg16'?",
        "benchmarks/papers/simard2003.toml: claim 1 ('x'): better: unknown model 'vg16': did you mean 'vgg16'?",
        "zoo/: model 'mlp800': paper: unknown source 'simard03': did you mean 'simard2003'?",
    ]


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.toml").write_text(text)


def test_the_last_digit_is_that_of_the_printed_number(tmp_path: Path) -> None:
    write(tmp_path, "one", GOOD)
    row = load_papers(tmp_path)["one"].reported[0]
    assert (row.error, row.last_digit) == (9.5, 0.01)
    write(tmp_path, "one", GOOD.replace("9.50", "9.5"))
    assert load_papers(tmp_path)["one"].reported[0].last_digit == 0.1
    write(tmp_path, "one", GOOD.replace("9.50", "9"))
    assert load_papers(tmp_path)["one"].reported[0].last_digit == 1


def test_all_problems_are_named_at_once_with_file_row_and_field(tmp_path: Path) -> None:
    write(tmp_path, "one", GOOD.replace("9.50", "109.5").replace('label = "F"', 'label = "F"\ncolour = "red"'))
    write(tmp_path, "two", GOOD.replace("year = 2015\n", "") + '[[claim]]\nid = "x"\ndataset = "cifar10"\n')
    write(tmp_path, "three", "title = ")
    with pytest.raises(PaperError) as caught:
        load_papers(tmp_path)
    problems = str(caught.value)
    for part in (
        "one.toml: reported 1 ('F'): error: ",
        "one.toml: reported 1 ('F'): colour: ",
        "two.toml: year: ",
        "two.toml: claim 1 ('x'): better: ",
        "three.toml: can't be read as TOML",
    ):
        assert part in problems
    assert all(str(tmp_path) in line for line in problems.splitlines())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("error = 9.50", "error = true"), "reported 1 ('F'): error: "),
        (("error = 9.50", "error = nan"), "reported 1 ('F'): error: "),
        (("[[reported]]", "[reported]"), "double brackets"),
        (('dataset = "cifar10"', 'dataset = "../x"'), "reported 1 ('F'): dataset: "),
        (('title = "A"', 'title = "A"\nkey = "other"'), "key: "),
    ],
)
def test_a_wrong_field_is_refused(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    write(tmp_path, "one", GOOD.replace(*change))
    with pytest.raises(PaperError) as caught:
        load_papers(tmp_path)
    assert problem in str(caught.value)


def test_a_model_has_one_target_on_a_data_set_over_all_sources(tmp_path: Path) -> None:
    write(tmp_path, "one", GOOD)
    write(tmp_path, "two", GOOD)
    with pytest.raises(PaperError, match=r"two\.toml.*nin on cifar10 already has a target, one\.toml"):
        load_papers(tmp_path)
    write(tmp_path, "two", GOOD.replace('kind = "target"', 'kind = "context"'))
    assert len(load_papers(tmp_path)) == 2


def test_a_claim_needs_a_reported_row_of_each_of_its_models(tmp_path: Path) -> None:
    claim = '[[claim]]\nid = "x"\ndataset = "cifar10"\nbetter = "nin"\nworse = "vgg"\ntext = "t"\nwhere = "w"\n'
    write(tmp_path, "one", GOOD + claim)
    with pytest.raises(PaperError, match=r"claim 1 \('x'\): worse: no \[\[reported\]\] row has model 'vgg'"):
        load_papers(tmp_path)


def test_protocols_are_compared_field_by_field() -> None:
    ours = Protocol(evaluation="test", augmentation="none", training_images=50_000)
    assert differences(ReportedProtocol(augmentation="none", training_images=50_000), ours) == []
    assert differences(ReportedProtocol(), ours) == []
    assert len(unstated(ReportedProtocol())) == 2
    other = ReportedProtocol(augmentation="flip", training_images=604_388, evaluation="validation", networks=12)
    assert len(differences(other, ours)) == 4
    [clause] = differences(ReportedProtocol(augmentation="none"), ours.model_copy(update={"augmentation": "flip"}))
    assert clause == "we augmented our training images (flip), the paper did not"


def test_a_claim_has_a_kind_and_may_have_a_share(tmp_path: Path, lin2013: Paper) -> None:
    write(tmp_path, "one", TWO_ROWS + CLAIM)
    [claim] = load_papers(tmp_path)["one"].claims
    assert (claim.kind, claim.share) == ("less", None)
    write(tmp_path, "one", TWO_ROWS + CLAIM + 'kind = "equal"\n')
    assert load_papers(tmp_path)["one"].claims[0].kind == "equal"
    write(tmp_path, "one", TWO_ROWS + CLAIM + 'kind = "equal"\nshare = 20\n')
    with pytest.raises(PaperError, match="share belongs to a claim of kind 'less'"):
        load_papers(tmp_path)
    assert {claim.id: claim.share for claim in lin2013.claims if claim.share} == {"dropout-helps": 20}


@pytest.mark.parametrize(
    ("protocol", "problem"),
    [
        ('statistic = "mean"', "runs is missing"),
        ("runs = 3", "statistic must be"),
        ('runs = 3, statistic = "single"', "statistic must be"),
        ("spread = 0.04", "spread needs runs"),
        ('runs = 3, statistic = "mean", spread_kind = "standard error"', "spread is missing"),
        ('runs = 3, statistic = "average"', "statistic"),
    ],
)
def test_the_statistic_of_a_figure_fits_its_runs(tmp_path: Path, protocol: str, problem: str) -> None:
    write(tmp_path, "one", GOOD + f"protocol = {{ {protocol} }}\n")
    with pytest.raises(PaperError) as caught:
        load_papers(tmp_path)
    assert problem in str(caught.value)
    write(tmp_path, "one", GOOD + 'protocol = { runs = 10, statistic = "mean", spread = 0.04 }\n')
    row = load_papers(tmp_path)["one"].reported[0].protocol
    assert (row.runs, row.statistic, row.spread, row.spread_kind) == (10, "mean", 0.04, None)


WRONG = [
    (
        "error = 9.50",
        "error = 98.4",
        "error: 98.4 is worse than a constant answer (90 % on cifar10); if it is an accuracy, write 1.6",
    ),
    (
        "error = 9.50",
        "error = 0.0950",
        "error: 0.0950 is below 0.1 %, the smallest plausible error; if it is a fraction, write 9.5000",
    ),
    ("error = 9.50", 'error = "9.50"', "error: is '9.50', expected a number without quotes, such as 10.41"),
    ("error = 9.50", "error = 109.5", "error: is 109.5, expected at most 100"),
    ("error = 9.50", "erorr = 9.50", "erorr: unknown field 'erorr': did you mean 'error'?"),
    ('"cifar10"', '"CIFAR-10"', "dataset: unknown data set 'CIFAR-10': did you mean 'cifar10'?"),
    ('kind = "target"', 'kind = "goal"', "kind: is 'goal', expected 'target' or 'context'"),
    (
        'kind = "target"',
        'protocol = "none"',
        "protocol: is 'none', expected a table, such as { augmentation = \"none\" }",
    ),
    ('kind = "target"', 'protocol = { runs = "10" }', "protocol.runs: is '10', expected a whole number without quotes"),
    ('kind = "target"', "protocol = { view = 10 }", "protocol.view: unknown field 'view': did you mean 'views'?"),
    ('model = "nin"', 'model = "NiN"', "model: is 'NiN', expected lower-case letters, digits, _ and -"),
]
HEAD = [
    ('["B, C"]', '"B, C"', "authors: is 'B, C', expected a list in brackets, such as ['B, C']"),
    ("year = 2015", 'year = "2015"', "year: is '2015', expected a year such as 2013, without quotes, or \"unknown\""),
    ("year = 2015", "yaer = 2015", "yaer: unknown field 'yaer': did you mean 'year'?"),
    (
        '"https://example.org"',
        '"example.org"',
        "url: is 'example.org', expected an address that begins with http:// or https://",
    ),
    ('read = "E"', 'read = ""', "read: is empty"),
]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [(old, new, f"reported 1 ('F'): {problem}") for old, new, problem in WRONG] + HEAD,
)
def test_a_mistake_is_one_line_with_what_was_expected(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert GOOD.count(old) == 1
    write(tmp_path, "one", GOOD.replace(old, new))
    with pytest.raises(PaperError) as caught:
        load_papers(tmp_path)
    assert str(caught.value).splitlines() == [f"{tmp_path / 'one.toml'}: {problem}"]


def test_an_error_equal_to_a_constant_answers_is_accepted(tmp_path: Path) -> None:
    write(tmp_path, "one", GOOD.replace("9.50", "90"))
    assert load_papers(tmp_path)["one"].reported[0].error == 90
    write(tmp_path, "one", GOOD.replace("9.50", "98.4").replace("cifar10", "cifar100"))
    assert load_papers(tmp_path)["one"].reported[0].error == 98.4
