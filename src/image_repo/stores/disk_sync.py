"""Folders flushed to the disk, once for all threads that wait for it (group commit)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path


class FolderSyncs:
    """Flushes folders, once for all threads that wait for the same one (group commit).

    :param sync: flushes one
    """

    def __init__(self, sync: Callable[[Path], object]) -> None:
        self._sync = sync
        self._lock = threading.Lock()
        self._folders: dict[Path, _SyncTurns] = {}

    def __call__(self, folder: Path) -> None:
        with self._lock:
            turns = self._folders.setdefault(folder, _SyncTurns())
            turns.waiting += 1
            # A sync that has begun may miss what is there by now; the next one does not.
            needed = turns.begun + 1
        try:
            with turns.lock:
                if turns.done < needed:
                    self._do(folder, turns)
                if turns.trouble:
                    raise OSError(*turns.trouble.args) from turns.trouble
        finally:
            with self._lock:
                turns.waiting -= 1
                if not turns.waiting:
                    self._folders.pop(folder, None)

    def _do(self, folder: Path, turns: _SyncTurns) -> None:
        with self._lock:
            turns.begun += 1
        turns.trouble = None
        try:
            self._sync(folder)
        except OSError as error:  # a later fsync may succeed although names were lost: the error is reported once
            turns.trouble = error
        turns.done = turns.begun


class DeferredFolders(threading.local):
    """Folders that this thread flushes at the end of a batch, in order; None outside of one."""

    folders: dict[Path, None] | None = None


class _SyncTurns:
    """The syncs of one folder, one at a time: ``done`` is the last that has ended, ``trouble`` its error."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting = self.begun = self.done = 0
        self.trouble: OSError | None = None


def sync_folder(folder: Path) -> bool:
    """Flush the names in a folder to the disk. False when the folder is not there."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return True
