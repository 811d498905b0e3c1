"""Locks by polling: one holder per key, over processes, with a bound and without starvation."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from image_repo.concurrency.limiter import Limiter, limits
from image_repo.concurrency.locks import KeyedLock
from image_repo.errors import Busy

WAIT = 20.0

HOLDER = """
import sys
from pathlib import Path
from image_repo.concurrency.locks import KeyedLock

with KeyedLock(Path(sys.argv[1])).held("name", 20.0):
    print("holding", flush=True)
    sys.stdin.readline()
"""

# Six threads want a slot again and again, until standard input ends.
CROWD = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from image_repo.concurrency.limiter import Limiter, limits

limiter, ended = Limiter(limits(renders=1), Path(sys.argv[1])), threading.Event()

def work(_):
    while not ended.is_set():
        with limiter.slot(20.0):
            print("render", flush=True)
            ended.wait(0.002)

with ThreadPoolExecutor(6) as pool:
    pool.map(work, range(6))
    sys.stdin.readline()
    ended.set()
"""


def start(script: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_key_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    lock = KeyedLock(tmp_path / "locks")
    entered = threading.Event()

    def enter() -> None:
        with lock.held("name", WAIT):
            entered.set()

    with start(HOLDER, tmp_path / "locks") as holder, ThreadPoolExecutor(1) as pool:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        with pytest.raises(Busy), lock.held("name", 0.05):
            pass
        with lock.held("another name", 0.0):
            pass
        waiting = pool.submit(enter)
        assert not entered.wait(0.1)
        holder.communicate("go\n", timeout=WAIT)
        waiting.result(WAIT)
    assert list((tmp_path / "locks").iterdir()) == []


def test_waiting_for_another_process_needs_no_thread(tmp_path: Path) -> None:
    with start(HOLDER, tmp_path / "locks") as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        before = threading.active_count()
        with pytest.raises(Busy), KeyedLock(tmp_path / "locks").held("name", 0.05):
            pass
        assert threading.active_count() == before
        holder.communicate("go\n", timeout=WAIT)


def test_a_process_with_a_long_line_does_not_keep_the_slots_from_another(tmp_path: Path) -> None:
    limiter = Limiter(limits(renders=1), tmp_path / "locks")
    with start(CROWD, tmp_path / "locks") as crowd:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == "render\n"
        for _ in range(20):
            with limiter.slot(WAIT):
                pass
        rendered = Counter(crowd.communicate("end\n", timeout=WAIT)[0].split())["render"]
    # Each time one of its threads goes first, or a few: not the six that wait for 20 times.
    assert rendered < 20 * 6
