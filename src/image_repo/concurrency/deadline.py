"""One deadline for each request: all that it waits for shares the time that is left.

What a request waits for a store that is silent is bounded by less: its calls share :func:`silence_left`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: monotonic seconds; infinite outside a request
_deadline: ContextVar[float] = ContextVar("image_repo_deadline", default=math.inf)

#: seconds that this request has waited in vain for a silent store; None outside a request
_silence: ContextVar[list[float] | None] = ContextVar("image_repo_silence", default=None)
#: seconds that the stores may be silent in all for one request
SILENCE_S = 2.0
#: seconds that a call may be silent, however long calls before it were: a store that works answers in less
_LEAST_SILENCE_S = 0.25


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Give what the block does this much time to wait; a deadline around it that is earlier stands."""
    token, silence = _deadline.set(until(seconds)), _silence.set([])
    try:
        yield
    finally:
        _deadline.reset(token)
        _silence.reset(silence)


def silence_left(seconds: float) -> float:
    """Return how long a call to a store may be silent: in a request at most what its other calls have left.

    :param seconds: outside of a request
    """
    waits = _silence.get()
    if waits is None:
        return seconds
    allowed = min(seconds, SILENCE_S)
    return max(min(allowed, _LEAST_SILENCE_S), allowed - sum(waits))


def silent_for(seconds: float) -> None:
    """Note that the request has waited in vain for a store."""
    waits = _silence.get()
    if waits is not None:
        waits.append(seconds)


@contextmanager
def suspended() -> Iterator[None]:
    """Do not count the time of the block: it is work or an upload, which have limits of their own."""
    before, began = _deadline.get(), time.monotonic()
    try:
        yield
    finally:
        _deadline.set(before + time.monotonic() - began)


def until(timeout: float) -> float:
    """Return the end of a wait in monotonic seconds: the timeout's, or the request's where that is earlier."""
    return min(time.monotonic() + timeout, _deadline.get())


def left(timeout: float) -> float:
    """Return how many seconds of a timeout may be waited now, at least 0."""
    return remaining(until(timeout))


def remaining(end: float) -> float:
    """Return the seconds until a moment of the monotonic clock, at least 0."""
    return max(0.0, end - time.monotonic())
