"""Which thread a new connection wakes: one, not all that wait; and the news that this worker is to end.

Each thread of uWSGI waits for connections with an epoll of its own, and the kernel wakes all of them for each one: of
600 threads one gets it, and the others have taken a millisecond of CPU. Registered as ``EPOLLEXCLUSIVE`` (epoll_ctl(2))
the first that waits is woken (``test_all_threads_of_the_server_are_woken_one_at_a_time``). That is always the same one,
and those behind it belong to the same process. So while there is work each thread is registered anew now and then, at
random, which puts it last and mixes the processes (``test_connections_are_spread_over_the_processes``).

Measured with 2 processes of 300 threads, a hit over a connection of its own: 41 µs of CPU and 21,000 a second, where
it was 1,240 µs and 900.

The same epolls wait for a pipe that uWSGI closes when the worker is to end: without it a restart would wait for
connections that idle (``test_a_restart_lets_go_of_connections_that_are_kept``).

Where uWSGI has other ways than these, all threads wait as they did before.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import select
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

_FDS, _INFOS = Path("/proc/self/fd"), Path("/proc/self/fdinfo")
_EPOLL = Path("anon_inode:[eventpoll]")
#: seconds in which each thread is put last once; shorter at first, as the other processes have begun as well
_ROUND_S, _FIRST_ROUND_S = 5.0, 0.5
#: seconds between two looks for threads that do not wait yet
_SCAN_INTERVAL_S = 0.05
#: seconds between two looks whether the process is busy, and the share of a core from which it is
_BUSY_INTERVAL_S, _BUSY = 1.0, 0.01


class ListenerRegistrations:
    """The epolls of this process that wait for connections.

    :param threads: how many there are to be
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        #: epoll and listening socket; they belong to uWSGI, so nothing here may be closed
        self._waiting: list[tuple[select.epoll, int]] = []
        #: handles of the epolls, which are no connections
        self.handles: set[int] = set()
        self._end = select.poll()
        self._turns = 0
        #: when the next is to be put last, in monotonic seconds
        self._due = math.inf
        self._is_busy = False
        #: monotonic seconds, and seconds of CPU
        self._looked_at, self._worked = time.monotonic(), time.process_time()
        self._random = random.Random(os.getpid())  # noqa: S311, forks would all draw the same

    def scan(self) -> int:
        """Register the threads that wait by now, so that a connection wakes one of them; return how many there are."""
        for handle, listener, pipe in _listening():
            if handle not in self.handles:  # another epoll object would close it
                self.handles.add(handle)
                epoll = select.epoll.fromfd(handle)
                self._waiting.append((epoll, listener))
                _put_last(epoll, listener)
                if pipe is not None:
                    self._end.register(pipe, 0)  # POLLHUP is always reported
        self._due, self._turns = time.monotonic() if self._waiting else math.inf, 0
        return len(self._waiting)

    def wait(self, seconds: float) -> bool:
        """Wait, put threads last meanwhile, and return whether this worker is to end, at once when it is."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            if len(self._waiting) < self._threads:
                self.scan()
                wake_at = now + _SCAN_INTERVAL_S
            elif self._turns < len(self._waiting) or self._look_whether_busy(now):
                wake_at = self._put_next_last(now)
            else:
                wake_at = now + _BUSY_INTERVAL_S
            if self._end.poll(math.ceil(max(0.0, min(wake_at, until) - time.monotonic()) * 1000)):
                return True
        return False

    def _look_whether_busy(self, now: float) -> bool:
        if now - self._looked_at >= _BUSY_INTERVAL_S:
            worked, was_busy = time.process_time(), self._is_busy
            self._is_busy = worked - self._worked > _BUSY * (now - self._looked_at)
            if self._is_busy and not was_busy:  # what was due while it slept would put all its threads last at once
                self._due = now
            self._looked_at, self._worked = now, worked
        return self._is_busy

    def _put_next_last(self, now: float) -> float:
        """Put the thread last that was first for longest, when it is due; return when the next one is."""
        if now >= self._due:
            _put_last(*self._waiting[self._turns % len(self._waiting)])
            self._turns += 1
            seconds = _FIRST_ROUND_S if self._turns < len(self._waiting) else _ROUND_S
            # A busy process does what it has missed: else its threads would stand in front for longer than those of the
            # others, and get it all the busier.
            self._due = max(self._due, now - seconds) + self._random.uniform(0, 2 * seconds / len(self._waiting))
        return self._due


def _put_last(epoll: select.epoll, listener: int) -> None:
    with contextlib.suppress(OSError):  # the thread may have ended, and its epoll with it
        if (_FDS / str(epoll.fileno())).readlink() != _EPOLL:
            return
        epoll.unregister(listener)
        epoll.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)


def _listening() -> Iterator[tuple[int, int, int | None]]:
    """Yield the handle of each epoll that waits for connections, of its listening socket, and of its pipe if any."""
    for entry in list(_FDS.iterdir()):
        with contextlib.suppress(OSError):  # it was closed meanwhile, or the kernel shows something else
            if entry.readlink() != _EPOLL:
                continue
            lines = (_INFOS / entry.name).read_text().splitlines()
            targets = [int(line.split()[1]) for line in lines if line.startswith("tfd:")]
            listeners = [handle for handle in targets if _is_listening(handle)]
            pipes = [handle for handle in targets if stat.S_ISFIFO(os.fstat(handle).st_mode)]
            if listeners:
                yield int(entry.name), listeners[0], pipes[0] if pipes else None


def _is_listening(handle: int) -> bool:
    if not stat.S_ISSOCK(os.fstat(handle).st_mode):
        return False
    with socket.socket(fileno=os.dup(handle)) as sock:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
