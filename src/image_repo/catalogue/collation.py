"""Collation: the one order of JSON values, the same in every engine and in Python.

Missing, null, false, true, numbers, text, then everything else (arrays and objects,
which are equal among themselves). Numbers compare as IEEE doubles (RFC 8259, section 6),
text by code points.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

from image_repo.catalogue.query import Path

#: kinds, in their order
MISSING, NULL, FALSE, TRUE, NUMBER, TEXT, OTHER = range(7)
#: text beyond so many bytes of UTF-8 has no place in an index: two that begin alike stand as equal
MOST_TEXT = 240
#: stands where a path leads nowhere
NOWHERE: Any = object()


def kind_of(value: Any) -> int:
    """Return the kind of a value."""
    if isinstance(value, bool):
        return TRUE if value else FALSE
    if isinstance(value, int | float):
        return NUMBER
    if isinstance(value, str):
        return TEXT
    if value is None:
        return NULL
    return MISSING if value is NOWHERE else OTHER


def sortable(value: Any) -> bytes:
    """Return a value as bytes that compare as the values do: the kind, then the number or text."""
    kind = kind_of(value)
    head = bytes((kind,))
    if kind == NUMBER:
        return head + _sortable_number(double(value))
    if kind == TEXT:
        text: bytes = value.encode("utf-8", "surrogatepass")
        return head + text[:MOST_TEXT]
    return head


def double(number: float) -> float:
    """Return a number as an IEEE double, infinity beyond all: JSON numbers may have hundreds of digits."""
    try:
        return float(number)
    except OverflowError:
        return math.copysign(math.inf, number > 0 or -1)


def number(value: bytes) -> float:
    """Return the number that :func:`sortable` wrote."""
    bits: int = struct.unpack(">Q", value[1:])[0]
    decoded: float = struct.unpack(">d", struct.pack(">Q", bits ^ (1 << 63 if bits >> 63 else 0xFFFF_FFFF_FFFF_FFFF)))[
        0
    ]
    return decoded


def _sortable_number(number: float) -> bytes:
    """Return a double as bytes that compare as numbers do: the sign bit inverted, all bits of negative ones."""
    bits: int = struct.unpack(">Q", struct.pack(">d", number + 0.0))[0]
    ordered: bytes = struct.pack(">Q", bits ^ (0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else 1 << 63))
    return ordered


def at(document: Any, path: Path) -> Any:
    """Return the value that a document is sorted by; :data:`NOWHERE` where plain members lead nowhere.

    Where the path meets an array on its way it has no single value: that is the array.
    """
    for member in path:
        if isinstance(document, list):
            return document
        if not isinstance(document, Mapping) or member not in document:
            return NOWHERE
        document = document[member]
    return document


def reached(document: Any, path: Path) -> list[Any]:
    """Return all values that a path reaches: into objects, into each element of arrays, and of an array at its end.

    Empty where nothing is there, and for an empty array.
    """
    return [each for one in walked(document, path) for each in _elements(one)]


def walked(document: Any, path: Path) -> list[Any]:
    """Return what is at a path, into each element of arrays on the way; an array at its end as one value."""
    values = [document]
    for member in path:
        values = [each[member] for one in values for each in _elements(one) if _has(each, member)]
    return values


def _elements(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _has(value: Any, member: str) -> bool:
    return isinstance(value, Mapping) and member in value
