"""The folders that the processes of this node share."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from image_repo.concurrency.private_folder import make_private
from image_repo.config import Config
from image_repo.stores.base import Store

log = logging.getLogger(__name__)


def private_folder(folder: Path) -> Path | None:
    """A folder that nobody else can use; None, and a warning, where that cannot be had."""
    try:
        make_private(folder)
    except OSError as error:
        log.warning("%s is not used: %s", folder, error)
        return None
    return folder


def folder_name(origin: Store) -> str:
    """Return the name of the folders of this container on disk."""
    return hashlib.sha256(origin.identity.encode()).hexdigest()[:16]


def own_folder(config: Config, origin: Store) -> Path | None:
    """The folder that the processes of this node share for one container; None where it cannot be had."""
    shared = private_folder(Path(config.local_file_cache_path))
    return private_folder(shared / folder_name(origin)) if shared else None
