"""Configuration → a running uWSGI, inside this process.

The workers are forks that build the application themselves (``--lazy-apps``). The modules that they need are loaded
before the fork, so their memory is one: two workers would else have 20 MB more each. ``import uwsgi`` works only once
uWSGI runs, so it stands inside a function.

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

So ``--http11-socket`` with more threads than clients that loiter: a thread is 20 kB. :mod:`image_repo.server.epoll` has
a connection wake one of them, :mod:`image_repo.concurrency.limiter` lets few into Flask at a time,
:mod:`image_repo.server.idle_connections` answers hits on kept connections in one thread, and
:mod:`image_repo.server.keep_alive` ends connections. Those that say nothing are the kernel's affair
(``TCP_DEFER_ACCEPT``), and the long backlog is for them. (The router of uWSGI, ``--http``, stalls for 40 ms with
keep-alive.) ``keep_alive: false`` chooses ``--http-socket``; 64 threads are better then. Behind nginx use the uwsgi
protocol (README, "For real").
"""

from __future__ import annotations

import gc
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from image_repo.concurrency.private_folder import make_private
from image_repo.config import Config
from image_repo.observability.logging import descriptors
from image_repo.server import memory, signals
from image_repo.server.address import check_is_free, host_and_port
from image_repo.server.epoll import ListenerRegistrations
from image_repo.server.slow_clients import SlowClientReaper

#: messages of uWSGI that a person should see without having asked for details
_LOG_FILTER = r"DAMN|HARAKIRI|listen queue of socket|[Ee]rror|unable to|no python application"
#: the largest request head that uWSGI can take, in bytes; the application judges what is below
_MAX_HEAD_BYTES = 65_535
#: pairs of header fields, which the application judges: to more uWSGI says nothing
_MAX_VARS = 256
#: the largest piece of a chunked body, in bytes
_MAX_CHUNK_BYTES = 16 << 20
#: seconds by which uWSGI is more patient than the reaper, whose end of a connection is a clean one
_GRACE_S = 5
#: seconds that requests have to come to their end when the server restarts or stops
MERCY_S = 30

#: the configuration for the workers, which are forks of this process
_inherited: Config | None = None


def inherited_config() -> Config | None:
    """Return the configuration that :func:`serve` was called with; None under somebody else's server."""
    return _inherited


def running_api() -> Any:
    """Return the module that uWSGI offers to what runs in it; None under another server."""
    try:
        import uwsgi  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415
    except ImportError:
        return None
    return uwsgi


def is_worker() -> bool:
    """Return whether this process is a worker of uWSGI, ours or another, which does not fork."""
    api = running_api()
    return api is not None and api.worker_id() > 0


def start_reaper(config: Config, is_proxy: Callable[[str], bool], timeout_response: bytes) -> SlowClientReaper:
    """Start to watch the connections of this worker.

    :param is_proxy: whether an address is that of a trusted proxy, and says nothing of a client
    :param timeout_response: sent to a client whose request head is not complete in time
    """
    registrations = ListenerRegistrations(config.server.threads)
    reaper = SlowClientReaper(
        host_and_port(config.listen)[1],
        config.server.socket_timeout,
        config.server.request_timeout,
        running_api().connection_fd,
        registrations.wait,
        config.server.slow_connections_per_address,
        is_proxy,
        timeout_response,
        registrations.handles,
    )
    reaper.start()
    return reaper


def speaks_http(api: Any) -> bool:
    """Return whether uWSGI reads HTTP itself, not what a proxy before it has read."""
    return any(name.startswith("http") and name.endswith("socket") for name in api.opt)


