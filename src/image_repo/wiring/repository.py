"""Configuration → the live repository."""

from __future__ import annotations

from contextlib import ExitStack

from image_repo import render
from image_repo.access.control import AccessControl, Rules
from image_repo.caches.container import PREFIX
from image_repo.caches.memory import MemoryTier
from image_repo.caches.tiers import Tier
from image_repo.catalogue.indexer import Indexer
from image_repo.concurrency.locks import KeyedLock, WriteOrder
from image_repo.config import Config
from image_repo.model.key import prefix_of
from image_repo.model.operations import Focus, read_focus
from image_repo.observability import metrics
from image_repo.repository.artifacts import Artifacts
from image_repo.repository.links import Links
from image_repo.repository.metadata import MetadataStore
from image_repo.repository.originals import Originals
from image_repo.repository.owners import Owners, read_owner
from image_repo.repository.partial_uploads import PartialUploads
from image_repo.repository.policy import Policy
from image_repo.repository.purge_hook import PurgeHook, PurgeRequest
from image_repo.repository.quotas import Quotas
from image_repo.repository.reader import Reader
from image_repo.repository.repository import Repository
from image_repo.repository.resolver import Resolver
from image_repo.repository.trash import Trash
from image_repo.repository.ttl_cache import TtlCache
from image_repo.repository.writer import Writer
from image_repo.wiring.access import access_rules, build_authenticator, is_scoped, login_path
from image_repo.wiring.caches import build_renditions, link_target, memory_tier, names_on_disk
from image_repo.wiring.catalogue import build_indexer, open_notices, write_order
from image_repo.wiring.folders import own_folder
from image_repo.wiring.node import Node
from image_repo.wiring.stores import Stores, build_stores

#: seconds that an answer may be on its way to a cache in front
_PURGE_SLACK_S = 1.0


def build(
    config: Config, *, rules: Rules | None = None, stores: Stores | None = None, order: WriteOrder | None = None
) -> Repository:
    """Return the live repository. Called in each worker, after the fork.

    :param rules: who may do what; as the configuration says where None
    :param stores: those that the configuration names where None
    :param order: of writers on several nodes; that of the catalogue or store where None
    """
    render.configure()
    node = Node.of(config, stores or build_stores(config))
    origin, use, order = node.origin, _policy(node), order or write_order(node)
    memory, names, target = memory_tier(node), names_on_disk(node), link_target(node)
    indexer, notices, purges = build_indexer(config, origin, "images"), open_notices(config, origin), _purge_hook(node)
    resolver = _resolver(node, names, memory, indexer, purges)
    originals = Originals(origin, resolver, use.spool, config.render.max_source)
    renditions = build_renditions(node, originals, memory, target, notices)
    locks = KeyedLock(node.own / "writing" if node.own else None, order)
    metadata = MetadataStore(
        *(origin, resolver, originals, locks, indexer, config.render),
        mezzanines=renditions.mezzanines,
        limiter=renditions.limiter,
        location=config.metadata_location,
    )
    owners = _owners(node, names)
    access = AccessControl(rules or access_rules(node, owners), login_path(config))
    focus: TtlCache[Focus] = TtlCache(node.epochs, names, "focus", read_focus, freshness=config.freshness)
    reader = Reader(access, origin, resolver, metadata, indexer, originals, renditions, focus)
    trash = Trash(origin, config.trash.days, use.spool)
    quotas = Quotas(origin, indexer, config.access.owner_quota if is_scoped(config) else 0)
    writer = Writer(access, origin, resolver, metadata, indexer, renditions, use, trash, quotas)
    cache = node.stores.cache
    links = Links(access, reader, target, cache or origin, PREFIX if cache else "", use)
    resources = ExitStack()
    closing = (renditions.caches, renditions.mezzanines, renditions.decoded, resolver, owners, order, purges, notices)
    for part in (node.counters, origin, indexer, *closing):
        if part is not None:
            resources.callback(part.close)
    return Repository(
        *(access, build_authenticator(node), reader, writer, links, trash, metadata, renditions, indexer),
        *(origin, node.epochs, use, node.counters, resources),
    )


def _resolver(
    node: Node, names: Tier | None, memory: MemoryTier, indexer: Indexer, purges: PurgeHook | None
) -> Resolver:
    """Return what finds the originals of names, and notes the changes that it sees."""
    return Resolver(
        node.origin,
        node.epochs,
        names,
        freshness=node.config.freshness,
        changed=lambda name: memory.purge(prefix_of(name)),
        learnt=indexer.noted,
        outdated=purges.noted if purges else lambda _: None,
    )


def _owners(node: Node, names: Tier | None) -> Owners:
    """Return what tells the owners of images.

    :param names: what is remembered of names on disk
    """
    freshness = node.config.freshness
    known: TtlCache[str] = TtlCache(node.epochs, names, "owner", read_owner, freshness=freshness)
    return Owners(node.origin, node.epochs, known, freshness)


def purge_request(config: Config) -> PurgeRequest | None:
    """Return the request that purges a cache in front; None where there is none to purge."""
    settings = config.purge
    if settings.url is None:
        return None
    headers = [*settings.headers, *([str(settings.secret_header)] if settings.secret_header else [])]
    return PurgeRequest(settings.url, settings.method, headers, settings.body, settings.timeout)


def _purge_hook(node: Node) -> PurgeHook | None:
    """Return what purges a cache in front; None where there is none to purge."""
    request, counters = purge_request(node.config), node.counters
    if request is None:
        return None

    def count(is_accepted: bool) -> None:
        counters.add(metrics.PURGES, "accepted" if is_accepted else "failed")

    # A node that was asked before it knew of the change says so for `freshness` at most.
    return PurgeHook(request.send, node.config.freshness + _PURGE_SLACK_S, sent=count)


def build_artifacts(config: Config, repo: Repository) -> Artifacts:
    """Return the artifacts of a repository; closed with it."""
    return Artifacts(repo, build_indexer(config, repo.origin, "artifacts"))


def build_partial_uploads(config: Config, repo: Repository) -> PartialUploads:
    """Return the uploads in parts that wait on this node."""
    own = own_folder(config, repo.origin)
    return PartialUploads(own and own / "uploads", config.uploads)


def _policy(node: Node) -> Policy:
    """Return the policy of serving and writing."""
    config, origin = node.config, node.origin
    settings = config.persistent_store_configuration
    longest = max(settings.url_lifetime_most, settings.url_lifetime)
    if origin.capabilities.longest_link is not None:
        longest = min(longest, origin.capabilities.longest_link - settings.url_lifetime_slack)
    return Policy(
        spool=node.shared,
        most_upload=config.server.max_upload,
        overwrite=config.overwrite,
        serve_originals=config.serve_originals,
        url_lifetime=settings.url_lifetime,
        url_lifetime_most=longest,
        url_lifetime_slack=settings.url_lifetime_slack,
    )
