"""Slow clients (slowloris): a connection that holds a thread and does not move is ended.

uWSGI waits ``socket-timeout`` for each byte, so a client that sends or reads one byte a second would hold a thread for
hours (``test_slow_clients_starve_nobody_and_are_cut_off``). A thread in each worker looks at its connections once a
second, by what the kernel counted (``TCP_INFO``), and ends

* one whose request head is not complete ``patience`` seconds after it was made, or after its last response, with 408,
* one whose request body came at less than ``least_rate`` bytes a second, over ``patience`` seconds,
* one whose response was taken at less than that,
* those of one client beyond ``max_per_client`` on which the worker waits for it, the longest waiting first
  (``test_many_slow_connections_from_one_address_starve_nobody``).

Time in which the application works does not count. A request at which it has worked for ``max_work`` seconds, with
nothing sent, is stuck, and only the end of the whole worker ends it (``test_a_worker_that_is_stuck_is_replaced``).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import socket
import stat
import struct
import termios
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from image_repo.web.client_address import network_of, normalise

log = logging.getLogger(__name__)

#: bytes a second that a client must move while we wait for it
LEAST_RATE = 1024
#: seconds between two looks; at most, while there is no connection; while a client has too many
_LOOK_INTERVAL_S, _IDLE_INTERVAL_S, _CROWDED_INTERVAL_S = 1.0, 5.0, 0.2
#: seconds between two looks in a worker that is to end, and milliseconds of silence that make a connection idle
_CLOSE_INTERVAL_S, _IDLE_MS = 0.05, 500
#: the kernel counts the beginning of a connection as one acknowledged byte
_SYN = 1
_FDS = "/proc/self/fd"
#: where tcp_info holds tcpi_last_data_sent and tcpi_last_data_recv (ms ago), tcpi_bytes_acked and tcpi_bytes_received
#: (linux/tcp.h)
_LAST_SENT_AND_RECEIVED = struct.Struct("=44xI4xI")
_ACKED_AND_RECEIVED = struct.Struct("=120xQQ")


@dataclass
class _Progress:
    """What a connection had moved at some time.

    :param at: monotonic seconds
    :param acked: bytes that the client acknowledged
    :param received: bytes that it sent
    """

    at: float
    acked: int
    received: int


class SlowClientReaper:
    """Watches the connections of this worker.

    :param port: of the listening socket: only connections to it are looked at
    :param patience: seconds
    :param max_work: seconds
    :param connection_fd: the handle of the connection whose request the calling thread answers
    :param wait: waits for some seconds; returns whether the worker is to end
    :param max_per_client: connections of one client on which the worker may wait for it
    :param is_proxy: whether an address is that of a trusted proxy: its connections count for the client that it names
    :param timeout_response: sent to a client whose request head is not complete
    :param ignored: handles that are no connections; updated by its owner
    :param least_rate: bytes a second
    """

    def __init__(
        self,
        port: int,
        patience: float,
        max_work: float,
        connection_fd: Callable[[], int],
        wait: Callable[[float], bool],
        max_per_client: int,
        is_proxy: Callable[[str], bool] = lambda _: False,
        timeout_response: bytes = b"",
        ignored: Container[int] = (),
        least_rate: int = LEAST_RATE,
    ) -> None:
        self._port = port
        self._patience = patience
        self._max_work = max_work
        self.connection_fd = connection_fd
        self._wait = wait
        self._max_per_client = max_per_client
        self._is_proxy = is_proxy
        self._timeout_response = timeout_response
        self._ignored = ignored
        self._least_bytes = int(least_rate * patience)
        #: whether this worker is to end: a response is then the last on its connection
        self.ending = False
        #: connections with a request in work → whether we wait for its body
        self._served: dict[int, bool] = {}
        #: the same connections → address of the client, where it is known
        self._clients: dict[int, str] = {}
        self._seen: dict[int, _Progress] = {}
        #: since when the application works for a connection, with nothing sent
        self._working: dict[int, _Progress] = {}

    def start(self) -> None:
        """Look on from now, until the process ends."""
        threading.Thread(target=self._run, name="slow-clients", daemon=True).start()

    def begin(self, client: str = "") -> int:
        """Mark the connection of this thread as one with a request in work; return its number.

        :param client: its address, where it is known
        """
        connection = os.fstat(self.connection_fd()).st_ino
        self._clients[connection] = client
        self._served[connection] = False
        return connection

    def end(self, connection: int) -> None:
        """Mark that the response is sent."""
        self._served.pop(connection, None)
        self._clients.pop(connection, None)

    def at_work(self) -> Callable[[], None]:
        """As :meth:`begin`; return what ends it."""
        connection = self.begin()
        return lambda: self.end(connection)

    @contextmanager
    def reading(self, connection: int) -> Iterator[None]:
        """Mark that the application waits for the client's body."""
        self._served[connection] = True
        try:
            yield
        finally:
            self._served[connection] = False

    def _run(self) -> None:
        interval = _LOOK_INTERVAL_S
        while not self._wait(interval):
            try:
                interval = self.look()
            except Exception:  # watching goes on
                log.exception("slow clients could not be looked for")
        self.ending = True
        while True:  # uWSGI ends the process
            self.close_idle()
            time.sleep(_CLOSE_INTERVAL_S)

    def look(self) -> float:
        """End what is too slow or too much; return the seconds until the next look."""
        now = time.monotonic()
        present = set()
        waiting: defaultdict[str, list[int]] = defaultdict(list)
        for connection, sock in _connections(self._port, self._ignored):
            present.add(connection)
            if self._judge(connection, sock, now):
                waiting[self._client_of(connection, sock)].append(connection)
        for known in (self._seen, self._working):
            for gone in known.keys() - present:
                del known[gone]
        waiting.pop("", None)
        crowds = {
            client: connections for client, connections in waiting.items() if len(connections) > self._max_per_client
        }
        if crowds:
            self._end_longest_waiting(crowds)
            return _CROWDED_INTERVAL_S
        return _LOOK_INTERVAL_S if present else min(_IDLE_INTERVAL_S, self._patience / 2)

    def _client_of(self, connection: int, sock: socket.socket) -> str:
        """Return what counts as the client of a connection; empty where a proxy has not named it."""
        address = self._clients.get(connection) or normalise(sock.getpeername()[0])
        return "" if self._is_proxy(address) else network_of(address)

    def _end_longest_waiting(self, crowds: Mapping[str, list[int]]) -> None:
        excess = set()
        for client, connections in crowds.items():
            log.info("%s has %d slow connections, of which %d stay", client, len(connections), self._max_per_client)
            connections.sort(key=lambda connection: self._seen[connection].at)
            excess.update(connections[: -self._max_per_client])
        for connection, sock in _connections(self._port, self._ignored):
            if connection in excess:
                self._end(connection, sock)

    def _judge(self, connection: int, sock: socket.socket, now: float) -> bool:
        """End a connection that is too slow; return whether the worker waits for its client."""
        current = _Progress(now, *acked_and_received(sock))
        before = self._seen.setdefault(connection, current)
        reading, unsent = self._served.get(connection), _count_unsent(sock)
        if reading is False and unsent == 0:  # the application works
            self._seen[connection] = current
            self._judge_work(connection, current)
            return False
        self._working.pop(connection, None)
        if now - before.at >= self._patience:
            if reading is None and unsent == 0:  # there is no complete head
                is_slow = current.acked <= max(before.acked, _SYN)  # and there was no response since
            else:
                is_slow = current.acked + current.received - before.acked - before.received < self._least_bytes
            if is_slow:
                self._end(connection, sock)
            self._seen[connection] = current
        return True

    def _end(self, connection: int, sock: socket.socket) -> None:
        """End a connection; with an answer where a part of a head came, to which it can belong."""
        if connection in self._served or _count_unsent(sock):
            _cut_off(sock)
            return
        sent_ago, received_ago = _last_moved(sock)
        with contextlib.suppress(OSError):
            if acked_and_received(sock)[0] <= _SYN or received_ago < sent_ago:
                sock.send(self._timeout_response, socket.MSG_DONTWAIT)
        close(sock)

    def _judge_work(self, connection: int, current: _Progress) -> None:
        began = self._working.setdefault(connection, current)
        if began.acked != current.acked:
            self._working[connection] = current
        elif current.at - began.at > self._max_work:
            log.critical("a request got no answer for %g s: this worker is ended", self._max_work)
            os.kill(os.getpid(), signal.SIGKILL)

    def close_idle(self) -> None:
        """Close the connections without a request."""
        for connection, sock in _connections(self._port, self._ignored):
            is_idle = connection not in self._served and _count_unsent(sock) == 0
            if is_idle and _last_moved(sock)[1] > _IDLE_MS:  # what has just come may be answered in a moment
                close(sock)


