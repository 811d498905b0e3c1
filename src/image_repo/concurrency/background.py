"""Work beside the requests: threads with a bounded queue, and threads that run until they are closed."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

Task = Callable[[], object]


class BackgroundWorker:
    """Runs tasks in the order of their submission, in threads that sleep while there are none.

    :param name: of the threads
    :param capacity: tasks that may wait
    :param threads: tasks that run at a time
    """

    def __init__(self, name: str, capacity: int = 8, threads: int = 1) -> None:
        self._name = name
        self._capacity = capacity
        self._most_threads = threads
        self._tasks: deque[Task] = deque()
        self._lock = threading.Lock()
        #: one thread for each task: all that sleep would contend for the GIL with the request that submitted it
        self._submitted = threading.Condition(self._lock)
        self._done = threading.Condition(self._lock)
        self._running = 0
        self._is_closed = False
        self._threads: list[threading.Thread] = []

    def submit(self, task: Task) -> None:
        """Run a task soon; where too many wait, or after the end, run it now, so that the caller is slowed down."""
        if not self.offer(task):
            _run(task)

    def offer(self, task: Task) -> bool:
        """Run a task soon; return False where too many wait, or after the end."""
        with self._lock:
            is_accepted = not self._is_closed and len(self._tasks) < self._capacity
            if is_accepted:
                self._tasks.append(task)
                self._start()
                self._submitted.notify()
        return is_accepted

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything submitted is done; return False when that took too long."""
        with self._lock:
            return self._done.wait_for(lambda: not self._tasks and not self._running, timeout)

    def close(self, timeout: float = 15.0) -> None:
        """Finish what was submitted, and end the threads.

        :param timeout: seconds to wait for both; what takes longer ends with the process
        """
        end = time.monotonic() + timeout
        self.flush(timeout)
        with self._lock:
            self._is_closed = True
            self._submitted.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _start(self) -> None:
        alive = [thread for thread in self._threads if thread.is_alive()]
        if self._threads and not alive:  # none lives on in a forked child: those that waited take no notification
            self._submitted = threading.Condition(self._lock)
        self._threads = alive
        if len(self._threads) < self._most_threads:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._submitted.wait_for(lambda: self._tasks or self._is_closed)
                if not self._tasks:
                    return
                task = self._tasks.popleft()
                self._running += 1
            _run(task)
            with self._lock:
                self._running -= 1
                self._done.notify_all()


def _run(task: Task) -> None:
    try:
        task()
    except Exception:
        log.exception("background work failed")


class StoppableThread(ABC):
    """A thread that a subclass runs until it is closed: :attr:`_ended` says so.

    :param name: of the thread
    :param timeout_s: to wait for the end of the present step
    """

    def __init__(self, name: str, timeout_s: float = 5.0) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._timeout_s = timeout_s

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End after the present step."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(self._timeout_s)

    @abstractmethod
    def _run(self) -> None:
        """Work until the end."""
