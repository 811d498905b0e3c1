"""Statistics from values and how often each is there. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from image_repo.catalogue import Statistics, order

#: a value without its kind would be mixed up in Python: true equals 1
Group = tuple[int, Any]


def group_of(value: Any) -> Group | None:
    """What values that are one in statistics have in common; None for those that are left out."""
    kind = order.kind_of(value)
    if kind in (order.MISSING, order.OTHER):
        return None
    return kind, order.double(value) if kind == order.NUMBER else value


def told(group: Group) -> Any:
    """The value of a group; whole numbers without a point."""
    kind, value = group
    if kind == order.NUMBER and abs(value) < 2**53 and value.is_integer():
        return int(value)
    return value


def statistics(groups: Counter[Group], count: int, most: int) -> Statistics:
    """What is told of them.

    :param count: documents that have the key
    :param most: the most values that are told
    """
    ranked = sorted(groups, key=lambda group: (-groups[group], _place(group)))
    ordered = [group for group in groups if group[0] in (order.NUMBER, order.TEXT)]
    return Statistics(
        most=told(max(ordered, key=_place)) if ordered else None,
        least=told(min(ordered, key=_place)) if ordered else None,
        mean=mean((group[1], times) for group, times in groups.items() if group[0] == order.NUMBER),
        count=count,
        values=[(told(group), groups[group]) for group in ranked[:most]],
        more=max(0, len(ranked) - most),
    )


def mean(numbers: Iterable[tuple[float, int]]) -> float | None:
    """The mean of numbers that are there so often."""
    total, times = 0.0, 0
    for number, often in numbers:
        total += number * often
        times += often
    return total / times if times else None


def _place(group: Group) -> tuple[int, Any]:
    """In the one order; text in full."""
    kind, value = group
    return kind, value if kind in (order.NUMBER, order.TEXT) else 0
