"""Downloads from real HTTP servers on loopback that do whatever servers do.

`python tests/test_download.py` prints the table of faults and outcomes: each row is what a run of today shows.
"""

import dataclasses
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import datafiles
import pytest
from helpers import wait_for
from test_data import another_batch, entries, quiet, the_line

from benchmarks.datasets import DIGITS, MNIST, Dataset
from benchmarks.errors import UserError
from runner.data import download
from runner.data.transfer import TooSlow

# So that the tests are quick, and so patient otherwise that a busy machine is no fault.
HASTE = download.MirrorLimits(
    timeout=30.0, min_rate=0.0, rate_window=0.2, max_vain_tries=3, min_new_bytes=10_000, first_pause=0.01, max_pause=0.5
)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    """Nothing is written into the real home; no proxy of the real user counts."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# --- the server ------------------------------------------------------------------------------------------------------

Behaviour = Callable[["Handler", bytes, int], None]  # (request, the right file, how manieth request here) -> answers it


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the behaviour that is hung up under the first part of the path."""

    server: Any

    def do_GET(self) -> None:
        mirror: Mirror = self.server.mirror
        place, _, name = self.path.lstrip("/").partition("/")
        mirror.asked.append((self.path, dict(self.headers)))
        number = sum(path == self.path for path, _ in mirror.asked)
        with suppress(OSError):  # the client has gone
            mirror.places.get(place, answering(404))(self, mirror.files.get(name, b""), number)
        self.close_connection = True

    def head(self, status: int, **headers: Any) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def start(self) -> int:
        """The first byte that was asked for."""
        return int(self.headers.get("Range", "bytes=0-")[6:-1])

    def log_message(self, *arguments: Any) -> None:
        pass


