"""Connections kept after a response, and which response is the last on one."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from image_repo.server.slow_clients import SlowClientReaper, _close


class KeptConnections:
    """Connections that are kept after an answer, and which answer is the last.

    uWSGI keeps them whatever anybody says, so here is decided when one is to end (RFC 9112, section 9.6), and ended.

    :param keeper: knows when this worker is to end
    :param connection: tells the handle of the connection whose request is being answered
    """

    def __init__(self, keeper: SlowClientReaper, connection: Callable[[], int]) -> None:
        self.keeper = keeper
        self._connection = connection

    @property
    def ending(self) -> bool:
        """Whether this worker is about to end."""
        return self.keeper.ending

    def is_last(self, environ: Mapping[str, Any]) -> bool:
        """Whether nothing more is read from this connection after the answer to this request."""
        # Behind a body in chunks uWSGI may have read on, and what it has read is lost.
        return (
            self.keeper.ending
            or "close" in environ.get("HTTP_CONNECTION", "").lower()
            or "HTTP_TRANSFER_ENCODING" in environ
        )

    def hang_up(self) -> None:
        """Ends the connection, behind what is still on its way."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._connection())) as sock:
            _close(sock)
