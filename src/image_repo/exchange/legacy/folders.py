"""Files below a folder that was named, and never one outside of it: no ``..``, no links, nothing but files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from image_repo.errors import BadRequest
from image_repo.stores.base import CHUNK

_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: a pipe is opened without waiting for who writes to it, and refused then
_BELOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def opened(root: Path, relative: str) -> BinaryIO:
    """Opens a file below a folder, which may itself be a link.

    :param relative: with ``/`` between its parts
    :raises BadRequest: when it is none, or cannot be read
    """
    parts = [part for part in relative.split("/") if part not in ("", ".")]
    shown = repr(relative[:200])
    if not parts or relative.startswith("/") or ".." in parts or "\0" in relative:
        raise BadRequest(f"{shown} is no path below the folder.")
    try:
        found = os.open(root, _ROOT)
    except OSError as error:
        raise BadRequest(f"The folder of the files cannot be read: {error.strerror}.") from error
    for part in parts:
        found = _step(found, part, shown)
    if stat.S_ISREG(os.fstat(found).st_mode):
        return os.fdopen(found, "rb")
    os.close(found)
    raise BadRequest(f"{shown} is no file.")


def _step(above: int, part: str, shown: str) -> int:
    """What a folder that is open holds under a name, opened; the folder is closed."""
    try:
        if stat.S_ISLNK(os.stat(part, dir_fd=above, follow_symlinks=False).st_mode):
            raise BadRequest(f"{shown} is, or lies behind, a symbolic link: none is followed.")
        return os.open(part, _BELOW, dir_fd=above)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadRequest(f"There is no file {shown} in the folder.") from error
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "its name is no text"
        raise BadRequest(f"{shown} cannot be read: {reason}.") from error
    finally:
        os.close(above)


def chunks(root: Path, relative: str) -> Iterator[bytes]:
    """The bytes of a file below a folder.

    :raises BadRequest: as :func:`opened` does, when the first of them are asked for
    """
    with opened(root, relative) as file:
        try:
            while chunk := file.read(CHUNK):
                yield chunk
        except OSError as error:
            raise BadRequest(f"{relative[:200]!r} cannot be read: {error.strerror}.") from error
