"""The catalogue: an index over the records beside the originals. Thrown away, it is made again.

It holds each record as it is told, and answers queries. The container stays the only truth: whoever
writes there tells the index afterwards, and what it missed is found by comparing stamps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from image_repo.catalogue.query import Filter, Path, Query, SortKey

#: a document: a record as it is told
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """What the index keeps of an image.

    :param stamp: differs whenever the original's object or the record's object does; opaque here
    """

    name: str
    document: Document
    stamp: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page of documents.

    :param count: how many match in all; where not ``exact``, an estimate
    :param after: what to ask for the next page with; None when this is the last
    """

    documents: list[dict[str, Any]]
    count: int
    exact: bool
    after: str | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """Over the documents that have a key: every element of an array counts by itself.

    :param most: the greatest value by :mod:`.order` among numbers and text, None where there is none; so ``least``
    :param mean: of the numbers, None where there is none
    :param count: documents that have the key
    :param values: value and how often, the most frequent first, those of equal number in :mod:`.order`
    :param more: how many further values there are
    """

    most: Any
    least: Any
    mean: float | None
    count: int
    values: list[tuple[Any, int]]
    more: int


@dataclass(frozen=True, slots=True)
class Indexed:
    """A key for which the index keeps its values in order.

    :param path: by which is filtered, or sorted where there is no ``sort``
    :param sort: by which those that match are sorted; None for their names
    """

    path: Path
    sort: Path | None = None


class Index(Protocol):
    """An engine. Every call may be made from any thread, and is bounded in time.

    :raises CatalogueUnavailable: from each, when the engine cannot be asked
    :raises QueryTooSlow: from those that read, when it takes longer than the configuration allows
    """

    #: for people, without secrets: ``SQLite in /var/…``, ``PostgreSQL at db.example``
    description: str
    #: whether the nodes of a repository can share it
    shared: bool

    def put(self, rows: Iterable[Row]) -> None:
        """Writes rows, over what was there under their names; all or none."""

    def remove(self, names: Iterable[str]) -> int:
        """Takes rows out; how many there were."""

    def page(self, query: Query) -> Page:
        """A page, whole documents.

        :raises BadParameter: for an ``after`` that is not from here
        """

    def count(self, wanted: Filter) -> int:
        """How many match, exactly."""

    def each(self, wanted: Filter, order: Sequence[SortKey] = ()) -> Iterator[dict[str, Any]]:
        """Every document that matches, in pages: memory does not grow with their number, and nothing is locked."""

    def statistics(self, wanted: Filter, path: Path, most: int = 1_000) -> Statistics:
        """What values a key has.

        :param most: the most values that are told
        """

    def named_by(self, sha256: str) -> list[str]:
        """The names whose original has this digest, in order."""

    def stamps(self, names: Collection[str]) -> dict[str, str]:
        """The stamps of those of these names that are there."""

    def names(self, after: str = "", limit: int = 1_000) -> list[str]:
        """Names behind one, in order."""

    def indexed(self) -> list[Indexed]:
        """The keys that are kept in order."""

    def add_index(self, key: Indexed) -> None:
        """Keeps a key in order from now on; nothing where it is already."""

    def drop_index(self, key: Indexed) -> bool:
        """No more; False where it was not."""

    def note(self, what: str) -> str | None:
        """What was kept under a word with :meth:`keep_note`: how far a rebuild is, for one."""

    def keep_note(self, what: str, text: str | None) -> None:
        """Keeps a short text, or forgets it."""

    def clear(self) -> None:
        """Throws everything away but the keys that are kept in order."""

    def engine(self) -> tuple[str, int]:
        """What it is, with its version, and how many bytes it takes."""

    def check(self) -> None:
        """Reaches the engine, makes its tables where they are missing, and finds damage."""

    def close(self) -> None:
        """Gives connections back."""
