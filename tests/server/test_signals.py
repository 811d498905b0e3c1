"""Signals of a process that stands in for uWSGI's master: what comes out of the FIFO, and the end of a stuck worker."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

MASTER = """
import os, signal, subprocess, sys, time
from pathlib import Path
from image_repo.server import signals

fifo = Path(sys.argv[1])
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], preexec_fn=os.setpgrp)
signals.start_commanding(fifo, mercy=0.2)
os.mkfifo(fifo)
with fifo.open("rb", buffering=0) as commands:
    for number in sys.argv[2].split(","):
        os.kill(os.getpid(), int(number))
        print(commands.read(1).decode(), end="")
    print(flush=True)
    if int(number) == signal.SIGTERM:
        print(worker.wait(30), fifo.exists())
    else:
        worker.kill()
        worker.wait()
"""


def run_master(folder: Path, *numbers: signal.Signals) -> list[str]:
    sent = ",".join(str(int(number)) for number in numbers)
    command = [sys.executable, "-c", MASTER, str(folder / "fifo"), sent]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()


def test_each_signal_becomes_a_command_in_its_order(tmp_path: Path) -> None:
    numbers = [signal.SIGHUP, signal.SIGQUIT, signal.SIGHUP, signal.SIGINT]
    assert run_master(tmp_path, *numbers) == ["rQrQ"]


@pytest.mark.parametrize("before", [[], [signal.SIGHUP]], ids=["at once", "after a restart"])
def test_a_worker_that_does_not_end_is_killed(tmp_path: Path, before: list[signal.Signals]) -> None:
    commands, ended = run_master(tmp_path, *before, signal.SIGTERM)
    assert commands == "r" * len(before) + "q"
    assert ended == f"{-signal.SIGKILL} False"
