"""The settings: a tree of frozen dataclasses, each setting declared once with type, default and help.

Defaults < YAML (``-y``) < environment (``IMAGE_REPO_LISTEN``,
``IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__CONTAINER``) < command line. Parts of the
program receive their own section, never the tree.

* ``settings``: the tree      * ``reading``: single values
* ``loading``: files and environment to a tree, or all mistakes at once
* ``rules``: what has to hold between settings      * ``moved``: what others call them
* ``dumping``: a tree to commented YAML
"""

from image_repo.config.dumping import dump
from image_repo.config.loading import load
from image_repo.config.readers import SecretText, SourcedText
from image_repo.config.renamed import foreign
from image_repo.config.settings import (
    GIB,
    KIB,
    MIB,
    CatalogueConfiguration,
    Config,
    Credentials,
    LocalCacheConfiguration,
    MemoryCacheConfiguration,
    PersistentStoreConfiguration,
    QualityConfiguration,
    RenderConfiguration,
    ServerConfiguration,
    SwiftCacheConfiguration,
)

__all__ = [
    "GIB",
    "KIB",
    "MIB",
    "CatalogueConfiguration",
    "Config",
    "Credentials",
    "LocalCacheConfiguration",
    "MemoryCacheConfiguration",
    "PersistentStoreConfiguration",
    "QualityConfiguration",
    "RenderConfiguration",
    "SecretText",
    "ServerConfiguration",
    "SourcedText",
    "SwiftCacheConfiguration",
    "dump",
    "foreign",
    "load",
]
