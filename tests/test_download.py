"""Downloads, from mirrors on loopback."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datafiles
import pytest
from test_data import another_batch, entries, load, quiet, the_line

from benchmarks.datasets import DIGITS
from runner import download


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    """Nothing is written into the real home."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


class Server:
    """A mirror on loopback: path -> (status, bytes, announced length); counts what was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, bytes, int | None]] = {}
        self.asked: list[str] = []
        self.url = ""

    def offer(self, prefix: str, files: dict[str, bytes]) -> str:
        self.pages |= {f"/{prefix}/{Path(path).name}": (200, content, None) for path, content in files.items()}
        return f"{self.url}/{prefix}/"


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append(self.path)
            status, content, length = server.pages.get(self.path, (404, b"not here", None))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) if length is None else length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def official(tmp_path):
    """A small data set, and the files that its mirrors should offer."""
    dataset = datafiles.tiny_cifar(tmp_path / "official", packed=True)
    path = dataset.files[0].path
    return dataset, {path: (tmp_path / "official" / path).read_bytes()}


def test_prepare_goes_from_mirror_to_mirror_until_one_has_it(tmp_path, server, official):
    dataset, files = official
    (content,) = files.values()
    name = dataset.files[0].name
    wrong = bytes(len(content))
    server.pages |= {
        f"/busy/{name}": (503, b"later", None),
        f"/short/{name}": (200, content[:1000], len(content)),
        f"/page/{name}": (200, b"<html>hello</html>", None),
        f"/wrong/{name}": (200, wrong, None),
    }
    mirrors = [f"{server.url}/{prefix}/" for prefix in ("none", "busy", "short", "page", "wrong")]
    dataset = datafiles.with_mirrors(dataset, "http://127.0.0.1:1/", *mirrors, server.offer("good", files), "http://x/")
    lines: list[str] = []
    download.prepare([dataset], tmp_path / "data", log=lines.append)
    said = "\n".join(lines)
    for reason in ("refused", "404", "503", "broke off after 1,000", "offers 18 bytes", datafiles.md5(wrong)):
        assert reason in said
    assert lines[-1] == f"tiny: ready in {tmp_path / 'data'} (verified)"
    assert [path.name for path in (tmp_path / "data").iterdir() if path.is_file()] == [name]
    assert load(dataset, tmp_path / "data").facts.verified
    asked = len(server.asked)
    download.prepare([dataset], tmp_path / "data", log=quiet)
    assert len(server.asked) == asked


def test_prepare_says_what_to_put_where_when_no_mirror_has_it(tmp_path, server, official):
    dataset, _ = official
    dataset = datafiles.with_mirrors(dataset, f"{server.url}/", "http://127.0.0.1:1/")
    line = the_line(download.prepare, [dataset], tmp_path / "data", False, quiet)
    for part in ("404", "refused", str(tmp_path / "data" / dataset.files[0].path), dataset.files[0].md5, "--data-dir"):
        assert part in line
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_prepare_replaces_nothing_that_is_not_official(tmp_path, server, official):
    dataset, files = official
    dataset = datafiles.with_mirrors(dataset, server.offer("good", files))
    folder = tmp_path / "data"
    folder.mkdir()
    archive = folder / dataset.files[0].path
    archive.write_bytes(b"half an archive")
    download.prepare([dataset], folder, log=quiet)
    assert archive.with_name(f"{archive.name}.unofficial").read_bytes() == b"half an archive"
    assert load(dataset, folder).facts.verified


def test_prepare_takes_unofficial_files_on_request(tmp_path, server):
    dataset = datafiles.with_mirrors(datafiles.tiny_cifar(tmp_path), f"{server.url}/")
    another_batch(tmp_path)
    lines: list[str] = []
    download.prepare([dataset], tmp_path, allow_unverified=True, log=lines.append)
    assert not server.asked
    assert "Not the official files: data_batch_2" in lines[-1]
    assert "could not be downloaded" in the_line(download.prepare, [dataset], tmp_path, False, quiet)


def test_prepare_needs_no_network_for_what_is_there(tmp_path):
    dataset = datafiles.with_mirrors(datafiles.tiny_mnist(tmp_path), "http://127.0.0.1:1/")
    download.prepare([dataset, "digits"], tmp_path, log=quiet)
    assert len(entries(tmp_path, dataset)) == len(entries(tmp_path, DIGITS)) == 1
