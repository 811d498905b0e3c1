"""API keys: bearer tokens of this server's own, for programs. Their hashes lie in the persistent container.

``.keys/HASH`` describes the key whose SHA-256 it is named after, so that a key is found by one look, and a copy of the
container holds none. ``.keys/closed`` is written with the first key and stays: a server whose keys are all revoked
does not open again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from image_repo.access.principal import Principal, Role, of_owner
from image_repo.concurrency.invalidation import InvalidationEpochs
from image_repo.errors import BadParameter, InvalidToken, KeyNotFound, NameConflict, StoreUnavailable
from image_repo.model.names import parse_prefix
from image_repo.model.namespaces import KEY_OWNER, owner_in
from image_repo.model.record import timestamp
from image_repo.stores.base import Store, read_small

log = logging.getLogger(__name__)

#: keys in the container begin with it
PREFIX = ".keys/"
#: API keys begin with it
TOKEN_PREFIX = "ir_"  # noqa: S105, no secret
_CLOSED = PREFIX + "closed"
_MEDIA_TYPE = "application/vnd.image-repo.key+json"
_KEY_BYTES = 32
#: of the object of a key
_MAX_BYTES = 1 << 14
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ROLES = tuple(role.name.lower() for role in Role if role)
#: seconds between two looks for the marker at least
_MIN_PAUSE_S = 1.0
#: what the attribute of an enumeration costs each request otherwise (measured: 0.07 µs)
_OPEN_ROLE, _CLOSED_ROLE = Role.WRITER, Role.NONE


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of an API key; not the key itself.

    :param prefix: the folder that it ends at, with its ``/``; empty for everything
    :param expires: RFC 3339 text; None for never
    """

    name: str
    role: str
    prefix: str = ""
    expires: str | None = None
    created: str | None = None

    @property
    def principal(self) -> Principal:
        """On whose behalf its requests are made."""
        return Principal(f"key:{self.name}", frozenset({self.role}), self.prefix)

    @property
    def scoped_principal(self) -> Principal:
        """The same where users are kept apart: a user's where the folder is one's, else one of its own."""
        if self.role == "admin":
            return self.principal
        return of_owner(self.principal, owner_in(self.prefix) or KEY_OWNER + self.name)

    @property
    def ends(self) -> float:
        """When it expires, in seconds since the epoch."""
        return datetime.fromisoformat(self.expires).timestamp() if self.expires else float("inf")

    def public(self) -> dict[str, Any]:
        """Return it as JSON members."""
        return asdict(self)


def new_key(name: str, role: str, prefix: str = "", expires: str | None = None) -> ApiKey:
    """Return a key from texts of a person.

    :param expires: a date, from whose beginning in UTC it does not hold, or a time with its zone
    :raises BadParameter, BadName: for a bad value
    """
    if not _NAME.fullmatch(name):
        raise BadParameter.expected("a name of letters, digits, '.', '_' and '-'", "name", name)
    if role not in _ROLES:
        raise BadParameter.expected(f"one of {', '.join(_ROLES)}", "role", role)
    return ApiKey(name, role, parse_prefix(prefix), expires and _moment(expires), timestamp(time.time()))


def _moment(text: str) -> str:
    try:
        return timestamp(seconds_of(text))
    except ValueError as error:
        raise BadParameter.expected("a date such as 2027-01-31", "expires", text) from error


