"""Notices between the nodes of a repository, by ``NOTIFY`` and ``LISTEN`` of the PostgreSQL that they share.

They are best effort: a node that misses one knows of the change within ``freshness``. Behind a pooler that gives
connections to transactions none arrives.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import selectors
from collections.abc import Callable
from functools import partial

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL

from image_repo.concurrency.background import BackgroundWorker, StoppableThread
from image_repo.concurrency.backoff import Backoff

log = logging.getLogger(__name__)

#: notices that may wait to be sent; more are dropped
_CAPACITY = 1024
#: seconds after which a server that is silent counts as gone
_SILENCE_S = 5
#: seconds until the next attempt to connect, at first and at most
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


class PostgresNotices:
    """Sends notices to the other nodes, in a thread of its own.

    :param scope: the container; its nodes alone are reached
    :param sender: names this node; it does not receive what it has sent
    """

    def __init__(self, url: URL, scope: str, sender: str) -> None:
        self._url = url.set(drivername="postgresql")
        self._sender = sender
        self.channel = "image_repo_" + hashlib.sha256(scope.encode()).hexdigest()[:16]
        self._worker = BackgroundWorker("image_repo-notices", _CAPACITY)
        self._connection: psycopg.Connection | None = None

    def send(self, text: str) -> None:
        """Send a text of at most 7,000 bytes, soon."""
        if not self._worker.offer(partial(self._send, text)):
            log.warning("the catalogue takes no notices: one is dropped")

    def read(self, payload: str) -> str | None:
        """Return the text of a notice; None where it is of this node, or of another program."""
        try:
            sender, text = json.loads(payload)
        except (ValueError, TypeError):
            return None
        return text if isinstance(text, str) and sender != self._sender else None

    def connect(self) -> psycopg.Connection:
        """Return a connection that is closed by the caller.

        :raises psycopg.Error: when there is none to be had
        """
        return psycopg.connect(
            self._url.render_as_string(hide_password=False),
            autocommit=True,
            connect_timeout=_SILENCE_S,
            tcp_user_timeout=_SILENCE_S * 1000,
            keepalives_idle=_SILENCE_S,
            keepalives_interval=_SILENCE_S,
            application_name="image_repo notices",
            client_encoding="UTF8",
            prepare_threshold=None,
        )

    def close(self) -> None:
        """Send what waits, and close the connection."""
        self._worker.close(_SILENCE_S)
        if self._connection is not None:
            self._connection.close()

    def _send(self, text: str) -> None:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self.connect()
            self._connection.execute("SELECT pg_notify(%s, %s)", (self.channel, json.dumps([self._sender, text])))
        except psycopg.Error as error:
            log.info("a notice to the other nodes is not sent: %s", error)
            if self._connection is not None:
                self._connection.close()


class NoticeListener(StoppableThread):
    """Receives the notices of other nodes.

    :param received: called with each text
    """

    def __init__(self, notices: PostgresNotices, received: Callable[[str], object]) -> None:
        super().__init__("image_repo-listener", float(_SILENCE_S))
        self._notices = notices
        self._received = received
        self._end, self._close = os.pipe()

    def close(self) -> None:
        """End after the notice that is being received."""
        os.write(self._close, b"x")
        super().close()

    def _run(self) -> None:
        backoff = Backoff(_PAUSE_S, _LONGEST_PAUSE_S)
        while not self._ended.wait(backoff.left()):
            try:
                with self._notices.connect() as connection:
                    connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._notices.channel)))
                    backoff.reset()
                    self._follow(connection)
            except psycopg.Error as error:
                pause = backoff.fail()
                log.info("notices of other nodes are not received; the next attempt in %.0f s: %s", pause, error)
        os.close(self._end)
        os.close(self._close)

    def _follow(self, connection: psycopg.Connection) -> None:
        """Receive notices until the end, without a look at the clock."""
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            selector.register(self._end, selectors.EVENT_READ)
            while not self._ended.is_set():
                if any(key.fileobj == self._end for key, _ in selector.select()):
                    return
                for notice in connection.notifies(timeout=0):
                    text = self._notices.read(notice.payload)
                    if text is not None:
                        self._take(text)

    def _take(self, text: str) -> None:
        try:
            self._received(text)
        except Exception:  # the next one may do
            log.exception("a notice of another node could not be followed")
