"""What has expired is swept: renditions in a cache container whose store does not do that, and unfinished uploads."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from image_repo.concurrency.background import StoppableThread
from image_repo.errors import Problem
from image_repo.repository.partial_uploads import PartialUploads
from image_repo.stores.base import NoContainer, Store
from image_repo.sync.daemon import Lock

log = logging.getLogger(__name__)

#: seconds between two sweeps, and between two looks whether one is due
_EVERY_S, _LOOK_S = 86_400.0, 60.0
#: seconds that the clocks of a store and of this node may differ
_SKEW_S = 900.0


class ExpirySweeper(StoppableThread):
    """Deletes expired objects, in a thread of one process of the node.

    :param ages: prefix of keys → seconds after which an object below it has expired for certain
    :param own: private folder of the node: one process sweeps, and the file ``swept`` says when
    :param every: seconds between two sweeps
    """

    def __init__(self, store: Store, ages: Mapping[str, float], own: Path, *, every: float = _EVERY_S) -> None:
        super().__init__("image_repo-expiry")
        self._store = store
        self._ages = ages
        self._every = every
        self._duty = Lock(own / "sweeping-expired")
        self._swept = own / "swept"

    def sweep(self) -> int:
        """Delete what has expired; return how many objects.

        :raises StoreUnavailable: when the store does not answer
        """
        return sum(self._sweep(prefix, age + _SKEW_S) for prefix, age in self._ages.items())

    def _sweep(self, prefix: str, age: float) -> int:
        count, oldest = 0, time.time() - age
        try:
            for entry in self._store.keys(prefix):
                if self._ended.is_set():
                    break
                # Written again meanwhile it holds for longer, and is there.
                if entry.modified < oldest and self._store.head(entry.key) is None:
                    count += self._store.delete(entry.key)
        except NoContainer:
            return count
        return count

    def _run(self) -> None:
        while not self._ended.wait(min(_LOOK_S, self._every)):
            if self._is_due() and self._duty.taken():
                try:
                    count = self.sweep()
                    self._swept.touch()
                    log.info("%d expired objects were deleted from %s", count, self._store.description)
                except (Problem, OSError) as error:
                    log.warning("expired objects are not deleted for now: %s", error)
        self._duty.release()

    def _is_due(self) -> bool:
        try:
            return time.time() - self._swept.stat().st_mtime >= self._every
        except OSError:
            return True


class UploadSweeper(StoppableThread):
    """Deletes unfinished uploads that have expired, in a thread of each process: that is a look into two folders.

    :param every: seconds between two looks
    """

    def __init__(self, uploads: PartialUploads, *, every: float = _LOOK_S) -> None:
        super().__init__("image_repo-uploads")
        self._uploads = uploads
        self._every = every

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self._uploads.tidy()
