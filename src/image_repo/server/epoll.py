"""Which thread a new connection wakes: one, not all that wait; and the news that this worker is to end.

Each thread of uWSGI waits for connections with an epoll of its own, and the kernel wakes all of them for each one: of
600 threads one gets it, and the others have taken a millisecond of CPU. Registered as ``EPOLLEXCLUSIVE`` (epoll_ctl(2))
the first that waits is woken (``test_all_threads_of_the_server_are_woken_one_at_a_time``). That is always the same one,
and those behind it belong to the same process. So each process registers a few of its threads anew now and then, which
puts them last: a few of one stand behind a few of another (``test_connections_are_spread_over_the_processes``). All do
so at the same pace, whether they have work or not: where only the busy ones did, each burst of 32 connections came to
one process, whose threads contended for its GIL: a hit took 90 µs of CPU instead of 45.

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
#: threads that are put last together
_BATCH = 4
#: mean seconds between two batches; shorter until each thread had its turn, as the other processes have begun as well
_INTERVAL_S, _FIRST_INTERVAL_S = 1.0, 0.025
#: seconds between two looks for threads that do not wait yet
_SCAN_INTERVAL_S = 0.05


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
        #: how often one was put last
        self._turns = 0
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
        self._turns = 0
        return len(self._waiting)

    def wait(self, seconds: float) -> bool:
        """Wait, put threads last meanwhile, and return whether this worker is to end, at once when it is."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            if len(self._waiting) < self._threads:
                self.scan()
                pause = _SCAN_INTERVAL_S
            else:
                self._put_batch_last()
                pause = _INTERVAL_S if self._turns >= self._threads else _FIRST_INTERVAL_S
                # At random: a process that always came just after another would have no thread in front for long.
                pause *= self._random.uniform(0.5, 1.5)
            if self._end.poll(math.ceil(min(pause, until - now) * 1000)):
                return True
        return False

    def _put_batch_last(self) -> None:
        for _ in range(_BATCH):
            _put_last(*self._waiting[self._turns % len(self._waiting)])
            self._turns += 1


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
