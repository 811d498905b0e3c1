"""Keyset pagination: a cursor holds the sort values and the name of the last document of a page, as text for a URL.
Pure.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from image_repo.catalogue import collation, encoding
from image_repo.catalogue.base import Document
from image_repo.catalogue.query import SortKey
from image_repo.errors import BadParameter

#: characters of a cursor: a name has 700 bytes, a value :data:`.collation.MOST_TEXT`
MOST_CHARACTERS = 8_000


_NAME = ("name",)


@dataclass(frozen=True, slots=True)
class Order:
    """An order, its paths as they are stored (:mod:`.encoding`).

    Names come last, and are never equal: what stands behind them does not count.
    """

    keys: tuple[SortKey, ...]
    names_descending: bool

    @classmethod
    def of(cls, keys: Sequence[SortKey]) -> Order:
        before: list[SortKey] = []
        for key in keys:
            if key.path == _NAME:
                return cls(tuple(before), key.descending)
            before.append(SortKey(encoding.members(key.path), key.descending))
        return cls(tuple(before), False)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in an order.

    :param values: one for each key, as :func:`.collation.sortable` writes them
    """

    values: tuple[bytes, ...]
    name: str


def of(name: str, document: Document, sorted_by: Order) -> Place:
    """Return the place of a stored document."""
    return Place(tuple(collation.sortable(collation.at(document, key.path)) for key in sorted_by.keys), name)


def dump(place: Place, sorted_by: Order) -> str:
    """Return a place as text: URL-safe base64 (RFC 4648, section 5) without padding."""
    parts = [_mark(sorted_by), *(_text(value) for value in place.values), place.name]
    return _text(json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def load(text: str, sorted_by: Order) -> Place:
    """Return the place that :func:`dump` wrote for the same order.

    :raises BadParameter: for anything else
    """
    try:
        return _read(text, sorted_by)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadParameter.expected("what the page before ended with", "after", text) from error


def _read(text: str, sorted_by: Order) -> Place:
    if len(text) > MOST_CHARACTERS:
        raise ValueError("too long")
    mark, *values, name = json.loads(_bytes(text).decode("utf-8", "surrogatepass"))
    if mark != _mark(sorted_by) or len(values) != len(sorted_by.keys) or not isinstance(name, str):
        raise ValueError("of another order")
    return Place(tuple(_checked(_bytes(value)) for value in values), encoding.storable(name))


def _checked(value: bytes) -> bytes:
    kind = value[0] if value else -1
    length = len(value) - 1
    most = {collation.NUMBER: 8, collation.TEXT: collation.MOST_TEXT}.get(kind, 0)
    if kind not in range(collation.OTHER + 1) or length > most or (kind == collation.NUMBER and length != most):
        raise ValueError("not a value")
    return value


def _mark(sorted_by: Order) -> int:
    """Return a checksum of an order."""
    spelled: list[Any] = [[list(key.path), key.descending] for key in sorted_by.keys]
    return zlib.crc32(json.dumps([sorted_by.names_descending, *spelled]).encode())


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