def seconds_of(text: str) -> float:
    """Return a date or time in seconds since the epoch; in UTC where it names no zone.

    :raises ValueError: when it is neither
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class ApiKeys:
    """The API keys of a container.

    :param epochs: of the node: what one process changes holds for all at once
    :param freshness: seconds after which a key is looked up again
    :param is_scoped: whether users are kept apart (:mod:`.scope_rules`)
    """

    def __init__(
        self,
        store: Store,
        epochs: InvalidationEpochs,
        freshness: float,
        clock: Callable[[], float] = time.time,
        *,
        is_scoped: bool = False,
    ) -> None:
        self._store = store
        self._epochs = epochs
        self._slot = epochs.slot(PREFIX)
        self._freshness = freshness
        self._clock = clock
        self._is_scoped = is_scoped
        #: hash → key, kept for when the container cannot be reached
        self._known: dict[str, ApiKey] = {}

    def epoch(self) -> int:
        """Return a value that changes when a process of this node changes keys."""
        return self._epochs.at(self._slot, time.monotonic())

    def add(self, key: ApiKey) -> str:
        """Store a key; return its text, which is nowhere else.

        :raises NameConflict: when there is one of this name
        """
        if any(known.name == key.name for _, known in self._each()):
            raise NameConflict(f"There is a key {key.name!r} already.", name=key.name)
        text = TOKEN_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
        self._put(_CLOSED, {"closed": key.created})
        self._put(PREFIX + _digest(text), key.public())
        self._epochs.mark(PREFIX)
        return text

    def all(self) -> list[ApiKey]:
        """Return the keys by name."""
        return sorted((key for _, key in self._each()), key=lambda key: key.name)

    def revoke(self, name: str) -> None:
        """Delete a key.

        :raises KeyNotFound: when there is none of this name
        """
        paths = [path for path, key in self._each() if key.name == name]
        if not paths:
            raise KeyNotFound(f"There is no key {name!r}.", name=name)
        for path in paths:
            self._store.delete(path)
        self._epochs.mark(PREFIX)

    def verify(self, token: str) -> tuple[Principal, float]:
        """Return whose key it is, and until when that needs no further look, in seconds since the epoch.

        :raises InvalidToken: when it is unknown, revoked or expired
        :raises StoreUnavailable: when it is unknown and the container cannot be asked
        """
        digest, now = _digest(token), self._clock()
        try:
            key = self._read(PREFIX + digest)
        except StoreUnavailable:
            key = self._known.get(digest)
            if key is None:
                raise
        if key is None:
            self._known.pop(digest, None)
            raise InvalidToken("The key is unknown or revoked.")
        if now >= key.ends:
            raise InvalidToken("The key has expired.")
        self._known[digest] = key
        principal = key.scoped_principal if self._is_scoped else key.principal
        return principal, min(key.ends, now + self._freshness)

    def _each(self) -> Iterator[tuple[str, ApiKey]]:
        for entry in self._store.keys(PREFIX):
            key = None if entry.key == _CLOSED else self._read(entry.key)
            if key is not None:
                yield entry.key, key

    def _read(self, path: str) -> ApiKey | None:
        text = read_small(self._store, path, _MAX_BYTES)
        if text is None:
            return None
        try:
            return ApiKey(**json.loads(text))
        except (ValueError, TypeError) as error:
            log.warning("%s is no API key: %s", path, error)
            return None

    def _put(self, path: str, members: dict[str, Any]) -> None:
        self._store.put(path, json.dumps(members).encode(), media_type=_MEDIA_TYPE)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def is_marked_closed(store: Store) -> bool:
    """Return whether a key was ever made for a container."""
    return store.head(_CLOSED) is not None


class ClosingMarker:
    """What callers without credentials may where nothing says so: write, until the first key is made for the container.

    :param file: what this node knew last; None where there is no place for it
    :param freshness: seconds after which it is looked for again
    """

    def __init__(
        self,
        store: Store,
        epochs: InvalidationEpochs,
        file: Path | None,
        freshness: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._epochs = epochs
        self._slot = epochs.slot(PREFIX)
        self._file = file
        self._pause = max(freshness, _MIN_PAUSE_S)
        self._clock = clock
        self._is_closed: bool | None = None
        self._until = 0.0
        self._epoch = 0
        self._lock = threading.Lock()

    def anonymous_role(self) -> Role:
        """Return the role of callers without credentials (measured: 0.2 µs).

        :raises StoreUnavailable: when nothing is known of the marker and the container cannot be asked
        """
        if self._is_closed:
            return _CLOSED_ROLE
        now = self._clock()
        if self._is_closed is None or self._epochs.at(self._slot, now) != self._epoch:
            return _CLOSED_ROLE if self._look() else _OPEN_ROLE
        if now >= self._until:
            # A hit does not wait for the container.
            self._until = now + self._pause
            threading.Thread(target=self._look, name="closing-marker", daemon=True).start()
        return _OPEN_ROLE

    def _look(self) -> bool:
        with self._lock:
            now = self._clock()
            epoch = self._epochs.at(self._slot, now)
            try:
                is_closed = is_marked_closed(self._store)
            except StoreUnavailable:
                known = self._is_closed if self._is_closed is not None else self._last_known()
                if known is None:
                    raise
                is_closed = known
            else:
                self._remember(is_closed=is_closed)
            self._is_closed, self._epoch, self._until = is_closed, epoch, now + self._pause
            return is_closed

    def _last_known(self) -> bool | None:
        try:
            return {"closed": True, "open": False}.get(self._file.read_text()) if self._file else None
        except (OSError, ValueError):
            return None

    def _remember(self, *, is_closed: bool) -> None:
        if self._file is None or is_closed == self._is_closed:
            return
        try:
            self._file.write_text("closed" if is_closed else "open")
        except OSError as error:
            log.warning("who may is not remembered on this node: %s", error)
