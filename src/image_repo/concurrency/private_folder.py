"""A folder that only this user can read, shared by the processes of a node."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def make_private(folder: Path) -> None:
    """Make a folder, and its parents, that only this user can read; or make sure that it is one.

    One that is ours and open to others is closed to them.

    :raises PermissionError: when it, or the link that stands for it, belongs to somebody else
    :raises NotADirectoryError: when something else lies there
    :raises OSError: when it cannot be made
    """
    me = os.geteuid()
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        link = folder.lstat()
        if stat.S_ISLNK(link.st_mode) and link.st_uid not in (me, 0):
            raise PermissionError(f"{folder} is a link that belongs to user {link.st_uid}, not to us ({me})") from None
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{folder} is not a folder")
    if status.st_uid != me:
        raise PermissionError(f"the folder {folder} belongs to user {status.st_uid}, not to us ({me})")
    if stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)
