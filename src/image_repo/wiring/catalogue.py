"""Configuration → the index over a container, and what its nodes share by one database."""

from __future__ import annotations

import hashlib
import logging
import socket
from typing import TYPE_CHECKING

from image_repo.catalogue.indexer import Indexer
from image_repo.catalogue.outbox import Outbox
from image_repo.concurrency.locks import FileOrder, WriteOrder
from image_repo.config import Config
from image_repo.errors import CatalogueUnavailable
from image_repo.stores.base import Store
from image_repo.sync.lease import WriteLease, read_claim
from image_repo.wiring.folders import own_folder
from image_repo.wiring.node import Node, nodes
from image_repo.wiring.stores import Stores

if TYPE_CHECKING:
    from image_repo.catalogue.index import Index
    from image_repo.catalogue.postgres_notices import PostgresNotices

log = logging.getLogger(__name__)

#: what an index holds of a record; another one is made anew
_SCHEMA = 1


def open_index(config: Config, origin: Store, collection: str = "images") -> Index | None:
    """The index over what a container holds; nothing is contacted yet.

    :param collection: what of it: ``images``, ``artifacts``; each has tables of its own
    :returns: None where the configuration has none
    :raises CatalogueUnavailable: when there is no place for it on this node
    """
    settings = config.catalogue
    if not settings.enabled:
        return None
    from image_repo.catalogue import engines  # noqa: PLC0415, it takes its time, and most verbs have no use for it

    folder = own_folder(config, origin)
    if folder is None and settings.url is None:
        raise CatalogueUnavailable("There is no place for the catalogue: local_file_cache_path cannot be used.")
    # Positions that may not be disclosed any more must not be found either.
    scope = f"{origin.identity}\0location={config.metadata_location}\0{_SCHEMA}"
    return engines.open_index(
        settings.url and str(settings.url),
        folder,
        collection=collection,
        scope=hashlib.sha256(scope.encode()).hexdigest()[:16],
        timeout=settings.timeout,
        slow=settings.slow,
        connections=settings.connections,
    )


def build_indexer(config: Config, origin: Store, collection: str) -> Indexer:
    """Return what keeps the index of a collection up to date; one without an index where that cannot be had."""
    own = own_folder(config, origin)
    outbox = Outbox(own / f"behind-{collection}" if own else None)
    try:
        return Indexer(open_index(config, origin, collection), outbox)
    except CatalogueUnavailable as error:
        log.warning("there is no catalogue: %s", error.detail)
        return Indexer(None, outbox, error)


def write_order(node: Node) -> WriteOrder | None:
    """Return what orders the writers of several nodes: locks beside the originals, of the database, or a lease."""
    folder = node.stores.origin.capabilities.folder
    if folder is not None:
        return FileOrder(folder / "writing")
    return open_order(node.config, node.origin) or _lease(node)


def open_order(config: Config, origin: Store) -> WriteOrder | None:
    """Return the order of writers by the catalogue that nodes share; None where they share none."""
    settings = config.catalogue
    if not settings.enabled or settings.url is None:
        return None
    from image_repo.catalogue import engines  # noqa: PLC0415, most have no use for it

    return engines.open_order(str(settings.url), origin.identity, connections=settings.connections)


def other_writer(config: Config, stores: Stores) -> str | None:
    """Return the host of another node that writes to the container, which keeps this one from it; else None.

    :raises StoreUnavailable, OSError: when that cannot be determined
    """
    members = nodes(config, stores)
    if stores.origin.capabilities.folder or open_order(config, stores.origin) or members is None:
        return None
    claim = read_claim(stores.origin)
    return claim.host if claim and claim.node != members.id else None


def _lease(node: Node) -> WriteLease | None:
    """Return the lease of the one writing node; None where there is no place for the id of this node."""
    members = nodes(node.config, node.stores)
    if node.own is None or members is None:
        return None
    advice = "Set catalogue.url to the same postgresql://… on all nodes, or send writes to the node that writes."
    return WriteLease(node.origin, lambda: members.id, node.own, advice=advice)


def open_notices(config: Config, origin: Store) -> PostgresNotices | None:
    """Return what tells the other nodes of changes; None where they share no database."""
    settings = config.catalogue
    own = own_folder(config, origin)
    if own is None or not settings.enabled or settings.url is None:
        return None
    from image_repo.catalogue import engines  # noqa: PLC0415, most have no use for it

    return engines.open_notices(str(settings.url), origin.identity, f"{socket.gethostname()} {own}")
