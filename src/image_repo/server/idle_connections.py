"""Connections that are kept after hits: one thread of each process waits for all of them, and answers further hits.

uWSGI gives each connection a thread of its own. With many busy connections these threads hand the interpreter lock to
each other, for each request one or two futex calls and switches, which cost more than the answer. So after some hits in
a row (:class:`~image_repo.web.fast_path.FastPath`) the thread of a connection waits here. One thread asks the kernel
which connections have a request, looks at its head, and repeats the response where it can do so at once. Any other
request is left in the socket, and the thread of its connection goes back to uWSGI, which reads it.

Measured with 32 connections and 2 processes: a hit takes 24 µs of CPU in place of 41, its 304 19 in place of 34.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from image_repo.server.http_guard import linger
from image_repo.server.request_head import PlainHead, length_of_head, read_plain_head
from image_repo.server.slow_clients import acked_and_received, count_unread
from image_repo.web.client_address import SAME_CLIENT, peer_of
from image_repo.web.fast_path import MAX_SMALL_BYTES, PERSISTENT, CachedResponse, FastPath, raw_headers
from image_repo.web.identity import may_take_time

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from image_repo.server.keep_alive import KeptConnections

log = logging.getLogger(__name__)

#: of a head that is looked at
_MAX_HEAD_BYTES = 4096
#: events of one poll
_MAX_READY = 64
#: Hits in a row after which the next request is expected to be one. To hand any other one over costs 0.1 ms, as much as
#: some hits save.
_LEAST_HITS, _HITS_FOR_ONE_RELEASE = 2, 8
#: flags of calls; as plain numbers, which are quicker
_PEEK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)
_DISCARD = int(socket.MSG_TRUNC | socket.MSG_DONTWAIT)
_SEND = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
#: to wait for the rest of a head when this worker ends
_PAUSE_S = 0.01


class Idle:
    """A connection between two requests.

    :param address: of the client
    :param environ: of the request before
    :ivar released: held until the thread of the connection is to go on
    :ivar rest: what it does before
    """

    __slots__ = ("address", "environ", "released", "rest")

    def __init__(self, address: str, environ: WSGIEnvironment) -> None:
        self.address = address
        self.environ = environ
        self.released = threading.Lock()
        self.released.acquire()
        self.rest: Callable[[socket.socket], None] = _do_nothing


class _Connection(threading.local):
    """The connection of this thread.

    :ivar hits: how many of its last requests in a row were hits; less than none after it was released
    :ivar consumed: bytes that uWSGI had read of it at the last hit
    """

    hits = consumed = 0


class IdleConnections:
    """A WSGI callable before the fast path, whose connections wait here after some hits.

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
        self._kept = kept
        self._connection_fd = connection_fd
        self._patience = patience
        self._refusal = refusal
        self._connection = _Connection()
        self._idle: dict[int, Idle] = {}
        self._epoll = select.epoll()
        self._calls = _Calls()
        threading.Thread(target=self._run, name="idle-connections", daemon=True).start()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        repeated, connection = self._fast_path.repeat(environ), self._connection
        if environ.get("REMOTE_ADDR") != SAME_CLIENT:  # a new one
            connection.hits = 0
        if repeated is None:
            connection.hits = min(connection.hits, 0)
            return self._fast_path.ask(environ, start_response)
        response = self._fast_path.respond(repeated, environ, start_response)
        connection.hits += 1
        if connection.hits < _LEAST_HITS - 1 or not _needs_no_waiting(environ, repeated):
            return response
        is_kept = self._is_kept(environ)
        if connection.hits < _LEAST_HITS or not is_kept:
            return response
        return self._respond_and_wait(response, Idle(peer_of(environ), environ))

    def _is_kept(self, environ: WSGIEnvironment) -> bool:
        """Return whether uWSGI keeps a connection after a hit, which is known from the second in a row on.

        uWSGI closes connections of HTTP/1.0, and those from which it has read more than this request. (A client that
        writes fields without spaces, and pipelines just as many bytes, loses those bytes of its own.)
        """
        if environ["SERVER_PROTOCOL"] != "HTTP/1.1" or environ.get("HTTP_CONNECTION") not in PERSISTENT:
            return False
        with _borrowed(self._connection_fd()) as sock:
            before = self._connection.consumed
            self._connection.consumed = acked_and_received(sock)[1] - count_unread(sock)
        return self._connection.consumed - before == length_of_head(environ) and not self._kept.ending

    def _respond_and_wait(self, response: Iterable[bytes], idle: Idle) -> Iterator[bytes]:
        """Yield a response and, once uWSGI has sent it, wait for a request that it has to read, or the end."""
        yield from response
        yield b""  # uWSGI sends the head with the first piece of the body
        handle = self._connection_fd()
        self._idle[handle] = idle
        self._epoll.register(handle, select.EPOLLIN)
        idle.released.acquire()
        self._connection.hits = -_HITS_FOR_ONE_RELEASE
        with _borrowed(handle) as sock, contextlib.suppress(OSError):  # uWSGI sees that the client is gone
            sock.settimeout(self._patience)
            idle.rest(sock)

    # -- the thread of all idle connections --------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                for handle, _ in self._epoll.poll(-1, _MAX_READY):
                    if not self.answer(handle, self._idle[handle]):
                        self._epoll.unregister(handle)
                        self._idle.pop(handle).released.release()
        except BaseException:
            log.critical("requests on idle connections are seen no more: this worker is ended", exc_info=True)
            os.kill(os.getpid(), signal.SIGKILL)

    def answer(self, handle: int, idle: Idle) -> bool:
        """Answer the next request of a connection if it repeats another; return whether the connection is idle then."""
        try:
            data = self._calls.peek(handle)
            plain = read_plain_head(data, idle.address)
            if data and self._kept.ending:
                return self._answer_last(idle, data, plain)
            if plain is None or plain.environ.get("HTTP_CONNECTION") not in PERSISTENT:
                return False
            repeated = self._fast_path.repeat(plain.environ, may_wait=False)
            return repeated is not None and self.send(handle, idle, plain.length, repeated.raw())
        except BlockingIOError:  # nothing has come
            return True
        except OSError:
            return False
        except Exception:
            log.exception("a request on an idle connection could not be answered")
            return False

    def send(self, handle: int, idle: Idle, length: int, response: bytes) -> bool:
        """Take a request and send the response, as far as the client takes it; return whether that was all.

        :param length: of the request, in bytes
        """
        self._calls.discard(handle, length)
        try:
            sent = self._calls.send(handle, response)
        except BlockingIOError:
            sent = 0
        if sent < len(response):
            idle.rest = partial(_send, data=memoryview(response)[sent:])
        return sent == len(response)

    def _answer_last(self, idle: Idle, data: bytes, plain: PlainHead | None) -> bool:
        """Have the last request of a connection answered in place of uWSGI, which reads no more when this worker ends.

        :returns: whether the rest of its head has to be waited for
        """
        if plain is None and b"\r\n\r\n" not in data and len(data) < _MAX_HEAD_BYTES:
            time.sleep(_PAUSE_S)
            return True
        idle.rest = self._refuse if plain is None else partial(self._respond, before=idle.environ, plain=plain)
        return False

    # -- in the thread of a connection ---------------------------------------------------

    def _refuse(self, sock: socket.socket) -> None:
        log.info("a request that came when this worker ended is refused")
        _send(sock, memoryview(self._refusal))
        linger(sock.fileno())

    def _respond(self, sock: socket.socket, before: WSGIEnvironment, plain: PlainHead) -> None:
        """Answer a request through the application.

        :param before: the environ of the request before
        :raises OSError: when the connection has broken
        """
        sock.recv(plain.length)
        of_server = {name: value for name, value in before.items() if not name.startswith("HTTP_")}
        head = b""

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
            nonlocal head
            head = f"HTTP/1.1 {status}\r\n".encode() + raw_headers(headers) + b"\r\n"
            return bytes  # what only write() of PEP 3333 would use

        response = self._fast_path(of_server | plain.environ, start)
        try:
            for part in response:
                _send(sock, memoryview(head + part))
                head = b""
            _send(sock, memoryview(head))
        finally:
            if hasattr(response, "close"):
                response.close()


