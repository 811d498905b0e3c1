"""Stores: bytes by key. The persistent container is one, the cache container another.

The contract of every store, tested by ``tests/store_contract.py``:

* ``None`` and ``False`` mean that the store *looked*, and it is not there. A failure is
  :class:`~image_repo.errors.StoreUnavailable`, whatever the client library called it.
* A write is whole or not at all: readers see the old object or the new, never neither, never a mix.
* What is read is what was written: a body whose digest does not fit its entity tag ends in
  :class:`~image_repo.errors.OriginalDamaged`, before its last byte is handed out.
* Every call is bounded in time, and may be made from any thread.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from image_repo.errors import StoreUnavailable

#: bytes read or written at a time
CHUNK = 1 << 18

_newest: ContextVar[bool] = ContextVar("image_repo_newest", default=False)


@contextmanager
def reading_newest() -> Iterator[None]:
    """Let stores with replicas ask all of them in this block, and answer with the newest."""
    token = _newest.set(True)
    try:
        yield
    finally:
        _newest.reset(token)


def is_reading_newest() -> bool:
    """Return whether the newest of all replicas is asked for."""
    return _newest.get()


@dataclass(frozen=True, slots=True)
class Entry:
    """An object in a store, without its bytes.

    :param size: in bytes
    :param etag: changes whenever the bytes change; without quotes
    :param modified: seconds since the epoch
    :param metadata: small texts kept with the object, by lower-case name; empty in listings
    :param expires: seconds since the epoch after which the store drops it; None in listings
    """

    key: str
    size: int
    etag: str
    modified: float
    media_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Abilities of a store beyond the contract, so that no caller needs to know its class.

    :param verifies_digests: ``get`` checks every body against a digest that the store keeps itself
    :param immediate_listing: a listing shows every finished write
    :param drops_expired: it deletes objects after their expiry; otherwise they are hidden, and have to be swept
    :param longest_link: seconds for which a temporary URL can be valid; None for any time
    :param probed: what a check has found that the store can do, for people
    :param folder: of this program's own files beside the objects, where the store is a file system
    """

    verifies_digests: bool = False
    immediate_listing: bool = False
    folder: Path | None = None
    drops_expired: bool = True
    longest_link: int | None = None
    probed: str = ""


class NoContainer(StoreUnavailable):
    """The container itself is not there, and so nothing in it."""


#: of a write that was sent and not answered
OUTCOME_UNKNOWN = (
    "The store does not answer whether it has stored it: the outcome is unknown, "
    "and it is safe to repeat the same request."
)


class StoreSilent(StoreUnavailable):
    """The store did not answer in time: whether it has done what it was asked for is unknown."""


class OutOfDescriptors(StoreUnavailable):
    """This process has too many files open: it says nothing of the store."""


class NotReadable(StoreUnavailable):
    """One object or folder may not be read, or lies on a bad sector: it says nothing of the others."""

    #: to repeat it does not help
    retry_after = None


class NotOnDisk(StoreUnavailable):
    """Written objects can be read, but might not survive a loss of power."""


class Body(Protocol):
    """An open object: what it is, and its bytes, once. A context manager, because it holds a connection."""

    entry: Entry

    def __iter__(self) -> Iterator[bytes]:
        """The bytes in chunks.

        :raises StoreUnavailable: when the transfer breaks off
        :raises OriginalDamaged: instead of the last chunk, when the digest does not fit
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Store(Protocol):
    """Bytes by key. A key is a path of UTF-8 text of at most 1024 bytes."""

    #: for people: ``Swift container 'photos' at https://…``; holds no secrets
    description: str
    capabilities: Capabilities

    @property
    def identity(self) -> str:
        """The same text for every process that speaks with the same container, and for no other.

        Where only the store itself knows whose container it is, the first use asks it, and waits.
        """
        ...

    def check(self, *, create: bool = False) -> None:
        """Reach the store, and make its container where that is missing and ``create`` says so.

        :raises StoreUnavailable: with what is wrong, in words for the person at the command line
        """
        ...

    def head(self, key: str) -> Entry | None:
        """Return the entry of an object; None when there is none."""
        ...

    def get(self, key: str) -> Body | None:
        """Open an object for reading; None when there is none."""
        ...

    def put(
        self,
        key: str,
        data: bytes | BinaryIO,
        *,
        media_type: str,
        metadata: Mapping[str, str] | None = None,
        expires: float | None = None,
        overwrite: bool = True,
    ) -> Entry:
        """Store an object whole, and return once it would survive a loss of power.

        :param data: bytes, or a seekable binary file, read from its present position
        :param expires: seconds since the epoch after which the store may drop it
        :param overwrite: False to refuse where there is one already
        :raises PreconditionFailed: for that refusal
        """
        ...

    def restore_etag(self, key: str, present: str, former: str) -> bool:
        """Give an object that holds the bytes of a former time the entity tag of that time.

        :param present: its entity tag now; nothing is done where it has another one
        :returns: whether it has the former one from now on
        """
        ...

    def batch(self) -> AbstractContextManager[None]:
        """Defer flushes: what this thread writes inside survives a loss of power once the block has ended.

        :raises NotOnDisk: at its end, when it might not
        """
        ...

    def delete(self, key: str) -> bool:
        """Delete an object. False when there was none."""
        ...

    def keys(self, prefix: str = "", *, after: str = "", before: str = "") -> Iterator[Entry]:
        """Yield the objects whose key begins with ``prefix``, by code points of the key, a page at a time.

        :param after: only keys behind this one
        :param before: only keys ahead of this one
        """
        ...

    def find(self, names: Collection[str], endings: Collection[str]) -> list[Entry]:
        """Return the objects whose key is one of these names with one of these endings, in any case.

        :param endings: in lower case, with their dot; empty text for the name itself
        """
        ...

    def passed_over(self) -> list[str]:
        """Return where listings of this process passed something over that could not be read, in order."""
        ...

    def presign(self, key: str, expires: int, filename: str) -> str:
        """Return a temporary URL of an object.

        :param expires: whole seconds since the epoch
        :param filename: what a browser calls the file
        :returns: without scheme and authority where this program serves it
        :raises LinksNotConfigured: when there is no key to sign with
        """
        ...

    def verify_presigned(self, key: str, signature: str, expires: str) -> None:
        """Accept the signature of a temporary URL that this program serves.

        :raises LinkRefused, LinkExpired: when it does not hold
        """
        ...

    def stored_link_keys(self) -> tuple[str, ...]:
        """Return the two keys of temporary URLs that are stored where they are verified, empty for none.

        Behind them are keys that are verified with too. Nothing is returned where the store takes no keys.
        """
        ...

    def set_link_key(self, secret: str, *, second: bool = False) -> None:
        """Store a key of temporary URLs where they are verified.

        :param second: as the one that is only verified with
        :raises LinksNotConfigured: when the store takes none, or not this one
        """
        ...

    def close(self) -> None:
        """Close connections."""
        ...


def read_small(store: Store, key: str, max_bytes: int) -> bytes | None:
    """Return the bytes of a small object; None when there is none, and nothing of one that is larger."""
    body = store.get(key)
    if body is None:
        return None
    with body:
        return b"".join(body) if body.entry.size <= max_bytes else b""
