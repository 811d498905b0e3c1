"""The watchdog: cuts connections to a database server that does not answer.

A server bounds its statements by itself, and TCP finds one that is gone. One that stands still does neither, and the
driver would wait for ever.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

#: between two looks at the clock
_STEP_S = 0.25


class Watchdog:
    """Watches the connections of one process, in a thread that runs as long as there are any."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[int, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, file: int) -> None:
        """Begin to count the time of a connection.

        :param file: the descriptor of a connection
        """
        with self._lock:
            self._until[file] = time.monotonic() + self._seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="catalogue patience", daemon=True)
                self._thread.start()

    def end(self, file: int) -> None:
        """End the watch: the server has answered."""
        with self._lock:
            self._until.pop(file, None)

    @contextlib.contextmanager
    def for_one(self, file: int) -> Iterator[None]:
        """Watch a connection during the block."""
        self.begin(file)
        try:
            yield
        finally:
            self.end(file)

    def _watch(self) -> None:
        while True:
            time.sleep(_STEP_S)
            with self._lock:
                if not self._until:
                    self._thread = None
                    return
                now = time.monotonic()
                late = [file for file, until in self._until.items() if until < now]
                for file in late:
                    _cut(file)
                    del self._until[file]


def _cut(file: int) -> None:
    """Shut a connection down, so that its thread gets an error at once."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(file)) as connection:
        connection.shutdown(socket.SHUT_RDWR)
