"""One deadline for each request: all that it waits for shares the time that is left."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: monotonic seconds; infinite outside a request
_deadline: ContextVar[float] = ContextVar("image_repo_deadline", default=math.inf)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Give what the block does this much time to wait; a deadline around it that is earlier stands."""
    token = _deadline.set(until(seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


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