class _Calls:
    """System calls without waiting, which do not release the GIL: to get it back may take a millisecond each time.

    For one thread. Of Python's own, each of the three would release it.

    :raises BlockingIOError: where there is nothing to do
    :raises OSError: when a connection has broken
    """

    def __init__(self) -> None:
        libc = ctypes.PyDLL(None, use_errno=True)
        self._recv, self._send = libc.recv, libc.send
        self._recv.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self._send.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
        self._recv.restype = self._send.restype = ctypes.c_ssize_t
        self._buffer = ctypes.create_string_buffer(_MAX_HEAD_BYTES)
        self._view = memoryview(self._buffer).cast("B")

    def peek(self, handle: int) -> bytes:
        """Return the beginning of what a connection has received; empty at its end."""
        count = _checked(self._recv(handle, self._buffer, _MAX_HEAD_BYTES, _PEEK))
        return self._view[:count].tobytes()

    def discard(self, handle: int, count: int) -> None:
        """Take bytes that were seen from what a connection has received."""
        _checked(self._recv(handle, None, count, _DISCARD))

    def send(self, handle: int, data: bytes) -> int:
        """Send what fits into the buffer of a connection; return how many bytes."""
        return _checked(self._send(handle, data, len(data), _SEND))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@contextmanager
def _borrowed(handle: int) -> Iterator[socket.socket]:
    """Yield a socket over a handle of uWSGI, which stays open."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=handle)
    try:
        yield sock
    finally:
        sock.detach()


def _needs_no_waiting(environ: WSGIEnvironment, repeated: CachedResponse) -> bool:
    """Return whether another request of the same kind would be answered here."""
    return sum(map(len, repeated.body)) <= MAX_SMALL_BYTES and not may_take_time(environ)


def _send(sock: socket.socket, data: memoryview) -> None:
    """Send everything; the timeout of the socket counts for each part that the client takes.

    :raises OSError: when the connection has broken, or the client takes nothing for too long
    """
    while data:
        data = data[sock.send(data) :]


def _do_nothing(_: socket.socket) -> None:
    """Do nothing."""
