"""The outbox: names not yet indexed, in a file of the node."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from image_repo.concurrency.locks import is_current

log = logging.getLogger(__name__)


class Outbox:
    """Names not yet indexed, for all processes of the node; it survives them.

    :param path: of the file; None for none: then the next sweep finds the names
    :param max_bytes: of the file; names beyond that are found by their stamps
    """

    def __init__(self, path: Path | None, *, max_bytes: int = 4 << 20) -> None:
        self._max_bytes = max_bytes
        self._path = path
        self._taken = path.with_name(path.name + ".taken") if path else None

    def add(self, name: str, version: str = "") -> None:
        """Add a name; best effort.

        :param version: how the stamp has to begin; empty to index the name in any case
        """
        if self._path is None:
            return
        line = json.dumps([name, version]).encode() + b"\n"
        try:
            while not self._append(self._path, line):
                pass
        except OSError as error:
            log.info("%s is not in the outbox: %s", name, error)

    def _append(self, path: Path, line: bytes) -> bool:
        """Return whether the line was written to the file that others read from now on."""
        handle = os.open(path, _OPEN, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            if not is_current(handle, path):
                return False
            if os.fstat(handle).st_size < self._max_bytes:
                os.write(handle, line)
            return True
        finally:
            os.close(handle)

    def __len__(self) -> int:
        """Return about how many names wait."""
        count = 0
        for path in (self._path, self._taken):
            with contextlib.suppress(OSError):
                count += path.read_bytes().count(b"\n") if path else 0
        return count

    def is_empty(self) -> bool:
        return not any(path.exists() for path in (self._path, self._taken) if path)

    def take(self) -> list[tuple[str, str]]:
        """Return each name once; they stay until :meth:`done`. One process at a time may do this."""
        if self._path is None or self._taken is None:
            return []
        if not self._taken.exists():
            try:
                self._path.rename(self._taken)
            except FileNotFoundError:
                return []
        with self._taken.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another process may be writing its line
            return list(dict(_lines(file.read(2 * self._max_bytes))).items())

    def done(self) -> None:
        """Delete what was taken."""
        if self._taken:
            self._taken.unlink(missing_ok=True)


def _lines(text: bytes) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        with contextlib.suppress(ValueError, TypeError):  # a line that was cut off by the end of its process
            name, version = json.loads(line)
            yield str(name), str(version)


_OPEN = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
