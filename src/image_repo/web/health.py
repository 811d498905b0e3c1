"""The state of a node for operators: readiness part by part, and gauges for ``/metrics``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from image_repo.catalogue import indexer
from image_repo.config import Config
from image_repo.errors import CatalogueDisabled, Problem, StoreUnavailable
from image_repo.observability.metrics import Gauge
from image_repo.repository.repository import Repository

#: a folder with less is as good as full: a record, the catalogue's log and an upload need some
_MIN_FREE_BYTES = 64 << 20
#: behind every key that a store can have
_LAST_KEY = "\U0010ffff"


class Health:
    """Looks at the parts of a live repository; never raises a problem.

    :param min_free_bytes: of a folder that can take uploads
    """

    def __init__(self, repo: Repository, config: Config, *, min_free_bytes: int = _MIN_FREE_BYTES) -> None:
        self._repo = repo
        self._min_free_bytes = min_free_bytes
        folder = repo.origin.capabilities.folder
        self._folders = {
            **({"originals": folder.parent} if folder else {}),
            "uploads": Path(config.local_file_cache_path),
            **(
                {"cache": Path(config.local_cache_configuration.cache_path)}
                if config.local_cache_configuration.enabled
                else {}
            ),
        }

    def parts(self) -> dict[str, str]:
        """Return each part → ``ok``, or what is wrong with it, in words for an operator."""
        checks = {
            "store": self._repo.origin.check,
            "listing": self._check_listing,
            "space": self._check_space,
            "catalogue": self._check_catalogue,
        }
        return {part: _describe(check) for part, check in checks.items()}

    def passed_over(self) -> list[str]:
        """Return the folders and files of the originals that cannot be read, as the last listing met them."""
        return self._repo.origin.passed_over()

    def gauges(self) -> list[Gauge]:
        """Return what is measured when it is read."""
        free = {name: _free_bytes(folder) for name, folder in self._folders.items()}
        catalogue = self._catalogue()
        return [
            Gauge(
                "image_repo_free_bytes",
                "Free bytes of the file system of a folder.",
                "folder",
                {name: count for name, count in free.items() if count is not None},
            ),
            *(
                Gauge(f"image_repo_catalogue_{name}", text, "", {"": catalogue[name]})
                for name, text in _CATALOGUE.items()
                if name in catalogue
            ),
        ]

    def _check_listing(self) -> None:
        """
        :raises StoreUnavailable: when the originals cannot be listed
        """
        if self._repo.origin.capabilities.folder is None:  # a folder is listed by the check of the store
            next(self._repo.origin.keys(after=_LAST_KEY), None)

    def _check_space(self) -> None:
        """
        :raises StoreUnavailable: when a folder that uploads need is full
        """
        for name in ("originals", "uploads"):
            free = _free_bytes(self._folders[name]) if name in self._folders else None
            if free is not None and free < self._min_free_bytes:
                raise StoreUnavailable(f"The disk of {name} is full: {free >> 20} MiB are free.")

    def _check_catalogue(self) -> None:
        """
        :raises Problem: when the catalogue should answer and does not, or does not follow
        """
        try:
            index = self._repo.indexer.index
        except CatalogueDisabled:
            return
        index.check()
        trouble = index.note(indexer.TROUBLE)
        if trouble:
            raise StoreUnavailable(f"The catalogue does not follow the originals: {trouble}")

    def _catalogue(self) -> dict[str, float]:
        try:
            index = self._repo.indexer.index
            lacking, swept = indexer.lacking(index), indexer.SweepState.read(index)
        except CatalogueDisabled:
            return {}
        except Problem:
            return {"up": 0}
        state = {"up": 1.0, "complete": float(lacking) if lacking is not None else 1.0}
        state["outbox"] = len(self._repo.indexer.outbox)
        return {**state, "last_sweep_timestamp_seconds": swept.at} if swept else state


_CATALOGUE = {
    "up": "Whether the catalogue answers.",
    "complete": "Part of the originals that the catalogue knows, 0 to 1.",
    "outbox": "Names that the catalogue has still to be told of.",
    "last_sweep_timestamp_seconds": "When the catalogue was last compared with the whole container.",
}


def _describe(check: Callable[[], object]) -> str:
    try:
        check()
    except Problem as problem:
        return str(problem)
    return "ok"


def _free_bytes(folder: Path) -> int | None:
    """Return the bytes that an unprivileged process may still write; None where there is no such folder."""
    try:
        state = os.statvfs(folder)
    except OSError:
        return None
    return state.f_bavail * state.f_frsize
