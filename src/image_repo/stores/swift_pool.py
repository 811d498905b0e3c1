"""Connections to one Swift account.

A connection of the client library serves one thread at a time, so every call leases one from a bounded
:class:`ConnectionPool`, which the containers of one account share. A refused token is renewed once, silently.
Nothing here sleeps, and nothing waits longer than its timeout.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from swiftclient import client as swift  # type: ignore[import-untyped]
from swiftclient.exceptions import ClientException  # type: ignore[import-untyped]

from image_repo.concurrency import deadline
from image_repo.concurrency.limiter import aside
from image_repo.config import Credentials, PersistentStoreConfiguration
from image_repo.errors import StoreUnavailable
from image_repo.stores.http_errors import BROKEN
from image_repo.stores.swift_account import Account
from image_repo.stores.swift_auth import Login, Token
from image_repo.stores.swift_errors import translated

T = TypeVar("T")

#: loggers of headers and whole bodies, signatures among them
_LEAKING_LOGGERS = ("swiftclient", "keystoneauth", "keystoneclient", "urllib3")
#: a call that failed sooner than this is made once more, so that a retry never doubles a long wait
_RETRY_WITHIN_S = 1.0


class ConnectionPool:
    """The connections to one account, shared by its containers.

    :param credentials: of the account
    :param accounts: folder of this node for what Swift says of its accounts; None for none
    """

    def __init__(
        self, settings: PersistentStoreConfiguration, credentials: Credentials, accounts: Path | None = None
    ) -> None:
        self._account = Account(credentials, accounts)
        self._identity = ""
        self._identity_lock = threading.Lock()
        # Their messages would reveal secrets: trouble is reported by our own exceptions.
        for name in _LEAKING_LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.settings = settings
        self.credentials = credentials
        self._login = Login(settings, credentials)
        self._slots = threading.Semaphore(settings.connections)
        #: the last one given back is the first one taken: the others' sockets may be closed by now
        self._idle: list[Any] = []

    def url(self) -> str:
        """The storage URL: of the account, without a ``/`` at its end."""
        return self._login.access().url.rstrip("/")

    def account(self) -> str:
        """Return the identity of the account, the same as long as the process runs."""
        with self._identity_lock:
            self._identity = self._identity or self._account.identity(self.url)
            return self._identity

    def run(self, action: Callable[[Any], T], *, again: bool = True, silence: float | None = None) -> T:
        """Make a call.

        :param action: gets a connection of the library, signed in
        :param again: whether the call may be made twice when its connection breaks
        :raises StoreUnavailable: for everything but :class:`Refusal`
        """
        with self.lease(silence) as lease:
            return lease.run(action, again=again)

    def lease(self, silence: float | None = None) -> Lease:
        """Take a connection until the lease is closed.

        :param silence: seconds without an answer after which a call fails; as configured where None
        :raises StoreUnavailable: when none is free in time
        """
        if not self._slots.acquire(timeout=deadline.left(self.settings.timeout)):
            raise StoreUnavailable("All connections to the store are in use.")
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        limits = self.settings.connect_timeout, silence or self.settings.timeout
        return Lease(connection, self._login, self._give, limits)

    def _connect(self) -> Any:
        # Without credentials it does not sign in by itself: the token is set before each call.
        return swift.Connection(
            retries=0,
            cacert=self.credentials.cacert,
            insecure=self.credentials.insecure,
            timeout=(self.settings.connect_timeout, self.settings.timeout),
        )

    def _give(self, connection: Any) -> None:
        self._idle.append(connection)
        self._slots.release()

    def close(self) -> None:
        """Close idle connections; new ones are made when they are needed."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()


class Lease:
    """One connection, for one thread at a time.

    :param limits: seconds of connecting and of silence
    """

    def __init__(self, connection: Any, login: Login, give: Callable[[Any], None], limits: tuple[float, float]) -> None:
        self._limits = limits
        self._connection = connection
        self._login = login
        self._give: Callable[[Any], None] | None = give

    def run(self, action: Callable[[Any], T], *, again: bool = True) -> T:
        """Make a call: with a new token where the old one is refused, on a new socket where the old one is dead.

        :raises Refusal: for an answer that the caller has to judge
        """
        began = time.monotonic()
        access = self._login.access()
        renewed = False
        while True:
            self._use(access)
            try:
                with aside():
                    return action(self._connection)
            except ClientException as error:
                if error.http_status == 401 and not renewed:
                    renewed, access = True, self._login.access(refused=access.token)
                    continue
                raise translated(error) from error
            except BROKEN as error:
                self._connection.close()
                deadline.silent_for(time.monotonic() - began)
                if again and time.monotonic() - began < _RETRY_WITHIN_S:
                    again = False
                    continue
                raise translated(error) from error
            except ValueError as error:  # a listing that is no JSON
                self._connection.close()
                raise StoreUnavailable("What the store answered cannot be read.") from error

    def _use(self, access: Token) -> None:
        if self._connection.url != access.url:
            self._connection.close()
        self._connection.url, self._connection.token = access.url, access.token
        connecting, silence = (deadline.silence_left(seconds) for seconds in self._limits)
        self._connection.timeout = connecting, silence
        if self._connection.http_conn:
            self._connection.http_conn[1].requests_args["timeout"] = connecting, silence

    def close(self, *, broken: bool = False) -> None:
        """Return the connection to the pool, once.

        :param broken: there may be bytes left on it that belong to nobody
        """
        give, self._give = self._give, None
        if give:
            if broken:
                self._connection.close()
            give(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
