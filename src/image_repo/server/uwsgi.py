"""Configuration → a running uWSGI, inside this process.

Nothing here imports ``uwsgi`` or :mod:`image_repo.wsgi`: ``import uwsgi`` works only in
modules that are imported once uWSGI runs, and the workers build the application themselves
(``--lazy-apps``), each its own. The modules of which it is made are loaded before they are
forked: so their memory is one, of which two workers would else have 20 MB more each.

The socket. Measured with 500 connections that begin a head and add a byte a second, and one honest client beside them;
and with 32 connections that ask for a 15 kB picture in memory, or find it unchanged (2 processes, logging as by
default; medians of 4 interleaved rounds, wrk and other work on the same 2 cores; the unit is nginx's static file in
the same rounds, 15.9 µs of CPU and 37,000 a second, and its 304, 10.6 µs and 61,000):

====================================  =============  ==================  ================
socket, threads of each process       honest client  hit: rate, CPU      304: rate, CPU
====================================  =============  ==================  ================
``--http11-socket``, 300              7 ms           0.83, 1.85          0.59, 2.8
``--http11-socket``, 64               none           0.91, 1.90          0.55, 2.6
``--http-socket``, 300                13 ms          0.26, 4.3           0.15, 6.5
``--http-socket``, 64                 none           0.31, 2.7           0.19, 3.7
``--http-socket``, 64, thunder-lock   none           0.30, 2.9           0.22, 4.1
====================================  =============  ==================  ================

So ``--http11-socket`` with more threads than clients that loiter: a thread is 20 kB. The kernel would wake all of them
for each new connection (that cost a millisecond); :mod:`image_repo.server.epoll` has it wake one. And as so many
threads have
one interpreter, few of them are let into Flask at a time (:mod:`image_repo.concurrency.limiter`).
Those that say nothing are the kernel's affair (``TCP_DEFER_ACCEPT``), and the long backlog is for them. (The router of
uWSGI, ``--http``, stalls for 40 ms with keep-alive.) uWSGI keeps a connection whatever anybody says, so
:mod:`image_repo.server.slow_clients` decides which answer is the last on one, ends those that idle, and lets go of
them when a
worker is to end. ``keep_alive: false`` chooses ``--http-socket``; 64 threads are better then. Behind nginx use the
uwsgi protocol (README, "For real").
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from image_repo.config import Config
from image_repo.observability.logging import descriptors

log = logging.getLogger(__name__)

#: what uWSGI itself says, and a person should see without having asked for details
_WORTH_TELLING = r"DAMN|HARAKIRI|listen queue of socket|[Ee]rror|unable to|no python application"
#: seconds between two times that a worker gives back memory, and seconds of work after which that is worth it
_GIVE_BACK_EVERY, _WORTH_IT = 2.0, 0.1
#: the largest request head that uWSGI can take, in bytes; the application judges what is below
_LARGEST_HEAD = 65_535
#: the largest piece of a chunked body, in bytes
_LARGEST_CHUNK = 16 << 20
#: signals that end a server or a worker, or start it anew
_HELD = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
#: what uWSGI calls to have the kernel keep these back, and to take them again: sigsetmask(3), of the C library
_HOLD = f"callint:sigsetmask {sum(1 << number - 1 for number in _HELD)}"
_HEAR = "callint:sigsetmask 0"
#: has a link for each thread of this process, and two more
_TASKS = Path("/proc/self/task")
#: seconds between two looks whether the master waits for this worker; it must be seen twice
_LOOK_EVERY = 0.5
#: the exit status by which uWSGI knows a worker that ended because it was told to
_RELOAD = 17
#: seconds that requests have to come to their end when the server reloads or stops
MERCY = 30
#: seconds that a start, a stop or a reload may take
PATIENCE = 60.0

#: the configuration for the workers, which are forks of this process
_handed_over: Config | None = None


def handed_over() -> Config | None:
    """The configuration that :func:`serve` was called with; None under somebody else's server."""
    return _handed_over


@dataclass(frozen=True)
class Running:
    """A server that was found by its pid file."""

    pid: int
    file: Path


