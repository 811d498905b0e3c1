"""Connections kept after a response (RFC 9112, section 9.3), and which response is the last on one.

uWSGI (``--http11-socket``) keeps each connection, whatever client and application say, so it is ended here
(``test_a_connection_ends_with_the_answer``).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from image_repo.server.http_guard import LAST
from image_repo.server.slow_clients import SlowClientReaper, close
from image_repo.web.closing import Closing

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class KeptConnections:
    """Ends the connections that are not to be kept.

    :param reaper: knows the connection of each thread, and when this worker is to end
    """

    def __init__(self, reaper: SlowClientReaper) -> None:
        self._reaper = reaper

    @property
    def ending(self) -> bool:
        """Whether this worker is about to end."""
        return self._reaper.ending

    def is_last(self, environ: Mapping[str, Any]) -> bool:
        """Return whether no further request is read from this connection."""
        # Behind a body in chunks uWSGI may have read on, and what it has read is lost.
        return (
            self._reaper.ending
            or "close" in environ.get("HTTP_CONNECTION", "").lower()
            or "HTTP_TRANSFER_ENCODING" in environ
        )

    def hang_up(self) -> None:
        """End the connection of this thread, behind what is still on its way."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._reaper.connection_fd())) as sock:
            close(sock)

    def wrap(self, application: WSGIApplication) -> WSGIApplication:
        """Return the application with ``Connection: close`` in its last response on a connection, which then ends."""

        def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            is_last = self.is_last(environ)

            def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
                nonlocal is_last
                is_last = is_last or LAST in environ or not _is_delimited(status, headers)
                return start_response(status, [*headers, ("Connection", "close")] if is_last else headers, *error)

            response = application(environ, start)
            return Closing(response, self.hang_up) if is_last else response

        return respond


def _is_delimited(status: str, headers: list[tuple[str, str]]) -> bool:
    """Return whether a client sees where this response ends on a kept connection (RFC 9112, section 6.3)."""
    return status.startswith(("1", "204", "304")) or any(name.lower() == "content-length" for name, _ in headers)
