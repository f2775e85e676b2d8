"""A python that has imported everything, and forks a process for each command: what a test needs to kill hundreds.

Importing torch takes seconds, a fork none. From the fork on everything is real: the command, its files, locks, signals
and its end. One may also let a command kill itself at its n-th file operation below the root, as the interpreter itself
reports them (sys.addaudithook), so that a test can be sure that every place was hit.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# Whatever changes a folder or holds a file, by CPython's table of audit events; opening for reading alone is left out.
EVENTS = {
    "open",
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "os.link",
    "shutil.move",
    "fcntl.flock",
}


class Forks:
    """Starts commands as forks of one warm interpreter; for one thread at a time."""

    def __init__(self, log: Path) -> None:
        with log.open("ab") as target:
            self._server = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=target, text=True
            )
        assert self._ask({"ready": True}) is True, f"the warm interpreter didn't start: {log}"

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(self, *words: str, output: Path, kill_at: int = 0, trace: Path | None = None, **limits: Any) -> int:
        """A process of its own session that runs `runner ...` or `worker ...`; returns its id.

        With the environment as it is now. `kill_at=n`: it kills itself just before its n-th file operation; `trace`: it
        notes them there. `limits`: `checkpoint_seconds` instead of the half minute between two checkpoints, `memory`
        in bytes beyond what the warm interpreter has.
        """
        request = {"words": words, "env": dict(os.environ), "output": str(output), "kill_at": kill_at, **limits}
        return self._ask(request | {"trace": str(trace) if trace else None})

    def wait(self, pid: int) -> int:
        """How it ended: its exit code, or minus the signal's number. Waits for it."""
        return self._ask({"wait": pid})

    def ended(self, pid: int) -> int | None:
        """The same without waiting: None while it runs."""
        return self._ask({"poll": pid})

    def run(self, *words: str, output: Path, **limits: Any) -> int:
        """Start and wait."""
        return self.wait(self.start(*words, output=output, **limits))

    def run_in(self, root: Path, commands: Iterable[Sequence[str]], **environment: str) -> Path:
        """Run commands of the runner, each to a good end, in a root with data of its own; gives the root."""
        import pytest

        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"REPROZOO_ROOT": str(root), "REPROZOO_DATA": str(root / "data"), **environment}.items():
                patch.setenv(name, value)
            for words in commands:
                assert self.run("runner", *words, output=root / "said.txt") == 0, (root / "said.txt").read_text()
        return root

    def close(self) -> None:
        """No more forks."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)
        assert self._server.stdout is not None
        self._server.stdout.close()


def serve() -> None:
    """The warm interpreter: a line of JSON in, a line out."""
    import sklearn.datasets  # noqa: F401
    import torch._dynamo  # else imported by the first step of the first optimiser: seconds
    from mlflow.tracking import MlflowClient  # noqa: F401

    import runner.cli
    import runner.submit.run
    import runner.training.loop
    import runner.worker.__main__  # noqa: F401
    from zoo import load_models

    load_models()
    torch.set_num_threads(1)
    known: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "words" in request:
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                _be(request)
            answer: Any = pid
        elif "wait" in request or "poll" in request:
            pid = request.get("wait") or request["poll"]
            if pid not in known:
                found, status = os.waitpid(pid, 0 if "wait" in request else os.WNOHANG)
                if found:
                    known[pid] = os.waitstatus_to_exitcode(status)
            answer = known.get(pid)
        else:
            answer = True
        print(json.dumps(answer), flush=True)


def _be(request: dict[str, Any]) -> None:
    """Become the command, and end with it."""
    code = 70
    try:
        os.setsid()
        target = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, source in ((0, nothing), (1, target), (2, target)):
            os.dup2(source, descriptor)
        os.closerange(3, 64)
        os.environ.clear()
        os.environ.update(request["env"])
        if "checkpoint_seconds" in request:
            import runner.training.loop

            runner.training.loop.CHECKPOINT_SECONDS = request["checkpoint_seconds"]
        if "memory" in request:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (used + request["memory"],) * 2)
        program, *words = request["words"]
        if program == "worker":  # its words are the folders of its jobs
            from runner.worker.options import Bundle, RunOptions

            bundle = Path(request["output"]).with_name(f"bundle-{os.getpid()}.json")
            Bundle(options=RunOptions(), folders=tuple(map(Path, words))).write(bundle)
            words = [str(bundle)]
        _watch(os.environ["REPROZOO_ROOT"], request["kill_at"], request["trace"])
        if program == "worker":
            import runner.worker.__main__

            code = runner.worker.__main__.main(words)
        else:
            import runner.cli

            sys.argv = [program, *words]
            runner.cli.main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch(root: str, kill_at: int, trace: str | None) -> None:
    """Count this process's file operations below the root; kill it before the n-th."""
    if not kill_at and trace is None:
        return
    note = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if trace else None
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in EVENTS:
            return
        what = arguments[0]
        if event == "fcntl.flock":
            what = root
        elif event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        if not isinstance(what, (str, os.PathLike)) or not str(what).startswith(root):
            return
        count += 1
        if note is not None:
            last = str(arguments[1]) if event == "os.rename" else str(what)
            os.write(note, f"{count} {event} {last.removeprefix(root)}\n".encode())
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    serve()
