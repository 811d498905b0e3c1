"""When a cache of files has to be swept, by an estimate of how full it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from image_repo.caches.eviction import Limits

#: the folder is surveyed after this time in any case, while there are writes
_SWEEP_EVERY_S = 3_600.0
#: part of the room that one process fills before it surveys again how much the others have filled
_SURVEY_AFTER_PART = 8
#: an entry of this part of the whole is the largest that is accepted
_LARGEST_PART = 8


class FillMeter:
    """Estimates how full a folder is between two surveys: what was there, and what this process added since.

    :param resized: called with bytes and entries when the estimate changes
    """

    def __init__(self, limits: Limits, resized: Callable[[int, int], object] = lambda *_: None) -> None:
        self._limits = limits
        self._resized = resized
        self._lock = threading.Lock()
        self._known = (0, 0)
        self._added = (0, 0)
        #: how much may be added until the next survey; nothing before the first one
        self._steps = (0, 0)
        self._surveyed = 0.0

    def add(self, size: int) -> bool:
        """Count an entry; return whether a survey is due."""
        with self._lock:
            self._added = (self._added[0] + size, self._added[1] + 1)
            self._resized(self._known[0] + self._added[0], self._known[1] + self._added[1])
            limits = (self._limits.max_size, self._limits.max_elements)
            full = any(
                limit and added > step for limit, added, step in zip(limits, self._added, self._steps, strict=True)
            )
            return full or time.monotonic() - self._surveyed > _SWEEP_EVERY_S

    def has_room(self, size: int, part: float = 1.0) -> bool:
        """Return whether an entry stays within the bounds, or this part of them."""
        most, most_files = int(self._limits.max_size * part), int(self._limits.max_elements * part)
        with self._lock:
            taken, files = (known + added for known, added in zip(self._known, self._added, strict=True))
        large = bool(most) and (size > most // _LARGEST_PART or taken + size > most)
        return not large and not (most_files and files >= most_files)

    def reset(self, surveyed: tuple[int, int] | None) -> None:
        """Set bytes and number of files as surveyed; None when another process is surveying."""
        with self._lock:
            self._surveyed = time.monotonic()
            if surveyed:
                self._known, self._added = surveyed, (0, 0)
                self._resized(*surveyed)
            share = 1.0 - self._limits.evict_free_threshold
            limits = (self._limits.max_size, self._limits.max_elements)
            # Other processes add at the same time: each may fill a part of the room only.
            room = [int(limit * share) - known for limit, known in zip(limits, self._known, strict=True)]
            step = [max(left // _SURVEY_AFTER_PART, limit // 100) for left, limit in zip(room, limits, strict=True)]
            self._steps = (self._added[0] + step[0], self._added[1] + step[1])
