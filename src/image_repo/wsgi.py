"""The application for a WSGI server: ours, an outside uWSGI, gunicorn.

* ``image_repo`` itself (:mod:`image_repo.server.uwsgi`): the configuration is at hand already;
* ``uwsgi --module image_repo.wsgi:app --pyargv "-y config.yml"``;
* ``IMAGE_REPO_CONFIG=config.yml gunicorn image_repo.wsgi:app``.

The repository is built once for each process, by its first request where the module was
imported before the fork: what it holds (threads, connections) does not survive one.

Around the application stands what servers leave undone: bodies in chunks, heads that are
too large or contradict themselves, and connections that end with bytes still to be read.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image_repo.concurrency import deadline
from image_repo.concurrency.limiter import aside
from image_repo.config import Config, load
from image_repo.errors import BadBody, BadRequest, ConfigurationError, HeadersTooLarge, Problem, TooLarge
from image_repo.observability.logging import LogSettings, configure
from image_repo.server.epoll import ListenerRegistrations
from image_repo.server.keep_alive import KeptConnections
from image_repo.server.slow_clients import SlowClientReaper
from image_repo.server.uwsgi import address, give_back, handed_over, hear_master, limit_arenas, threads_are_complete
from image_repo.web.closing import Closing

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from image_repo.web.fast_path import FastPath

try:
    import uwsgi  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # another server
    uwsgi = None

if uwsgi and handed_over():
    hear_master()

log = logging.getLogger(__name__)

#: as a server names it; a proxy before us may speak another with its clients
_PROTOCOL = re.compile(r"HTTP/\d(\.\d)?")
#: what a multipart body may hold beside its file, in bytes
_ROOM = 2 << 20
#: seconds for which a thread may run Python while others want to
_TURN = 0.001
#: how much of a body that nobody wants is read, so that the client gets to see the answer (RFC 9112, section 9.6)
_LINGER_BYTES, _LINGER_SECONDS = 16 << 20, 2.0


class Application:
    """Builds the application once for each process, and stands around it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._built: tuple[int, FastPath] | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self.here()(environ, start_response)

    def here(self) -> FastPath:
        """The application of this process."""
        built = self._built
        if built is None or built[0] != os.getpid():
            with self._lock:
                built = self._built
                if built is None or built[0] != os.getpid():
                    self._built = built = (os.getpid(), _build())
        return built[1]


def _build() -> FastPath:
    from image_repo import wiring  # noqa: PLC0415, not before the fork
    from image_repo.web.access_log import AccessLog  # noqa: PLC0415
    from image_repo.web.app import create_app  # noqa: PLC0415, not before the fork
    from image_repo.web.fast_path import FastPath  # noqa: PLC0415

    limit_arenas()
    give_back()
    # A thread that wants to answer a hit waits so long for one that is busy with something else; 5 ms by default.
    sys.setswitchinterval(_TURN)
    config = handed_over()
    direct = config is not None
    if config is None:
        config = _configuration()
    repo = wiring.build(config)
    app = create_app(repo, config)
    atexit.register(wiring.start_daemon(config, repo))
    keeper = _doorkeeper(config) if direct else None
    kept = KeptConnections(keeper, uwsgi.connection_fd) if keeper and config.server.keep_alive else None
    form = config.server.access_log
    told = None if form == "none" else AccessLog(form)
    pictures = f"/{config.repository_base_pathname}/"
    door = Guard(app.wsgi_app, config, keeper, kept)
    if keeper is None:
        return FastPath(door, repo, config.freshness, kept, told, pictures)
    return FastPath(door, repo, config.freshness, kept, told, pictures, lambda: keeper.at_work(uwsgi.connection_fd()))


def _configuration() -> Config:
    """The configuration under somebody else's server.

    :raises ConfigurationError: with every mistake in it
    """
    # --pyargv of uWSGI; the arguments of another server are its own
    parser = argparse.ArgumentParser("image_repo.wsgi:app", add_help=False)
    parser.add_argument("-y", "--yaml-config", type=Path, default=os.environ.get("IMAGE_REPO_CONFIG") or None)
    parser.add_argument("-T", "--test-run", action="store_true")
    parser.add_argument("-v", "--verbose", dest="level", action="store_const", const=logging.INFO)
    parser.add_argument("-V", "--debug", dest="level", action="store_const", const=logging.DEBUG)
    parser.add_argument("-l", "--log-file", type=Path)
    parser.add_argument("-c", "--config-log-file", type=Path)
    given = parser.parse_args(sys.argv[1:] if uwsgi else [])
    if uwsgi or given.level or given.log_file or given.config_log_file:
        configure(LogSettings(given.level or logging.WARNING, given.log_file, given.config_log_file))
    overrides = {"persistent_store_configuration.kind": "disk"} if given.test_run else {}
    try:
        return load(given.yaml_config and Path(given.yaml_config), os.environ, overrides=overrides)
    except ConfigurationError as error:
        for mistake in error.mistakes:
            log.critical("%s", mistake)
        raise


