"""One line for each request: when it came, what it got, and an id to find it again.

Lines wait until there are enough of them to be worth a system call, or for a quarter of a second. So a hit in
memory pays about 1.5 µs for its line; one that uWSGI writes (a system call for each, and two in its master) costs 10.

A line never holds a signature of a temporary URL, nor a control character.
"""

from __future__ import annotations

import atexit
import itertools
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any, Literal

from image_repo.observability.logging import clean, write

log = logging.getLogger(__name__)

#: seconds that a line waits at the most
_EVERY = 0.25
#: lines that are written at a time
_AT_ONCE = 64
#: lines that may wait where they cannot be written: of more, the oldest are lost
_MOST_WAITING = 50_000
#: of a request line, more is not told
_MOST_TEXT = 2048
#: what stands in place of an address
_UNTOLD = "0.0.0.0"  # noqa: S104
_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=-]{0,99}")
_quoted = json.JSONEncoder(ensure_ascii=True).encode

#: seconds since the epoch; the request's number and its client's id for it; what was asked and answered; the client
Told = tuple[float, int, str | None, str, str]


def shown(uri: str) -> str:
    """A request line as it may be told: on one line, and without signatures."""
    return clean(uri[:_MOST_TEXT])


def sane(request_id: str | None) -> str | None:
    """An id that a client has sent (X-Request-ID), where it may stand in a log and in an answer."""
    return request_id if request_id and _SANE_ID.fullmatch(request_id) else None


class _Connection(threading.local):
    """That of this thread: each has one at a time."""

    client = ""


_connection = _Connection()


def client_of(environ: Mapping[str, Any]) -> str:
    """The address of the client. To be asked for each request: uWSGI tells it with the first of a connection alone."""
    told: str = environ.get("REMOTE_ADDR", "")
    if told == _UNTOLD:
        return _connection.client
    _connection.client = told
    return told


def layer_of(headers: Mapping[str, Any]) -> str:
    """Which layer answered, as Cache-Status says it; empty where that is of no matter."""
    return str(headers.get("Cache-Status", "")).rpartition("detail=")[2]


class AccessLog:
    """Tells of requests, to where the log goes.

    :param form: of the lines
    """

    def __init__(self, form: Literal["plain", "json"]) -> None:
        self._json = form == "json"
        self._waiting: list[Told] = []
        self._numbers = itertools.count(1)
        #: a number for each request
        self.number = self._numbers.__next__
        self._process = secrets.token_hex(4)
        self._second = 0
        self._stamp = ""
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="access-log", daemon=True).start()
        atexit.register(self.write)

    def id(self, number: int) -> str:
        """The id of a request that came without one."""
        return f"{self._process}-{number:x}"

    def what(self, method: str, uri: str, status: str, sent: int, took: float, layer: str) -> str:
        """What was asked and answered, as it stands in a line; the same for every hit of one picture.

        :param uri: as :func:`shown` gives it
        :param sent: bytes of the body
        :param took: seconds until the last of them was handed to the server
        :param layer: which layer answered; empty where that is of no matter
        """
        if self._json:
            asked = f'"method":{_quoted(method)},"uri":{_quoted(uri)}'
            return f'"status":{status},{asked},"bytes":{sent},"ms":{took * 1000:.1f},"layer":"{layer}"'
        return f"{status} {method} {uri} {sent} {took * 1000:.1f}ms {layer or '-'}"

    def tell(self, told: Told) -> None:
        """Tells of a request, soon."""
        waiting = self._waiting
        waiting.append(told)
        if len(waiting) < _AT_ONCE:
            return
        # Whoever makes it enough writes them all: a thread for that would fight with those who answer for the GIL.
        if self._lock.acquire(blocking=False):
            try:
                self._write()
            finally:
                self._lock.release()
        elif len(waiting) > _MOST_WAITING:  # nobody reads what is written
            del waiting[:_AT_ONCE]

    def write(self) -> None:
        """Writes what waits."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        # Others add to it meanwhile: what is written is taken from its front, and the list stays.
        count = len(self._waiting)
        lines, self._waiting[:count] = self._waiting[:count], []
        if not lines:
            return
        try:
            write("".join(map(self._line, lines)))
        except Exception as error:  # a full disk: requests are answered all the same
            log.warning("%d requests cannot be told of: %s", count, error)

    def _line(self, told: Told) -> str:
        at, number, given, what, client = told
        name = given or f"{self._process}-{number:x}"
        second = int(at)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        stamp = f"{self._stamp}.{int((at - second) * 1000):03d}Z"  # in UTC (RFC 3339)
        if self._json:
            return f'{{"time":"{stamp}",{what},"client":{_quoted(client)},"id":"{name}"}}\n'
        return f"{stamp} {what} {client or '-'} {name}\n"

    def _run(self) -> None:
        while True:
            time.sleep(_EVERY)
            self.write()
