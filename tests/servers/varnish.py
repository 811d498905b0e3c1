"""Varnish (Debian's) with a given configuration, in a folder of its own, on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.nginx import until_listening

#: seconds that it may take to end
PATIENCE = 20.0
_PATH = os.environ["PATH"] + ":/usr/sbin"


def is_installed() -> bool:
    """Whether varnishd and its module xkey are there (Debian packages: varnish, varnish-modules)."""
    modules = Path("/usr/lib").glob("*/varnish/vmods/libvmod_xkey.so")
    return shutil.which("varnishd", path=_PATH) is not None and any(modules)


@contextmanager
def running(vcl: Path, folder: Path, port: int) -> Iterator[Path]:
    """Starts Varnish, waits until it listens, and ends it afterwards; gives its output."""
    executable = shutil.which("varnishd", path=_PATH)
    assert executable, "varnishd is not installed"
    command = [executable, "-j", "none", "-F", "-a", f"127.0.0.1:{port}", "-f", str(vcl), "-n", str(folder / "work")]
    log_file = folder / "varnish.log"
    with log_file.open("wb") as out:
        process = subprocess.Popen(
            [*command, "-s", "malloc,64m", "-T", "none"], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        until_listening(port, process, log_file)
        yield log_file
    finally:
        process.terminate()
        process.wait(PATIENCE)
