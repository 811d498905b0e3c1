"""Configuration → the containers of originals and renditions; a table of the kinds of stores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from image_repo.config import Config, PersistentStoreConfiguration
from image_repo.config.settings import DEFAULT_CACHE_CONTAINER
from image_repo.errors import ConfigurationError, StoreUnavailable
from image_repo.stores.base import Store
from image_repo.stores.disk import DiskStore
from image_repo.stores.tempurl import new_link_key
from image_repo.wiring.folders import private_folder

if TYPE_CHECKING:
    from image_repo.stores.s3_client import S3Client
    from image_repo.stores.s3_lifecycle import BucketLifecycle

log = logging.getLogger(__name__)

#: a cache container that is silent is a miss: what is left of the time of a request is the origin's
_CACHE_SILENCE_S = 1.0


@dataclass(frozen=True)
class Stores:
    """The containers: of the originals, and of the renditions where that is one of its own.

    :param cache: None where the originals are on disk; what links promise is then a folder there
    """

    origin: Store
    cache: Store | None = None

    def close(self) -> None:
        """Close connections."""
        for store in (self.origin, self.cache):
            if store is not None:
                store.close()


def build_stores(config: Config) -> Stores:
    """The stores that the configuration names; nothing is contacted yet."""
    kind = config.persistent_store_configuration.resolved_kind
    if kind not in STORE_KINDS:
        raise ConfigurationError([f"persistent_store_configuration.kind: expected one of {', '.join(STORE_KINDS)}"])
    return STORE_KINDS[kind](config)


def _disk_stores(config: Config) -> Stores:
    settings = config.persistent_store_configuration
    keys = tuple(str(key) for key in (settings.url_key, settings.url_key_2) if key)
    return Stores(DiskStore(Path(settings.path), secrets=keys, public_endpoint=settings.public_endpoint))


def _swift_stores(config: Config) -> Stores:
    # Its libraries take 0.4 s.
    from image_repo.stores.swift import SwiftStore  # noqa: PLC0415
    from image_repo.stores.swift_pool import ConnectionPool  # noqa: PLC0415

    settings, cache = config.persistent_store_configuration, config.swift_cache_configuration
    shared = private_folder(Path(config.local_file_cache_path))
    pool = ConnectionPool(settings, settings.credentials, shared / "accounts" if shared else None)
    return Stores(
        SwiftStore(pool, settings, settings.container),
        SwiftStore(pool, settings, cache.container, silence=min(settings.timeout, _CACHE_SILENCE_S))
        if cache.enabled
        else None,
    )


def _s3_stores(config: Config) -> Stores:
    settings, cache = config.persistent_store_configuration, config.swift_cache_configuration
    client = _s3_client(settings)
    from image_repo.stores.s3 import S3Store  # noqa: PLC0415, as below

    renditions = S3Store(client, _cache_bucket(config, settings)) if cache.enabled else None
    return Stores(S3Store(client, settings.container), renditions)


def _s3_client(settings: PersistentStoreConfiguration) -> S3Client:
    try:
        # The library takes its time, and is an extra.
        from image_repo.stores.s3_client import S3Client  # noqa: PLC0415
    except ModuleNotFoundError as error:
        advice = "s3 needs boto3: pip install 'image_repo[s3]'"
        raise ConfigurationError([f"persistent_store_configuration.kind: {advice}"]) from error
    return S3Client(settings)


def _cache_bucket(config: Config, settings: PersistentStoreConfiguration) -> str:
    """Return the bucket of the renditions: that of the originals where none is set."""
    bucket = config.swift_cache_configuration.container
    return settings.container if bucket == DEFAULT_CACHE_CONTAINER else bucket


#: kind of a store → what makes it
STORE_KINDS: Mapping[str, Callable[[Config], Stores]] = {
    "disk": _disk_stores,
    "swift": _swift_stores,
    "s3": _s3_stores,
}


def prepare(config: Config, stores: Stores) -> list[str]:
    """Prepare the stores once, before the workers start: reach the containers, make what is missing.

    :returns: what a person should know, one sentence each; empty when all is well
    """
    warnings = []
    for store in (stores.origin, stores.cache):
        try:
            if store is not None:
                store.check(create=config.create_new)
        except StoreUnavailable as error:
            warnings.append(error.detail)
    settings = config.persistent_store_configuration
    if not warnings and settings.url_key_create and stores.cache is not None:
        link_keys = stores.cache.stored_link_keys()
        if link_keys and not any(link_keys):
            stores.cache.set_link_key(str(settings.url_key) if settings.url_key else new_link_key())
            log.info("%s has got a key for temporary URLs", stores.cache.description)
    return warnings


def rendition_lifetime(config: Config) -> int:
    """Return the seconds after which a rendition in the cache container has expired, linked or not."""
    settings = config.persistent_store_configuration
    longest = max(settings.url_lifetime, settings.url_lifetime_most) + settings.url_lifetime_slack
    return max(config.swift_cache_configuration.lifetime, longest)


def build_lifecycle(config: Config) -> BucketLifecycle:
    """Return the lifecycle rules of the bucket of the renditions.

    :raises ConfigurationError: where they are not in S3
    """
    settings = config.persistent_store_configuration
    if settings.kind != "s3" or not config.swift_cache_configuration.enabled:
        raise ConfigurationError(["persistent_store_configuration.kind: expected s3, with a cache container"])
    client = _s3_client(settings)
    from image_repo.stores.s3_lifecycle import BucketLifecycle  # noqa: PLC0415, as above

    return BucketLifecycle(client, _cache_bucket(config, settings))