class Mirror:
    """Files by name, behaviours by the first part of the path; remembers what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.places: dict[str, Behaviour] = {"good": good}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    def paths(self, place: str) -> list[str]:
        return [path for path, _ in self.asked if path.startswith(f"/{place}/")]

    def ranges(self, place: str) -> list[str | None]:
        return [headers.get("Range") for path, headers in self.asked if path.startswith(f"/{place}/")]


@contextmanager
def serving() -> Iterator[Mirror]:
    mirror = Mirror()
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.mirror = mirror  # type: ignore[attr-defined]
    mirror.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield mirror
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


@pytest.fixture
def mirror():
    with serving() as mirror:
        yield mirror


def send(
    request: Handler,
    content: bytes,
    *,
    upto: int | None = None,
    rate: float | None = None,
    ranges: bool = True,
    etag: str = '"one"',
    length: int | None = None,
    then_silent: bool = False,
) -> None:
    """As a good server does; or up to a byte only, at so many bytes/s, without ranges, and then silent."""
    start = request.start() if ranges and request.headers.get("If-Range", etag) == etag else 0
    body = content[start:upto]
    headers = {"Content_Length": len(content) - start if length is None else length, "ETag": etag}
    if start:
        request.head(206, Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}", **headers)
    else:
        request.head(200, **headers)
    if rate is None:
        request.wfile.write(body)
    else:
        step = max(1, int(rate * 0.02))
        for i in range(0, len(body), step):
            request.wfile.write(body[i : i + step])
            time.sleep(0.02)
    if then_silent:
        silent(request, content, 0)


def silent(request: Handler, content: bytes, number: int) -> None:
    """Says nothing until the client has left."""
    request.connection.settimeout(120)
    request.connection.recv(1)


def good(request: Handler, content: bytes, number: int) -> None:
    send(request, content)


def answering(status: int, **headers: Any) -> Behaviour:
    return lambda request, content, number: request.head(status, Content_Length=0, **headers)


def cutting(step: int, **how: Any) -> Behaviour:
    """Every connection breaks after so many more bytes."""
    return lambda request, content, number: send(
        request, content, upto=(request.start() if how.get("ranges", True) else 0) + step, **how
    )


def first(behaviour: Behaviour, then: Behaviour = good, times: int = 1) -> Behaviour:
    """Another behaviour for the first request or so."""
    return lambda request, content, number: (behaviour if number <= times else then)(request, content, number)


def changing(request: Handler, content: bytes, number: int) -> None:
    """The first half of one file, then another file: the right one, under another ETag."""
    wrong = bytes(len(content))
    if number == 1:
        send(request, wrong, upto=len(content) // 2, etag='"old"')
    else:
        send(request, content, etag='"new"')


def lying(request: Handler, content: bytes, number: int) -> None:
    """Takes every range for one of the right file, but its first half was another one's."""
    send(request, bytes(len(content)) if number == 1 else content, upto=len(content) // 2 if number == 1 else None)


def wrong_range(request: Handler, content: bytes, number: int) -> None:
    """Breaks off, then answers with another range than was asked for."""
    if number == 1:
        send(request, content, upto=20_000)
    elif request.start():
        part = content[10_000:]
        length = len(content)
        request.head(206, Content_Length=len(part), Content_Range=f"bytes 10000-{length - 1}/{length}")
        request.wfile.write(part)
    else:
        send(request, content)


def without_length(extra: bytes) -> Behaviour:
    """As HTTP/1.0 does: the file ends when the connection does."""

    def answer(request: Handler, content: bytes, number: int) -> None:
        request.head(200)
        request.wfile.write(content + extra)

    return answer


def chunked(request: Handler, content: bytes, number: int) -> None:
    """In chunks; the first time the connection breaks before the last one."""
    request.protocol_version = "HTTP/1.1"
    start = request.start()
    if start:
        request.head(206, Transfer_Encoding="chunked", Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        request.head(200, Transfer_Encoding="chunked")
    body = content[start:] if number > 1 else content[:20_000]
    request.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n" + b"0\r\n\r\n" * (number > 1))


def to(place: str) -> Behaviour:
    return lambda request, content, number: request.head(
        302, Location=f"/{place}/{request.path.rpartition('/')[2]}", Content_Length=0
    )


def gibberish(request: Handler, content: bytes, number: int) -> None:
    request.wfile.write(b"\0\1\2 this is no HTTP\r\n\r\n")


@dataclasses.dataclass(frozen=True)
class Fault:
    """What a first mirror does, what becomes of it, and how often it is asked. A second one is always good."""

    what: str
    behaviour: Behaviour
    left: str | None  # the reason for which it is left; None: the file comes from it
    outcome: str  # in words, for the table
    asked: int = 1
    size: bool = True  # whether the file's size is known beforehand
    timeout: float = HASTE.timeout
    min_rate: float = 0.0


PAGE = b"<html>log in to the network first</html>"
FAULTS = [
    Fault("nothing wrong", good, None, "taken"),
    Fault("404", answering(404), "answers 404", "next mirror at once"),
    Fault("403", answering(403), "answers 403", "next mirror at once"),
    Fault("503 once", first(answering(503)), None, "asked again after a pause", 2),
    Fault("503 always", answering(503), "answers 503", "asked 3 times, next mirror", 3),
    Fault("429, Retry-After: 0", first(answering(429, Retry_After=0)), None, "asked again when it says", 2),
    Fault("503, Retry-After: an hour", answering(503, Retry_After=3600), "asks to wait 3,600 s", "next mirror at once"),
    Fault("redirects", to("good"), None, "followed"),
    Fault("redirects in a circle", to("bad"), "infinite loop", "next mirror", 5),
    Fault(
        "redirects to ftp", answering(302, Location="ftp://127.0.0.1/x"), "unknown url type: ftp", "next mirror at once"
    ),
    Fault("no HTTP", gibberish, "does not answer in HTTP", "next mirror at once"),
    Fault("hangs up", lambda *_: None, "closed connection without response", "next mirror at once"),
    Fault("never answers", silent, "no answer", "next mirror after the silence", timeout=1.0),
    Fault("breaks off once", first(cutting(20_000)), None, "continues from there", 2),
    Fault("breaks off every 20 kB", cutting(20_000), None, "continues each time", 3),
    Fault(
        "breaks off every 2 kB",
        cutting(2_000),
        "connection lost after 6,000 of",
        "3 times in vain, next mirror continues from there",
        3,
    ),
    Fault(
        "breaks off, ignores ranges",
        cutting(20_000, ranges=False),
        "connection lost after 20,000 of",
        "starts again; gets no further; next mirror continues",
        4,
    ),
    Fault(
        "breaks off once, ignores ranges",
        first(cutting(20_000, ranges=False), lambda r, c, n: send(r, c, ranges=False)),
        None,
        "starts again",
        2,
    ),
    Fault(
        "falls silent once",
        first(cutting(20_000, then_silent=True)),
        None,
        "continues after the silence",
        2,
        timeout=1.0,
    ),
    Fault(
        "falls silent, then answers nothing",
        first(cutting(20_000, then_silent=True), lambda *_: None),
        "closed connection without response",
        "3 times in vain, next mirror continues from there",
        4,
        timeout=1.0,
    ),
    Fault(
        "crawls",
        lambda r, c, n: send(r, c, rate=5_000),
        "only ",
        "left after the window, next mirror continues from there",
        min_rate=20_000,
    ),
    Fault("another file by its length", lambda r, c, n: send(r, PAGE), "offers 40 bytes", "next mirror at once"),
    Fault("wrong bytes", lambda r, c, n: send(r, bytes(len(c))), "sent a file with md5", "dropped, next mirror"),
    Fault("a file that changes meanwhile (ETag)", changing, None, "If-Range: the new one, from its first byte", 2),
    Fault("halves of two files, same ETag", lying, None, "md5 is wrong: once more, from its first byte", 3),
    Fault("another range than asked for", wrong_range, None, "starts again without ranges", 3),
    Fault("no length", without_length(b""), None, "taken"),
    Fault("no length, sends too much", without_length(bytes(10)), "sends more than", "dropped, next mirror"),
    Fault(
        "a shorter length than it sends",
        lambda r, c, n: send(r, c, length=len(c) - 1),
        "expected",
        "next mirror at once",
    ),
    Fault(
        "a longer length than it sends", lambda r, c, n: send(r, c, length=len(c) + 9), "offers", "next mirror at once"
    ),
    Fault("chunks, the last ones missing once", chunked, None, "continues from there", 2),
    Fault("size unknown: nothing wrong", good, None, "taken", 1, False),
    Fault(
        "size unknown: wrong bytes",
        lambda r, c, n: send(r, PAGE),
        "sent a file with md5",
        "dropped, next mirror",
        1,
        False,
    ),
    Fault("size unknown: breaks off", first(cutting(20_000)), None, "continues from there", 2, False),
    Fault(
        "size unknown: cut, no length",
        lambda r, c, n: without_length(b"")(r, c[:9], n),
        "sent a file with md5",
        "dropped, next mirror",
        1,
        False,
    ),
]


# --- faults and outcomes ---------------------------------------------------------------------------------------------


@contextmanager
def offered(mirror: Mirror, *places: str) -> Iterator[tuple[Dataset, Path]]:
    """A small data set in one packed file, offered at these places, and an empty folder for it."""
    with tempfile.TemporaryDirectory() as scratch:
        dataset = datafiles.tiny_cifar(Path(scratch) / "official", packed=True, per_batch=200)
        file = dataset.files[0]
        mirror.files[file.name] = (Path(scratch) / "official" / file.path).read_bytes()
        yield datafiles.with_mirrors(dataset, *(f"{mirror.url}/{place}/" for place in places)), Path(scratch) / "data"


def without_size(dataset: Dataset) -> Dataset:
    return dataclasses.replace(dataset, files=(dataclasses.replace(dataset.files[0], size=None),))


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for the cache and the lock."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if ".reprozoo" not in path.parts[:-1]}


def run_fault(fault: Fault, mirror: Mirror) -> tuple[list[str], list[str | None], list[str | None]]:
    """What was said, and the ranges that the bad and the good mirror were asked for; the file is the right one."""
    mirror.places["bad"] = fault.behaviour
    with offered(mirror, "bad", "good") as (dataset, folder):
        dataset = dataset if fault.size else without_size(dataset)
        lines: list[str] = []
        limits = dataclasses.replace(HASTE, timeout=fault.timeout, min_rate=fault.min_rate)
        download.prepare([dataset], folder, log=lines.append, limits=limits)
        name = dataset.files[0].name
        assert files_in(folder) == {name: mirror.files[name]}
        assert lines[-1].endswith("(verified)")
    return lines, mirror.ranges("bad"), mirror.ranges("good")


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.what for fault in FAULTS])
def test_every_fault_ends_with_the_right_file(mirror, fault):
    lines, bad, good = run_fault(fault, mirror)
    left = [line for line in lines if "not from" in line]
    assert len(bad) == fault.asked
    if fault.left is None:
        assert not left
    else:
        assert len(left) == 1
        assert fault.left in left[0]
        kept = "continues" in fault.outcome
        assert len(good) == 1
        assert (good[0] is not None) == kept


