"""What the parts of one process share, and which nodes serve the same container."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from image_repo.concurrency.invalidation import InvalidationEpochs
from image_repo.config import Config
from image_repo.observability.metrics import Counters
from image_repo.stores.circuit_breaker import CircuitBreaker
from image_repo.sync.membership import FolderMembershipBoard, Membership, StoreMembershipBoard
from image_repo.wiring.folders import own_folder, private_folder
from image_repo.wiring.stores import Stores


@dataclass(frozen=True, slots=True)
class Node:
    """The values that the parts of a process share.

    :param shared: private folder of this node, for all containers; None where it cannot be had
    :param own: the same, for this container alone
    :param origin: the persistent container behind its circuit breaker
    """

    config: Config
    stores: Stores
    shared: Path | None
    own: Path | None
    counters: Counters
    origin: CircuitBreaker
    epochs: InvalidationEpochs

    @classmethod
    def of(cls, config: Config, stores: Stores) -> Node:
        own = own_folder(config, stores.origin)
        counters = Counters(own)
        origin = CircuitBreaker(stores.origin, counters=counters)
        epochs = InvalidationEpochs(own / "marks" if own else None)
        return cls(config, stores, private_folder(Path(config.local_file_cache_path)), own, counters, origin, epochs)


def nodes(config: Config, stores: Stores) -> Membership | None:
    """This node, and the others that serve the same container; None where there is no place for its id."""
    own = own_folder(config, stores.origin)
    if own is None:
        return None
    folder = stores.origin.capabilities.folder
    if folder is not None:
        return Membership(FolderMembershipBoard(folder / "nodes"), own)
    return Membership(StoreMembershipBoard(stores.cache or stores.origin), own)
