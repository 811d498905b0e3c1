"""One line for each request: in which order they came, what they got, and how to find them again.

What is told is put into a list; a thread makes lines of it and writes them four times a second, many at a time.
So a hit in memory pays 0.4 µs for its line while it is answered, and some 2 µs afterwards; lines that uWSGI
writes (a system call for each, and two in its master) cost 10.

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
from typing import Any, Literal, NamedTuple

from image_repo import logs

log = logging.getLogger(__name__)

#: seconds between two times that lines are written
_EVERY = 0.25
#: lines that are written at a time, and seconds between
_AT_ONCE, _BREATH = 256, 0.0005
#: lines that may wait: more of them are lost, and counted
_MOST_WAITING = 100_000
#: of a request line, more is not told
_MOST_TEXT = 2048
_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=-]{0,99}")


class Line(NamedTuple):
    """What is told of a request.

    :param at: seconds since the epoch
    :param number: the request's id where the client has sent none: a number of this process
    :param uri: as :func:`shown` gives it
    :param sent: bytes of the body
    :param took: seconds until the last of them was handed to the server
    """

    at: float
    number: int
    given: str | None
    method: str
    uri: str
    status: str
    sent: int
    took: float
    layer: str
    client: str


#: a :class:`Line`, or a bare tuple of the same: a third of a microsecond less
Told = tuple[float, int, str | None, str, str, str, int, float, str, str]


def shown(uri: str) -> str:
    """A request line as it may be told: on one line, and without signatures."""
    return logs.clean(uri[:_MOST_TEXT])


def sane(request_id: str | None) -> str | None:
    """An id that a client has sent (X-Request-ID), where it may stand in a log and in an answer."""
    return request_id if request_id and _SANE_ID.fullmatch(request_id) else None


class AccessLog:
    """Tells of requests, to where the log goes.

    :param form: of the lines
    """

    def __init__(self, form: Literal["plain", "json"]) -> None:
        self._line = _json if form == "json" else _plain
        self._waiting: list[Told] = []
        self._numbers = itertools.count(1)
        self._process = secrets.token_hex(4)
        self._second = 0
        self._stamp = ""
        self._lost = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="access-log", daemon=True).start()
        atexit.register(self.write)

    def number(self) -> int:
        """The next request's."""
        return next(self._numbers)

    def id(self, number: int) -> str:
        """The id of a request that came without one."""
        return f"{self._process}-{number:x}"

    def tell(self, line: Told) -> None:
        """Tells of a request, soon."""
        waiting = self._waiting
        if len(waiting) < _MOST_WAITING:
            waiting.append(line)
        else:
            self._lost += 1

    def write(self) -> None:
        """Writes what waits, some lines at a time: whoever answers requests is not to wait for all of them."""
        while self._write_some():
            time.sleep(_BREATH)

    def _write_some(self) -> bool:
        """Whether there was as much as is written at a time."""
        with self._lock:
            # Others add to it meanwhile: what is written is taken from its front, and the list stays.
            lines, self._waiting[:_AT_ONCE] = self._waiting[:_AT_ONCE], []
            if lines:
                logs.write(
                    "".join(self._line(line, self._time(line[0]), line[2] or self.id(line[1])) for line in lines)
                )
            if self._lost:
                log.warning("%d requests were not told of: there were too many at a time", self._lost)
                self._lost = 0
        return len(lines) == _AT_ONCE

    def _run(self) -> None:
        while True:
            time.sleep(_EVERY)
            try:
                self.write()
            except Exception as error:  # a full disk: requests are answered all the same
                log.warning("requests cannot be told of: %s", error)

    def _time(self, at: float) -> str:
        """In UTC, to the millisecond (RFC 3339)."""
        second = int(at)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((at - second) * 1000):03d}Z"


def _plain(line: Told, stamp: str, name: str) -> str:
    _, _, _, method, uri, status, sent, took, layer, client = line
    return f"{stamp} {status} {method} {uri} {sent} {took * 1000:.1f}ms {layer or '-'} {client or '-'} {name}\n"


def _json(line: Told, stamp: str, name: str) -> str:
    _, _, _, method, uri, status, sent, took, layer, client = line
    text = _quoted(uri)
    told = f'"status":{status},"method":{_quoted(method)},"uri":{text},"bytes":{sent},"ms":{took * 1000:.1f}'
    return f'{{"time":"{stamp}",{told},"layer":"{layer}","client":{_quoted(client)},"id":"{name}"}}\n'


_encode = json.JSONEncoder(ensure_ascii=True).encode


def _quoted(text: str) -> str:
    return _encode(text)


def layer_of(headers: Mapping[str, Any]) -> str:
    """Which layer answered, as Cache-Status says it; empty where that is of no matter."""
    return str(headers.get("Cache-Status", "")).rpartition("detail=")[2]