def test_every_fault_alone_is_one_line_and_leaves_no_wrong_file(mirror):
    """The bad mirror is the only one: either the file comes from it, or the line says why not."""
    for fault in FAULTS:
        if fault.left is None or fault.what == "crawls":  # slow is better than nothing
            continue
        mirror.places["bad"], mirror.asked = fault.behaviour, []
        with offered(mirror, "bad") as (dataset, folder):
            dataset = dataset if fault.size else without_size(dataset)
            line = the_line(lambda d, f, s: prepare(d, f, timeout=s), dataset, folder, fault.timeout)
            assert fault.left in line, fault.what
            assert dataset.files[0].md5 in line
            kept = set(files_in(folder))
            assert kept <= {f"{dataset.files[0].name}.part", f"{dataset.files[0].name}.part.json"}, fault.what


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(mirror):
    """A small data set at /bad/ and then /good/, an empty folder for it, and the official bytes."""
    with offered(mirror, "bad", "good") as (dataset, folder):
        yield dataset, folder, mirror.files[dataset.files[0].name]


def prepare(dataset: Dataset, folder: Path, **changes: Any) -> list[str]:
    """What is said while it is prepared."""
    lines: list[str] = []
    download.prepare([dataset], folder, log=lines.append, limits=dataclasses.replace(HASTE, **changes))
    return lines


