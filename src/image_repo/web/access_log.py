"""The access log: one line for each request, with an id to find it again.

Lines are buffered for a quarter of a second, and written by a thread of their own. Measured: a hit in memory pays
1.5 µs for its line; one that uWSGI writes (a system call for each, and two in its master) costs 10 µs.

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

_FLUSH_INTERVAL_S = 0.25
#: buffered lines that are written together
_BATCH = 64
#: of more lines that cannot be written, the oldest are lost
_MAX_BUFFERED = 50_000
#: of a request line
_MAX_URI_CHARS = 2048
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=-]{0,99}")
#: ends of a time; formatting one took a third of what a line costs (measured: 0.27 of 0.75 µs)
_MILLISECONDS = [f".{number:03d}Z" for number in range(1000)]
_quoted = json.JSONEncoder(ensure_ascii=True).encode

#: seconds since the epoch; the request's number and its client's id for it; the text of :meth:`.describe`; the client
LogEntry = tuple[float, int, str | None, str, str]


#: environ key: the id of the request
REQUEST_ID = "image_repo.request_id"


def printable_uri(uri: str) -> str:
    """Return a request line without line breaks and signatures."""
    return clean(uri[:_MAX_URI_CHARS])


def valid_request_id(request_id: str | None) -> str | None:
    """Return a client's X-Request-ID if it may be logged and sent back; else None."""
    return request_id if request_id and _REQUEST_ID.fullmatch(request_id) else None


def layer_of(headers: Mapping[str, Any]) -> str:
    """Return the layer that answered, from Cache-Status; empty without one."""
    return str(headers.get("Cache-Status", "")).rpartition("detail=")[2]


class AccessLog:
    """Writes the lines to where the log goes.

    :param form: of the lines
    """

    def __init__(self, form: Literal["plain", "json"]) -> None:
        self._json = form == "json"
        self._buffer: list[LogEntry] = []
        self._numbers = itertools.count(1)
        #: a number for each request
        self.number = self._numbers.__next__
        self._process = secrets.token_hex(4)
        self._second = 0
        self._stamp = ""
        self._lock = threading.Lock()
        self._lost = 0
        self._has_lines = threading.Event()
        threading.Thread(target=self._run, name="access-log", daemon=True).start()
        atexit.register(self.flush)

    def id(self, number: int) -> str:
        """Return the id of a request that came without one."""
        return f"{self._process}-{number:x}"

    def describe(self, method: str, uri: str, status: str, sent: int, seconds: float, layer: str) -> str:
        """Return the middle of a line; the same for every hit of one picture.

        :param uri: as :func:`printable_uri` gives it
        :param sent: bytes of the body
        :param seconds: until the last of them was handed to the server
        :param layer: that answered; empty where there is none
        """
        if self._json:
            request = f'"method":{_quoted(method)},"uri":{_quoted(uri)}'
            return f'"status":{status},{request},"bytes":{sent},"ms":{seconds * 1000:.1f},"layer":"{layer}"'
        return f"{status} {method} {uri} {sent} {seconds * 1000:.1f}ms {layer or '-'}"

    def add(self, entry: LogEntry) -> None:
        """Log a request, soon: it does not wait until the line is written."""
        buffer = self._buffer
        buffer.append(entry)
        if len(buffer) % _BATCH == 1:  # not the first line alone, whose number two threads may both miss
            self._has_lines.set()
        if len(buffer) > _MAX_BUFFERED:  # the log is stuck
            self._lost += _BATCH
            del buffer[:_BATCH]

    def flush(self) -> None:
        """Write the buffered lines."""
        with self._lock:
            for _ in range(0, len(self._buffer), _BATCH):
                self._write()

    def _write(self) -> None:
        # Other threads append meanwhile: lines are taken from the front, and the list object stays.
        lines, self._buffer[:_BATCH] = self._buffer[:_BATCH], []
        lost, self._lost = self._lost, 0
        if lost:
            log.warning("%d lines of the access log are lost: they could not be written in time", lost)
        try:
            write("".join(self._format(lines)))
        except Exception as error:  # a full disk: requests are answered all the same
            log.warning("%d lines of the access log are lost: %s", len(lines), error)

    def _format(self, entries: list[LogEntry]) -> list[str]:
        """Return the lines, all in one call: those of hits are the most part of what their logging costs."""
        process, lines = self._process, []
        for at, number, request_id, text, client in entries:
            second = int(at)
            if second != self._second:
                self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            stamp = self._stamp + _MILLISECONDS[int((at - second) * 1000)]  # in UTC (RFC 3339)
            name = request_id or f"{process}-{number:x}"
            if self._json:
                lines.append(f'{{"time":"{stamp}",{text},"client":{_quoted(client)},"id":"{name}"}}\n')
            else:
                lines.append(f"{stamp} {text} {client or '-'} {name}\n")
        return lines

    def _run(self) -> None:
        while self._has_lines.wait():
            self._has_lines.clear()
            time.sleep(_FLUSH_INTERVAL_S)
            self.flush()
            if self._buffer:  # added since, to a buffer that was not empty
                self._has_lines.set()
