"""Settings that are called otherwise here, or are gone: what to tell who still has them.

Those of the first image_repo, and the environment variables of the services that people come from
(``docs/coming-from.md``). None of them is ever obeyed silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from image_repo.config.settings import Config
from image_repo.config.tree import Path, get

_SIZE = "the original store has no bound of ours; use the quota of the container"
_WRITEBACK = "every rendition is kept in every tier; remove it"
_LEVELS = "the order is memory, disk, cache container; remove it"
_LIQUID = "thumbnails keep their ratio; ask for fit=fill or fit=cover instead"
_ANYWHERE_SWIFT = "stands once, under persistent_store_configuration"

#: last word of the setting → advice, wherever it stands
MOVED: dict[str, str] = {
    "persisent_store_configuration": "is now spelled persistent_store_configuration",
    "persisent_store": "is now called persistent_store_configuration",
    "persistent_store": "is now called persistent_store_configuration",
    "owner": "is gone: images have owners, the repository has none; remove it",
    "max_images": f"is gone: {_SIZE}",
    "alarm_threshold": f"is gone: {_SIZE}",
    "alarm_free_threshold": "is gone: evictions are counted instead of alarmed about; remove it",
    "image_default_xsize": "is gone: pictures have their own size unless xsize asks for another",
    "thumbnail_default_format": "is gone: a thumbnail has the format that kind= or image_default_format says",
    "thumbnail_default_xsize": "is now the first number of thumbnail_default_size",
    "thumbnail_default_ysize": "is now the second number of thumbnail_default_size",
    "thumbnail_liquid_resize": f"is gone: {_LIQUID}",
    "thumbnail_liquid_cutin_ratio": f"is gone: {_LIQUID}",
    "cannonical_format_used": "is gone: originals are kept as they were uploaded; remove it",
    "cannonical_format": "is gone: originals are kept as they were uploaded; remove it",
    "use_cannonical_format": "is gone: originals are kept as they were uploaded; remove it",
    "evict_hysterysis": "is now spelled evict_hysteresis",
    "eager_writeback": f"is gone: {_WRITEBACK}",
    "next_level": f"is gone: {_LEVELS}",
    "use_file_cache": "is gone: local_cache_configuration.enabled says whether there is a disk cache",
    "download_path": "is gone: originals pass through local_file_cache_path",
    "server_url": "is gone: the store is found by credentials.authurl; "
    "persistent_store_configuration.public_endpoint is where clients see it",
    "initialise_store": "is now create_new, at the top; nothing is ever emptied",
    "initialise": "is gone: nothing is ever emptied; delete the folder of the disk cache if you want it new",
    "url_method": "is gone: temporary URLs are for GET; remove it",
    "url_prefix": "is gone: persistent_store_configuration.public_endpoint is where clients see the store",
    "db_versions_to_keep": "is gone: there is no database to keep; remove it",
    "database_persistence": "is gone: there is no database to keep; remove it",
    "agent": "is gone: what stood there stands in persistent_store_configuration itself",
}

#: the whole name of the setting → advice, where the last word means something elsewhere
MOVED_HERE: dict[str, str] = {
    "max_size": f"is gone: {_SIZE}",
    "persistent_store_configuration.max_size": f"is gone: {_SIZE}",
    "persistent_store_configuration.max_elements": f"is gone: {_SIZE}",
    "persistent_store_configuration.priority": "is gone: nothing is ever evicted from here; remove it",
    "persistent_store_configuration.evict_free_threshold": "is gone: nothing is ever evicted from here; remove it",
    "memory_cache_configuration.max_elements": "is gone: memory is bounded in bytes, by max_size",
    "memory_cache_configuration.priority": "is gone: memory keeps what was used last; remove it",
    "memory_cache_configuration.evict_free_threshold": "is gone: memory keeps what was used last; remove it",
    "swift_cache_configuration.max_size": "is gone: lifetime bounds the cache container",
    "swift_cache_configuration.max_elements": "is gone: lifetime bounds the cache container",
    "swift_cache_configuration.priority": "is gone: lifetime bounds the cache container",
    "swift_cache_configuration.evict_free_threshold": "is gone: lifetime bounds the cache container",
    "swift_cache_configuration.credentials": _ANYWHERE_SWIFT,
    "swift_cache_configuration.url_key": _ANYWHERE_SWIFT,
    "swift_cache_configuration.url_lifetime": _ANYWHERE_SWIFT,
    "swift_cache_configuration.url_lifetime_slack": _ANYWHERE_SWIFT,
}


@dataclass(frozen=True, slots=True)
class Foreign:
    """Variables that configure a service people come from.

    :param names: which of them
    :param ours: the setting that does it here; who has set it needs no advice. None where there is none
    :param advice: behind *is not read here:*
    """

    names: re.Pattern[str]
    ours: Path | None
    advice: str


_PATH: Path = ("persistent_store_configuration", "path")
_NO_ACCESS_CONTROL = "there is no access control yet, and whoever reaches this server may read and write"

FOREIGN: tuple[Foreign, ...] = (
    Foreign(re.compile("APP_PORT|ISS_HOST|ISS_PORT"), ("listen",), "HOST:PORT is listen (--listen, IMAGE_REPO_LISTEN)"),
    Foreign(
        re.compile("MONGODB_CONNECTION_STRING|MONGODB_URL|MONGODB_DB"),
        ("catalogue", "url"),
        "records lie beside the originals, and catalogue.url may name a PostgreSQL; "
        "image_repo import takes a mongoexport",
    ),
    Foreign(
        re.compile("UPLOADS_DIRECTORY"),
        _PATH,
        "originals lie in persistent_store_configuration.path; image_repo import --uploads takes that folder",
    ),
    Foreign(
        re.compile("ISS_DATA"),
        _PATH,
        "originals lie in persistent_store_configuration.path; image_repo import takes that folder",
    ),
    Foreign(re.compile("S3_[A-Z0-9_]+"), None, "there is no S3 store yet; originals lie in Swift or in a folder"),
    Foreign(re.compile("OIDC_JWKS_URI|IMAGE_SCOPE|USER_IDENTIFIER"), None, _NO_ACCESS_CONTROL),
)


def foreign(environ: Mapping[str, str], config: Config) -> list[str]:
    """What to tell of variables that configure another service, where nothing of ours does what they do.

    :returns: a line for each setting, without the values of the variables: they may be secrets
    """
    lines = []
    for known in FOREIGN:
        found = sorted(name for name, value in environ.items() if value and known.names.fullmatch(name))
        if found and (known.ours is None or get(config, known.ours) == get(Config(), known.ours)):
            lines.append(f"{', '.join(found)} {'are' if found[1:] else 'is'} not read here: {known.advice}")
    return lines


def advice(setting: str) -> str | None:
    """What to tell of a setting that we do not have; None where nobody whom we know had one of that name.

    :param setting: its dotted name
    """
    last = setting.rpartition(".")[2]
    known = next((each for each in FOREIGN if each.names.fullmatch(last.upper())), None)
    return MOVED_HERE.get(setting) or MOVED.get(last) or (f"is not read here: {known.advice}" if known else None)