def leave_part(
    dataset: Dataset, folder: Path, content: bytes, url: str | None = None, validator: str = '"one"'
) -> None:
    name = dataset.files[0].name
    datafiles.write(folder, {f"{name}.part": content})
    if url is not None:
        (folder / f"{name}.part.json").write_text(json.dumps({"url": url, "validator": validator, "bytes": 1}))


def test_a_broken_download_is_resumed_the_next_time(mirror, small):
    dataset, folder, content = small
    mirror.places |= {"bad": first(cutting(30_000), answering(404), 1), "good": answering(404)}
    line = the_line(prepare, dataset, folder)
    assert "continue after 30 kB" in line
    name = dataset.files[0].name
    assert files_in(folder)[f"{name}.part"] == content[:30_000]
    mirror.places["bad"], mirror.asked = good, []
    prepare(dataset, folder)
    assert mirror.ranges("bad") == ["bytes=30000-"]
    assert mirror.asked[0][1]["If-Range"] == '"one"'
    assert files_in(folder) == {name: content}


def test_where_nothing_can_be_reached_each_mirror_is_named_once_and_each_file_has_a_line(tmp_path):
    """Four files, two mirrors that refuse the connection."""
    mirrors = "http://127.0.0.1:1/a/", "http://127.0.0.1:1/b/"
    dataset, lines = datafiles.with_mirrors(MNIST, *mirrors), []
    with pytest.raises(UserError) as error:
        download.prepare([dataset], tmp_path, log=lines.append, limits=HASTE)
    left = [line for line in lines if " not from " in line]
    assert sorted(line.partition(" not from ")[2].partition(": ")[0] for line in left) == sorted(mirrors)
    missing = [line for line in lines if line.startswith("mnist: missing: ")]
    assert sorted(missing) == sorted(f"mnist: missing: {tmp_path / f.path} (md5 {f.md5})" for f in MNIST.files)
    text = str(error.value)
    assert [text.count(mirror) for mirror in mirrors] == [1, 1]
    assert text.startswith("mnist: 4 files could not be downloaded (")
    assert len(text) < 500


