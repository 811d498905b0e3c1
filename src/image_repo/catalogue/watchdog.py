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
    """Watches the connections of one process, in a thread that runs as long as there are any.

    It holds a duplicate of each: the number of a connection that is closed meanwhile soon belongs to something else, to
    the listening socket of the server perhaps.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        #: descriptor → its duplicate, and the end of the wait in monotonic seconds
        self._watched: dict[int, tuple[socket.socket, float]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, file: int) -> None:
        """Begin to count the time of a connection.

        :param file: the descriptor of a connection
        """
        with self._lock, contextlib.suppress(OSError):  # it is closed: its thread has the error already
            self._forget(file)
            self._watched[file] = socket.socket(fileno=os.dup(file)), time.monotonic() + self._seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="catalogue patience", daemon=True)
                self._thread.start()

    def end(self, file: int) -> None:
        """End the watch: the server has answered."""
        with self._lock:
            self._forget(file)

    @contextlib.contextmanager
    def for_one(self, file: int) -> Iterator[None]:
        """Watch a connection during the block."""
        self.begin(file)
        try:
            yield
        finally:
            self.end(file)

    def _forget(self, file: int) -> None:
        if file in self._watched:
            self._watched.pop(file)[0].close()

    def _watch(self) -> None:
        while True:
            time.sleep(_STEP_S)
            with self._lock:
                if not self._watched:
                    self._thread = None
                    return
                now = time.monotonic()
                for file in [file for file, (_, until) in self._watched.items() if until < now]:
                    # Its thread gets an error at once.
                    with contextlib.suppress(OSError):
                        self._watched[file][0].shutdown(socket.SHUT_RDWR)
                    self._forget(file)
