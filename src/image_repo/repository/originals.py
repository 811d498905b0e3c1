"""The originals' bytes: fetched, verified, and of one version."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from image_repo.errors import ImageNotFound, OriginalDamaged
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.repository.resolver import Resolver, read_record
from image_repo.repository.spool import Spool
from image_repo.stores.base import Store

log = logging.getLogger(__name__)
T = TypeVar("T")

#: how often a read begins anew when its original is replaced meanwhile
_ATTEMPTS = 3
#: an original of up to this size is held in memory, where its decoder reads it whole anyway. Measured: a temporary file
#: of 5 MB adds 4 ms to the 55 ms that decoding it takes
_MOST_IN_MEMORY_BYTES = 8 << 20


class OriginalChanged(Exception):
    """The container holds another version of the original by now."""


class Originals:
    """Reads originals from the persistent container.

    :param spool_folder: of temporary files; the system's own where None
    :param max_bytes: of an original
    """

    def __init__(self, origin: Store, resolver: Resolver, spool_folder: Path | None, max_bytes: int) -> None:
        self._origin = origin
        self._resolver = resolver
        self._spool_folder = spool_folder
        self._max_bytes = max_bytes

    @contextmanager
    def open(self, original: Original) -> Iterator[tuple[Original, Spool]]:
        """Yield the bytes in a temporary file, and the version that they are: the newest where it was replaced.

        :raises ImageNotFound: when it was deleted meanwhile
        :raises OriginalDamaged: when the bytes are not those that were stored, or never stay the same
        """
        newest, spool = self.of_one_version(original, lambda current: (current, self.read(current)))
        with spool:
            yield newest, spool

    def of_one_version(self, original: Original, read: Callable[[Original], T]) -> T:
        """Return what ``read`` returns, which begins anew while it raises :class:`OriginalChanged`.

        :raises ImageNotFound: when the original was deleted meanwhile
        :raises OriginalDamaged: when it does not stay the same
        """
        for attempt in range(_ATTEMPTS):
            try:
                return read(original)
            except OriginalChanged:
                if attempt < _ATTEMPTS - 1:
                    original = self._resolve_now(original.name)
        raise OriginalDamaged("The original does not stay the same while it is read.")

    def read(self, original: Original) -> Spool:
        """Return the bytes of this very version in a temporary file, verified; the caller closes it.

        :raises OriginalChanged: when the container holds another version by now
        :raises OriginalDamaged: when the bytes are not those that were stored
        """
        body = self._origin.get(original.key)
        if body is None:
            raise OriginalChanged
        with body:
            if body.entry.etag != original.version:
                raise OriginalChanged
            # Where the store verifies no digest of its own, the record has one.
            is_verified = self._origin.capabilities.verifies_digests and not body.entry.metadata.get("segmented")
            expected = None if is_verified else self._recorded_digest(original)
            in_memory = body.entry.size <= _MOST_IN_MEMORY_BYTES
            spool = Spool(self._spool_folder, self._max_bytes, hashed=expected is not None, in_memory=in_memory)
            try:
                spool.fill(body)
                if expected and expected != spool.sha256:
                    log.error("the original %s is damaged: its SHA-256 is %s", original.key, spool.sha256)
                    raise OriginalDamaged("The original is not what was stored.", name=original.name.text)  # noqa: TRY301
            except BaseException:
                spool.close()
                raise
        return spool

    def _recorded_digest(self, original: Original) -> str | None:
        """Return the SHA-256 that the record of this very version has."""
        record = read_record(self._origin, original.name)
        return record.sha256 if record and record.version == original.version else None

    def _resolve_now(self, name: ImageName) -> Original:
        original = self._resolver.look_up(name)
        if original is None:
            raise ImageNotFound(f"There is no image {name.text!r}.", name=name.text)
        return original