PARTS = {
    "of this file, from elsewhere": (lambda c: c[:9_000], "http://elsewhere/", ["bytes=9000-"]),
    "of this file, from nobody knows where": (lambda c: c[:9_000], None, ["bytes=9000-"]),
    "of another file, from here, another ETag": (lambda c: bytes(9_000), "", ["bytes=9000-"]),
    "of another file, from elsewhere": (lambda c: bytes(9_000), "http://elsewhere/", ["bytes=9000-", None]),
    "whole, but for its name": (lambda c: c, None, []),
    "whole, damaged": (lambda c: c[:-1] + b"?", None, [None]),
    "longer than the file": (lambda c: c + b"x", None, [None]),
    "empty": (lambda c: b"", None, [None]),
}


@pytest.mark.parametrize("what", PARTS)
def test_any_part_ends_in_the_right_file(mirror, small, what):
    dataset, folder, content = small
    make, url, ranges = PARTS[what]
    mirror.places["bad"] = good
    url = f"{mirror.url}/bad/{dataset.files[0].name}" if url == "" else url
    leave_part(dataset, folder, make(content), url, '"another"')
    prepare(dataset, folder)
    assert mirror.ranges("bad") == ranges
    assert files_in(folder) == {dataset.files[0].name: content}


def test_a_part_where_the_size_is_unknown(mirror, small):
    dataset, folder, content = small
    mirror.places["bad"] = lambda request, c, n: (
        answering(416)(request, c, n) if request.start() >= len(c) else send(request, c)
    )
    dataset = without_size(dataset)
    leave_part(dataset, folder, content + b"more")
    prepare(dataset, folder)
    assert mirror.ranges("bad") == [f"bytes={len(content) + 4}-", None]
    assert files_in(folder) == {dataset.files[0].name: content}


def test_a_note_that_is_torn_or_strange_does_no_harm(mirror, small):
    dataset, folder, content = small
    mirror.places["bad"] = good
    for note in (b"{", b"[]", b'{"url": 1}', bytes(9), b'{"url": null, "validator": {}}'):
        leave_part(dataset, folder, content[:500])
        (folder / f"{dataset.files[0].name}.part.json").write_bytes(note)
        prepare(dataset, folder)
        assert files_in(folder) == {dataset.files[0].name: content}
        (folder / dataset.files[0].name).unlink()


# --- slow ------------------------------------------------------------------------------------------------------------


def crawling(rate: float) -> Behaviour:
    return lambda request, content, number: send(request, content, rate=rate)


def test_of_slow_mirrors_the_fastest_is_taken_after_all(mirror, monkeypatch):
    """The rates are given, since those of real connections depend on how busy this machine is."""
    really, rates, asked = download.from_mirror, {"slow": 4_000.0, "good": 15_000.0, "less": 9_000.0}, []

    def from_mirror(url: str, transfer: download.Transfer, min_rate: float) -> None:
        place = url.split("/")[3]
        asked.append((place, min_rate))
        if min_rate:
            raise TooSlow(rates[place])
        really(url, transfer, min_rate)

    monkeypatch.setattr(download, "from_mirror", from_mirror)
    with offered(mirror, "slow", "good", "less") as (dataset, folder):
        lines = prepare(dataset, folder, min_rate=20_000)
    assert [line.split("/")[3] for line in lines if ": only " in line] == ["slow", "good", "less"]
    assert any("using the slow mirror" in line for line in lines)
    assert asked == [("slow", 20_000), ("good", 20_000), ("less", 20_000), ("good", 0.0)]


