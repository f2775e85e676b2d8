"""A file from one address, over as many connections as it takes: ranges, retries, slow and broken servers."""

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from runner.data.folder import md5_of, put_in_place
from runner.data.transfer import Crawls, Interrupted, Left, Transfer
from runner.text import one_line

LATER = (429, 500, 502, 503, 504)  # "not now": worth asking again


def from_mirror(url: str, transfer: Transfer, floor: float) -> None:
    """Get the file from one address, over several connections if need be; raises Left where that has no sense."""
    size, patience = transfer.file.size, transfer.patience
    vain, reached = 0, transfer.here()
    gave = False  # this mirror works, so that it is worth waiting for the end of a breakdown
    afresh = False  # the file comes from its first byte again, because what we had wasn't right
    while True:
        begun = transfer.here()
        if size is not None and begun > size:
            transfer.drop()
            begun = 0
        pause, transfer.gained = None, 0
        try:
            resumed = begun == size or _connect(url, transfer, floor)
        except _Later as error:
            if error.pause is not None and error.pause > patience.longest_pause:
                raise Left(f"{error}, and asks to wait {error.pause:,.0f} s") from error
            reason, pause = _words(error), error.pause
        except (OSError, http.client.HTTPException) as error:
            reason = _words(error)
            gave = gave or transfer.gained > 0
            if not gave:
                raise Left(reason) from error
        else:
            with transfer.disk():
                found = md5_of(transfer.part)
                if found == transfer.file.md5:
                    put_in_place(transfer.part, transfer.target)
            transfer.drop()
            if found == transfer.file.md5:
                return
            if afresh or not resumed:
                raise Left(f"gave a file with md5 {found}, official {transfer.file.md5}")
            afresh = True
            continue
        if transfer.here() - reached >= patience.worth:
            vain, reached = 0, transfer.here()
        else:
            vain += 1
        if vain >= patience.tries:
            raise Left(reason)
        if pause is None:
            pause = min(patience.pause * 2 ** max(0, vain - 1), patience.longest_pause)
        if transfer.stop.wait(pause):
            raise Interrupted


class _Later(Exception):
    """The server says "not now"; `pause`: for how many seconds, if it says so."""

    def __init__(self, message: str, pause: float | None) -> None:
        super().__init__(message)
        self.pause = pause


class _BrokeOff(OSError):
    """The connection ended before the file did."""


def _connect(url: str, transfer: Transfer, floor: float) -> bool:
    """One connection: add to the part until the file ends; gives whether it went on from an older part.

    Raises Left, _Later, or whatever a network may raise (OSError, HTTPException); the part keeps what has arrived.
    """
    size, start = transfer.file.size, transfer.here()
    # The bytes as they lie there: a server may call a .gz "encoded", and a client that knows better would unpack it.
    headers = {"User-Agent": "reprozoo", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        validator = transfer.validator(url)
        if validator is not None:
            headers["If-Range"] = validator
    try:
        response = _opener().open(urllib.request.Request(url, headers=headers), timeout=transfer.patience.silence)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and start:  # no such range: the part isn't of this file
                transfer.drop()
                return _connect(url, transfer, floor)
            if error.code in LATER:
                raise _Later(_words(error), _retry_after(error.headers)) from error
            raise Left(_words(error)) from error
    except ValueError as error:  # an address that isn't one
        raise Left(_words(error)) from error
    with response:
        at, total = _offered(response)
        if at != start and response.status == 206:  # another range than the one asked for: do without
            if not start:
                raise Left("answers with a part of the file, unasked")
            transfer.drop()
            return _connect(url, transfer, floor)
        if size is not None and total not in (None, size):
            raise Left(f"offers {total:,} bytes, the official file has {size:,}")
        transfer.total, transfer.arrived = size or total, at
        note = {"url": url, "validator": _validator(response), "bytes": transfer.total}
        with transfer.writer(at, note) as write:
            _copy(response, write, transfer, floor)
    if transfer.total is not None and transfer.arrived < transfer.total:
        raise _BrokeOff(f"broke off after {transfer.arrived:,} of {transfer.total:,} bytes")
    return at > 0


def _copy(response: Any, write: Callable[[bytes], None], transfer: Transfer, floor: float) -> None:
    """The body into the part; raises Crawls, Left where it is too long, Interrupted, and what the network raises."""
    size = transfer.file.size
    since, counted = time.monotonic(), transfer.arrived
    while chunk := response.read1(2**18):  # what is there, without waiting for more: a rate can be told
        if transfer.stop.is_set():
            raise Interrupted
        write(chunk)
        transfer.arrived += len(chunk)
        transfer.gained += len(chunk)
        if size is not None and transfer.arrived > size:
            transfer.drop()
            raise Left(f"sends more than the {size:,} bytes of the official file")
        passed = time.monotonic() - since
        if passed >= transfer.patience.window:
            rate = (transfer.arrived - counted) / passed
            if rate < floor:
                raise Crawls(rate)
            since, counted = time.monotonic(), transfer.arrived


def _opener() -> urllib.request.OpenerDirector:
    """urllib's, proxies from the environment and redirects included, but for http and https only."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _offered(response: Any) -> tuple[int, int | None]:
    """From which byte on a response is (-1: no telling), and how many the whole file has (None: not said)."""
    if response.status != 206:
        return 0, response.length
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", (response.headers.get("Content-Range") or "").strip())
    if found is None:
        return -1, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _validator(response: Any) -> str | None:
    """What to recognise this file by at this address: its strong ETag, else its date."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return str(etag)
    return response.headers.get("Last-Modified")


def _retry_after(headers: Any) -> float | None:
    """Seconds that a server asks to wait: it says so in seconds or as a date; None where it doesn't, or not in order."""
    said = headers.get("Retry-After") or ""
    if said.strip().isdecimal():
        return float(said)
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    return None


def _words(error: BaseException) -> str:
    """An exception in some words, on one line, whatever a server put into it."""
    if isinstance(error, urllib.error.HTTPError):
        text = f"answers {error.code} ({error.reason})"
    elif isinstance(error, urllib.error.URLError):
        return _words(error.reason) if isinstance(error.reason, BaseException) else str(error.reason)
    elif isinstance(error, TimeoutError):
        text = "no answer"
    elif isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
        text = f"answers in something else than HTTP ({error})"
    else:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        text = text[:1].lower() + text[1:]
    return one_line(text)[:160]
