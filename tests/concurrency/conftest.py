"""Other processes that make things, wait for them and hold render slots."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# What the processes of these tests run. "ready" goes to standard output before anything is
# asked for, "go" comes by standard input; whoever makes appends a line to the file "made".
WORKER = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from image_repo.errors import BadParameter, Problem
from image_repo.concurrency.limiter import Limiter, limits
from image_repo.concurrency.single_flight import SingleFlight

folder, mode, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
flight, limiter = SingleFlight(folder / "locks"), Limiter(limits(renders=2), folder / "locks")

def note(text):
    with (folder / "made").open("a") as file:
        file.write(text + "\\n")

def tell(text):
    print(text, flush=True)

def make():
    note("made")
    tell("making")
    if mode != "quick":
        sys.stdin.readline()
    if mode == "broken":
        raise BadParameter("crop", "Expected a crop inside the picture.", limit=3)
    (folder / "kept").write_text("result")
    return "result"

def again():
    return (folder / "kept").read_text() if (folder / "kept").exists() else None

def ask(_):
    try:
        return flight.do("a/b@1", make, again, 20.0)
    except Problem as error:
        return f"{type(error).__name__} {error.detail} {error.members}"

def hold():
    with limiter.slot(20.0):
        tell("holding")
        sys.stdin.readline()
    tell("freed")

tell("ready")
sys.stdin.readline()
if mode == "hold":
    hold()
else:
    with ThreadPoolExecutor(threads) as pool:
        for answer in list(pool.map(ask, range(threads))):
            tell("answer " + answer)
"""


class Worker:
    """Another process."""

    def __init__(self, folder: Path, mode: str, threads: int = 1) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), mode, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read_line(self) -> str:
        """The next line."""
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        """Lets it go on to the next thing."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def answers(self) -> list[str]:
        """What all of its threads got."""
        output, _ = self.process.communicate(timeout=60)
        return [line.removeprefix("answer ") for line in output.splitlines() if line.startswith("answer ")]

    def kill(self) -> None:
        """Ends it at once."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)


@pytest.fixture
def start(tmp_path):
    workers: list[Worker] = []

    def begin(mode: str, threads: int = 1) -> Worker:
        workers.append(Worker(tmp_path, mode, threads))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.kill()
        worker.process.stdin.close()
        worker.process.stdout.close()
