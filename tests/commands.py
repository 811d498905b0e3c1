"""The command as people run it: in a process of its own, on a free port, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from servers.ports import free_port

from image_repo.server import address, uwsgi

COMMAND = [sys.executable, "-m", "image_repo"]
#: seconds that a process may take to start or to end
PATIENCE = 60.0


def environment(**more: str) -> dict[str, str]:
    """Ours, without what would configure an image_repo."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith(("IMAGE_REPO_", "OS_", "ST_"))}
    return {**ours, **more}


def configure(folder: Path, **settings: Any) -> Path:
    """A configuration whose every folder is inside this one; keyword arguments are settings."""
    written: dict[str, Any] = {
        "listen": f"127.0.0.1:{free_port()}",
        "pid_file": str(folder / "pid"),
        "local_file_cache_path": str(folder / "files"),
        "local_cache_configuration": {"cache_path": str(folder / "cache")},
        "persistent_store_configuration": {"path": str(folder / "originals")},
        **settings,
    }
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(written))
    return path


def listens_on(config: Path) -> str:
    return str(yaml.safe_load(config.read_text())["listen"])


def run(*arguments: str | Path, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        check=False, cwd=cwd, env=environment(**more),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
    )  # fmt: skip


def until(true: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Waits for something outside of this process."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def started(
    command: list[str], listen: str, log: Path, cwd: Path | None = None, **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that runs meanwhile; ended by SIGTERM, and killed when that does not help."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment(**more), stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        until(lambda: process.poll() is not None or address.answers(listen), f"{command} answers")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> int:
    """Asks a server to end; its exit status. Requests under way have time to come to their end."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(PATIENCE + uwsgi.MERCY_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def serving(config: Path, **more: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Our own server."""
    command = [*COMMAND, "-y", str(config), "--pid-file", str(config.parent / "pid")]
    return started(command, listens_on(config), config.parent / "log", cwd=config.parent, **more)


def connect(listen: str, timeout: float = 10) -> socket.socket:
    return socket.create_connection(address.host_and_port(listen), timeout=timeout)


def say(listen: str, *pieces: bytes, timeout: float = 10) -> bytes:
    """Sends bytes as they are and reads until the server closes."""
    with connect(listen, timeout) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))
