"""The keys with which temporary URLs of a folder are signed: configured, else in the folder itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from image_repo.errors import LinksNotConfigured
from image_repo.stores.disk_sync import sync_folder
from image_repo.stores.tempurl import new_link_key


class DiskLinkKeys:
    """At most two keys: the first signs, both verify.

    :param configured: used instead of the folder's own where there are any
    :param write: writes a file aside, flushed to the disk
    """

    def __init__(self, own: Path, configured: tuple[str, ...], write: Callable[[bytes], Path]) -> None:
        self._own = own
        self._configured = configured[:2]
        self._write = write

    def signing(self) -> str:
        """Return the key that signs, made at first use.

        :raises LinksNotConfigured: when there is none, and none can be stored
        """
        return self._configured[0] if self._configured else self._read("url_key") or self._make()

    def verifying(self) -> tuple[str, ...]:
        """Return the keys that signatures are verified with."""
        return self._configured or tuple(filter(None, (self._read("url_key"), self._read("url_key_2"))))

    def stored(self) -> tuple[str, ...]:
        """Return the keys in the folder, empty for none."""
        return self._read("url_key"), self._read("url_key_2")

    def set(self, secret: str, *, second: bool) -> None:
        """Store a key.

        :raises OSError: when that cannot be done
        """
        path = self._write(secret.encode())
        path.chmod(0o600)
        path.rename(self._own / ("url_key_2" if second else "url_key"))
        sync_folder(self._own)

    def _read(self, name: str) -> str:
        try:
            return (self._own / name).read_text().strip()
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            raise LinksNotConfigured("The key of temporary URLs cannot be read.") from error

    def _make(self) -> str:
        try:
            path = self._write(new_link_key().encode())
            try:
                path.chmod(0o600)
                # Of two processes that do this at once, one is the first, and both use its key.
                with contextlib.suppress(FileExistsError):
                    (self._own / "url_key").hardlink_to(path)
                sync_folder(self._own)
            finally:
                path.unlink()
        except OSError as error:
            raise LinksNotConfigured("There is no key for temporary URLs, and none can be kept.") from error
        return self._read("url_key")
