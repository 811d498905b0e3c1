"""Sidecar files: what was put with an object, where its file and ending cannot hold it."""

# ruff: noqa: PTH112, PTH123, PTH208

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from image_repo.stores.base import Entry
from image_repo.stores.disk_sync import sync_folder

#: seconds for which the sidecar of an older write stays: that write may be in the middle of being replaced
_SUPERSEDED_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Attributes:
    """Attributes that are put with the bytes of an object."""

    media_type: str
    metadata: Mapping[str, str]
    expires: float | None

    def dump(self) -> bytes:
        """Return them as they are stored."""
        members = {"media_type": self.media_type, "metadata": dict(self.metadata), "expires": self.expires}
        return json.dumps(members).encode()

    @classmethod
    def load(cls, text: bytes) -> Attributes:
        """Read what :meth:`dump` wrote.

        :raises ValueError, KeyError, TypeError: for anything else
        """
        members: dict[str, Any] = json.loads(text)
        return cls(members["media_type"], members["metadata"], members["expires"])


class Sidecars:
    """A folder with a folder for each key, and in that a file for each entity tag.

    :param own: the folder of the store's own files
    """

    def __init__(self, own: Path) -> None:
        self._own = own
        self._root = str(own / "meta")

    def _folder(self, key: str) -> Path:
        return Path(self._root) / hashlib.sha256(key.encode()).hexdigest()

    def _are_there(self) -> bool:
        """Return whether any object has a sidecar: in most repositories none has."""
        return os.path.isdir(self._root)

    def has(self, key: str) -> bool:
        """Return whether there is a sidecar of any version of an object."""
        return self._are_there() and self._folder(key).exists()

    def read(self, key: str, entry: Entry) -> Attributes | None:
        """Return the attributes of this very object.

        A copy that lost the times (``cp -r``) is recognised by its size: its media type and metadata still hold, but
        nothing is dropped for an expiry that may have been another object's.
        """
        if not self._are_there():
            return None
        folder = self._folder(key)
        try:
            names = sorted(os.listdir(folder), reverse=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        exact = entry.etag in names
        name = entry.etag if exact else next((n for n in names if n.startswith(f"{entry.size:x}-")), None)
        if name is None:
            return None
        try:
            attributes = Attributes.load((folder / name).read_bytes())
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return attributes if exact else replace(attributes, expires=None)

    def write(self, key: str, etag: str, attributes: Attributes) -> None:
        """Store the attributes of one version, flushed to the disk."""
        folder = self._folder(key)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / etag, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            file.write(attributes.dump())
            file.flush()
            os.fsync(handle)
        for path in (folder, folder.parent, self._own):
            sync_folder(path)

    def remove(self, key: str, *, etag: str = "", keep: str = "") -> None:
        """Remove the attributes of one version, and those of superseded ones."""
        if not self._are_there():
            return
        folder = self._folder(key)
        before = time.time() - _SUPERSEDED_S
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                path = folder / name
                if name == etag or (name != keep and path.stat().st_mtime < before):
                    path.unlink()
            folder.rmdir()
