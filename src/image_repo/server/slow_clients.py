"""Slow clients: whoever holds a thread of ours and does not go on is shown the door.

uWSGI waits ``socket-timeout`` for each byte, so a client that sends or reads one byte a
second holds a thread for hours. A thread in each worker looks at its connections once
a second, by what the kernel counted (``TCP_INFO``), and ends those that are too slow:

* headers that are not complete ``patience`` seconds after the connection was made, or after the answer
  before on a connection that is kept,
* a body of which, within ``patience`` seconds, less than ``least_rate`` bytes a second came,
* an answer of which less than that was taken.

Time in which *we* work counts for nobody. But where we have worked for ``most_work`` seconds, and sent nothing,
something is stuck that cannot be ended but with the whole worker: then it is, and the next one takes its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import signal
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

#: bytes a second that a client must move while we wait for it
LEAST_RATE = 1024
#: seconds between two looks whether this worker is to end, and how many of them make a second
_TICK, _TICKS = 0.05, 20
#: seconds of silence after which nobody is asking for anything
_QUIET = 0.5
#: the kernel counts the beginning of a connection as one acknowledged byte
_SYN = 1
_FDS = Path("/proc/self/fd")
#: where tcp_info holds tcpi_last_data_recv (ms), tcpi_bytes_acked and tcpi_bytes_received (linux/tcp.h)
_LAST_RECEIVED = struct.Struct("=52xI")
_ACKED_AND_RECEIVED = struct.Struct("=120xQQ")


@dataclass
class _Progress:
    """What a connection did since we last looked closely.

    :param since: monotonic seconds
    :param acked: bytes that the client acknowledged until then
    :param received: bytes that it sent until then
    """

    since: float
    acked: int
    received: int


class SlowClientReaper:
    """Watches the connections of this worker.

    :param port: of the listening socket: only connections to it are looked at
    :param patience: seconds
    :param most_work: seconds
    :param complete: whether the server's threads are all there, as they are but for a moment in the beginning and
        when this worker is to end
    :param least_rate: bytes a second
    :param ready: called when the threads are there, and again a moment later, when all of them are at their place
    :param rest: sleeps for some seconds
    """

    def __init__(
        self,
        port: int,
        patience: float,
        most_work: float,
        complete: Callable[[], bool],
        least_rate: int = LEAST_RATE,
        *,
        ready: Callable[[], object] = lambda: None,
        rest: Callable[[float], object] = time.sleep,
    ) -> None:
        self._port = port
        self._patience = patience
        self._is_complete = complete
        self._most_work = most_work
        self._least = int(least_rate * patience)
        self._ready, self._rest = ready, rest
        #: whether this worker is to end, as uWSGI ends its threads for no other reason: what is answered now is the
        #: last on its connection
        self.ending = False
        self._served: dict[int, bool] = {}
        self._seen: dict[int, _Progress] = {}
        #: since when we are at work for a connection, and have sent nothing
        self._working: dict[int, _Progress] = {}

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

    def at_work(self, fd: int) -> Callable[[], None]:
        """Marks a connection as one whose request is being answered; what is given ends that."""
        connection = self.begin(fd)
        return lambda: self.end(connection)

    @contextmanager
    def reading(self, connection: int) -> Iterator[None]:
        """Marks that we wait for the client's body."""
        self._served[connection] = True
        try:
            yield
        finally:
            self._served[connection] = False

    def _run(self) -> None:
        since: int | None = None
        for tick in itertools.count(1):
            self._rest(_TICK)
            try:
                complete = self._is_complete()
                self.ending = not complete and tick > _TICKS
                if self.ending:
                    self.let_go()
                    continue
                if tick % _TICKS == 0:
                    self.look()
                if complete and since is None:
                    since = tick
                if since is not None and tick - since in (0, _TICKS):
                    self._ready()
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
        for known in (self._seen, self._working):
            for gone in known.keys() - present:
                del known[gone]

    def _judge(self, connection: int, sock: socket.socket, now: float) -> None:
        present = _Progress(
            now, *_ACKED_AND_RECEIVED.unpack_from(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256))
        )
        before = self._seen.setdefault(connection, present)
        reading, unsent = self._served.get(connection), _unsent(sock)
        if reading is False and unsent == 0:  # we are at work
            self._seen[connection] = present
            self._judge_work(connection, present)
            return
        self._working.pop(connection, None)
        if now - before.since >= self._patience:
            if reading is None and unsent == 0:  # there is no complete head
                if present.acked <= max(before.acked, _SYN):  # and there was no answer since
                    _close(sock)
            elif present.acked + present.received - before.acked - before.received < self._least:
                _cut_off(sock)
            self._seen[connection] = present

    def _judge_work(self, connection: int, present: _Progress) -> None:
        began = self._working.setdefault(connection, present)
        if began.acked != present.acked:
            self._working[connection] = present
        elif present.since - began.since > self._most_work:
            log.critical("a request got no answer for %g s: this worker is ended", self._most_work)
            os.kill(os.getpid(), signal.SIGKILL)

    def let_go(self) -> None:
        """Closes the connections on which nobody is asking for anything."""
        for connection, sock in _connections(self._port):
            with sock:
                quiet = connection not in self._served and _unsent(sock) == 0
                if quiet and _silent(sock) > _QUIET:  # what has just come may be read by now, and answered in a moment
                    _close(sock)


def _close(sock: socket.socket) -> None:
    """Ends a connection in good order; the thread that waits on it sees its end."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _cut_off(sock: socket.socket) -> None:
    log.info("a client that was too slow is cut off")
    with contextlib.suppress(OSError):
        # What is not sent yet is dropped with the connection: nobody is going to fetch it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RDWR)


def _silent(sock: socket.socket) -> float:
    """Seconds since something came."""
    told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return float(_LAST_RECEIVED.unpack_from(told)[0]) / 1000


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
