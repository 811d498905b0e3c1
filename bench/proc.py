"""What the kernel counted for a process and everything below it (proc(5))."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_PROC = Path("/proc")
_TICK = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """A process and its descendants, those that are there now."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in (_PROC / str(pid) / "task").iterdir():
                with contextlib.suppress(OSError):
                    waiting += map(int, (task / "children").read_text().split())
    return found


def cpu(root: int) -> float:
    """CPU seconds of the tree since it began, ended and waited-for children included; in steps of 10 ms."""
    ticks = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            # utime, stime, and of children that ended: cutime, cstime
            ticks += sum(map(int, (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / _TICK


def pss(root: int) -> int:
    """Bytes of memory of the tree, shared pages counted once (proportional set size)."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def noise(rounds: int = 20) -> tuple[float, float]:
    """How much of a core one busy thread gets, and how unevenly it runs.

    :returns: wall seconds for a CPU second (1.0 on an idle machine), and the slowest of equal pieces of
        work against the fastest, in CPU time
    """
    walls, cpus = [], []
    for _ in range(rounds):
        wall, used = time.perf_counter(), time.thread_time()
        sum(range(400_000))
        walls.append(time.perf_counter() - wall)
        cpus.append(time.thread_time() - used)
    return sum(walls) / sum(cpus), max(cpus) / min(cpus)