def address(listen: str) -> tuple[str, int]:
    """Host and port of the setting ``listen``."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def url(config: Config) -> str:
    """Where a person on this machine finds the server."""
    host, port = address(config.listen)
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return config.public_url or f"http://{shown}:{port}"


def options(config: Config, *, pid_file: Path | None = None, reload: bool = False, verbose: bool = False) -> list[str]:
    """The options of uWSGI.

    There is no ``--limit-post``: the application answers 413 itself, in words. And no ``--harakiri``, which would end a
    long zip, and with it all that the worker is at: :mod:`image_repo.server.slow_clients` tells what is stuck from
    what takes long.

    :param reload: start anew whenever a module changes
    :param verbose: let uWSGI tell everything that it does
    """
    server = config.server
    chosen = {
        # for SIGHUP, which executes it anew: else the base python of a virtual environment is it
        "--binary-path": sys.executable,
        "--http11-socket" if server.keep_alive else "--http-socket": config.listen,
        "--module": "image_repo.wsgi:app",
        "--processes": server.processes,
        "--threads": server.threads,
        "--listen": backlog(server.backlog),
        # a little later than the doorkeeper, whose end of a connection is a clean one
        "--socket-timeout": server.socket_timeout + 5,
        "--buffer-size": _LARGEST_HEAD,
        "--chunked-input-limit": _LARGEST_CHUNK,
        "--chunked-input-timeout": server.socket_timeout + 5,
        "--worker-reload-mercy": MERCY,
        "--reload-mercy": MERCY,
    }
    if not server.keep_alive:
        chosen["--add-header"] = "Connection: close"
    if pid_file:
        chosen["--pidfile"] = pid_file
    if reload:
        chosen["--py-autoreload"] = 1
    flags = ["--master", "--need-app", "--lazy-apps", "--enable-threads", "--single-interpreter", "--vacuum"]
    flags += ["--disable-logging", "--log-master"]
    # While uWSGI starts it drops signals, or takes SIGTERM for another word, and what was blocked before, it unblocks.
    # From here on the kernel keeps them: the master takes them once it has its handlers, a worker in hear_master.
    flags += ["--hook-in-jail", _HOLD]  # the first hook of which the log is filtered
    # SIGTERM lets requests come to their end, as SIGHUP does
    flags += ["--hook-master-start", "unix_signal:15 gracefully_kill_them_all", "--hook-master-start", _HEAR]
    # Executed anew, it closes every file that it does not know; the next that is opened, a database perhaps, would get
    # the number to which the log is written.
    flags += [f"--safe-fd={number}" for number in descriptors()]
    filtered = [] if verbose else ["--log-filter", _WORTH_TELLING]
    return [*flags, *filtered, *(str(part) for pair in chosen.items() for part in pair)]


def backlog(wanted: int) -> int:
    """uWSGI refuses to start with more than the kernel allows."""
    try:
        return min(wanted, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    except (OSError, ValueError):
        return wanted


def limit_arenas() -> None:
    """Lets the threads of this process share one heap of malloc's (glibc), as MALLOC_ARENA_MAX=1 does.

    Renders in many threads otherwise leave their memory in a heap each: 446 MB instead of 152
    for eight, at the same speed. Elsewhere than on glibc nothing happens.

    Large blocks go back to the system as soon as they are free. Once one has been freed, glibc by itself
    raises the size from which they do, and eight renders of 150 megapixels left 3.3 GB behind, now 0.1. What is smaller
    stays until :func:`give_back`: with the 128 KiB at the end of the heap beyond which it goes back by default, renders
    spent a quarter of their time in the system.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-8, 1)  # M_ARENA_MAX
        libc.mallopt(-3, 4 << 20)  # M_MMAP_THRESHOLD: the pixels of Pillow lie in blocks of 16 MiB
        libc.mallopt(-1, 16 << 20)  # M_TRIM_THRESHOLD


def give_back() -> None:
    """Gives free memory back to the system from time to time, also from between what is in use. Called by each worker.

    Renditions in memory lie among what renders have left: ten rounds of Zipf end at 240 MB instead of 300.
    """

    def go_round(trim: Callable[[int], int]) -> None:
        worked = time.process_time()
        while True:
            time.sleep(_GIVE_BACK_EVERY)
            if time.process_time() - worked > _WORTH_IT:
                trim(0)
                worked = time.process_time()

    with contextlib.suppress(OSError, AttributeError):
        trim = ctypes.CDLL(None).malloc_trim
        threading.Thread(target=go_round, args=(trim,), name="give-back", daemon=True).start()


def hear_master() -> None:
    """Lets a worker that is loading end when its master says so. Called by the worker, first of all.

    uWSGI has handlers for this only when the application is loaded; until then what the master says is lost, and he
    waits for this worker for ever. A thread takes it, because the main thread may be in C when it comes.
    """
    ear, mouth = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(mouth)
    threading.Thread(target=_listen, args=(ear,), name="hear-master", daemon=True).start()
    for number in _HELD:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


def _listen(ear: int) -> None:
    """Ends this worker when a signal comes before uWSGI takes it, or was missed by it and the master waits."""
    master = Path(f"/proc/{os.getppid()}/status")
    waits = False
    while True:
        if select.select([ear], [], [], _LOOK_EVERY)[0] and os.read(ear, 1)[0] in _HELD:
            os._exit(_RELOAD)
        before, waits = waits, _is_in_handler(master)
        if before and waits and threads_are_complete():
            os.kill(os.getpid(), signal.SIGHUP)
            return


def threads_are_complete() -> bool:
    """Whether this worker has all its threads: not before it is loaded, and not when uWSGI has begun to end them."""
    return _handed_over is not None and _TASKS.stat().st_nlink - 2 >= _handed_over.server.threads


