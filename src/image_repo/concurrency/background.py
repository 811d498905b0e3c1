"""Work that no request waits for: one thread and a bounded queue."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

Task = Callable[[], object]


class BackgroundWorker:
    """Runs tasks one after the other in a thread of its own, which sleeps while there are none.

    :param name: of the thread
    :param capacity: tasks that may wait
    """

    def __init__(self, name: str, capacity: int = 8) -> None:
        self._name = name
        self._capacity = capacity
        self._tasks: deque[Task] = deque()
        self._changed = threading.Condition()
        self._is_busy = False
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def submit(self, task: Task) -> None:
        """Run a task soon; where too many wait, or after the end, run it now, so that the caller is slowed down."""
        with self._changed:
            is_accepted = not self._is_closed and len(self._tasks) < self._capacity
            if is_accepted:
                self._tasks.append(task)
                self._start()
                self._changed.notify_all()
        if not is_accepted:
            _run(task)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything submitted is done; return False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._tasks and not self._is_busy, timeout)

    def close(self) -> None:
        """Finish what was submitted, and end the thread."""
        self.flush()
        with self._changed:
            self._is_closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread:
            thread.join(5.0)

    def _start(self) -> None:
        # A thread does not live on in a forked child.
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tasks or self._is_closed)
                if not self._tasks:
                    return
                task = self._tasks.popleft()
                self._is_busy = True
            _run(task)
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()


def _run(task: Task) -> None:
    try:
        task()
    except Exception:
        log.exception("background work failed")
