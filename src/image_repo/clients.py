"""Slow clients: whoever holds a thread of ours and does not go on is shown the door.

uWSGI waits ``socket-timeout`` for each byte, so a client that sends or reads one byte a
second holds a thread for hours. A thread in each worker looks at its connections once
a second, by what the kernel counted (``TCP_INFO``), and ends those that are too slow:

* headers that are not complete after ``patience`` seconds,
* a body of which, within ``patience`` seconds, less than ``least_rate`` bytes a second came,
* an answer of which less than that was taken.

Time in which *we* work counts for nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

#: bytes a second that a client must move while we wait for it
LEAST_RATE = 1024
_FDS = Path("/proc/self/fd")
#: where tcp_info holds tcpi_bytes_acked and tcpi_bytes_received (linux/tcp.h)
_ACKED_AND_RECEIVED = struct.Struct("=120xQQ")


@dataclass
class _Progress:
    """What a connection did since we last looked closely.

    :param since: monotonic seconds
    :param moved: bytes received and acknowledged until then
    """

    since: float
    moved: int


class Doorkeeper:
    """Watches the connections of this worker.

    :param port: of the listening socket: only connections to it are looked at
    :param patience: seconds
    :param least_rate: bytes a second
    """

    def __init__(self, port: int, patience: float, least_rate: int = LEAST_RATE) -> None:
        self._port = port
        self._patience = patience
        self._least = int(least_rate * patience)
        self._served: dict[int, bool] = {}
        self._seen: dict[int, _Progress] = {}

    def start(self) -> None:
        """Looks on from now, until the process ends."""
        threading.Thread(target=self._run, name="doorkeeper", daemon=True).start()

    def begin(self, fd: int) -> int:
        """Marks a connection as one whose request is being answered; gives what the others want to know."""
        connection = os.fstat(fd).st_ino
        self._served[connection] = False
        return connection

    def end(self, connection: int) -> None:
        """The answer has gone."""
        self._served.pop(connection, None)

    @contextmanager
    def reading(self, connection: int) -> Iterator[None]:
        """Marks that we wait for the client's body."""
        self._served[connection] = True
        try:
            yield
        finally:
            self._served[connection] = False

    def _run(self) -> None:
        while True:
            time.sleep(1)
            try:
                self.look()
            except Exception:  # without a doorkeeper the house is worse off than with a puzzled one
                log.exception("slow clients could not be looked for")

    def look(self) -> None:
        """One round."""
        now = time.monotonic()
        present = set()
        for connection, sock in _connections(self._port):
            with sock:
                present.add(connection)
                self._judge(connection, sock, now)
        self._seen = {connection: self._seen[connection] for connection in present if connection in self._seen}

    def _judge(self, connection: int, sock: socket.socket, now: float) -> None:
        acked, received = _ACKED_AND_RECEIVED.unpack_from(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256))
        progress = self._seen.setdefault(connection, _Progress(now, acked + received))
        unsent = _unsent(sock)
        reading = self._served.get(connection)
        if reading is False and unsent == 0:  # we are at work
            self._seen[connection] = _Progress(now, acked + received)
        elif now - progress.since >= self._patience:
            # Nothing sent, and nobody at work on it: the head is not complete. (The kernel counts the SYN as one byte.)
            no_head = reading is None and unsent == 0 and acked <= 1
            if no_head or acked + received - progress.moved < self._least:
                _cut_off(sock)
            self._seen[connection] = _Progress(now, acked + received)


def _cut_off(sock: socket.socket) -> None:
    log.info("a client that was too slow is cut off")
    with contextlib.suppress(OSError):
        # What is not sent yet is dropped with the connection: nobody is going to fetch it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RDWR)


def _unsent(sock: socket.socket) -> int:
    """Bytes that we wrote and the client has not acknowledged yet."""
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])


def _connections(port: int) -> Iterator[tuple[int, socket.socket]]:
    """The open connections to a port of ours, each by its inode, with a socket of its own to look through."""
    for entry in _FDS.iterdir():
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
            sock = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            continue  # it was closed meanwhile
        if _is_connection(sock, port):
            yield os.fstat(sock.fileno()).st_ino, sock
        else:
            sock.close()


def _is_connection(sock: socket.socket, port: int) -> bool:
    try:
        internet = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
        return (
            internet and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and sock.getsockname()[1] == port
        )
    except OSError:
        return False
