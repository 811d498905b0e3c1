"""Which thread is woken by a new connection: one, not all that wait.

Each thread of uWSGI waits for connections with an epoll of its own, and the kernel wakes all of them for each one:
of 600 threads one gets it, and the others have taken a millisecond of CPU. Registered as ``EPOLLEXCLUSIVE``
(epoll_ctl(2)) the first of them that waits is woken. That is always the same, and those behind it are of the same
process; but the threads of one process share an interpreter, and two connections have one each only if they come to
different ones. So now and then, one at a time and at random, each thread is registered anew, which puts it last: so
the processes stand mixed.

Measured with 2 processes of 300 threads, a hit over a connection of its own: 41 µs of CPU and 21,000 a second, where
it was 1,240 µs and 900.

It is best effort: where the kernel or the server has other ways than these, all wait as they did before.
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
_ROUND, _FIRST_ROUND = 5.0, 0.5


class ListenerRegistrations:
    """The epolls of this process that wait for connections."""

    def __init__(self) -> None:
        #: epoll and listening socket; they are not ours, so nothing here may be closed
        self._waiting: list[tuple[select.epoll, int]] = []
        self._turns = 0
        #: when the next is to be put last, in monotonic seconds
        self._due = math.inf
        self._dice = random.Random(os.getpid())  # noqa: S311, forks would all throw the same

    def begin(self) -> int:
        """Has one thread woken at a time from now on; how many there are.

        Threads that do not wait yet are woken for each connection, until this is called again.
        """
        known = {epoll.fileno() for epoll, _ in self._waiting}  # to let go of these would close them
        for handle, sock in _listening():
            if handle not in known:
                epoll = select.epoll.fromfd(handle)
                self._waiting.append((epoll, sock))
                _put_last(epoll, sock)
        self._due, self._turns = time.monotonic() if self._waiting else math.inf, 0
        return len(self._waiting)

    def rest(self, seconds: float) -> None:
        """Sleeps, and meanwhile puts those last that were first for longest."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            if now >= self._due:
                self._turn(now)
            else:
                time.sleep(min(self._due, until) - now)

    def _turn(self, now: float) -> None:
        _put_last(*self._waiting[self._turns % len(self._waiting)])
        self._turns += 1
        seconds = _FIRST_ROUND if self._turns < len(self._waiting) else _ROUND
        # A process that is held up, because it is busy, does what it has missed: else its threads would stand in
        # front for longer than those of the others, and get it all the busier.
        self._due = max(self._due, now - seconds) + self._dice.uniform(0, 2 * seconds / len(self._waiting))


def _put_last(epoll: select.epoll, sock: int) -> None:
    with contextlib.suppress(OSError):  # the thread may have ended, and its epoll with it
        if (_FDS / str(epoll.fileno())).readlink() != _EPOLL:
            return
        epoll.unregister(sock)
        try:
            epoll.register(sock, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        except OSError:
            epoll.register(sock, select.EPOLLIN)


def _listening() -> Iterator[tuple[int, int]]:
    """The handle of each epoll that waits for connections, with that of the socket on which it does."""
    for entry in list(_FDS.iterdir()):
        with contextlib.suppress(OSError):  # it was closed meanwhile, or the kernel tells something else
            if entry.readlink() != _EPOLL:
                continue
            for line in (_INFOS / entry.name).read_text().splitlines():
                if line.startswith("tfd:") and _is_listening(int(line.split()[1])):
                    yield int(entry.name), int(line.split()[1])


def _is_listening(handle: int) -> bool:
    if not stat.S_ISSOCK(os.fstat(handle).st_mode):
        return False
    with socket.socket(fileno=os.dup(handle)) as sock:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
