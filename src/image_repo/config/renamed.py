"""Former settings of the first image_repo and variables of other services, with advice (``docs/coming-from.md``).

Two of them are obeyed, none silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from image_repo.config.settings import Config
from image_repo.config.tree import Path, get

_NO_BOUND = "is gone: the original store has no bound of ours; use the quota of the container"
_ORIGINAL_FORMAT = "is gone: originals are stored as they were uploaded; remove it"
_NO_DATABASE = "is gone: there is no database to keep; remove it"
_NO_LIQUID = "is gone: thumbnails keep their ratio; ask for fit=fill or fit=cover instead"
_NO_EVICTION = "is gone: nothing is ever evicted from here; remove it"
_LRU = "is gone: the least recently used is evicted first; remove it"
_LIFETIME = "is gone: lifetime bounds the cache container"
_ONE_SWIFT = "is set once, under persistent_store_configuration"
_STORE, _MEMORY, _SWIFT = "persistent_store_configuration", "memory_cache_configuration", "swift_cache_configuration"

#: last segment of the setting → advice, in every section
MOVED: dict[str, str] = {
    "persisent_store_configuration": f"is now spelled {_STORE}",
    **dict.fromkeys(("persisent_store", "persistent_store"), f"is now called {_STORE}"),
    "owner": "is gone: images have owners, the repository has none; remove it",
    **dict.fromkeys(("max_images", "alarm_threshold"), _NO_BOUND),
    "alarm_free_threshold": "is gone: there is a counter of evictions in its place; remove it",
    "image_default_xsize": "is gone: pictures have their own size unless xsize asks for another",
    "thumbnail_default_format": "is gone: a thumbnail has the format of kind= or image_default_format",
    "thumbnail_default_xsize": "is now the first number of thumbnail_default_size",
    "thumbnail_default_ysize": "is now the second number of thumbnail_default_size",
    **dict.fromkeys(("thumbnail_liquid_resize", "thumbnail_liquid_cutin_ratio"), _NO_LIQUID),
    **dict.fromkeys(("cannonical_format_used", "cannonical_format", "use_cannonical_format"), _ORIGINAL_FORMAT),
    "evict_hysterysis": "is now spelled evict_hysteresis",
    "eager_writeback": "is gone: every rendition is kept in every tier; remove it",
    "next_level": "is gone: the order is memory, disk, cache container; remove it",
    "use_file_cache": "is gone: local_cache_configuration.enabled switches the disk cache",
    "download_path": "is gone: originals pass through local_file_cache_path",
    "server_url": "is gone: credentials.authurl locates the store; "
    "persistent_store_configuration.public_endpoint is its address for clients",
    "initialise_store": "is now create_new, at the top; nothing is ever emptied",
    "initialise": "is gone: nothing is ever emptied; delete the folder of the disk cache to empty it",
    "url_method": "is gone: temporary URLs are for GET; remove it",
    "url_prefix": "is gone: persistent_store_configuration.public_endpoint is the store's address for clients",
    **dict.fromkeys(("db_versions_to_keep", "database_persistence"), _NO_DATABASE),
    "agent": "is gone: its settings are those of persistent_store_configuration itself",
}

#: full name of the setting → advice, where the last segment has a meaning elsewhere
MOVED_HERE: dict[str, str] = {
    **dict.fromkeys(("max_size", f"{_STORE}.max_size", f"{_STORE}.max_elements"), _NO_BOUND),
    **dict.fromkeys((f"{_STORE}.priority", f"{_STORE}.evict_free_threshold"), _NO_EVICTION),
    f"{_MEMORY}.max_elements": "is gone: memory is bounded in bytes, by max_size",
    **dict.fromkeys((f"{_MEMORY}.priority", f"{_MEMORY}.evict_free_threshold"), _LRU),
    **{f"{_SWIFT}.{name}": _LIFETIME for name in ("max_size", "max_elements", "priority", "evict_free_threshold")},
    **{f"{_SWIFT}.{name}": _ONE_SWIFT for name in ("credentials", "url_key", "url_lifetime", "url_lifetime_slack")},
}


@dataclass(frozen=True, slots=True)
class Foreign:
    """Variables that configure another service.

    :param names: pattern of the variables
    :param ours: the setting with that purpose here; no advice where it is set. None where there is none
    :param advice: follows *is not read here:*
    """

    names: re.Pattern[str]
    ours: Path | None
    advice: str


_PATH: Path = (_STORE, "path")
_ON_DISK = f"originals are in {_STORE}.path; image_repo import"
_RECORDS = (
    "records are beside the originals, and catalogue.url can name a PostgreSQL; image_repo import takes a mongoexport"
)
_S3 = "S3_BUCKET, or kind: s3 with container, names the bucket (docs/s3.md)"
#: variable of another service that is read where nothing of ours sets it → the setting, and its value
OBEYED: Mapping[str, tuple[Path, str]] = {
    "APP_PORT": (("listen",), Config().listen.rpartition(":")[0] + ":{}"),
    "UPLOADS_DIRECTORY": (_PATH, "{}"),
    "IMAGE_SCOPE": (("access", "image_scope"), "{}"),
    "USER_IDENTIFIER": (("access", "user_identifier"), "{}"),
}
FOREIGN = tuple(
    Foreign(re.compile(names), ours, advice)
    for names, ours, advice in (
        ("APP_PORT|ISS_HOST|ISS_PORT", ("listen",), "HOST:PORT is listen (--listen, IMAGE_REPO_LISTEN)"),
        ("MONGODB_CONNECTION_STRING|MONGODB_URL|MONGODB_DB", ("catalogue", "url"), _RECORDS),
        ("UPLOADS_DIRECTORY", _PATH, f"{_ON_DISK} --uploads reads that folder"),
        ("ISS_DATA", _PATH, f"{_ON_DISK} reads that folder"),
        ("S3_[A-Z0-9_]+", (_STORE, "kind"), _S3),
    )
)


def foreign(environ: Mapping[str, str], config: Config) -> list[str]:
    """Return advice on variables of other services whose counterpart here is not set.

    :returns: a line for each, without the values of the variables: they may be secrets
    """
    obeyed = [
        name
        for name, (path, form) in OBEYED.items()
        if environ.get(name) and get(config, path) == form.format(environ[name])
    ]
    lines = [f"{name} is read as {'.'.join(OBEYED[name][0])}, which nothing of ours sets" for name in obeyed]
    for known in FOREIGN:
        names = sorted(
            name for name, value in environ.items() if value and known.names.fullmatch(name) and name not in obeyed
        )
        if names and (known.ours is None or get(config, known.ours) == get(Config(), known.ours)):
            lines.append(f"{', '.join(names)} {'are' if names[1:] else 'is'} not read here: {known.advice}")
    return lines


def advice(setting: str) -> str | None:
    """Return the advice on a former or foreign setting, None for an unknown one.

    :param setting: its dotted name
    """
    last = setting.rpartition(".")[2]
    variable = next((each for each in FOREIGN if each.names.fullmatch(last.upper())), None)
    return MOVED_HERE.get(setting) or MOVED.get(last) or (f"is not read here: {variable.advice}" if variable else None)