def test_a_mirror_without_another_may_be_slow(mirror):
    mirror.places["slow"] = crawling(100_000)
    with offered(mirror, "slow") as (dataset, folder):
        lines = prepare(dataset, folder, min_rate=1e9)
    assert not any("not from" in line for line in lines)
    assert len(mirror.asked) == 1


def test_several_files_are_downloaded_in_parallel(mirror, tmp_path):
    """All four are asked for before any is answered: one by one they would wait for ever."""
    dataset = datafiles.tiny_mnist(tmp_path / "official", packed=True)
    mirror.files = {file.name: (tmp_path / "official" / file.path).read_bytes() for file in dataset.files}
    together = threading.Barrier(len(dataset.files), timeout=120)

    def answer(request: Handler, content: bytes, number: int) -> None:
        together.wait()
        send(request, content)

    mirror.places["all"] = answer
    lines = prepare(datafiles.with_mirrors(dataset, f"{mirror.url}/all/"), tmp_path / "data")
    assert "ready" in lines[-1]
    assert set(files_in(tmp_path / "data")) == {file.path for file in dataset.files}


# --- failures --------------------------------------------------------------------------------------------------------


def test_missing_files_are_named_with_the_place_to_put_them(mirror, tmp_path):
    dataset = datafiles.tiny_cifar(tmp_path / "official", packed=True)
    dataset = datafiles.with_mirrors(dataset, f"{mirror.url}/none/", "http://127.0.0.1:1/", "no address/")
    line = the_line(prepare, dataset, tmp_path / "data")
    for part in (
        "answers 404",
        "connection refused",
        "unknown url type",
        str(tmp_path / "data" / dataset.files[0].path),
        dataset.files[0].md5,
        "runner data import",
    ):
        assert part in line
    assert not files_in(tmp_path / "data")
    line = the_line(prepare, datafiles.with_mirrors(dataset), tmp_path / "data")
    assert "no mirror is known" in line


def test_one_failed_data_set_keeps_no_other_from_being_ready(mirror, tmp_path):
    lost = dataclasses.replace(datafiles.tiny_cifar(tmp_path / "a", packed=True), name="lost")
    dataset = datafiles.tiny_mnist(tmp_path / "b", packed=True)
    mirror.files = {file.name: (tmp_path / "b" / file.path).read_bytes() for file in dataset.files}
    both = [datafiles.with_mirrors(lost, f"{mirror.url}/none/"), datafiles.with_mirrors(dataset, f"{mirror.url}/good/")]
    lines: list[str] = []
    line = the_line(lambda: download.prepare(both, tmp_path / "data", log=lines.append, limits=HASTE))
    assert line.startswith("lost: cifar-10-python.tar.gz could not be downloaded")
    assert [line.split(":")[0] for line in lines if ": ready in" in line] == ["tiny"]


def test_a_full_disk_is_reported_before_the_download(mirror, small, monkeypatch):
    dataset, folder, content = small
    arrays = 2 * 6 * 200 * 48
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(len(content) + arrays - 1))
    line = the_line(prepare, dataset, folder)
    for part in ("tiny (59.6 kB to download", "needs about 175 kB in", str(folder), "175 kB free", "--data-dir"):
        assert part in line
    assert not mirror.asked
    assert not files_in(folder)
    leave_part(dataset, folder, content[:1])
    mirror.places["bad"] = good
    prepare(dataset, folder)
    assert mirror.ranges("bad") == ["bytes=1-"]  # what is here already needs no room


def usage(free: int) -> Any:
    return shutil._ntuple_diskusage(10**9, 10**9 - free, free)  # type: ignore[attr-defined]


def test_a_disk_that_fails_in_between_is_no_mirrors_fault(mirror, small):
    """A folder lies where the part should: nothing can be written, and no second mirror is asked."""
    dataset, folder, _ = small
    mirror.places["bad"] = good
    (folder / f"{dataset.files[0].name}.part").mkdir(parents=True)
    line = the_line(prepare, dataset, folder)
    assert "is a directory" in line
    assert ".part" in line
    assert not mirror.ranges("good")


