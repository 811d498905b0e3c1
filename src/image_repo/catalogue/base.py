"""The catalogue: an index over the records beside the originals. It can be deleted, and is then rebuilt.

It holds the public form of each record, and answers queries. The container stays the only truth: writers update the
index afterwards, and what it missed is found by comparing stamps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from image_repo.catalogue.query import Filter, Path, Query, SortKey

#: the public form of a record
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """What the index stores of an image.

    :param stamp: differs whenever the original's object or the record's object does; opaque here
    """

    name: str
    document: Document
    stamp: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page of documents.

    :param count: how many match in all; where not ``exact``, an estimate
    :param after: the cursor of the next page; None when this is the last
    """

    documents: list[dict[str, Any]]
    count: int
    exact: bool
    after: str | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """Over the documents that have a key: every element of an array counts by itself.

    :param most: the greatest value by :mod:`.collation` among numbers and text, None where there is none; so ``least``
    :param mean: of the numbers, None where there is none
    :param count: documents that have the key
    :param values: value and how often, the most frequent first, those of equal count in :mod:`.collation`
    :param more: how many further values there are
    """

    most: Any
    least: Any
    mean: float | None
    count: int
    values: list[tuple[Any, int]]
    more: int


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """A key that documents have.

    :param count: of documents that have it
    :param types: ``null boolean number text object list`` → documents in which it has such a value. Elements of a list
        count too, beside ``list`` itself
    """

    path: Path
    count: int
    types: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Indexed:
    """A key with an index of its own.

    :param path: of the filter, or of the order where there is no ``sort``
    :param sort: of the order of those that match; None for their names
    """

    path: Path
    sort: Path | None = None


class Index(Protocol):
    """An engine. Every call may be made from any thread, and is bounded in time.

    :raises CatalogueUnavailable: from each, when the engine does not answer
    :raises QueryTooSlow: from those that read, when it takes longer than the configuration allows
    """

    #: for people, without secrets: ``SQLite in /var/…``, ``PostgreSQL at db.example``
    description: str
    #: whether the nodes of a repository can share it
    shared: bool

    def put(self, rows: Iterable[Row]) -> None:
        """Write rows, over what was there under their names; all or none."""

    def remove(self, names: Iterable[str]) -> int:
        """Remove rows, and return how many there were."""

    def page(self, query: Query) -> Page:
        """Return a page of whole documents.

        :raises BadParameter: for an ``after`` that is no cursor of this order
        """

    def count(self, criteria: Filter) -> int:
        """Return how many documents match, exactly."""

    def each(self, criteria: Filter, order: Sequence[SortKey] = ()) -> Iterator[dict[str, Any]]:
        """Return every document that matches, page by page: bounded in memory, and nothing is locked."""

    def statistics(self, criteria: Filter, path: Path, most: int = 1_000) -> Statistics:
        """Return the values of a key (a facet), and how often each occurs.

        :param most: the most values that are returned
        """

    def keys(self, most: int = 1_000) -> tuple[list[KeyUsage], int]:
        """Return the keys of all documents, the most frequent first, and how many there are.

        :param most: the most keys that are returned
        """

    def missing_keys(self, paths: Collection[Path]) -> list[Path]:
        """Return those of some paths at which no document has anything. Too long ones are not among them."""

    def stamps(self, names: Collection[str]) -> dict[str, str]:
        """Return the stamps of those names that are indexed."""

    def names(self, after: str = "", limit: int = 1_000) -> list[str]:
        """Return names after a given one, in order."""

    def indexed(self) -> list[Indexed]:
        """Return the keys that have an index of their own."""

    def add_index(self, key: Indexed) -> None:
        """Index a key from now on; nothing where it is indexed."""

    def drop_index(self, key: Indexed) -> bool:
        """Drop the index of a key, and return whether there was one."""

    def note(self, what: str) -> str | None:
        """Return the text stored with :meth:`keep_note`, such as the progress of a rebuild."""

    def keep_note(self, what: str, text: str | None) -> None:
        """Store a short text, or delete it."""

    def clear(self) -> None:
        """Delete everything but the list of indexed keys."""

    def engine(self) -> tuple[str, int]:
        """Return the engine with its version, and its size in bytes."""

    def check(self) -> None:
        """Connect to the engine, make missing tables, and find damage."""

    def close(self) -> None:
        """Close the connections."""
