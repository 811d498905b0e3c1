"""Connections that are kept after a hit: one thread of each process waits for all of them, and answers further hits.

uWSGI gives each connection a thread of its own. With many busy connections these threads hand the interpreter lock to
each other, for each request one or two futex calls and switches, which cost more than the answer. So the thread of a
connection whose response was repeated (:class:`~image_repo.web.fast_path.FastPath`) waits here, and one thread asks the
kernel which connections have a request, looks at its head, and repeats the response where it can. Any other request is
left in the socket, and the thread of its connection goes back to uWSGI, which reads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import select
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from image_repo.server.request_head import length_of_head, read_plain_head
from image_repo.server.slow_clients import acked_and_received
from image_repo.web.client_address import SAME_CLIENT, peer_of
from image_repo.web.closing import Closing
from image_repo.web.fast_path import PERSISTENT, FastPath, OwnHeaders, raw_headers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from image_repo.server.keep_alive import KeptConnections

log = logging.getLogger(__name__)

#: of a head that is looked at
_MAX_HEAD_BYTES = 4096
#: connections of which the kernel tells at a time
_MAX_READY = 64
_INT = struct.Struct("i")
#: Hits in a row after which the next request is expected to be one. To hand any other one over costs 0.1 ms, as much as
#: some hits save.
_LEAST_HITS, _HITS_FOR_ONE_RELEASE = 2, 8


class _Idle:
    """A connection between two requests.

    :param address: of the client
    :ivar released: held until the thread of the connection is to go on
    :ivar unsent: what it has to send before
    :ivar last: the request that it has to answer before, when this worker ends
    """

    __slots__ = ("address", "last", "released", "sock", "unsent")

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.sock = sock
        self.address = address
        self.released = threading.Lock()
        self.released.acquire()
        self.unsent = memoryview(b"")
        self.last: WSGIEnvironment | None = None


class _Connection(threading.local):
    """The connection of this thread.

    :ivar hits: how many of its last requests in a row were hits
    :ivar consumed: bytes that uWSGI had read of it at the last hit
    """

    hits = consumed = 0


class IdleConnections:
    """A WSGI callable before the fast path, whose connections wait here after a hit.

    :param connection_fd: the handle of the connection whose request the calling thread answers
    :param patience: seconds for which a client may take nothing of a response
    :param refusal: what a request gets that only uWSGI can read, when this worker ends and uWSGI reads no more
    """

    def __init__(
        self,
        fast_path: FastPath,
        kept: KeptConnections,
        connection_fd: Callable[[], int],
        patience: float,
        refusal: bytes,
    ) -> None:
        self._fast_path = fast_path
        self._repeat = fast_path.repeat
        self._kept = kept
        self._connection_fd = connection_fd
        self._patience = patience
        self._refusal = refusal
        self._connection = _Connection()
        self._idle: dict[int, _Idle] = {}
        self._epoll = select.epoll()
        #: the headers of the last response alone, and the same in bytes
        self._own: tuple[OwnHeaders, bytes] = ((), b"")
        threading.Thread(target=self._run, name="idle-connections", daemon=True).start()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        repeated, connection = self._repeat(environ), self._connection
        if environ.get("REMOTE_ADDR") != SAME_CLIENT:  # a new one
            connection.hits = 0
        if repeated is None:
            connection.hits = min(connection.hits, 0)
            return self._fast_path.ask(environ, start_response)
        response = self._fast_path.respond(repeated, environ, start_response)
        connection.hits += 1
        if self._is_kept(environ) and connection.hits >= _LEAST_HITS:
            return Closing(response, partial(self._wait, environ, peer_of(environ)))
        return response

    def _is_kept(self, environ: WSGIEnvironment) -> bool:
        """Return whether uWSGI keeps a connection after a hit, which is known from the second in a row on.

        It ends one to HTTP/1.0, and one of which it has read more than this request.
        """
        with _Borrowed(self._connection_fd()) as sock:
            before, self._connection.consumed = self._connection.consumed, _count_consumed(sock)
        is_persistent = environ["SERVER_PROTOCOL"] == "HTTP/1.1" and environ.get("HTTP_CONNECTION") in PERSISTENT
        return is_persistent and self._connection.consumed - before == length_of_head(environ)

    def _wait(self, environ: WSGIEnvironment, address: str) -> None:
        """Wait, in the thread of a connection, for a request that it has to read, or the end.

        :param environ: of the request before
        """
        handle = self._connection_fd()
        with _Borrowed(handle) as sock:
            idle = self._idle[handle] = _Idle(sock, address)
            self._epoll.register(handle, select.EPOLLIN)
            idle.released.acquire()
            self._connection.hits = -_HITS_FOR_ONE_RELEASE
            sock.settimeout(self._patience)
            with contextlib.suppress(OSError):  # the client is gone, which uWSGI will see
                _send(sock, idle.unsent)
                if idle.last is not None:
                    self._answer_last(sock, environ, idle.last)

    def _answer_last(self, sock: socket.socket, before: WSGIEnvironment, environ: WSGIEnvironment) -> None:
        """Answer the last request of a connection in place of uWSGI, which reads no more when this worker ends.

        :param before: the environ of the request before
        :raises OSError: when the connection has broken
        """
        of_server = {name: value for name, value in before.items() if not name.startswith("HTTP_")}
        head = b""

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
            nonlocal head
            head = f"HTTP/1.1 {status}\r\n".encode() + raw_headers(headers) + b"\r\n"
            return bytes  # what only write() of PEP 3333 would use

        response = self._fast_path(of_server | environ, start)
        try:
            for part in response:
                _send(sock, memoryview(head + part))
                head = b""
            _send(sock, memoryview(head))
        finally:
            if hasattr(response, "close"):
                response.close()

    # -- the thread of all idle connections --------------------------------------------

    def _run(self) -> None:
        while True:
            for handle, _ in self._epoll.poll(-1, _MAX_READY):
                idle = self._idle[handle]
                try:
                    is_idle = self._answer(idle)
                except BlockingIOError:
                    is_idle = True
                except Exception as error:
                    if not isinstance(error, OSError):
                        log.exception("a request on an idle connection could not be answered")
                    is_idle = False
                if not is_idle:
                    self._epoll.unregister(handle)
                    del self._idle[handle]
                    idle.released.release()

    def _answer(self, idle: _Idle) -> bool:
        """Answer the next request of a connection, if it repeats another; return whether the connection is idle again.

        :raises OSError: when it has broken
        """
        sock = idle.sock
        data = sock.recv(_MAX_HEAD_BYTES, socket.MSG_PEEK)
        plain = read_plain_head(data, idle.address)
        if self._kept.ending and data:
            if plain:
                sock.recv(plain.length)
            idle.last, idle.unsent = (plain.environ, idle.unsent) if plain else (None, memoryview(self._refusal))
            return False
        repeated = self._repeat(plain.environ) if plain and plain.environ.get("HTTP_CONNECTION") in PERSISTENT else None
        if plain is None or repeated is None:
            return False
        sock.recv(plain.length)
        head, own, body = repeated
        if own is not self._own[0]:
            self._own = own, raw_headers(own) + b"\r\n"
        response = b"".join((head.raw, self._own[1], *body))
        sent = sock.send(response)
        idle.unsent = memoryview(response)[sent:]
        return not idle.unsent


class _Borrowed:
    """A socket over a handle of uWSGI, which stays open."""

    def __init__(self, handle: int) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=handle)

    def __enter__(self) -> socket.socket:
        return self._sock

    def __exit__(self, *_: object) -> None:
        self._sock.detach()


def _count_consumed(sock: socket.socket) -> int:
    """Return how many bytes were read of a connection."""
    unread: int = _INT.unpack(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(_INT.size)))[0]
    return acked_and_received(sock)[1] - unread


def _send(sock: socket.socket, data: memoryview) -> None:
    """Send everything; the reaper ends a slow client.

    :raises OSError: when the connection has broken, or the client takes nothing for too long
    """
    while data:
        data = data[sock.send(data) :]
