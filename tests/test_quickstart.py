"""What `make quickstart` says: the visitor's own runs beside the published seeds, and one line where there is no network."""

import pytest
from helpers import copy_cards, make_seeds, publish_records, run_locally
from rich.console import Console

from benchmarks.datasets import get_dataset
from runner import quickstart
from runner.submit.preview import Settings
from runner.worker.options import RunOptions


@pytest.fixture
def own_root(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROZOO_ROOT", str(tmp_path))
    return tmp_path


def facts_of_caffe_lenet(results):
    """What its records have in common; its card is copied into the results folder."""
    facts = copy_cards(results)["caffe_lenet"].datasets["mnist"]
    own = {"model": "caffe_lenet", "dataset": "mnist", "recipe": facts.recipe, "revision": facts.revision}
    return own | {"training_images": 60_000, "parameters": facts.parameters}


def test_own_runs_are_shown_next_to_published_ones_and_the_figure(own_root):
    own = facts_of_caffe_lenet(own_root / "results")
    publish_records(own_root / "results", *make_seeds([0.93, 0.93, 0.90, 0.92, 0.85], **own))
    [mine] = make_seeds([1.00], **own, run="f" * 32, weights_sha256="e" * 64)
    run_locally(own_root / ".runs", mine)
    publish_records(own_root / "results", *make_seeds([1.93, 1.93, 1.90, 1.92, 1.85], **own, profile="fast"))
    [other] = make_seeds([2.00], **own, run="d" * 32, weights_sha256="c" * 64, profile="fast")
    run_locally(own_root / ".runs", other)  # runs of another profile are not mixed in
    [line] = quickstart.result_lines([mine.job])
    assert line.startswith("mnist/caffe_lenet: yours 1.00 of 1 seed, published 0.91 ± 0.04 of 5 seeds, printed 1.03: ")
    [line] = quickstart.result_lines([other.job])
    assert line.startswith("mnist/caffe_lenet (profile fast): yours 2.00 of 1 seed, published 1.91 ")


def test_seeds_that_did_not_train_are_no_part_of_a_mean(own_root):
    own = facts_of_caffe_lenet(own_root / "results")
    *trained, collapsed = make_seeds([0.90, 0.92, 0.91, 0.93, 88.65], **own)
    publish_records(own_root / "results", *trained, collapsed.model_copy(update={"outcome": "collapsed"}))
    [mine] = make_seeds([88.65], **own, run="f" * 32, weights_sha256="e" * 64, outcome="collapsed")
    run_locally(own_root / ".runs", mine)
    [line] = quickstart.result_lines([mine.job])
    assert "yours nothing: 1 seed did not train, published 0.92 ± 0.02 of 4 seeds, 1 did not train" in line


def test_models_that_have_not_run_are_not_mentioned(own_root):
    copy_cards(own_root / "results")
    [job] = [record.job for record in make_seeds([1.0], model="caffe_lenet", dataset="mnist")]
    assert quickstart.result_lines([job]) == []


def test_without_a_network_one_line_says_what_is_left_out(own_root, monkeypatch, capsys):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    settings = Settings(RunOptions(data_dir=own_root / "data"))
    assert not quickstart._fetch_mnist(settings, Console(width=400))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in lines] == ["Downloading", "MNIST"]
    assert "only the digits are trained" in lines[1]
    assert get_dataset("mnist").files
