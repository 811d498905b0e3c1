"""Invalidation epochs: the processes of one node learn of each other's writes through a file that they all map."""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import threading
import time
from pathlib import Path

from image_repo.concurrency.shared_file import identity, map_shared, open_shared

log = logging.getLogger(__name__)

_SLOTS = 1 << 16
_WIDTH = 8  # of a slot in bytes: an unsigned number
_FILE_BYTES = _SLOTS * _WIDTH


class InvalidationEpochs:
    """Tells the other processes of the node that a name was written to.

    A worker stores the value of :meth:`read` with what it knows of a name. When
    the value is another, some process has written to that name since. Names share 65,536
    slots: a collision costs a look at the store, never a wrong answer.

    :param path: a file of 512 KiB that all processes of the node map; None, or where it cannot be had: each
        process has its own
    :param check_every: seconds between two looks at whether the file is still the one that the others see
    """

    def __init__(self, path: Path | None, check_every: float = 1.0) -> None:
        self._path = path
        self._check_every = check_every
        self._lock = threading.Lock()
        self._has_warned = False
        self._file: tuple[int, int] | None = None
        self._slots, self._epoch = self._open()
        self._check_at = time.monotonic() + self._check_every

    def mark(self, text: str) -> None:
        """Mark a name as written to."""
        self._check()
        self._slots[_slot(text)] = _random()

    def read(self, text: str) -> int:
        """Return a value that changes with each mark of a name; to be compared within this process only."""
        return self.at(_slot(text), time.monotonic())

    def slot(self, text: str) -> int:
        """Return the slot of a name, for callers that read its mark often."""
        return _slot(text)

    def at(self, slot: int, now: float) -> int:
        """Return what :meth:`read` gives, for a known slot.

        :param now: monotonic seconds
        """
        if now > self._check_at:
            self._check()
        # The epoch makes every value another one once the file was replaced: what was marked meanwhile is not known.
        return self._epoch ^ self._slots[slot]

    def _check(self) -> None:
        """Open the file anew when it was deleted or replaced."""
        with self._lock:
            self._check_at = time.monotonic() + self._check_every
            if self._path and self._file != identity(self._path):
                self._slots, self._epoch = self._open()

    def _open(self) -> tuple[memoryview, int]:
        epoch = _random()
        try:
            return memoryview(self._share()).cast("Q"), epoch
        except OSError as error:
            if not self._has_warned:
                log.warning("the workers of this node do not hear of each other's uploads at once: %s", error)
            self._has_warned, self._file = True, identity(self._path) if self._path else None
            return memoryview(mmap.mmap(-1, _FILE_BYTES)).cast("Q"), epoch

    def _share(self) -> mmap.mmap:
        if self._path is None:
            return mmap.mmap(-1, _FILE_BYTES)
        handle = open_shared(self._path)
        try:
            shared, self._file = map_shared(handle, _FILE_BYTES), identity(handle)
        finally:
            os.close(handle)
        return shared


def _slot(text: str) -> int:
    # Not hash(): it differs from process to process.
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=2).digest()
    return int.from_bytes(digest, "big")


def _random() -> int:
    """Return a random number for a slot."""
    return int.from_bytes(os.urandom(_WIDTH), "big")
