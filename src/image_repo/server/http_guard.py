"""Framing that uWSGI leaves undone: bodies in chunks, ``Expect: 100-continue``, connections that end before a body."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from image_repo.concurrency import deadline
from image_repo.concurrency.limiter import aside
from image_repo.errors import BadBody, BadRequest, Problem, TooLarge
from image_repo.server.request_head import check_head
from image_repo.web import problems
from image_repo.web.client_address import TrustedProxies
from image_repo.web.closing import Closing

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from image_repo.server.slow_clients import SlowClientReaper

#: what a multipart body may hold beside its file
_MAX_MULTIPART_BYTES = 2 << 20
#: how much of a body is read on after it was refused
_LINGER_BYTES, _LINGER_S = 16 << 20, 2.0
#: in an environ: no further request is read from the connection
LAST = "image_repo.last_on_connection"


class Guard:
    """Stands between the server and the application.

    :param max_head: bytes
    :param max_upload: bytes of a file
    :param proxies: whose ``X-Forwarded-*`` counts
    :param read_chunk: reads a piece of a body in chunks, where the server leaves them to the application
    :param connection_fd: the handle of the client's connection, where the server leaves ``Expect`` to the application
    :param is_behind_proxy: whether the server reads requests that a proxy has read before it
    :param received: called with the bytes of each request body
    :param reaper: watches slow clients, where clients speak with us directly
    """

    def __init__(
        self,
        application: WSGIApplication,
        max_head: int,
        max_upload: int,
        proxies: TrustedProxies,
        *,
        read_chunk: Callable[[], bytes] | None = None,
        connection_fd: Callable[[], int] | None = None,
        is_behind_proxy: bool = False,
        received: Callable[[int], object] = lambda _: None,
        reaper: SlowClientReaper | None = None,
    ) -> None:
        self._application = application
        self._max_head = max_head
        self._max_body = max_upload + _MAX_MULTIPART_BYTES
        self._proxies = proxies
        self._read_chunk = read_chunk
        self._connection_fd = connection_fd
        self._is_behind_proxy = is_behind_proxy
        self._received = received
        self._reaper = reaper

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        reaper = self._reaper
        try:
            check_head(environ, self._max_head, host_required=not self._is_behind_proxy)
            self._proxies.apply(environ)
            body = self._frame_body(environ)
        except Problem as problem:
            environ[LAST] = True
            refusal = problems.respond(problem, environ.get("REQUEST_METHOD", ""), environ.get("PATH_INFO", ""))
            response = refusal(environ, start_response)
            has_body = environ.get("CONTENT_LENGTH") or environ.get("HTTP_TRANSFER_ENCODING")
            return Closing(response, lambda: linger(reaper.connection_fd())) if reaper and has_body else response
        if reaper is None:
            return self._application(environ, start_response)
        return self._respond(environ, start_response, body, reaper)

    def _respond(
        self, environ: WSGIEnvironment, start_response: StartResponse, body: Body | None, reaper: SlowClientReaper
    ) -> Iterable[bytes]:
        connection = reaper.begin(environ["REMOTE_ADDR"])
        if body:
            body.waiting = lambda: reaper.reading(connection)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
            if body and not body.ended:
                environ[LAST] = True
            return start_response(status, headers, *error)

        def finish() -> None:
            try:
                if body and not body.ended:
                    linger(reaper.connection_fd())
            finally:
                reaper.end(connection)

        try:
            return Closing(self._application(environ, start), finish)
        except BaseException:
            reaper.end(connection)
            raise

    def _frame_body(self, environ: WSGIEnvironment) -> Body | None:
        """Put the body where the application looks for it (RFC 9112, section 6); None where there is none.

        :raises BadRequest: when the head is not clear about its length
        """
        length = environ.get("CONTENT_LENGTH") or ""
        if length and not (length.isascii() and length.isdigit() and len(length) <= 18):
            raise BadRequest("Expected one Content-Length, in digits.")
        coding = environ.get("HTTP_TRANSFER_ENCODING")
        if coding is not None:
            body = self._frame_coded_body(environ, coding, length)
        elif int(length or 0):
            body = Body(environ["wsgi.input"].read, self._max_body, int(length))
        else:
            return None
        if self._connection_fd and environ.get("HTTP_EXPECT", "").lower() == "100-continue":
            body.before_read = lambda: _send_continue(self._connection_fd())
        body.received = self._received
        environ["wsgi.input"] = body
        return body

    def _frame_coded_body(self, environ: WSGIEnvironment, coding: str, length: str) -> Body:
        if coding.strip().lower() != "chunked":
            raise BadRequest("Expected no transfer coding but chunked.")
        if length and not self._is_behind_proxy:  # a request smuggled past whoever reads the other one
            raise BadRequest("Expected Content-Length or Transfer-Encoding, not both.")
        if length:  # the proxy has read and counted the body, and passes the header on all the same
            del environ["HTTP_TRANSFER_ENCODING"]
            return Body(environ["wsgi.input"].read, self._max_body, int(length))
        if self._read_chunk:
            read_chunk = self._read_chunk
            environ["wsgi.input_terminated"] = True
            return Body(lambda _: read_chunk(), self._max_body)
        if environ.get("wsgi.input_terminated"):
            return Body(environ["wsgi.input"].read, self._max_body)
        raise BadRequest("This server does not take bodies in chunks.")


class Body(io.RawIOBase):
    """The body of a request, counted and bounded.

    :param read: returns at most that many bytes, empty at the end
    :param max_bytes: how many there may be
    :param length: how many were announced, None where its own form says where it ends
    """

    def __init__(self, read: Callable[[int], bytes], max_bytes: int, length: int | None = None) -> None:
        self._read = read
        self._max_bytes = max_bytes
        self._length = length
        self._buffer = b""
        self._count = 0
        self.ended = False
        self.received: Callable[[int], object] = lambda _: None
        self.before_read: Callable[[], object] | None = None
        self.waiting: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill at most the buffer; return how many bytes, 0 at the end.

        :raises TooLarge: when there are more than may be
        :raises BadBody: when it breaks off
        """
        view = memoryview(buffer)
        if not self._buffer and view and not self.ended:
            self._buffer = self._receive(len(view))
        part, self._buffer = self._buffer[: len(view)], self._buffer[len(view) :]
        view[: len(part)] = part
        return len(part)

    def _receive(self, size: int) -> bytes:
        if self.before_read:
            self.before_read()
            self.before_read = None
        try:
            with aside(), deadline.suspended(), self.waiting():
                part = self._read(size)
        except OSError as error:
            self.ended = True
            raise BadBody("The body of the request broke off.") from error
        self._count += len(part)
        self.received(len(part))
        self.ended = not part or self._count == self._length
        if self._count > self._max_bytes:
            raise TooLarge(f"Bodies of at most {self._max_bytes} bytes are taken.")
        return part


def render_response(problem: Problem) -> bytes:
    """Return the whole response to what never becomes a request; the connection ends with it."""
    head: list[str] = []

    def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
        head.extend([f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "Connection: close"])
        return bytes  # what only write() of PEP 3333 would use

    body = b"".join(problems.respond(problem, "GET", "/")({}, start))
    return "\r\n".join([*head, "", ""]).encode() + body


def _send_continue(fd: int) -> None:
    """Ask a client for the body that it holds back (RFC 9110, section 10.1.1): curl would wait a second."""
    with contextlib.suppress(OSError):
        os.write(fd, b"HTTP/1.1 100 Continue\r\n\r\n")


def linger(fd: int) -> None:
    """Read on for a moment what the client is still sending: closing at once would reset the connection, and the client
    might never see why it was refused (RFC 9112, section 9.6)."""
    until = time.monotonic() + _LINGER_S
    left = _LINGER_BYTES
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
        sock.shutdown(socket.SHUT_WR)
        while left > 0 and (wait := until - time.monotonic()) > 0:
            sock.settimeout(wait)
            received = len(sock.recv(1 << 16))
            if not received:
                return
            left -= received
