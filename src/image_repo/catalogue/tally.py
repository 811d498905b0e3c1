"""Statistics of groups: values that are one, and how often they are there. Pure."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from image_repo.catalogue import Statistics, order


@dataclass(frozen=True, slots=True)
class Group:
    """A value, with its kind: in Python, true equals 1.

    :param value: a number as a double
    """

    kind: int
    value: Any
    times: int

    @property
    def place(self) -> tuple[int, Any]:
        """In the one order; text in full."""
        return self.kind, self.value if self.kind in (order.NUMBER, order.TEXT) else 0

    @property
    def told(self) -> Any:
        """The value; whole numbers without a point."""
        if self.kind != order.NUMBER:
            return self.value
        return int(self.value) if abs(self.value) < 2**53 and self.value.is_integer() else finite(self.value)


def finite(number: float) -> float:
    """A number as JSON can tell it: in place of infinity, the greatest double."""
    return min(max(number, -sys.float_info.max), sys.float_info.max)


def group(value: Any, times: int = 1) -> Group | None:
    """The group of a value; None for what is left out."""
    kind = order.kind_of(value)
    if kind in (order.MISSING, order.OTHER):
        return None
    return Group(kind, order.double(value) if kind == order.NUMBER else value, times)


class Tally:
    """Goes through groups once, and keeps no more of them than are told.

    :param most: the most values that are told
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._least: Group | None = None
        self._greatest: Group | None = None
        self._sum, self._numbers = 0.0, 0
        self._groups = 0

    def of(self, groups: Iterable[Group], count: int | None = None) -> Statistics:
        """The statistics of groups.

        :param count: documents that have the key; None where each is in one group
        """
        seen = self._seen(groups)
        frequent = heapq.nsmallest(self._most, seen, key=lambda each: (-each.times, each.place))
        for _ in seen:  # what is left where none is told
            pass
        return Statistics(
            most=self._greatest.told if self._greatest else None,
            least=self._least.told if self._least else None,
            mean=finite(self._sum / self._numbers) if self._numbers else None,
            count=count or 0,
            values=[(each.told, each.times) for each in frequent],
            more=max(0, self._groups - len(frequent)),
        )

    def _seen(self, groups: Iterable[Group]) -> Iterator[Group]:
        for each in groups:
            self._groups += 1
            if each.kind == order.NUMBER:
                self._sum += each.value * each.times
                self._numbers += each.times
            if each.kind in (order.NUMBER, order.TEXT):
                if self._least is None or each.place < self._least.place:
                    self._least = each
                if self._greatest is None or each.place > self._greatest.place:
                    self._greatest = each
            yield each