def options(
    config: Config, fifo: Path, *, pid_file: Path | None = None, reload: bool = False, verbose: bool = False
) -> list[str]:
    """Return the options of uWSGI.

    There is no ``--limit-post``: the application answers 413 itself, in words. And no ``--harakiri``, which would end a
    long zip: :mod:`image_repo.server.slow_clients` tells what is stuck from what takes long.

    :param fifo: where the master takes its commands
    :param reload: restart whenever a module changes
    :param verbose: write all messages of uWSGI
    """
    server = config.server
    named = {
        # for SIGHUP, which executes it anew: else the base python of a virtual environment is it
        "--binary-path": sys.executable,
        "--http11-socket" if server.keep_alive else "--http-socket": config.listen,
        "--module": "image_repo.wsgi:app",
        "--processes": server.processes,
        "--threads": server.threads,
        "--listen": backlog(server.backlog),
        "--socket-timeout": server.socket_timeout + _GRACE_S,
        "--buffer-size": _MAX_HEAD_BYTES,
        "--max-vars": _MAX_VARS,
        "--chunked-input-limit": _MAX_CHUNK_BYTES,
        "--chunked-input-timeout": server.socket_timeout + _GRACE_S,
        "--master-fifo": str(fifo),
        "--worker-reload-mercy": MERCY_S,
        "--reload-mercy": MERCY_S,
    }
    if not server.keep_alive:
        named["--add-header"] = "Connection: close"
    if pid_file:
        named["--hook-as-user-atexit"] = f"unlink:{pid_file}"
    if reload:
        named["--py-autoreload"] = 1
    if not verbose:
        named["--log-filter"] = _LOG_FILTER
    flags = ["--master", "--need-app", "--lazy-apps", "--enable-threads", "--single-interpreter", "--vacuum"]
    flags += ["--disable-logging", "--log-master", *signals.OPTIONS]
    # Executed anew, it closes every file that it does not know; the next that is opened, a database perhaps, would get
    # the number to which the log is written.
    flags += [f"--safe-fd={number}" for number in descriptors()]
    return [*flags, *(str(part) for pair in named.items() for part in pair)]


def backlog(length: int) -> int:
    """Return the length of the listen queue as far as the kernel allows it: uWSGI refuses to start with more."""
    try:
        return min(length, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    except (OSError, ValueError):
        return length


def serve(config: Config, *, pid_file: Path | None = None, reload: bool = False, verbose: bool = False) -> None:
    """Serve, in this process, until it is stopped.

    :raises OSError: when the address cannot be listened on, or no folder can be written to
    """
    global _inherited  # noqa: PLW0603, the workers are forks: this is how they get it
    import pyuwsgi  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: PLC0415, it takes over argv

    if not is_reload():
        check_is_free(config.listen)
    if pid_file:
        _write_pid(pid_file)
    memory.limit_arenas()
    if not reload:  # there, workers alone start anew, and are to load what has changed
        _load_modules()
    _inherited = config
    fifo = _place_for_fifo(config)
    signals.start_commanding(fifo, MERCY_S)
    pyuwsgi.run(options(config, fifo, pid_file=pid_file, reload=reload, verbose=verbose))


def _write_pid(pid_file: Path) -> None:
    """Write our process id at once: uWSGI's own ``--pidfile`` is empty for a moment, and not written on reload."""
    beside = pid_file.with_name(f"{pid_file.name}.{os.getpid()}")
    beside.write_text(f"{os.getpid()}\n", encoding="ascii")
    beside.replace(pid_file)


def _place_for_fifo(config: Config) -> Path:
    """Return the path of a FIFO that can be made, beside the other files of this node if they have a place.

    :raises OSError: when there is no folder to write to
    """
    name = f"image_repo-{secrets.token_hex(8)}.fifo"
    folder = Path(config.local_file_cache_path)
    try:
        make_private(folder)
        return _tried(folder / name)
    except OSError:
        return _tried(Path(tempfile.gettempdir(), name))


def _tried(fifo: Path) -> Path:
    os.mkfifo(fifo)
    fifo.unlink()
    return fifo


def _load_modules() -> None:
    """Load what the workers will need."""
    from image_repo import wiring  # noqa: F401, PLC0415
    from image_repo.server import http_guard  # noqa: F401, PLC0415
    from image_repo.sync import daemon  # noqa: F401, PLC0415
    from image_repo.web import app  # noqa: F401, PLC0415

    # What is there now is not gone through for garbage: it would be written to, and so copied, in each worker.
    gc.collect()
    gc.freeze()


def is_reload() -> bool:
    """Return whether uWSGI has executed this program anew, with its sockets open."""
    return "UWSGI_RELOADS" in os.environ
