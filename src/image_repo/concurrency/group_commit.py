"""Group commit: what several threads write at the same time costs one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from image_repo.errors import Problem

T = TypeVar("T")


class GroupCommit(Generic[T]):
    """Writes items in groups: while one group is being written, the next one gathers.

    :param write: writes several items, all or none of them
    """

    def __init__(self, write: Callable[[Sequence[T]], object]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Ticket[T]] = []

    def __call__(self, item: T) -> None:
        """Write an item, with those of other threads; return when it is written.

        :raises Exception: what ``write`` raises for this item, or for all of its group where nothing can be written
        """
        ticket = _Ticket(item)
        with self._lock:
            self._waiting.append(ticket)
        with self._turn:
            if not ticket.is_done:
                self._write_group(self._gathered(ticket))
        if ticket.error is not None:
            raise ticket.error

    def _gathered(self, ticket: _Ticket[T]) -> list[_Ticket[T]]:
        with self._lock:
            group, self._waiting = self._waiting, []
        return group if ticket in group else [ticket, *group]  # the leader of its group was interrupted

    def _write_group(self, group: Sequence[_Ticket[T]]) -> None:
        try:
            self._write([ticket.item for ticket in group])
        except Exception as error:
            if len(group) > 1 and not isinstance(error, Problem):
                for ticket in group:  # it may be the fault of one of them
                    self._write_group([ticket])
                return
            for ticket in group:
                ticket.error = error
        for ticket in group:
            ticket.is_done = True


class _Ticket(Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item
        self.is_done = False
        self.error: Exception | None = None
