"""Fixtures that every test gets or may ask for."""

import functools
import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Forks
from hypothesis import settings

# The same examples each time: a commit passes or it doesn't. `--hypothesis-profile default` searches on at random.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

# Before torch and numpy are loaded: the threads of two test processes on two cores would mostly wait for one another.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"))

# Read before `own_root` takes it away.
REAL_DATA = os.environ.get("REPROZOO_DATA")
VISIBLE_GPUS = os.environ.get("CUDA_VISIBLE_DEVICES")

# Variables of the user's shell that would change what the code does.
OUTER = (
    "REPROZOO_ENGINES",
    "REPROZOO_COMMIT",
    "REPROZOO_GRAPHS",
    "REPROZOO_COMPILE",
    "REPROZOO_THREADS",
    "REPROZOO_SUBMITTED_BY",
    "SLURM_CPUS_ON_NODE",
    "MLFLOW_TRACKING_URI",
)

HEAVY = {"slow", "realdata", "slurm", "browser", "gpu"}
HEAVY_SECONDS = 1800  # a test that hangs ends by then; a machine that others use, too, isn't taken for one


# Python's own 700 objects let the collector look through torch, MLflow and streamlit again and again: a tenth of the time.
gc.set_threshold(10_000, 20, 100)


def pytest_configure() -> None:
    """A shell that started us with `&` had Ctrl-C ignored, and every child would inherit that: their tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give heavy tests more time than pyproject.toml's `timeout`, and leave out GPU tests unless `-m` names them."""
    for item in items:
        if not item.get_closest_marker("timeout") and any(item.get_closest_marker(name) for name in HEAVY):
            item.add_marker(pytest.mark.timeout(HEAVY_SECONDS))
    if "gpu" not in config.getoption("markexpr"):  # `-m slow` selects tests that are slow and need a GPU, too
        gpu = [item for item in items if item.get_closest_marker("gpu")]
        config.hook.pytest_deselected(items=gpu)
        items[:] = [item for item in items if item not in gpu]


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder of this checkout: to read its sources and published results, never to write."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """For every test: an empty root (.runs, results), an empty data folder, no MLflow server, one thread, no GPU.

    So that no test writes into the checkout or into the user's home, nor depends on what was run there. Children that
    a test starts inherit it.
    """
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setenv("REPROZOO_ROOT", str(root))
    monkeypatch.setenv("REPROZOO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("REPROZOO_LOCKS", str(tmp_path / "locks"))
    for name in OUTER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if request.node.get_closest_marker("gpu"):
        if VISIBLE_GPUS is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", VISIBLE_GPUS)
    for name in THREADS:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in [name for name in os.environ if name.startswith("GIT_")]:  # of a hook in which the tests run
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return root


@pytest.fixture(autouse=True)
def _the_same_draws() -> Iterator[None]:
    """Torch draws the same in each run and in each order of the tests, and what a test switched does not reach the next."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        yield
        return
    torch.manual_seed(0)
    before = (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads())
    yield
    if (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()) != before:
        torch.use_deterministic_algorithms(before[0])
        torch.set_num_threads(before[1])


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """A process that has loaded everything, of which runners and workers are forked: starting one costs next to nothing."""
    made = Forks(tmp_path_factory.mktemp("forks") / "server.txt")
    yield made
    made.close()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store of MLflow, created and migrated once by all processes of a test run: that takes seconds."""
    from runner.locks import locked_within
    from runner.tracking.store import mlflow_client
    from runner.tracking.tracker import Tracker

    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # the parent is all workers'
    path = folder / "migrated" / "mlflow.db"
    path.parent.mkdir(exist_ok=True)
    with locked_within(folder / "migrated" / "lock", 200):
        if not path.exists():
            Tracker(f"sqlite:///{path}")._open(mlflow_client())
    return path


@pytest.fixture
def own_store(migrated: Path, own_root: Path) -> Path:
    """An empty store for the test's own root, so that a submit doesn't have to create it."""
    path = own_root / ".runs" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(migrated, path)
    return path


@pytest.fixture
def realdata(own_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the real data sets, for tests marked `realdata`; skips where REPROZOO_DATA names none."""
    if not REAL_DATA:
        pytest.skip("REPROZOO_DATA doesn't name the folder of the real data sets")
    folder = Path(REAL_DATA).expanduser().resolve()
    if not folder.is_dir():
        pytest.skip(f"REPROZOO_DATA names {folder}, which isn't there")
    monkeypatch.setenv("REPROZOO_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def commands() -> Callable[..., object]:
    """Typer's own function that makes commands of functions, which a process of a user calls once: once a session."""
    import typer.main

    return functools.cache(typer.main.get_command)


@pytest.fixture
def runner(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], commands: Callable[..., object]
) -> Callable[..., tuple[int, str, str]]:
    """Call a command in this process (its workers are real children): (exit code, stdout, stderr)."""
    from runner import cli

    monkeypatch.setattr("typer.main.get_command", commands)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["runner", *words])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capfd.readouterr()
        return exit_.value.code, out, err

    return call


GPU_LINES = pytest.StashKey[list[str]]()


@pytest.fixture
def gpu_report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Note a line of what a GPU was seen to do; all of them end the run."""
    return request.config.stash.setdefault(GPU_LINES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what there is to report of this machine's GPU."""
    lines = config.stash.get(GPU_LINES, [])
    if lines:
        terminalreporter.section("to report of this GPU")
        for line in lines:
            terminalreporter.write_line(line)
