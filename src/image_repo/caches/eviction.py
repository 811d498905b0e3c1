"""Which entries of a bounded cache are evicted. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Priority = Literal["newest", "largest", "smallest", "thumbnail", "cost"]

#: what counts as a thumbnail, in bytes: 50x50 is 1 to 3 KiB in any format, 200x200 up to 15
THUMBNAIL = 16 << 10


class Item(NamedTuple):
    """An entry that may be evicted.

    :param path: below the folder of the cache
    :param size: in bytes
    :param used: when it was used last, seconds since the epoch
    :param cost: seconds that it took to make, less than one
    """

    path: str
    size: int
    used: float
    cost: float = 0.0


class Limits(Protocol):
    """The settings of a cache that decide about eviction."""

    @property
    def max_size(self) -> int:
        """The most bytes, 0 for no limit."""

    @property
    def max_elements(self) -> int:
        """The most entries, 0 for no limit."""

    @property
    def evict_free_threshold(self) -> float:
        """Eviction begins when less than this part is free."""

    @property
    def evict_hysteresis(self) -> float:
        """Eviction goes on until this much more is free."""

    @property
    def priority(self) -> Priority:
        """What is evicted last."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of a cache whose room is made at each write."""

    max_size: int
    max_elements: int = 0
    evict_free_threshold: float = 0.0
    evict_hysteresis: float = 0.1
    priority: Priority = "newest"


#: an entry without a known cost counts as this
_LEAST_COST_S = 0.001
#: by item and the time of the last use of all: what goes first comes first; of two that are worth the same, the least
#: recently used
_WORTH: dict[Priority, Callable[[Item, float], tuple[float, float]]] = {
    "newest": lambda item, _: (item.used, 0.0),
    "largest": lambda item, _: (item.size, item.used),
    "smallest": lambda item, _: (-item.size, item.used),
    "thumbnail": lambda item, _: (item.size <= THUMBNAIL, item.used),
    # as in GreedyDual-Size: what it costs to make again for each byte, against the time for which nobody needed it
    "cost": lambda item, now: (-(now - item.used + 1.0) * item.size / max(item.cost, _LEAST_COST_S), item.used),
}


def is_due(size: int, count: int, limits: Limits) -> bool:
    """Return whether less is free than should be.

    :param size: of all entries, in bytes
    :param count: of all entries
    """
    share = 1.0 - limits.evict_free_threshold
    return _above(size, limits.max_size * share, limits.max_size) or _above(
        count, limits.max_elements * share, limits.max_elements
    )


def evict(items: Iterable[Item], size: int, count: int, limits: Limits) -> list[Item]:
    """Return the items to evict, the least worth first, until enough is free; none unless eviction is due.

    :param items: those that may be evicted
    :param size: of all entries, also of those that may not be evicted, in bytes
    :param count: of all entries
    """
    if not is_due(size, count, limits):
        return []
    share = max(0.0, 1.0 - limits.evict_free_threshold - limits.evict_hysteresis)
    evicted: list[Item] = []
    candidates = list(items)
    now = max((item.used for item in candidates), default=0.0)
    worth = _WORTH[limits.priority]
    for item in sorted(candidates, key=lambda item: worth(item, now)):
        if not _above(size, limits.max_size * share, limits.max_size) and not _above(
            count, limits.max_elements * share, limits.max_elements
        ):
            break
        evicted.append(item)
        size -= item.size
        count -= 1
    return evicted


def _above(amount: int, bound: float, limit: int) -> bool:
    return bool(limit) and amount > bound
