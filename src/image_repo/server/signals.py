"""Signals between uWSGI's master and its workers.

While uWSGI starts it drops signals or takes SIGTERM for another command, and a worker takes none before its application
is loaded: a server that is stopped meanwhile would wait for its workers for ever
(``test_a_server_that_is_still_loading_ends_when_it_is_told``). So the kernel keeps the signals back: the master takes
them once it has its handlers (:data:`MASTER_HOOKS`), a worker in :func:`end_on_signal`, also one that replaces another.
"""

from __future__ import annotations

import os
import signal
import threading

#: signals that end or restart a server or a worker
_HELD = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
#: the exit status by which uWSGI knows a worker that was told to end
_RELOAD_STATUS = 17

_MASK = sum(1 << number - 1 for number in _HELD)

#: options of uWSGI: block the signals (``sigsetmask(3)``) at the first hook whose log is filtered, and in each worker;
#: in the master let SIGTERM finish the requests, as SIGHUP does, and unblock
MASTER_HOOKS = (
    *("--hook-in-jail", f"callint:sigsetmask {_MASK}"),
    *("--hook-post-fork", f"callint:sigsetmask {_MASK}"),
    *("--hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
    *("--hook-master-start", "callint:sigsetmask 0"),
)


def end_on_signal() -> None:
    """Let a worker that is still loading end when its master says so. Called by the worker, first of all.

    A thread takes the signal, because the main thread may be in C when it comes. Once the application is loaded, uWSGI
    sets handlers of its own in place of these.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    signal.set_wakeup_fd(writer)
    threading.Thread(target=_end_on_byte, args=(reader,), name="loading-signals", daemon=True).start()
    for number in _HELD:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


def _end_on_byte(reader: int) -> None:
    while os.read(reader, 1)[0] not in _HELD:
        pass
    os._exit(_RELOAD_STATUS)