def _is_in_handler(status: Path) -> bool:
    """Whether a master is waiting for its workers: it does so inside its handler of SIGTERM, which the kernel keeps
    back meanwhile (proc(5), SigBlk)."""
    try:
        blocked = next(line for line in status.read_text().splitlines() if line.startswith("SigBlk:"))
    except OSError:
        return False
    return bool(int(blocked.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def serve(config: Config, *, pid_file: Path | None = None, reload: bool = False, verbose: bool = False) -> None:
    """Serves, in this process, until it is told to stop.

    :raises OSError: when the address cannot be listened on
    """
    global _handed_over  # noqa: PLW0603, the workers are forks: this is how they get it
    import pyuwsgi  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: PLC0415, it takes over argv

    if not is_reload():
        check_address(config.listen)
    if pid_file:
        pid_file.write_text(f"{os.getpid()}\n", encoding="ascii")  # uWSGI writes it too, but not when it reloads
    limit_arenas()
    if not reload:  # there, workers alone start anew, and are to load what has changed
        _load_modules()
    _handed_over = config
    pyuwsgi.run(options(config, pid_file=pid_file, reload=reload, verbose=verbose))


def _load_modules() -> None:
    """Loads what the workers will need."""
    from image_repo import wiring  # noqa: F401, PLC0415
    from image_repo.sync import daemon  # noqa: F401, PLC0415
    from image_repo.web import app  # noqa: F401, PLC0415

    # What is there now is not gone through for garbage: it would be written to, and so copied, in each worker.
    gc.collect()
    gc.freeze()


def is_reload() -> bool:
    """Whether uWSGI has executed this program anew, with its sockets open."""
    return "UWSGI_RELOADS" in os.environ


def check_address(listen: str) -> None:
    """Makes sure that the address is free.

    :raises OSError: when it is not, in words for a person
    """
    host, port = address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except (OSError, UnicodeError) as error:
        raise OSError(f"cannot listen on {listen}: {getattr(error, 'strerror', None) or error}") from error


# -- a server in the background ----------------------------------------------------------


def running(pid_file: Path) -> Running | None:
    """The server that left this file; None when there is none, or it is gone, or the number is another's by now."""
    try:
        pid = int(pid_file.read_text(encoding="ascii").strip())
        written = pid_file.stat().st_mtime
    except (OSError, ValueError):
        return None
    if not _is_ours(pid) or _started(pid) > written + 2:
        return None
    return Running(pid, pid_file)


def _is_ours(pid: int) -> bool:
    proc = Path("/proc") / str(pid)
    try:
        command = (proc / "cmdline").read_text(errors="replace").split("\0")[:3]
        return proc.stat().st_uid == os.geteuid() and any(Path(part).name == "image_repo" for part in command)
    except OSError:
        return False


def _started(pid: int) -> float:
    """Seconds since the epoch (proc(5): field 22 of stat, in ticks since boot)."""
    ticks = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")


def start(command: list[str], config: Config, pid_file: Path, log_file: Path) -> int:
    """Starts a server in the background and waits until it answers; its process id.

    :param command: what runs in the foreground
    :param log_file: where it writes whatever it says
    :raises OSError: when it does not come up, with the last that it said
    """
    check_address(config.listen)
    with log_file.open("ab") as out:
        begun = out.tell()
        child = subprocess.Popen(  # noqa: S603, our own command
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if child.poll() is not None:
            with log_file.open("rb") as said:
                said.seek(begun)
                last = said.read().decode("utf-8", "replace").strip()
            raise OSError(f"the server did not start:\n{last}")
        if running(pid_file) and answers(config.listen):
            return child.pid
        time.sleep(0.05)
    child.terminate()
    raise OSError(f"the server did not answer within {PATIENCE:g} s; see {log_file}")


def stop(found: Running) -> None:
    """Lets a server finish its requests and end, and waits for it.

    :raises TimeoutError: when it does not
    """
    _wait(
        lambda: not _is_ours(found.pid), f"the server (pid {found.pid}) does not end", lambda: _tell_to_end(found.pid)
    )
    found.file.unlink(missing_ok=True)


def _tell_to_end(pid: int) -> None:
    """Tells a server to end; to be said again, because one that is just starting may not have heard it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def restart(found: Running, listen: str) -> None:
    """Lets a server read its configuration and code anew, without losing a request, and waits until it has.

    :raises TimeoutError: when it does not come back
    :raises ProcessLookupError: when it ended
    """
    before = found.file.stat().st_mtime_ns
    os.kill(found.pid, signal.SIGHUP)
    _wait(
        lambda: _rewritten(found.file, before) and answers(listen), f"the server (pid {found.pid}) does not come back"
    )


def _rewritten(file: Path, before: int) -> bool:
    try:
        return file.stat().st_mtime_ns != before
    except FileNotFoundError:
        return False


def answers(listen: str) -> bool:
    """Whether a server there says that it lives."""
    host, port = address(listen)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


def _wait(done: Callable[[], bool], otherwise: str, say: Callable[[], object] = lambda: None) -> None:
    """
    :param say: called now, and again each second
    """
    began = said = time.monotonic()
    say()
    while not done():
        now = time.monotonic()
        if now > began + PATIENCE:
            raise TimeoutError(otherwise)
        if now > said + 1:
            say()
            said = now
        time.sleep(0.05)
