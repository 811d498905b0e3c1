"""The settings: a tree of frozen dataclasses, each setting declared once with type, default and help.

Defaults < YAML (``-y``) < environment (``IMAGE_REPO_LISTEN``, ``IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__CONTAINER``)
< command line. A part of the program receives its own section, not the tree.

* ``settings``: the tree
* ``readers``: single values
* ``loading``: files and environment to a tree, or all mistakes at once
* ``rules``: constraints between settings
* ``renamed``: former names and those of other services
* ``dumping``: a tree to commented YAML
"""

from image_repo.config.dumping import dump as dump
from image_repo.config.loading import load as load
from image_repo.config.readers import SecretText as SecretText
from image_repo.config.readers import SourcedText as SourcedText
from image_repo.config.renamed import foreign as foreign
from image_repo.config.settings import (
    GIB as GIB,
)
from image_repo.config.settings import (
    KIB as KIB,
)
from image_repo.config.settings import (
    MIB as MIB,
)
from image_repo.config.settings import (
    CatalogueConfiguration as CatalogueConfiguration,
)
from image_repo.config.settings import (
    Config as Config,
)
from image_repo.config.settings import (
    Credentials as Credentials,
)
from image_repo.config.settings import (
    LocalCacheConfiguration as LocalCacheConfiguration,
)
from image_repo.config.settings import (
    MemoryCacheConfiguration as MemoryCacheConfiguration,
)
from image_repo.config.settings import (
    PersistentStoreConfiguration as PersistentStoreConfiguration,
)
from image_repo.config.settings import (
    QualityConfiguration as QualityConfiguration,
)
from image_repo.config.settings import (
    RenderConfiguration as RenderConfiguration,
)
from image_repo.config.settings import (
    ServerConfiguration as ServerConfiguration,
)
from image_repo.config.settings import (
    SwiftCacheConfiguration as SwiftCacheConfiguration,
)
