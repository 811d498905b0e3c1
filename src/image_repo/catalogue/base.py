"""The catalogue: an index over the records beside the originals. It can be deleted, and is then rebuilt.

It holds the public form of each record, and answers queries. The container stays the only truth: writers update the
index afterwards, and what it missed is found by comparing stamps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from image_repo.catalogue.query import Path

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
