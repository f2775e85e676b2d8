"""What `runner models NAME` begins with."""

from pathlib import Path

from helpers import copy_cards, make_record, make_seeds, publish_records

from benchmarks.leaderboard import make_board, read
from runner.reporting.header import header


def lines_of(results: Path, name: str, dataset: str = "cifar10") -> list[str]:
    evidence = read(results)
    card = evidence.cards[name].model_dump()
    return header(name, dataset, card, make_board(evidence, models={name}), evidence.runs, evidence.papers)


def test_source_figure_cost_and_command_come_first(tmp_path: Path) -> None:
    results = tmp_path / "results"
    cards = copy_cards(results)
    lines = lines_of(results, "nin_dropout")
    assert lines[0] == "Source: Network In Network (2013), https://arxiv.org/abs/1312.4400"
    assert lines[1] == "Reported: 10.41 % (Table 1)"
    assert lines[2].startswith("Cost: 222,")
    assert "no whole run is recorded yet" in lines[2]
    assert lines[-1] == "Run it: runner submit --suite cifar10 --model nin_dropout"

    own = cards["nin_dropout"].datasets["cifar10"]
    publish_records(results, *make_seeds([10.3, 10.5, 10.6], recipe=own.recipe, revision=own.revision))
    lines = lines_of(results, "nin_dropout")
    assert lines[2] == "Measured: 10.47 ± 0.38 % (3 of 3 seeds trained): … more seeds"
    assert "10.0 min per run on NVIDIA H200 (reference, 3 runs)" in lines[3]


def test_caveats_are_named_and_a_diverged_run_is_no_cost(tmp_path: Path) -> None:
    results = tmp_path / "results"
    own = copy_cards(results)["nin_dropout"].datasets["cifar10"]
    facts = {"recipe": own.recipe, "revision": own.revision, "profile": "fast", "verified": False}
    [whole] = make_seeds([10.3], **facts)
    early = [make_record(seed=seed, outcome="diverged", train_seconds=60.0, **facts) for seed in (1, 2, 3)]
    publish_records(results, whole, *early)
    lines = lines_of(results, "nin_dropout")
    assert "(1 of 4 seeds trained, unverified data, profile fast)" in lines[2]
    assert "10.0 min per run on NVIDIA H200 (fast, 1 run)" in lines[3]


def test_a_model_without_a_figure_says_so(tmp_path: Path) -> None:
    copy_cards(tmp_path / "results")
    assert "Reported: no error that this model is judged by" in lines_of(tmp_path / "results", "lenet", "digits")
