"""Work on several things at a time, with the outcomes in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(
    work: Callable[[T], R],
    items: Iterable[T],
    threads: int,
    ahead: int,
    discard: Callable[[R], object] = lambda _: None,
    *,
    name: str = "ahead",
) -> Iterator[R]:
    """Work on items in threads, and yield the outcomes in their order; memory does not grow with their number.

    Closing the generator ends it after the items that have begun.

    :param ahead: items that are worked on, or done, before the first of them is yielded
    :param discard: called with each outcome that is never yielded
    :param name: what the names of the threads begin with
    """
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                if not future.cancel():
                    future.add_done_callback(partial(_discard, discard))


def _discard(discard: Callable[[R], object], future: Future[R]) -> None:
    if not future.exception():
        discard(future.result())
