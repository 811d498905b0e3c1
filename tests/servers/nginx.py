"""nginx (Debian's) with a given configuration, in a folder of its own, on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: seconds that it may take to come up
PATIENCE = 20.0


@dataclass(frozen=True)
class Nginx:
    """A running nginx.

    :param log_file: its standard output and error: the access log and the error log
    """

    port: int
    folder: Path
    log_file: Path


def place(folder: Path, shipped: Path, port: int, origin: int, more: str = "") -> Path:
    """Puts the shipped configuration, unchanged, into a folder, beside a place.conf for this place.

    :returns: the configuration to start nginx with
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "temp").mkdir(exist_ok=True)
    (folder / "place.conf").write_text(
        f"listen 127.0.0.1:{port}; set $origin 127.0.0.1:{origin}; client_max_body_size 258m; {more}\n"
    )
    return Path(shutil.copy(shipped, folder))


def place_nodes(folder: Path, docker: Path, port: int, origins: Sequence[int]) -> Path:
    """Puts the shipped configuration for two nodes, with the ports of these, into a folder.

    :param docker: the folder of what is shipped
    :returns: the configuration to start nginx with
    """
    conf = place(folder, docker / "nginx.conf", port, 0)
    upstream = (docker / "nodes" / "nodes.conf").read_text()
    for number, origin in enumerate(origins, 1):
        upstream = upstream.replace(f"node_{number}:5000", f"127.0.0.1:{origin}")
    (folder / "nodes.conf").write_text(upstream)
    place_of_nodes = (docker / "nodes" / "place.conf").read_text()
    (folder / "place.conf").write_text(place_of_nodes.replace("listen 80", f"listen 127.0.0.1:{port}"))
    return conf


def command(conf: Path, *more: str) -> list[str]:
    """How nginx is started on a configuration, in the folder of that file."""
    executable = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    assert executable, "nginx is not installed (Debian package: nginx)"
    # as root its workers would be www-data, who cannot see the folder
    user = "user root;" if os.geteuid() == 0 else ""
    return [executable, "-p", str(conf.parent), "-c", str(conf), "-e", "stderr", "-g", f"daemon off; {user}", *more]


@contextmanager
def running(conf: Path, port: int) -> Iterator[Nginx]:
    """Starts nginx, waits until it listens, and ends it afterwards."""
    log_file = conf.parent / "said.log"
    with log_file.open("wb") as out:
        process = subprocess.Popen(command(conf), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        until_listening(port, process, log_file)
        yield Nginx(port, conf.parent, log_file)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def until_listening(port: int, process: subprocess.Popen[bytes], log_file: Path) -> None:
    """Waits until somebody listens on a port, for as long as a process lives."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, log_file.read_text()
            assert time.monotonic() < deadline, log_file.read_text()
            time.sleep(0.02)
        else:
            return
