"""The repository as one value: its reader, writer and links, and what serving processes share beside them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from image_repo.access.authenticator import Authenticator
from image_repo.access.control import AccessControl
from image_repo.catalogue.indexer import Indexer
from image_repo.concurrency.invalidation import InvalidationEpochs
from image_repo.concurrency.limiter import Limiter
from image_repo.config import RenderConfiguration
from image_repo.observability.metrics import Counters
from image_repo.repository.links import Links
from image_repo.repository.metadata import MetadataStore
from image_repo.repository.policy import Policy
from image_repo.repository.reader import Reader
from image_repo.repository.renditions import Renditions
from image_repo.repository.trash import Trash
from image_repo.repository.writer import Writer
from image_repo.stores.base import Store


@dataclass(frozen=True, slots=True)
class Repository:
    """The parts of a live repository; made by :func:`image_repo.wiring.build`.

    :param metadata: the records without access control, for indexing and maintenance
    :param resources: closed with the repository, the last one first
    """

    access: AccessControl
    authenticator: Authenticator
    reader: Reader
    writer: Writer
    links: Links
    trash: Trash
    metadata: MetadataStore
    renditions: Renditions
    indexer: Indexer
    origin: Store
    epochs: InvalidationEpochs
    policy: Policy
    counters: Counters
    resources: ExitStack

    @property
    def limits(self) -> RenderConfiguration:
        """The bounds of a render."""
        return self.renditions.limits

    @property
    def limiter(self) -> Limiter:
        """The limiter of renders and of requests that wait for them."""
        return self.renditions.limiter

    def close(self) -> None:
        """End what runs in the background, and give connections back."""
        self.resources.close()
