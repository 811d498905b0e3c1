"""Facts: the values that a document has under the indexed keys, as bytes that compare as the values do. Pure.

The key of the bands of hashes has each band, with the whole hash in place of a sort (:mod:`.near`).

A key without a sort has one *lead* for each document, the value that it is sorted by, and the elements of an array
on the way. A key with a sort has the values alone, each with the value that sorts the documents that have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from image_repo.catalogue import collation
from image_repo.catalogue.near import BANDS_PATH, HASH_PATH, bands_of
from image_repo.catalogue.query import Condition, Path, Scalar

#: in place of a sort: of leads, and of elements of arrays
LEAD, ELEMENT = b"", b"\x01"
#: kinds that are compared with greater and less
_ORDERED = (collation.NUMBER, collation.TEXT)


@dataclass(frozen=True, slots=True)
class Key:
    """An indexed key; paths as they are stored (:mod:`.encoding`).

    :param several: whether any document has had an array there
    """

    number: int
    path: Path
    sort: Path | None
    several: bool


#: key, value, sort
Fact = tuple[int, bytes, bytes]


def facts_of(document: Any, keys: Iterable[Key]) -> set[Fact]:
    """Return the facts of a document."""
    return {(key.number, *fact) for key in keys for fact in _facts(document, key)}


def has_several(document: Any, key: Key) -> bool:
    """Return whether an array is at the path, or on the way to it."""
    return isinstance(collation.at(document, key.path), list)


def _facts(document: Any, key: Key) -> Iterable[tuple[bytes, bytes]]:
    if key.path == BANDS_PATH:
        return [(collation.sortable(band), bits) for band, bits in bands_of(collation.at(document, HASH_PATH))]
    if key.sort is not None:
        sort = collation.sortable(collation.at(document, key.sort))
        return [(collation.sortable(value), sort) for value in collation.reached(document, key.path)]
    lead = collation.at(document, key.path)
    if not isinstance(lead, list):
        return [(collation.sortable(lead), LEAD)]
    elements = [(collation.sortable(value), ELEMENT) for value in collation.reached(document, key.path)]
    return [(collation.sortable(lead), LEAD), *elements]


@dataclass(frozen=True, slots=True)
class Reach:
    """What of a key's values a condition wants: points, or everything from ``low`` to before ``high``.

    :param exact: False where results have to be checked again, because long text is cut off
    :param covers: which conditions it stands for, by their place in the filter
    """

    key: Key
    points: tuple[bytes, ...]
    low: bytes
    high: bytes
    exact: bool
    covers: frozenset[int]

    @property
    def is_point(self) -> bool:
        return len(self.points) == 1

    @property
    def may_repeat(self) -> bool:
        """Whether a name can come twice."""
        return self.key.several and not self.is_point


def reaches(conditions: Sequence[Condition], keys: Iterable[Key]) -> list[Reach]:
    """Return the reaches of conditions by the indexed keys."""
    of_all: list[Reach] = []
    for key in keys:
        of_key = [
            reach
            for place, condition in enumerate(conditions)
            if condition.path == key.path and (reach := _reach(condition, key, place))
        ]
        of_all += of_key
        spans = [reach for reach in of_key if not reach.points]
        if len(spans) > 1 and not key.several:
            of_all.append(_meet(spans))
    return of_all


def _meet(spans: Sequence[Reach]) -> Reach:
    """Return the intersection of spans of single values."""
    return Reach(
        key=spans[0].key,
        points=(),
        low=max(span.low for span in spans),
        high=min(span.high for span in spans),
        exact=all(span.exact for span in spans),
        covers=frozenset().union(*(span.covers for span in spans)),
    )


def _reach(condition: Condition, key: Key, place: int) -> Reach | None:
    covers = frozenset((place,))
    if condition.op == "eq" and condition.values:
        points = tuple(sorted({collation.sortable(value) for value in condition.values}))
        return Reach(key, points, b"", b"", not any(map(_is_cut, condition.values)), covers)
    if condition.op not in ("gt", "gte", "lt", "lte"):
        return None
    (than,) = condition.values
    kind = collation.kind_of(than)
    if kind not in _ORDERED:
        return None
    low, high = bytes((kind,)), bytes((kind + 1,))
    bound, cut = collation.sortable(than), _is_cut(than)
    if condition.op in ("gt", "gte"):
        low = bound if cut or condition.op == "gte" else bound + b"\0"
    else:
        high = bound if not cut and condition.op == "lt" else bound + b"\0"
    return Reach(key, (), low, high, not cut, covers)


def _is_cut(value: Scalar) -> bool:
    return isinstance(value, str) and len(collation.sortable(value)) > collation.MOST_TEXT