def _doorkeeper(config: Config) -> SlowClientReaper:
    settings = config.server
    waking = ListenerRegistrations()
    keeper = SlowClientReaper(
        address(config.listen)[1],
        settings.socket_timeout,
        settings.request_timeout,
        threads_are_complete,
        ready=waking.begin,
        rest=waking.rest,
    )
    keeper.start()
    return keeper


class Guard:
    """Stands between the server and the application.

    :param keeper: watches slow clients, where clients speak with us directly
    :param kept: where connections are kept
    """

    def __init__(
        self,
        inner: WSGIApplication,
        config: Config,
        keeper: SlowClientReaper | None = None,
        kept: KeptConnections | None = None,
    ) -> None:
        self._inner = inner
        self._most_head = config.server.max_headers
        self._most_body = config.server.max_upload + _ROOM
        self._keeper = keeper
        self._kept = kept

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._kept:
            return self._on_kept(self._kept, environ, start_response)
        return self._answer(environ, start_response)

    def _on_kept(
        self, kept: KeptConnections, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """The answer; the connection ends with it where it must."""
        last = kept.is_last(environ)

        def begin(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
            nonlocal last
            last = last or not _tells_its_length(status, headers)
            return start_response(status, [*headers, ("Connection", "close")] if last else headers, *error)

        answer = self._answer(environ, begin)
        return Closing(answer, kept.hang_up) if last else answer

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            _check_head(environ, self._most_head)
            body = _body(environ, self._most_body)
        except Problem as problem:
            refusal = _refuse(problem, environ, start_response)
            return _Answer(refusal, _announced(environ)) if self._keeper else refusal
        keeper = self._keeper
        if keeper is None or uwsgi is None:
            return self._inner(environ, start_response)
        connection = keeper.begin(uwsgi.connection_fd())
        if body:
            body.waiting = lambda: keeper.reading(connection)
        try:
            answer = self._inner(environ, start_response)
        except BaseException:
            keeper.end(connection)
            raise
        return _Answer(answer, body, lambda: keeper.end(connection))


class Body:
    """The body of a request: counted, bounded, and in whichever way the server hands it over.

    :param read: gives at most that many bytes, empty at the end
    :param most: bytes
    :param length: how many were announced, None where its own form says where it ends
    """

    def __init__(self, read: Callable[[int], bytes], most: int, length: int | None = None) -> None:
        self._read = read
        self._most = most
        self._length = length
        self._left = b""
        self._count = 0
        self.ended = False
        self.waiting: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; all of them when negative; empty at the end.

        :raises TooLarge: when there are more than may be
        :raises BadBody: when it breaks off
        """
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(1 << 16), b""))
        if not self._left and size and not self.ended:
            self._left = self._more(size)
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def readline(self, size: int = -1) -> bytes:
        """As of any file."""
        line = bytearray()
        while (size < 0 or len(line) < size) and not line.endswith(b"\n") and (byte := self.read(1)):
            line += byte
        return bytes(line)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _more(self, size: int) -> bytes:
        try:
            with aside(), deadline.suspended(), self.waiting():
                part = self._read(size)
        except OSError as error:
            self.ended = True
            raise BadBody("The body of the request broke off.") from error
        self._count += len(part)
        self.ended = not part or self._count == self._length
        if self._count > self._most:
            raise TooLarge(f"Bodies of at most {self._most} bytes are taken.")
        return part


def _check_head(environ: WSGIEnvironment, most: int) -> None:
    """
    :raises BadRequest: when it is no request at all: uWSGI hands on what it could not read
    :raises HeadersTooLarge: when the head has more bytes than may be
    """
    # With a space in the target, what stands behind it is the protocol to uWSGI (RFC 9112, section 3.2).
    if not environ.get("REQUEST_METHOD") or not _PROTOCOL.fullmatch(environ.get("SERVER_PROTOCOL", "")):
        raise BadRequest("Expected a request of HTTP/1.1 or HTTP/1.0, its target without spaces.")
    size = len(environ.get("REQUEST_URI", "")) or len(environ.get("PATH_INFO", "")) + len(
        environ.get("QUERY_STRING", "")
    )
    size += sum(len(name) + len(value) for name, value in environ.items() if name.startswith("HTTP_"))
    if size > most:
        raise HeadersTooLarge(f"A request may have at most {most} bytes before its body.")


def _body(environ: WSGIEnvironment, most: int) -> Body | None:
    """Puts the body where the application looks for it (RFC 9112, section 6); None where there is none.

    :raises BadRequest: when the head does not say one thing about its length
    """
    length = environ.get("CONTENT_LENGTH") or ""
    if length and not (length.isascii() and length.isdigit() and len(length) <= 18):
        raise BadRequest("Expected one Content-Length, in digits.")
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    if coding is not None:
        return _coded_body(environ, coding, length, most)
    if not int(length or 0):
        return None
    body = Body(environ["wsgi.input"].read, most, int(length))
    environ["wsgi.input"] = body
    return body


def _coded_body(environ: WSGIEnvironment, coding: str, length: str, most: int) -> Body | None:
    if coding.strip().lower() != "chunked":
        raise BadRequest("Expected no transfer coding but chunked.")
    if length and _speaks_with_clients():
        raise BadRequest("Expected Content-Length or Transfer-Encoding, not both.")
    if length:  # a proxy before us has read and counted it, and passes the header on all the same
        del environ["HTTP_TRANSFER_ENCODING"]
        body = Body(environ["wsgi.input"].read, most, int(length))
    elif uwsgi:  # it leaves the pieces to the application, and wsgi.input empty
        body = Body(lambda _: uwsgi.chunked_read(), most)
        environ["wsgi.input_terminated"] = True
    elif environ.get("wsgi.input_terminated"):
        body = Body(environ["wsgi.input"].read, most)
    else:
        raise BadRequest("This server does not take bodies in chunks.")
    environ["wsgi.input"] = body
    return body


def _speaks_with_clients() -> bool:
    """Whether the server reads HTTP from clients itself: then two lengths are an attack, not a proxy's leftover."""
    return uwsgi is None or any(name.startswith("http") and name.endswith("socket") for name in uwsgi.opt)


def _refuse(problem: Problem, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """The answer to what does not reach the application, in the form of all errors (RFC 9457)."""
    document = {
        "type": f"/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
    }
    text = json.dumps(document).encode()
    headers = [
        ("Content-Type", "application/problem+json"),
        ("Content-Length", str(len(text))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    start_response(f"{problem.status} {problem.title}", headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [text]


def _tells_its_length(status: str, headers: list[tuple[str, str]]) -> bool:
    """Whether a client sees where this answer ends while the connection goes on (RFC 9112, section 6.3)."""
    return status.startswith(("1", "204", "304")) or any(name.lower() == "content-length" for name, _ in headers)


class _Answer:
    """An answer on its way to a client of ours; when it has gone, the connection is left in good order.

    :param body: of the request
    """

    def __init__(
        self, inner: Iterable[bytes], body: Body | None, afterwards: Callable[[], None] = lambda: None
    ) -> None:
        self._inner = inner
        self._body = body
        self._afterwards = afterwards

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._inner)

    def close(self) -> None:
        """Called by the server when everything is sent, or the client is gone."""
        try:
            if hasattr(self._inner, "close"):
                self._inner.close()
            if self._body and not self._body.ended:
                _linger(uwsgi.connection_fd())
        finally:
            self._afterwards()


def _announced(environ: WSGIEnvironment) -> Body | None:
    """A body that came with a head which was refused: nobody reads it."""
    has_body = environ.get("CONTENT_LENGTH") or environ.get("HTTP_TRANSFER_ENCODING")
    return Body(lambda _: b"", 0) if has_body else None


def _linger(fd: int) -> None:
    """Reads on for a moment what the client is still sending: closing at once would reset the connection,
    and the client might never see why it was refused."""
    until = time.monotonic() + _LINGER_SECONDS
    left = _LINGER_BYTES
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
        sock.shutdown(socket.SHUT_WR)
        while left > 0 and (wait := until - time.monotonic()) > 0:
            sock.settimeout(wait)
            got = len(sock.recv(1 << 16))
            if not got:
                return
            left -= got


app: WSGIApplication = Application()
if uwsgi and uwsgi.worker_id():
    # Loaded in the worker, which does not fork: what is wrong shows at once, not at the first request.
    app = _build()
