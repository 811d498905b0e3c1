"""Facets: the values of a key, how often each occurs, and statistics of them. Pure."""

from __future__ import annotations

import heapq
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from image_repo.catalogue import collation, encoding
from image_repo.catalogue.base import Statistics

_WORDS = {collation.NULL: None, collation.FALSE: False, collation.TRUE: True}


class Tally:
    """Counts equal values. Its memory grows with the number of different ones.

    Kinds are counted apart: in Python, true equals 1.
    """

    def __init__(self) -> None:
        self._words: Counter[int] = Counter()
        self._numbers: Counter[float] = Counter()
        self._texts: Counter[str] = Counter()

    def add(self, value: Any, times: int = 1) -> None:
        """Count a value; objects and arrays are left out."""
        kind = collation.kind_of(value)
        if kind == collation.TEXT:
            self._texts[value] += times
        elif kind == collation.NUMBER:
            self._numbers[collation.double(value)] += times
        elif kind in _WORDS:
            self._words[kind] += times

    def add_json(self, texts: Collection[str], times: Iterable[int]) -> None:
        """Count values given as stored JSON, of arrays their elements, each with how often it occurs.

        Read in one go, which takes a fifth of the time.
        """
        for value, count in zip(json.loads(f"[{','.join(texts)}]"), times, strict=True):
            if isinstance(value, str):
                self._texts[encoding.original(value)] += count
            elif type(value) in (int, float):
                self._numbers[collation.double(value)] += count
            elif isinstance(value, list):
                self.add_all((encoding.original(each) if isinstance(each, str) else each for each in value), count)
            else:
                self.add(value, count)

    def add_all(self, values: Iterable[Any], times: int = 1) -> None:
        for value in values:
            self.add(value, times)

    def add_sortable(self, rows: Iterable[tuple[bytes, int]]) -> int | None:
        """Count values written as bytes (:func:`.collation.sortable`), each with how often it occurs.

        :returns: how many there were; None at the first text that is cut off, since that may stand for several
        """
        count = 0
        for value, times in rows:
            count += times
            kind = value[0]
            if kind == collation.TEXT:
                if len(value) > collation.MOST_TEXT:
                    return None
                self._texts[encoding.original(bytes(value[1:]).decode())] += times
            elif kind == collation.NUMBER:
                self._numbers[collation.number(value)] += times
            elif kind in _WORDS:
                self._words[kind] += times
        return count

    def statistics(self, count: int, most: int) -> Statistics:
        """Return the statistics.

        :param count: documents that have the key
        :param most: the most values that are returned
        """
        values = self._frequent(most)
        numbers = self._numbers.total()
        ends = [kind for kind in (self._numbers, self._texts) if kind]
        return Statistics(
            most=_plain(max(ends[-1])) if ends else None,
            least=_plain(min(ends[0])) if ends else None,
            mean=_finite(sum(value * times for value, times in self._numbers.items()) / numbers) if numbers else None,
            count=count,
            values=values,
            more=len(self._words) + len(self._numbers) + len(self._texts) - len(values),
        )

    def _frequent(self, most: int) -> list[tuple[Any, int]]:
        """Return the most frequent values; those of equal count in the order of :mod:`.collation`."""
        kinds: list[tuple[int, Any]] = [(collation.NUMBER, self._numbers), (collation.TEXT, self._texts)]
        ranked = [(-times, kind, 0, _WORDS[kind]) for kind, times in self._words.items()]
        for kind, values in kinds:
            first = heapq.nsmallest(most, ((-times, value) for value, times in values.items()))
            ranked += [(times, kind, value, value) for times, value in first]
        frequent = heapq.nsmallest(most, ranked, key=lambda each: each[:3])
        return [(_plain(value), -times) for times, _, _, value in frequent]


def _plain(value: Any) -> Any:
    """Return whole numbers without a decimal point."""
    if not isinstance(value, float):
        return value
    return int(value) if abs(value) < 2**53 and value.is_integer() else _finite(value)


def _finite(number: float) -> float:
    """Return a number that JSON can hold: the greatest double instead of infinity."""
    return min(max(number, -sys.float_info.max), sys.float_info.max)
