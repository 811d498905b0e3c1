"""Places on this machine that two users of it would share by default."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

from image_repo.config.settings import Config

log = logging.getLogger(__name__)


def own_places(config: Config, defaults: Config | None = None) -> Config:
    """Return a configuration whose default places belong to this user.

    A default that exists and belongs to another user is replaced by one with the id of this user, and the log says so.
    What the configuration names itself stays.

    :param defaults: a configuration of defaults; that of the settings where None
    """
    defaults = defaults or Config()
    cache = config.local_cache_configuration
    return replace(
        config,
        local_file_cache_path=_own(config.local_file_cache_path, defaults.local_file_cache_path),
        pid_file=_own(config.pid_file, defaults.pid_file),
        local_cache_configuration=replace(
            cache, cache_path=_own(cache.cache_path, defaults.local_cache_configuration.cache_path)
        ),
    )


def _own(path: str, default: str) -> str:
    if path != default:
        return path
    try:
        owner = Path(path).stat().st_uid
    except OSError:
        return path
    if owner == os.geteuid():
        return path
    own = f"{path}-{os.geteuid()}"
    log.warning("%s belongs to user %d; %s is used instead", path, owner, own)
    return own
