"""Signals to uWSGI's master and its workers.

uWSGI acts on a signal in its handler. One that comes while the master replaces a worker misses the new process, for
which the master then waits without end, and a worker takes none before its application is loaded. So the kernel holds
the signals of both. In the master a thread takes them and gives each to the master's loop, as a command through its
FIFO (:func:`start_commanding`); a worker takes them in :func:`end_on_signal`. A restart executes the program anew, and
they are still held then: :func:`end_while_loading`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import threading
import time
from pathlib import Path

#: signal → command of the FIFO: let the workers finish and end, restart, end at once
_COMMANDS = {signal.SIGTERM: b"q", signal.SIGHUP: b"r", signal.SIGINT: b"Q", signal.SIGQUIT: b"Q"}
_ENDING = set(_COMMANDS) - {signal.SIGHUP}
#: the exit status by which uWSGI knows a worker that was told to end
_RELOAD_STATUS = 17
#: of sigset_t
_SIGSET_BYTES = 128
_POLL_S = 0.01

_MASK = sum(1 << number - 1 for number in _COMMANDS)

#: options of uWSGI. It unblocks all signals when it begins: block ours (``sigsetmask(3)``) at its first hook whose log
#: is filtered, before there are workers. Fork as Python does: the master has a thread. SIGTERM ends the server also
#: where a thread of a library does not block it.
OPTIONS = (
    *("--hook-in-jail", f"callint:sigsetmask {_MASK}"),
    "--py-call-uwsgi-fork-hooks",
    *("--hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
)


def end_while_loading() -> None:
    """Let this process, which is no master yet, end by the signals that a master before it has held."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def start_commanding(fifo: Path, mercy: float) -> None:
    """Start to give the signals of this process to uWSGI's master, which it will become.

    :param fifo: where the master will make its FIFO, which is removed as soon as it is open
    :param mercy: seconds that workers have to end after SIGTERM; then, or at SIGINT, they are killed
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _COMMANDS)
    is_outdated = signal.SIGHUP in signal.sigpending()  # settings may have been read before they changed
    # uWSGI unblocks them for a moment, in which Python's handlers would crash.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_command, args=(fifo, mercy, is_outdated), name="signals", daemon=True).start()


def _command(fifo: Path, mercy: float, is_outdated: bool) -> None:
    while not fifo.exists():
        time.sleep(_POLL_S)
    commands = os.open(fifo, os.O_WRONLY | os.O_CLOEXEC)
    fifo.unlink()

    def send(number: signal.Signals) -> None:
        with contextlib.suppress(OSError):  # closed just before the program is executed anew
            os.write(commands, _COMMANDS[number])

    if is_outdated:
        send(signal.SIGHUP)
    # Those that end the server stay pending: a program that is executed anew at this moment ends by them.
    arrivals = select.poll()
    arrivals.register(_signalfd(), select.POLLIN)
    while not (ending := signal.sigpending() & _ENDING):
        arrivals.poll()
        if signal.sigtimedwait({signal.SIGHUP}, 0):
            send(signal.SIGHUP)
    send(min(ending))
    signal.sigtimedwait({signal.SIGINT, signal.SIGQUIT} - ending, mercy)
    for worker in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(worker), signal.SIGKILL)


def _signalfd() -> int:
    """Return a handle that is readable while one of the signals is pending (signalfd(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle: int = libc.signalfd(
        -1, (ctypes.c_ulong * (_SIGSET_BYTES // ctypes.sizeof(ctypes.c_ulong)))(_MASK), os.O_CLOEXEC
    )
    if handle < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return handle


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
