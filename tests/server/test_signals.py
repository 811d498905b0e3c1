"""Signals of a process that stands in for uWSGI's master: what comes out of the FIFO, and the end of a stuck worker."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

MASTER = """
import os, signal, subprocess, sys
from pathlib import Path
from image_repo.server import signals

fifo, early, late = Path(sys.argv[1]), *(map(int, text.split()) for text in sys.argv[2:])
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
for number in early:
    os.kill(os.getpid(), number)
signals.start_commanding(fifo, mercy=0.2)
os.mkfifo(fifo)
with fifo.open("rb", buffering=0) as commands:
    for number in late:
        os.kill(os.getpid(), number)
        print(commands.read(1).decode(), end=" ")
    print(worker.wait(30), fifo.exists(), *map(int, signal.sigpending()))
"""
ENDING = {signal.SIGTERM: "q", signal.SIGINT: "Q", signal.SIGQUIT: "Q"}


def run_master(folder: Path, early: list[signal.Signals], late: list[signal.Signals]) -> list[str]:
    sent = [" ".join(str(int(number)) for number in numbers) for numbers in (early, late)]
    command = [sys.executable, "-c", MASTER, str(folder / "fifo"), *sent]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("restarts", [0, 2])
def test_signals_become_commands_in_their_order_and_a_worker_that_does_not_end_is_killed(
    tmp_path: Path, number: signal.Signals, restarts: int
) -> None:
    """The last one stays pending, for a program that is executed anew."""
    last = [ENDING[number], str(-signal.SIGKILL), "False", str(int(number))]
    assert run_master(tmp_path, [], [signal.SIGHUP] * restarts + [number]) == ["r"] * restarts + last


def test_a_restart_that_was_told_while_the_program_was_loading_is_not_lost(tmp_path: Path) -> None:
    assert run_master(tmp_path, [signal.SIGHUP], [signal.SIGTERM])[0] == "r"
