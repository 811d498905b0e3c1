"""Signals to uWSGI's master and its workers.

uWSGI acts on a signal in its handler. One that comes while the master replaces a worker misses the new process, for
which the master then waits without end, and a worker takes none before its application is loaded. So the kernel holds
the signals of both. In the master a thread takes them and gives each to the master's loop, as a command through its
FIFO (:func:`start_commanding`); a worker takes them in :func:`end_on_signal`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

#: signal → command of the FIFO: let the workers finish and end, restart, end at once
_COMMANDS = {signal.SIGTERM: b"q", signal.SIGHUP: b"r", signal.SIGINT: b"Q", signal.SIGQUIT: b"Q"}
#: the exit status by which uWSGI knows a worker that was told to end
_RELOAD_STATUS = 17
_POLL_S = 0.01

_MASK = sum(1 << number - 1 for number in _COMMANDS)

#: options of uWSGI, which unblocks all signals when it begins: block ours (``sigsetmask(3)``) at its first hook whose
#: log is filtered, before there are workers; and fork as Python does, since the master has a thread
OPTIONS = ("--hook-in-jail", f"callint:sigsetmask {_MASK}", "--py-call-uwsgi-fork-hooks")


def start_commanding(fifo: Path, mercy: float) -> None:
    """Start to give the signals of this process to uWSGI's master, which it will become.

    :param fifo: where the master will make its FIFO, which is removed as soon as it is open
    :param mercy: seconds that workers have to end after SIGTERM; then, or at SIGINT, they are killed
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the master is there: it is starting already
    signal.pthread_sigmask(signal.SIG_BLOCK, _COMMANDS)
    threading.Thread(target=_command, args=(fifo, mercy), name="signals", daemon=True).start()


def _command(fifo: Path, mercy: float) -> None:
    while not fifo.exists():
        time.sleep(_POLL_S)
    commands = os.open(fifo, os.O_WRONLY | os.O_CLOEXEC)
    fifo.unlink()
    number = None
    while number != signal.SIGTERM:
        number = signal.sigwait(_COMMANDS)
        os.write(commands, _COMMANDS[signal.Signals(number)])
    signal.sigtimedwait({signal.SIGINT, signal.SIGQUIT}, mercy)
    for worker in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        os.kill(int(worker), signal.SIGKILL)


def end_on_signal() -> None:
    """Let a worker that is still loading end when its master says so. Called by the worker, first of all.

    A thread takes the signal, because the main thread may be in C when it comes. Once the application is loaded, uWSGI
    sets handlers of its own in place of these.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    signal.set_wakeup_fd(writer)
    threading.Thread(target=_end_on_byte, args=(reader,), name="loading-signals", daemon=True).start()
    for number in _COMMANDS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _COMMANDS)


def _end_on_byte(reader: int) -> None:
    while os.read(reader, 1)[0] not in _COMMANDS:
        pass
    os._exit(_RELOAD_STATUS)
