"""A server in the background: its pid file; start, stop, restart."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from image_repo.config import Config
from image_repo.server.address import answers, check_is_free

#: seconds that a start, a stop or a restart may take
_TIMEOUT_S = 60.0
#: seconds between two looks, and between two signals to a server that may still be starting
_POLL_S, _SIGNAL_AGAIN_S = 0.05, 1.0


def find_running(pid_file: Path) -> int | None:
    """Return the process id of the server that wrote this file; None when it is gone, or its id is another's by now."""
    try:
        pid = int(pid_file.read_text(encoding="ascii").strip())
        if _is_image_repo(pid) and _started_at(pid) <= pid_file.stat().st_mtime + 2:
            return pid
    except (OSError, ValueError):
        pass
    return None


def _is_image_repo(pid: int) -> bool:
    proc = Path("/proc") / str(pid)
    try:
        command = (proc / "cmdline").read_text(errors="replace").split("\0")[:3]
        return proc.stat().st_uid == os.geteuid() and any(Path(part).name == "image_repo" for part in command)
    except OSError:
        return False


def _started_at(pid: int) -> float:
    """Return seconds since the epoch (proc(5): field 22 of stat, in ticks since boot)."""
    ticks = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")


def start(command: list[str], config: Config, pid_file: Path, log_file: Path) -> int:
    """Start a server in the background, wait until it answers, and return its process id.

    :param command: what runs in the foreground
    :param log_file: its standard output and error
    :raises OSError: when it does not come up, with the last lines that it wrote
    """
    check_is_free(config.listen)
    with log_file.open("ab") as log:
        log_begin = log.tell()
        child = subprocess.Popen(  # noqa: S603, our own command
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def is_up() -> bool:
        if child.poll() is not None:
            with log_file.open("rb") as log:
                log.seek(log_begin)
                raise OSError("the server did not start:\n" + log.read().decode("utf-8", "replace").strip())
        return find_running(pid_file) is not None and answers(config.listen)

    try:
        _wait_until(is_up, f"the server did not answer within {_TIMEOUT_S:g} s; see {log_file}")
    except TimeoutError:
        child.terminate()
        raise
    return child.pid


def stop(pid: int, pid_file: Path) -> None:
    """Let a server finish its requests and end, and wait for it.

    :raises TimeoutError: when it does not end
    """

    def send_term() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    _wait_until(lambda: not _is_image_repo(pid), f"the server (pid {pid}) does not end", repeatedly=send_term)
    pid_file.unlink(missing_ok=True)


def restart(pid: int, pid_file: Path, listen: str) -> None:
    """Let a server read its configuration and code anew without losing a request, and wait until it has.

    :raises TimeoutError: when it does not come back
    :raises ProcessLookupError: when it ended
    """
    before = pid_file.stat().st_mtime_ns

    def is_back() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return pid_file.stat().st_mtime_ns != before and answers(listen)
        return False

    os.kill(pid, signal.SIGHUP)
    _wait_until(is_back, f"the server (pid {pid}) does not come back")


def _wait_until(is_done: Callable[[], bool], otherwise: str, repeatedly: Callable[[], object] = lambda: None) -> None:
    """
    :param repeatedly: called now, and again each second
    :raises TimeoutError: with ``otherwise``, after :data:`_TIMEOUT_S`
    """
    began = signalled = time.monotonic()
    repeatedly()
    while not is_done():
        now = time.monotonic()
        if now > began + _TIMEOUT_S:
            raise TimeoutError(otherwise)
        if now > signalled + _SIGNAL_AGAIN_S:
            repeatedly()
            signalled = now
        time.sleep(_POLL_S)
