"""Download a file from one address over several connections: ranges, retries, slow and broken servers."""

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime

from runner.data.folder import install_file, md5_of
from runner.data.transfer import Interrupted, MirrorFailed, TooSlow, Transfer
from runner.text import one_line

RETRY_CODES = (429, 500, 502, 503, 504)  # temporary errors: retry


def from_mirror(url: str, transfer: Transfer, min_rate: float) -> None:
    """Download the file from one address, reconnecting as needed; raise MirrorFailed when the mirror should be given up.

    `min_rate` is the lowest accepted rate in bytes/s. Raise Interrupted when `transfer.stop` is set.
    """
    size, limits = transfer.file.size, transfer.limits
    vain_tries = 0  # consecutive tries with fewer than `limits.min_new_bytes`
    bytes_at_last_progress = transfer.here()  # bytes, when the last try that was not in vain ended
    has_sent = False  # this mirror has sent data, so a later error is probably temporary
    restarted = False  # the download was restarted from the first byte after a wrong md5
    while True:
        start = transfer.here()
        if size is not None and start > size:
            transfer.drop()
            start = 0
        pause, transfer.gained = None, 0
        try:
            resumed = start == size or _connect(url, transfer, min_rate)
        except _RetryLater as error:
            if error.pause is not None and error.pause > limits.max_pause:
                raise MirrorFailed(f"{error} and asks to wait {error.pause:,.0f} s") from error
            reason, pause = _describe(error), error.pause
        except (OSError, http.client.HTTPException) as error:
            reason = _describe(error)
            has_sent = has_sent or transfer.gained > 0
            if not has_sent:
                raise MirrorFailed(reason) from error
        else:
            with transfer.disk():
                md5 = md5_of(transfer.part)
                if md5 == transfer.file.md5:
                    install_file(transfer.part, transfer.target)
            transfer.drop()
            if md5 == transfer.file.md5:
                return
            if restarted or not resumed:
                raise MirrorFailed(f"sent a file with md5 {md5}, expected {transfer.file.md5}")
            restarted = True
            continue
        if transfer.here() - bytes_at_last_progress >= limits.min_new_bytes:
            vain_tries, bytes_at_last_progress = 0, transfer.here()
        else:
            vain_tries += 1
        if vain_tries >= limits.max_vain_tries:
            raise MirrorFailed(reason)
        if pause is None:
            pause = min(limits.first_pause * 2 ** max(0, vain_tries - 1), limits.max_pause)
        if transfer.stop.wait(pause):
            raise Interrupted


class _RetryLater(Exception):
    """The server asks to retry later; `pause` is the requested wait in seconds, None if it names none."""

    def __init__(self, message: str, pause: float | None) -> None:
        super().__init__(message)
        self.pause = pause


class _ConnectionLost(OSError):
    """The connection ended before the file did."""


def _connect(url: str, transfer: Transfer, min_rate: float) -> bool:
    """Append to the part file over one connection until the file ends; return whether it resumed an older part.

    Raise MirrorFailed, _RetryLater, or a network error (OSError, HTTPException). The part file keeps what has arrived.
    """
    size, start = transfer.file.size, transfer.here()
    # Ask for the stored bytes: a server may label a .gz as encoded, and a client would then unpack it.
    headers = {"User-Agent": "reprozoo", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        validator = transfer.validator(url)
        if validator is not None:
            headers["If-Range"] = validator
    try:
        response = _opener().open(urllib.request.Request(url, headers=headers), timeout=transfer.limits.timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and start:  # no such range: the part is from another file
                transfer.drop()
                return _connect(url, transfer, min_rate)
            if error.code in RETRY_CODES:
                raise _RetryLater(_describe(error), _retry_after(error.headers)) from error
            raise MirrorFailed(_describe(error)) from error
    except ValueError as error:  # an invalid address
        raise MirrorFailed(_describe(error)) from error
    with response:
        at, total = _offered(response)
        if at != start and response.status == 206:  # another range than the requested one: start over without a range
            if not start:
                raise MirrorFailed("sends a part of the file instead of all of it")
            transfer.drop()
            return _connect(url, transfer, min_rate)
        if size is not None and total not in (None, size):
            raise MirrorFailed(f"offers {total:,} bytes, expected {size:,}")
        transfer.total, transfer.arrived = size or total, at
        note = {"url": url, "validator": _validator(response), "bytes": transfer.total}
        with transfer.writer(at, note) as write:
            _copy(response, write, transfer, min_rate)
    if transfer.total is not None and transfer.arrived < transfer.total:
        raise _ConnectionLost(f"connection lost after {transfer.arrived:,} of {transfer.total:,} bytes")
    return at > 0


def _copy(
    response: http.client.HTTPResponse, write: Callable[[bytes], None], transfer: Transfer, min_rate: float
) -> None:
    """Write the response body to the part file.

    Raise TooSlow below `min_rate` bytes/s, MirrorFailed for a body that is too long, Interrupted, and network errors.
    """
    size = transfer.file.size
    since, counted = time.monotonic(), transfer.arrived
    while chunk := response.read1(2**18):  # returns what has arrived, so that the rate can be measured
        if transfer.stop.is_set():
            raise Interrupted
        write(chunk)
        transfer.arrived += len(chunk)
        transfer.gained += len(chunk)
        if size is not None and transfer.arrived > size:
            transfer.drop()
            raise MirrorFailed(f"sends more than the {size:,} bytes of the official file")
        passed = time.monotonic() - since
        if passed >= transfer.limits.rate_window:
            rate = (transfer.arrived - counted) / passed
            if rate < min_rate:
                raise TooSlow(rate)
            since, counted = time.monotonic(), transfer.arrived


def _opener() -> urllib.request.OpenerDirector:
    """Return urllib's opener with proxies from the environment and redirects, limited to http and https."""
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


def _offered(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Return the first byte of a response (-1 if unknown) and the size of the whole file (None if unknown)."""
    if response.status != 206:
        return 0, response.length
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", (response.headers.get("Content-Range") or "").strip())
    if match is None:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _validator(response: http.client.HTTPResponse) -> str | None:
    """Return the value for If-Range: the strong ETag, else the Last-Modified date, else None."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return str(etag)
    return response.headers.get("Last-Modified")


def _retry_after(headers: Message) -> float | None:
    """Return the wait in seconds from Retry-After, given there in seconds or as a date; None if absent or malformed."""
    value = headers.get("Retry-After") or ""
    if value.strip().isdecimal():
        return float(value)
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    return None


def _describe(error: BaseException) -> str:
    """Return a description of an exception on one line, at most 160 characters."""
    if isinstance(error, urllib.error.HTTPError):
        text = f"answers {error.code} ({error.reason})"
    elif isinstance(error, urllib.error.URLError):
        return _describe(error.reason) if isinstance(error.reason, BaseException) else str(error.reason)
    elif isinstance(error, TimeoutError):
        text = "no answer"
    elif isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
        text = f"does not answer in HTTP ({error})"
    else:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        text = text[:1].lower() + text[1:]
    return one_line(text)[:160]