def test_prepare_replaces_nothing_that_is_not_official(mirror, small):
    dataset, folder, content = small
    mirror.places["bad"] = good
    name = dataset.files[0].name
    datafiles.write(folder, {name: b"half an archive"})
    prepare(dataset, folder)
    assert files_in(folder) == {name: content, f"{name}.unofficial": b"half an archive"}


def test_prepare_takes_unofficial_files_on_request(tmp_path, mirror):
    dataset = datafiles.with_mirrors(datafiles.tiny_cifar(tmp_path), f"{mirror.url}/none/")
    another_batch(tmp_path)
    lines: list[str] = []
    download.prepare([dataset], tmp_path, allow_unverified=True, log=lines.append)
    assert not mirror.asked
    assert "Not the official files: data_batch_2" in lines[-1]
    assert "could not be downloaded" in the_line(prepare, dataset, tmp_path)


def test_prepare_needs_no_network_for_what_is_there(tmp_path):
    dataset = datafiles.with_mirrors(datafiles.tiny_mnist(tmp_path), "http://127.0.0.1:1/")
    download.prepare([dataset, "digits"], tmp_path, log=quiet)
    assert len(entries(tmp_path, dataset)) == len(entries(tmp_path, DIGITS)) == 1
    assert not (tmp_path / ".reprozoo" / "download.lock").exists()


def test_a_proxy_of_the_environment_is_used(mirror, monkeypatch):
    monkeypatch.setenv("http_proxy", mirror.url)
    with offered(mirror, "good") as (dataset, folder):
        mirror.places["http:"] = lambda request, content, number: send(request, next(iter(mirror.files.values())))
        prepare(datafiles.with_mirrors(dataset, "http://mirror.invalid/good/"), folder)
    assert [path for path, _ in mirror.asked] == ["http://mirror.invalid/good/cifar-10-python.tar.gz"]


# --- processes -------------------------------------------------------------------------------------------------------

CHILD = """
import dataclasses, sys
from pathlib import Path
import datafiles, tempfile
from runner.data import download
folder, url, size = sys.argv[1:]
dataset = datafiles.tiny_cifar(Path(tempfile.mkdtemp()), packed=True, per_batch=200)
try:
    download.prepare([datafiles.with_mirrors(dataset, url)], Path(folder), log=lambda line: print(line, flush=True))
except KeyboardInterrupt:
    sys.exit(130)
"""


