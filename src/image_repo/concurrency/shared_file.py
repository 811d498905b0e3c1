"""Files that the processes of a node map as their common memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path


def open_shared(path: Path) -> int:
    """Return a handle of a file that this user alone may read; an empty one is made where there is none.

    :raises OSError: when that cannot be done
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def map_shared(handle: int, size: int) -> mmap.mmap:
    """Return the memory of a file.

    :param size: in bytes
    :raises OSError: when the disk has no room for them
    """
    if os.fstat(handle).st_size < size:
        # Allocated now: a store into a hole on a full disk would end the process (SIGBUS).
        os.posix_fallocate(handle, 0, size)
    return mmap.mmap(handle, size)


def identity(file: Path | int) -> tuple[int, int] | None:
    """Return what differs once another file has its name; None where there is none.

    :param file: its path or handle
    """
    try:
        status = os.stat(file)  # noqa: PTH116, a handle too
    except OSError:
        return None
    return status.st_dev, status.st_ino
