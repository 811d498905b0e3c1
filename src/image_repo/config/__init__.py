"""The settings: a tree of frozen dataclasses, each setting declared once with type, default and help.

Defaults < YAML (``-y``) < environment (``IMAGE_REPO_LISTEN``, ``IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__CONTAINER``)
< command line. A part of the program receives its own section, not the tree.

* ``settings``: the tree
* ``readers``: single values
* ``loading``: files and environment to a tree, or all mistakes at once
* ``rules``: constraints between settings
* ``migrating``: files of the first image_repo
* ``renamed``: former names and those of other services
* ``dumping``: a tree to commented YAML
"""

from image_repo.config.dumping import dump
from image_repo.config.loading import load
from image_repo.config.migrating import migrate
from image_repo.config.readers import SecretText, SourcedText
from image_repo.config.renamed import foreign
from image_repo.config.settings import (
    GIB,
    KIB,
    MIB,
    AccessConfiguration,
    AccessRule,
    AnonymousLimitsConfiguration,
    CatalogueConfiguration,
    Config,
    Credentials,
    DialectsConfiguration,
    LocalCacheConfiguration,
    MemoryCacheConfiguration,
    OidcConfiguration,
    PersistentStoreConfiguration,
    PurgeConfiguration,
    QualityConfiguration,
    RenderConfiguration,
    RequestsConfiguration,
    ServerConfiguration,
    SwiftCacheConfiguration,
    TrashConfiguration,
    UploadsConfiguration,
    WatermarkConfiguration,
)

__all__ = [
    "GIB", "KIB", "MIB", "AccessConfiguration", "AccessRule", "AnonymousLimitsConfiguration",
    "CatalogueConfiguration", "Config", "Credentials", "DialectsConfiguration",
    "LocalCacheConfiguration", "MemoryCacheConfiguration", "OidcConfiguration", "PersistentStoreConfiguration",
    "PurgeConfiguration", "QualityConfiguration", "RenderConfiguration", "RequestsConfiguration", "SecretText",
    "ServerConfiguration", "SourcedText", "SwiftCacheConfiguration", "TrashConfiguration",
    "UploadsConfiguration", "WatermarkConfiguration", "dump", "foreign", "load", "migrate",
]  # fmt: skip