@contextmanager
def preparing(folder: Path, url: str, scratch: Path) -> Iterator[subprocess.Popen[str]]:
    paths = [str(Path(__file__).parent), str(Path(download.__file__).parent.parent.parent)]
    environment = os.environ | {"TMPDIR": str(scratch), "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), url, "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_download_keeps_its_part_and_resumes(mirror, small, sent, tmp_path):
    """The server sends 20 kB and falls silent: nobody waits for it to speak again."""
    dataset, folder, content = small
    release = threading.Event()

    def falling_silent(request: Handler, content: bytes, number: int) -> None:
        send(request, content, upto=20_000)
        release.wait(300)

    mirror.places["bad"] = first(falling_silent)
    part = folder / f"{dataset.files[0].name}.part"
    with preparing(folder, f"{mirror.url}/bad/", tmp_path) as child:
        wait_for(lambda: part.exists() and part.stat().st_size == 20_000)
        child.send_signal(sent)
        out, err = child.communicate(timeout=240)
        release.set()
    assert child.returncode == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in err
    assert ("the same command continues the download" in out) == (sent == signal.SIGINT)
    prepare(dataset, folder)
    assert mirror.ranges("bad") == [None, "bytes=20000-"]
    assert files_in(folder) == {dataset.files[0].name: content}


def test_two_concurrent_downloads_fetch_a_file_once(mirror, small, tmp_path):
    dataset, folder, content = small
    release = threading.Event()

    def held(request: Handler, content: bytes, number: int) -> None:
        release.wait(120)
        send(request, content)

    mirror.places["bad"] = held
    url = f"{mirror.url}/bad/"
    with preparing(folder, url, tmp_path) as one:
        wait_for(lambda: bool(mirror.asked))
        with preparing(folder, url, tmp_path) as two:
            assert two.stdout is not None
            assert "another process downloads into" in two.stdout.readline()
            release.set()
            assert "ready in" in two.communicate(timeout=120)[0]
        assert "ready in" in one.communicate(timeout=120)[0]
    assert len(mirror.asked) == 1
    assert files_in(folder) == {dataset.files[0].name: content}


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_without_a_terminal_lines_say_how_far_it_is(mirror, monkeypatch, tmp_path):
    monkeypatch.setattr(download, "PLAIN_SECONDS", 0.3)
    line_of, told = download._line, threading.Event()

    def line(task):
        text = line_of(task)
        if text.startswith("  together") and " s left" in text:
            told.set()
        return text

    def slowly(request: Handler, content: bytes, number: int) -> None:
        """Sends half, little by little, and the rest when a line has said how long it takes."""
        request.head(200, Content_Length=len(content), ETag='"one"')
        for i in range(0, len(content) // 2, 200):
            request.wfile.write(content[i : i + 200])
            told.wait(0.02)
        told.wait(120)
        request.wfile.write(content[-(-(len(content) // 2) // 200) * 200 :])

    monkeypatch.setattr(download, "_line", line)
    mirror.places["slow"] = slowly
    dataset = datafiles.tiny_mnist(tmp_path / "official", packed=True, train=1500)
    mirror.files = {file.name: (tmp_path / "official" / file.path).read_bytes() for file in dataset.files}
    lines = prepare(datafiles.with_mirrors(dataset, f"{mirror.url}/slow/"), tmp_path / "data")
    assert sum(line.startswith("tiny: downloading ") for line in lines) == 4
    far = [line for line in lines if line.startswith("  ")]
    assert any(line.startswith("  train-images-idx3-ubyte.gz: ") for line in far)
    for part in ("  together: ", " of 45", " kB/s", " s left"):
        assert any(part in line for line in far), part


TERMINAL = """
import pty, sys, os
code = pty.spawn([sys.executable, *sys.argv[1:]])
sys.exit(os.waitstatus_to_exitcode(code))
"""


def test_on_a_terminal_bars_say_how_far_it_is(mirror, small, tmp_path):
    dataset, folder, _ = small
    mirror.places["bad"] = crawling(40_000)
    paths = [str(Path(__file__).parent), str(Path(download.__file__).parent.parent.parent)]
    environment = os.environ | {
        "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(paths), "TERM": "xterm", "COLUMNS": "120"
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", TERMINAL, "-c", CHILD, str(folder), f"{mirror.url}/bad/", "0"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
        check=True,
    )
    for part in ("cifar-10-python.tar.gz", "kB/s", "0:00:0", "/59.6 kB", "ready in"):
        assert part in done.stdout, done.stdout


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_needs(runner):
    code, _, err = runner("data", "prepare")
    assert (code, err) == (2, "runner: nothing to prepare: expected --suite S or --dataset D; both may be repeated\n")
    code, _, err = runner("data", "prepare", "--dataset", "cifar-10")
    assert code == 2
    assert "did you mean 'cifar10'" in err


def test_the_command_prepares_suites_and_data_sets(runner, tmp_path):
    code, out, err = runner("data", "prepare", "--dataset", "digits", "--suite", "quickstart")
    assert (code, err) == (0, "")
    assert out.count("digits: ready in") == 1


def print_table() -> None:
    """The table of faults and outcomes, from a run."""
    print(f"| {'a mirror that ...':<40} | asked | {'outcome':<50} | said |\n|---|---|---|---|")
    for fault in FAULTS:
        with serving() as mirror:
            lines, bad, good = run_fault(fault, mirror)
        said = next((line.rpartition("/bad/: ")[2] for line in lines if "not from" in line), "")
        went_on = next((f" (next mirror: {r})" for r in good if r), "") if said else ""
        print(f"| {fault.what:<40} | {len(bad)} | {fault.outcome + went_on:<50} | {said} |")


if __name__ == "__main__":
    print_table()