def close(sock: socket.socket) -> None:
    """End a connection in good order; the thread that waits on it sees its end."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _cut_off(sock: socket.socket) -> None:
    log.info("a client that was too slow is cut off")
    with contextlib.suppress(OSError):
        # What is not sent yet is dropped with the connection: nobody is going to fetch it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RDWR)


def _last_moved(sock: socket.socket) -> tuple[int, int]:
    """Return how many milliseconds ago something was sent, and received."""
    tcp_info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    sent_ago, received_ago = _LAST_SENT_AND_RECEIVED.unpack_from(tcp_info)
    return sent_ago, received_ago


def acked_and_received(sock: socket.socket) -> tuple[int, int]:
    """Return how many bytes the client acknowledged, and how many it sent."""
    tcp_info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    acked, received = _ACKED_AND_RECEIVED.unpack_from(tcp_info)
    return acked, received


def _count_unsent(sock: socket.socket) -> int:
    """Return the bytes that we wrote and the client has not acknowledged yet."""
    return _queued(sock, termios.TIOCOUTQ)


def count_unread(sock: socket.socket) -> int:
    """Return the bytes that have come and nobody has read yet."""
    return _queued(sock, termios.FIONREAD)


def _queued(sock: socket.socket, queue: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), queue, b"\0\0\0\0"))[0])


def _connections(port: int, ignored: Container[int]) -> Iterator[tuple[int, socket.socket]]:
    """Yield the open connections to a port of ours, each by its inode, with a duplicate of its socket."""
    for handle in map(int, os.listdir(_FDS)):  # noqa: PTH208, a third of the time
        with contextlib.suppress(OSError):  # it was closed meanwhile, or is no connection (getpeername)
            if handle in ignored or not stat.S_ISSOCK(os.fstat(handle).st_mode):
                continue
            with socket.socket(fileno=os.dup(handle)) as sock:
                is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
                if is_tcp and sock.getsockname()[1] == port and sock.getpeername():
                    yield os.fstat(sock.fileno()).st_ino, sock
