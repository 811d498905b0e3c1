"""Open regular files below a folder, and never outside of it: no ``..``, no symbolic links."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from image_repo.errors import BadRequest
from image_repo.stores.base import CHUNK

_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: opening a pipe must not wait for a writer; it is refused then
_BELOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_below(root: Path, relative: str) -> BinaryIO:
    """Open a file below a folder, which may itself be a link.

    :param relative: path with ``/`` between its parts
    :raises BadRequest: if it is no such file, or cannot be read
    """
    parts = [part for part in relative.split("/") if part not in ("", ".")]
    name = repr(relative[:200])
    if not parts or relative.startswith("/") or ".." in parts or "\0" in relative:
        raise BadRequest(f"{name} is no path below the folder.")
    try:
        handle = os.open(root, _ROOT)
    except OSError as error:
        raise BadRequest(f"The folder of the files cannot be read: {error.strerror}.") from error
    for part in parts:
        handle = _open_child(handle, part, name)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    raise BadRequest(f"{name} is no file.")


def _open_child(parent: int, part: str, name: str) -> int:
    """Open a child of an open folder, and close the folder."""
    try:
        if stat.S_ISLNK(os.stat(part, dir_fd=parent, follow_symlinks=False).st_mode):
            raise BadRequest(f"{name} is, or lies behind, a symbolic link: none is followed.")
        return os.open(part, _BELOW, dir_fd=parent)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadRequest(f"There is no file {name} in the folder.") from error
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "its name is no text"
        raise BadRequest(f"{name} cannot be read: {reason}.") from error
    finally:
        os.close(parent)


def chunks(root: Path, relative: str) -> Iterator[bytes]:
    """Yield the content of a file below a folder.

    :raises BadRequest: as :func:`open_below` does, on the first piece
    """
    with open_below(root, relative) as file:
        try:
            while chunk := file.read(CHUNK):
                yield chunk
        except OSError as error:
            raise BadRequest(f"{relative[:200]!r} cannot be read: {error.strerror}.") from error
