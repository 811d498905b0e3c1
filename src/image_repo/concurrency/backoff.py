"""Exponential backoff with jitter and a cap."""

from __future__ import annotations

import random
import time

#: of the system: that of the module is one state for all code of the process, and tests repeat what they draw from it
_RANDOM = random.SystemRandom()


class Backoff:
    """How long to leave alone what has failed.

    :param first: seconds of the first pause
    :param longest: seconds of the longest pause
    :param factor: of a pause to the one before
    :param jitter: the part of a pause that is random, so that several processes do not retry in step
    """

    def __init__(self, first: float, longest: float, *, factor: float = 2.0, jitter: float = 0.1) -> None:
        self._first = min(first, longest)
        self._longest = longest
        self._factor = factor
        self._jitter = jitter
        self._pause = 0.0
        self._until = 0.0

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._pause > 0

    def grow(self) -> float:
        """Return the next pause in seconds."""
        self._pause = min(max(self._first, self._factor * self._pause), self._longest)
        return self._pause * (1 - self._jitter * _RANDOM.random())

    def fail(self) -> float:
        """Begin the next pause, and return its seconds; failures during a pause are counted as one."""
        left = self.left()
        if left <= 0:
            left = self.grow()
            self._until = time.monotonic() + left
        return left

    def left(self) -> float:
        """Return the seconds until the next attempt is due; 0 or less when it is."""
        return self._until - time.monotonic()

    def reset(self) -> None:
        """Begin with the first pause again: an attempt went well."""
        self._pause = self._until = 0.0
