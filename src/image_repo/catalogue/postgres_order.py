"""The order of writers over the nodes of a repository, by advisory locks of the PostgreSQL that they share.

The locks belong to a transaction (``pg_try_advisory_xact_lock``), so they hold through a pooler in front of the server,
and end with the connection of a node that was killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from image_repo.catalogue.dialect import EnginePool
from image_repo.catalogue.watchdog import Watchdog
from image_repo.concurrency import deadline
from image_repo.concurrency.locks import wait_for
from image_repo.errors import Busy, CatalogueUnavailable

#: seconds after which a server that is silent counts as gone
SILENCE_S = 2.0


class PostgresOrder:
    """Implements :class:`~image_repo.concurrency.locks.WriteOrder`.

    :param scope: the container; its writers are ordered among themselves alone
    :param connections: maximum of names that this process writes to at a time
    :param silence: seconds
    """

    def __init__(self, url: URL, scope: str, *, connections: int, silence: float = SILENCE_S) -> None:
        self._url = url.set(drivername="postgresql+psycopg")
        self._scope = scope
        self._connections = connections
        self._silence = silence
        self._pool = EnginePool(self._make_engine)
        self._watchdog = Watchdog(silence)
        self._thread = _OpenConnection()

    @contextlib.contextmanager
    def held(self, key: str, end: float, *, to_write: bool = True) -> Iterator[None]:
        """Hold a key on all nodes; several that one thread holds are freed together, with the first.

        :raises Busy: when others hold it until the end of the wait
        :raises CatalogueUnavailable: when the server does not answer
        """
        with self._connected() as connection:
            digest = hashlib.sha256(f"{self._scope}\0{key}".encode("utf-8", "surrogatepass")).digest()
            lock = sa.select(sa.func.pg_try_advisory_xact_lock(int.from_bytes(digest[:8], signed=True)))
            if not wait_for(lambda: self._answer(connection, lock) or None, end):
                raise Busy("Others write to this name for too long.")
            yield

    def confirm(self) -> None:
        """Check that the locks of this thread are still held.

        :raises CatalogueUnavailable: when they may be lost
        """
        if self._thread.connection is not None:
            self._answer(self._thread.connection, sa.select(sa.true()))

    def close(self) -> None:
        """Close the connections of this process."""
        self._pool.close()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        if self._thread.connection is not None:
            yield self._thread.connection
            return
        connection = self._thread.connection = self._connect()
        try:
            yield connection
        finally:
            self._thread.connection = None
            with contextlib.suppress(sa.exc.DBAPIError), self._watched(connection):
                connection.close()

    def _connect(self) -> sa.Connection:
        """Return a connection that answers: one of the pool may have died while it was idle."""
        end = time.monotonic() + deadline.left(self._silence)
        while True:
            try:
                connection = self._pool.get().connect()
            except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
                raise _unavailable() from error
            try:
                self._answer(connection, sa.select(sa.true()))
            except CatalogueUnavailable:
                connection.close()
                if time.monotonic() > end:
                    raise
            else:
                return connection

    def _answer(self, connection: sa.Connection, query: sa.Select[tuple[bool]]) -> bool:
        try:
            with self._watched(connection):
                return bool(connection.execute(query).scalar())
        except (sa.exc.DBAPIError, sa.exc.PendingRollbackError) as error:
            raise _unavailable() from error

    @contextlib.contextmanager
    def _watched(self, connection: sa.Connection) -> Iterator[None]:
        """Cut the connection when the server is silent."""
        driver = None if connection.invalidated or connection.closed else connection.connection.dbapi_connection
        if driver is None or driver.closed:
            yield
            return
        with self._watchdog.for_one(driver.fileno()):
            yield

    def _make_engine(self) -> sa.Engine:
        seconds = max(2, round(self._silence))  # the least that libpq takes
        self._watchdog, self._thread = Watchdog(self._silence), _OpenConnection()
        return sa.create_engine(
            self._url,
            poolclass=QueuePool,
            pool_size=self._connections,
            max_overflow=0,
            pool_timeout=self._silence,
            connect_args={
                "connect_timeout": seconds,
                "tcp_user_timeout": seconds * 1000,
                "application_name": "image_repo writer",
                "client_encoding": "UTF8",
                "prepare_threshold": None,
            },
        )


class _OpenConnection(threading.local):
    """The connection whose transaction holds the locks of this thread."""

    connection: sa.Connection | None = None


def _unavailable() -> CatalogueUnavailable:
    return CatalogueUnavailable(
        "The database that orders the writes of all nodes does not answer; nothing was written."
    )
