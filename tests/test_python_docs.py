"""docs/python.md: its frames are run, and every name that it imports is there."""

import ast
import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import make_seeds, publish_records


def blocks(checkout: Path) -> list[str]:
    text = (checkout / "docs" / "python.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def test_the_frames_of_the_page_are_what_it_says(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_records(tmp_path / "results", *make_seeds([10.3, 10.5, 10.6, 10.55, 10.65]))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(blocks(checkout)[0], "docs/python.md", "exec"), names)
    assert (names["view"]["runs"] > 0).sum() == 1
    text = (checkout / "docs" / "python.md").read_text(encoding="utf-8")
    calls = re.findall(r"^\| `(make_\w+\(.*?\))` \|", text, flags=re.MULTILINE)
    assert len(calls) == 5
    frames = [
        eval(call.replace(", datasets=None, models=None", ""), names) for call in calls if "equivalences" not in call
    ]
    assert [len(frame) for frame in frames if "label" in frame and "where" in frame][-1] == 8  # NiN's Table 1


def test_every_name_that_the_page_imports_is_there(checkout: Path) -> None:
    for block in blocks(checkout):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_a_finished_job_s_weights_give_the_error_of_its_record(
    checkout: Path, own_root: Path, own_store: Path, runner: Callable[..., tuple[int, str, str]]
) -> None:
    """On the digits in place of MNIST, with all test images in place of the first thousand."""
    submit = "submit --suite quickstart --model lenet --epochs 1 --seed 0 --engine inline"
    status, _, err = runner(*submit.split())
    assert status == 0, err
    (job,) = (own_root / ".runs" / "digits" / "lenet").iterdir()
    names: dict = {"Path": Path}
    for block in blocks(checkout)[1:]:
        code = block.replace('"mnist"', '"digits"').replace("[:1000]", "")
        code = re.sub(r'Path\("\.runs/mnist/.*?"\)', f"Path({str(job)!r})", code)
        exec(compile(code, "docs/python.md", "exec"), names)
    assert names["wrong"] == pytest.approx(names["record"].test_error)
