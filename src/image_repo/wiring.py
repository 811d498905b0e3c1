"""Config → live parts. The only place that chooses concrete classes, and that gives each part its own settings."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from image_repo import render
from image_repo.access.api_keys import ApiKeys, ClosingMarker, seconds_of
from image_repo.access.authenticator import Authenticator
from image_repo.access.control import AccessControl, RenditionLimits, Rules
from image_repo.access.folder_rules import FolderRule, FolderRules
from image_repo.access.principal import Role
from image_repo.access.provider import Keys, ProviderKeys, fetch_keys
from image_repo.access.request_rules import RequestRules, RequestSigner
from image_repo.access.rules import AnonymousLimits, RoleRules
from image_repo.access.scope_rules import ScopeRules
from image_repo.access.sealed_tokens import SealedTokens
from image_repo.access.sessions import Sessions
from image_repo.access.share_links import ShareLinks
from image_repo.access.signed_cookies import CookieSigner
from image_repo.caches.container import PREFIX, ContainerTier
from image_repo.caches.disk import DiskTier, LinkFolder
from image_repo.caches.eviction import Bounds
from image_repo.caches.file_cache import FileCache
from image_repo.caches.memory import MemoryTier
from image_repo.caches.tiers import Caches, LinkTarget, Tier
from image_repo.catalogue.base import Index
from image_repo.catalogue.indexer import Indexer
from image_repo.catalogue.outbox import Outbox
from image_repo.concurrency.invalidation import InvalidationEpochs
from image_repo.concurrency.limiter import Limiter, limits
from image_repo.concurrency.locks import FileOrder, KeyedLock, WriteOrder
from image_repo.concurrency.private_folder import make_private
from image_repo.concurrency.rate_limiter import RateLimiter
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.config import Config, LocalCacheConfiguration, PersistentStoreConfiguration
from image_repo.config.settings import DEFAULT_CACHE_CONTAINER
from image_repo.errors import BrokenPicture, CatalogueUnavailable, ConfigurationError, StoreUnavailable
from image_repo.model.key import prefix_of
from image_repo.model.names import ImageName, parse_prefix
from image_repo.model.operations import Focus, read_focus
from image_repo.model.recipe import Defaults, read_request
from image_repo.model.watermark import Watermark
from image_repo.observability import metrics
from image_repo.observability.metrics import Counters
from image_repo.repository.artifacts import Artifacts
from image_repo.repository.decoded_cache import DecodedCache
from image_repo.repository.links import Links
from image_repo.repository.metadata import MetadataStore
from image_repo.repository.mezzanines import Mezzanines
from image_repo.repository.originals import Originals
from image_repo.repository.owners import Owners, read_owner
from image_repo.repository.policy import Policy
from image_repo.repository.purge_hook import PurgeHook, PurgeRequest
from image_repo.repository.quotas import Quotas
from image_repo.repository.reader import Reader
from image_repo.repository.renditions import Renditions
from image_repo.repository.repository import Repository
from image_repo.repository.resolver import Resolver
from image_repo.repository.trash import Trash
from image_repo.repository.ttl_cache import TtlCache
from image_repo.repository.writer import Writer
from image_repo.stores import s3_environment
from image_repo.stores.base import Store
from image_repo.stores.circuit_breaker import CircuitBreaker
from image_repo.stores.disk import DiskStore
from image_repo.stores.swift import SwiftStore
from image_repo.stores.swift_auth import resolve_credentials
from image_repo.stores.swift_link_keys import new_link_key
from image_repo.stores.swift_pool import ConnectionPool
from image_repo.sync import membership
from image_repo.sync.daemon import CatalogueDaemon
from image_repo.sync.expiry import ExpirySweeper
from image_repo.sync.lease import WriteLease, read_claim
from image_repo.sync.membership import FolderMembershipBoard, Membership, StoreMembershipBoard

if TYPE_CHECKING:
    from image_repo.access.tokens import TokenPolicy
    from image_repo.catalogue.postgres_notices import NoticeListener, PostgresNotices
    from image_repo.stores.s3_client import S3Client
    from image_repo.stores.s3_lifecycle import BucketLifecycle

log = logging.getLogger(__name__)

#: what the configuration allows → the role that may it
_ROLES = {"none": Role.NONE, "read": Role.READER, "write": Role.WRITER}
T = TypeVar("T")

#: what an index holds of a record; another one is made anew
_SCHEMA = 1
#: what is remembered of names on disk may take this much, beside the disk cache
_NAMES = LocalCacheConfiguration(max_size=256 << 20, max_elements=1 << 20)
#: a cache container that is silent is a miss: what is left of the time of a request is the origin's
_CACHE_SILENCE_S = 1.0
#: seconds that an answer may be on its way to a cache in front
_PURGE_SLACK_S = 1.0
#: seconds after which the note of a node that has ended is of no use
_NOTE_AGE_S = 86_400.0
#: a few large entries displace each other: their last use has to be known better than that of many small ones
_TOUCH_PIXELS_EVERY_S = 5.0


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


def build_stores(config: Config, environ: Mapping[str, str] = os.environ) -> Stores:
    """The stores that the configuration names; nothing is contacted yet."""
    settings = s3_environment.resolve(config.persistent_store_configuration, environ)
    if settings.kind != "s3":
        settings = replace(settings, credentials=resolve_credentials(settings.credentials, environ))
    config = replace(config, persistent_store_configuration=settings)
    kind = config.persistent_store_configuration.resolved_kind
    if kind not in STORE_KINDS:
        raise ConfigurationError([f"persistent_store_configuration.kind: expected one of {', '.join(STORE_KINDS)}"])
    return STORE_KINDS[kind](config)


def _disk_stores(config: Config) -> Stores:
    settings = config.persistent_store_configuration
    keys = tuple(str(key) for key in (settings.url_key, settings.url_key_2) if key)
    return Stores(DiskStore(Path(settings.path), secrets=keys, public_endpoint=settings.public_endpoint))


def _swift_stores(config: Config) -> Stores:
    settings, cache = config.persistent_store_configuration, config.swift_cache_configuration
    shared = _private(Path(config.local_file_cache_path))
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


@dataclass(frozen=True, slots=True)
class _Node:
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
    def of(cls, config: Config, stores: Stores) -> _Node:
        own = own_folder(config, stores.origin)
        counters = Counters(own)
        origin = CircuitBreaker(stores.origin, counters=counters)
        epochs = InvalidationEpochs(own / "marks" if own else None)
        return cls(config, stores, _private(Path(config.local_file_cache_path)), own, counters, origin, epochs)


def build(
    config: Config, *, rules: Rules | None = None, stores: Stores | None = None, order: WriteOrder | None = None
) -> Repository:
    """Return the live repository. Called in each worker, after the fork.

    :param rules: who may do what; as the configuration says where None
    :param stores: those that the configuration names where None
    :param order: of writers on several nodes; that of the catalogue or store where None
    """
    render.configure()
    node = _Node.of(config, stores or build_stores(config))
    origin, epochs, use = node.origin, node.epochs, policy(config, node.shared, node.origin)
    indexer = _indexer(config, node.stores.origin, node.own, "images")
    memory = MemoryTier(
        config.memory_cache_configuration.max_size,
        evicted=partial(_evicted, node.counters, "memory"),
        resized=partial(_resized, node.counters, "memory"),
    )
    settings = replace(_NAMES, enabled=config.local_cache_configuration.enabled)
    names = _disk(config, node.stores.origin, "names", settings)
    forget = partial(_purge_name, memory)
    purges = _purge_hook(node)
    resolver = Resolver(
        *(origin, epochs, names),
        freshness=config.freshness,
        changed=forget,
        learnt=indexer.noted,
        outdated=purges.noted if purges else lambda _: None,
    )
    originals = Originals(origin, resolver, use.spool, config.render.max_source)
    target = _link_target(config, node.stores, node.counters)
    notices = _notices(config, node.stores.origin, node.own)
    renditions = _renditions(node, originals, memory, target, notices)
    order = order or _write_order(config, node)
    locks = KeyedLock(node.own / "writing" if node.own else None, order)
    metadata = MetadataStore(
        origin, resolver, originals, locks, indexer, config.render, location=config.metadata_location
    )
    focus: TtlCache[Focus] = TtlCache(epochs, names, "focus", read_focus, freshness=config.freshness)
    owners = _owners(node, names)
    access = AccessControl(rules or _access_rules(node, owners), login_path(config))
    reader = Reader(access, origin, resolver, metadata, indexer, originals, renditions, focus)
    trash = Trash(origin, config.trash.days, use.spool)
    quotas = Quotas(origin, indexer, config.access.owner_quota if _is_scoped(config) else 0)
    writer = Writer(access, origin, resolver, metadata, indexer, renditions, use, trash, quotas)
    cache = node.stores.cache
    links = Links(access, reader, target, cache or origin, PREFIX if cache else "", use)
    resources = ExitStack()
    closing = (renditions.caches, renditions.mezzanines, renditions.decoded, resolver, owners)
    for part in (node.counters, origin, indexer, *closing):
        resources.callback(part.close)
    if order is not None:
        resources.callback(order.close)
    for sender in (purges, notices):
        if sender is not None:
            resources.callback(sender.close)
    authenticator = _authenticator(node)
    return Repository(
        *(access, authenticator, reader, writer, links, trash, metadata, renditions, indexer, origin, epochs, use),
        *(node.counters, resources),
    )


def _owners(node: _Node, names: Tier | None) -> Owners:
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


def _purge_hook(node: _Node) -> PurgeHook | None:
    """Return what purges a cache in front; None where there is none to purge."""
    request, counters = purge_request(node.config), node.counters
    if request is None:
        return None

    def count(is_accepted: bool) -> None:
        counters.add(metrics.PURGES, "accepted" if is_accepted else "failed")

    # A node that was asked before it knew of the change says so for `freshness` at most.
    return PurgeHook(request.send, node.config.freshness + _PURGE_SLACK_S, sent=count)


def _access_rules(node: _Node, owners: Owners) -> Rules:
    """Return who may do what."""
    limits = node.config.access.anonymous_limits
    rules = _unlimited_rules(node)
    if _is_scoped(node.config):
        rules = ScopeRules(rules, owners.owner_of)
    most = RenditionLimits(limits.max_width, limits.kinds, watermark(node.config))
    return rules if most == RenditionLimits() else AnonymousLimits(rules, most)


def watermark(config: Config) -> Watermark | None:
    """Return the watermark of renditions for callers without credentials; None without one.

    :raises ConfigurationError: when it cannot be drawn
    """
    mark = config.access.anonymous_limits.watermark
    if mark.text is None and mark.picture is None:
        return None
    try:
        picture = Path(mark.picture).read_bytes() if mark.picture else b""
        made = Watermark.of(mark.text or "", picture, mark.opacity, repeat=mark.repeat)
        render.check_watermark(made)
    except (OSError, BrokenPicture) as error:
        raise ConfigurationError([f"access.anonymous_limits.watermark: {error}"]) from error
    return made


def _unlimited_rules(node: _Node) -> Rules:
    """Return who may do what, apart from limits of renditions."""
    access = node.config.access
    anonymous = _anonymous_role(node)
    if not access.rules:
        return RoleRules(anonymous)
    return FolderRules(
        anonymous,
        [
            FolderRule(
                parse_prefix(rule.prefix), rule.who, _ROLES[rule.may], seconds_of(rule.until) if rule.until else inf
            )
            for rule in access.rules
        ],
    )


def _anonymous_role(node: _Node) -> Callable[[], Role]:
    """Return what gives the role of callers without credentials."""
    access = node.config.access
    if _is_scoped(node.config):
        return lambda: Role.NONE
    if access.anonymous is None and not access.oidc.is_configured:
        file = node.own / "access" if node.own else None
        return ClosingMarker(node.origin, node.epochs, file, node.config.freshness).anonymous_role
    role = _ROLES[access.anonymous or "none"]
    return lambda: role


def _is_scoped(config: Config) -> bool:
    """Return whether users are kept apart."""
    return config.access.image_scope == "user"


def _authenticator(node: _Node) -> Authenticator:
    """Return what tells on whose behalf a request is made; nothing is contacted yet."""
    config, oidc = node.config, node.config.access.oidc
    keys = ApiKeys(node.origin, node.epochs, config.freshness, is_scoped=_is_scoped(config))
    shares = ShareLinks(_secrets(config))
    if not oidc.is_configured:
        return Authenticator(keys, shares)
    # The cryptography of tokens takes its time to import.
    from image_repo.access.login import LOGIN_LIFETIME_S, LoginClient, LoginFlow, find_endpoints  # noqa: PLC0415
    from image_repo.access.tokens import TokenVerifier  # noqa: PLC0415

    source = hashlib.sha256(f"{oidc.issuer}\0{oidc.jwks_uri}".encode()).hexdigest()[:16]
    file = node.shared / f"oidc-{source}.json" if node.shared else None
    policy = _token_policy(config)
    provider = ProviderKeys(partial(provider_keys, config), file)
    bearer = TokenVerifier(policy, provider)
    if not oidc.client_id:
        return Authenticator(keys, shares, bearer)
    client = LoginClient(
        str(oidc.issuer), oidc.client_id, str(oidc.client_secret) if oidc.client_secret else None, oidc.scope
    )
    states = CookieSigner(_secrets(config), "login", LOGIN_LIFETIME_S)
    tokens = TokenVerifier(replace(policy, audience=oidc.client_id), provider)
    # A session says which images its user sees: that of another setting does not hold.
    purpose = f"session of {config.access.user_identifier}" if _is_scoped(config) else "session"
    sessions = Sessions(CookieSigner(_secrets(config), purpose, config.access.session_lifetime))
    return Authenticator(
        keys,
        shares,
        bearer,
        sessions=sessions,
        login=LoginFlow(client, tokens, bearer, states, find_endpoints),
        probe_tokens=SealedTokens(_secrets(config), "iiif-probe"),
    )


def _secrets(config: Config) -> list[str]:
    """Return what signs share links and sessions; the first one signs."""
    return [str(secret) for secret in (config.access.secret, config.access.secret_2) if secret]


def _token_policy(config: Config) -> TokenPolicy:
    """Return what tokens have to say, and on whose behalf a caller with one acts."""
    from image_repo.access.tokens import TokenPolicy  # noqa: PLC0415, its cryptography takes its time

    oidc = config.access.oidc
    owner_claim = config.access.user_identifier if _is_scoped(config) else None
    return TokenPolicy(oidc.issuer, oidc.audience, oidc.roles_claim, oidc.roles, owner_claim)


def provider_keys(config: Config) -> Keys:
    """Return the keys of the configured identity provider, from the provider itself.

    :raises OSError, ValueError: when they cannot be had
    """
    oidc = config.access.oidc
    return fetch_keys(oidc.issuer, str(oidc.jwks_uri) if oidc.jwks_uri else None)


def login_path(config: Config) -> str | None:
    """Return the path where people log in, as browsers see it; None where nobody can."""
    return urlsplit(config.public_url or "").path + "/login" if config.access.oidc.client_id else None


def check_login(config: Config) -> None:
    """Check that people can log in at the configured identity provider.

    :raises OSError, ValueError: when the provider does not say where
    :raises LibraryMissing: when the library for it is not installed
    """
    from image_repo.access.login import find_endpoints, import_client  # noqa: PLC0415

    import_client()
    find_endpoints(str(config.access.oidc.issuer))


def _write_order(config: Config, node: _Node) -> WriteOrder | None:
    """Return what orders the writers of several nodes: locks beside the originals, of the database, or a lease."""
    folder = node.stores.origin.capabilities.folder
    if folder is not None:
        return FileOrder(folder / "writing")
    return open_order(config, node.stores.origin) or _lease(config, node)


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


def _lease(config: Config, node: _Node) -> WriteLease | None:
    """Return the lease of the one writing node; None where there is no place for the id of this node."""
    members = nodes(config, node.stores)
    if node.own is None or members is None:
        return None
    advice = "Set catalogue.url to the same postgresql://… on all nodes, or send writes to the node that writes."
    return WriteLease(node.origin, lambda: members.id, node.own, advice=advice)


def _purge_name(memory: MemoryTier, name: ImageName) -> None:
    memory.purge(prefix_of(name))


def _notices(config: Config, origin: Store, own: Path | None) -> PostgresNotices | None:
    """Return what tells the other nodes of changes; None where they share no database."""
    settings = config.catalogue
    if own is None or not settings.enabled or settings.url is None:
        return None
    from image_repo.catalogue import engines  # noqa: PLC0415, most have no use for it

    return engines.open_notices(str(settings.url), origin.identity, f"{socket.gethostname()} {own}")


def _follow_notices(notices: PostgresNotices, repo: Repository) -> NoticeListener:
    """Return what drops here, and resolves anew, the images that another node has replaced, deleted or purged."""
    from image_repo.catalogue.postgres_notices import NoticeListener  # noqa: PLC0415, most have no use for it

    def received(text: str) -> None:
        name = ImageName.of_key(text)
        if name is not None:
            repo.epochs.mark(name.text)
            repo.renditions.drop(name)

    return NoticeListener(notices, received)


def _renditions(
    node: _Node,
    originals: Originals,
    memory: MemoryTier,
    target: LinkTarget | None,
    notices: PostgresNotices | None,
) -> Renditions:
    """Return the renditions, in tiers of this node and of the container."""
    config, own, counters = node.config, node.own, node.counters
    settings, evicted = config.local_cache_configuration, partial(_evicted, counters, "disk")
    share = replace(settings, max_size=int(settings.max_size * (1.0 - settings.mezzanine_share)))
    local = _disk(config, node.stores.origin, "renditions", share, evicted, partial(_resized, counters, "disk"))
    flight = SingleFlight(own / "flights" if own else None)
    table = limits(threads=config.server.threads, renders=config.render.at_once, queue=config.render.queue)
    limiter = Limiter(table, node.shared / "limits" if node.shared else None, waiting=counters.waiting)
    files, far = _mezzanine_files(config, node.stores.origin), Caches([target] if node.stores.cache and target else [])
    return Renditions(
        originals,
        Caches(tier for tier in (memory, local, target) if tier is not None),
        Mezzanines(files, far, SingleFlight(None), limiter, config.render),
        DecodedCache(_pixel_files(own, config.render.pixel_cache), flight, limiter, config.render),
        target,
        flight,
        limiter,
        config.render,
        counters,
        dropped=lambda name: notices.send(name.text) if notices else None,
    )


def _folder_name(origin: Store) -> str:
    """Return the name of the folders of this container on disk."""
    return hashlib.sha256(origin.identity.encode()).hexdigest()[:16]


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


def build_artifacts(config: Config, repo: Repository) -> Artifacts:
    """Return the artifacts of a repository; closed with it."""
    return Artifacts(repo, _indexer(config, repo.origin, own_folder(config, repo.origin), "artifacts"))


def _indexer(config: Config, origin: Store, own: Path | None, collection: str) -> Indexer:
    outbox = Outbox(own / f"behind-{collection}" if own else None)
    try:
        return Indexer(open_index(config, origin, collection), outbox)
    except CatalogueUnavailable as error:
        log.warning("there is no catalogue: %s", error.detail)
        return Indexer(None, outbox, error)


def own_folder(config: Config, origin: Store) -> Path | None:
    """The folder that the processes of this node share for one container; None where it cannot be had."""
    shared = _private(Path(config.local_file_cache_path))
    return _private(shared / _folder_name(origin)) if shared else None


def nodes(config: Config, stores: Stores) -> Membership | None:
    """This node, and the others that serve the same container; None where there is no place for its id."""
    own = own_folder(config, stores.origin)
    if own is None:
        return None
    folder = stores.origin.capabilities.folder
    if folder is not None:
        return Membership(FolderMembershipBoard(folder / "nodes"), own)
    return Membership(StoreMembershipBoard(stores.cache or stores.origin), own)


def _resized(counters: Counters, tier: str, size: int, entries: int) -> None:
    counters.set(metrics.CACHE_BYTES, tier, size)
    counters.set(metrics.CACHE_ENTRIES, tier, entries)


def _evicted(counters: Counters, tier: str, count: int) -> None:
    counters.add(metrics.EVICTIONS, tier, count)


def policy(config: Config, shared: Path | None, origin: Store) -> Policy:
    """Return the policy of serving and writing."""
    settings = config.persistent_store_configuration
    longest = max(settings.url_lifetime_most, settings.url_lifetime)
    if origin.capabilities.longest_link is not None:
        longest = min(longest, origin.capabilities.longest_link - settings.url_lifetime_slack)
    return Policy(
        spool=shared,
        most_upload=config.server.max_upload,
        overwrite=config.overwrite,
        serve_originals=config.serve_originals,
        url_lifetime=settings.url_lifetime,
        url_lifetime_most=longest,
        url_lifetime_slack=settings.url_lifetime_slack,
    )


def defaults(config: Config) -> Defaults:
    """Return the defaults of requests."""
    quality = config.image_default_quality
    return Defaults(
        kind=config.image_default_format,
        auto=config.image_auto_formats,
        quality={"jpg": quality.jpg, "webp": quality.webp, "avif": quality.avif, "jp2": quality.jp2},
        background=config.image_default_background,
        thumbnail_size=config.thumbnail_default_size,
        thumbnail_sharpen=1.0 if config.thumbnail_sharpen else 0.0,
        thumbnail_equalise=config.thumbnail_equalise,
        keep_copyright=config.keep_copyright,
        steps=config.requests.steps if config.requests.mode == "steps" else (),
        presets={
            name: read_request((key, str(value)) for key, value in values.items())[0]
            for name, values in config.presets.items()
        },
    )


def request_rules(config: Config) -> RequestRules:
    """Return which requests for renditions are accepted."""
    return RequestRules(config.requests.mode, list(config.presets), request_signer(config))


def request_signer(config: Config) -> RequestSigner:
    """Return what signs requests; without a key it raises."""
    return RequestSigner([str(key) for key in (config.requests.key, config.requests.key_2) if key])


def render_budget(config: Config, repo: Repository) -> RateLimiter | None:
    """Return what counts the renders of each client on this node; None where nothing bounds them.

    It is closed with the repository.
    """
    quota = config.requests.renders_per_minute
    if not quota:
        return None
    own = own_folder(config, repo.origin)
    limiter = RateLimiter(quota, own and own / "renders")
    repo.resources.callback(limiter.close)
    return limiter


def rendition_lifetime(config: Config) -> int:
    """Return the seconds after which a rendition in the cache container has expired, linked or not."""
    settings = config.persistent_store_configuration
    longest = max(settings.url_lifetime, settings.url_lifetime_most) + settings.url_lifetime_slack
    return max(config.swift_cache_configuration.lifetime, longest)


def build_lifecycle(config: Config, environ: Mapping[str, str] = os.environ) -> BucketLifecycle:
    """Return the lifecycle rules of the bucket of the renditions.

    :raises ConfigurationError: where they are not in S3
    """
    settings = s3_environment.resolve(config.persistent_store_configuration, environ)
    if settings.kind != "s3" or not config.swift_cache_configuration.enabled:
        raise ConfigurationError(["persistent_store_configuration.kind: expected s3, with a cache container"])
    client = _s3_client(settings)
    from image_repo.stores.s3_lifecycle import BucketLifecycle  # noqa: PLC0415, as above

    return BucketLifecycle(client, _cache_bucket(config, settings))


def _link_target(config: Config, stores: Stores, counters: Counters) -> LinkTarget | None:
    cache = config.swift_cache_configuration
    if not cache.enabled:
        return None
    if stores.cache is not None:
        return ContainerTier(CircuitBreaker(stores.cache, counters=counters, name="cache"), rendition_lifetime(config))
    folder = stores.origin.capabilities.folder
    if folder is not None:
        unbounded = LocalCacheConfiguration(max_size=0, max_elements=0)
        return LinkFolder(folder / "renditions", unbounded, name="cache", lifetime=cache.lifetime)
    return None


def _mezzanine_files(config: Config, origin: Store) -> FileCache | None:
    """Return the share of the disk cache for mezzanines; None where there is none."""
    settings = config.local_cache_configuration
    if not settings.mezzanine_share:
        return None
    bounds = Bounds(int(settings.max_size * settings.mezzanine_share), evict_free_threshold=0.05, priority="cost")
    return _on_disk(config, origin, "mezzanines", lambda folder: FileCache(folder, bounds, "cache of mezzanines"))


def _disk(
    config: Config,
    origin: Store,
    part: str,
    settings: LocalCacheConfiguration,
    evicted: Callable[[int], object] = lambda _: None,
    resized: Callable[[int, int], object] = lambda *_: None,
) -> Tier | None:
    """Return a tier in the disk cache; None where there is none."""
    return _on_disk(config, origin, part, lambda folder: DiskTier(folder, settings, evicted=evicted, resized=resized))


def _on_disk(config: Config, origin: Store, part: str, make: Callable[[Path], T]) -> T | None:
    """Return what is made in a folder of the disk cache, for this origin alone; None where it cannot be used."""
    path = Path(config.local_cache_configuration.cache_path)
    if not config.local_cache_configuration.enabled or _private(path) is None:
        return None
    try:
        return make(path / _folder_name(origin) / part)
    except OSError as error:
        log.warning("there is no disk cache: %s", error)
        return None


def _pixel_files(own: Path | None, most: int) -> FileCache | None:
    """Decoded pixels on this node; None where they cannot be stored, or are not to be."""
    if own is None or not most:
        return None
    try:
        return FileCache(own / "pixels", Bounds(most), "cache of decoded pixels", touch_every=_TOUCH_PIXELS_EVERY_S)
    except OSError as error:
        log.warning("decoded pixels are not stored: %s", error)
        return None


def _private(folder: Path) -> Path | None:
    """A folder that nobody else can use; None, and a warning, where that cannot be had."""
    try:
        make_private(folder)
    except OSError as error:
        log.warning("%s is not used: %s", folder, error)
        return None
    return folder


def start_daemon(config: Config, repo: Repository) -> Callable[[], None]:
    """Start what a node does beside its requests: the catalogue daemon, and the sweeper of expired renditions.

    Each is started where the configuration has a use for it and there is a place for its files.

    :returns: what ends them
    """
    own = own_folder(config, repo.origin)
    if own is None:
        return lambda: None
    resources = ExitStack()
    stores = build_stores(config)
    resources.callback(stores.close)
    if stores.cache is not None and not stores.cache.capabilities.drops_expired:
        ages = {PREFIX: float(rendition_lifetime(config)), membership.PREFIX: _NOTE_AGE_S}
        sweeper = ExpirySweeper(stores.cache, ages, own)
        resources.callback(sweeper.close)
        sweeper.start()
    notices = _notices(config, stores.origin, own)
    if notices is not None:
        listener = _follow_notices(notices, repo)
        resources.callback(notices.close)
        resources.callback(listener.close)
        listener.start()
    if config.catalogue.enabled:
        artifacts = build_artifacts(config, repo)
        daemon = CatalogueDaemon(
            repo, own, every=config.catalogue.reconcile, nodes=nodes(config, stores), artifacts=artifacts
        )
        resources.callback(daemon.close)
        daemon.start()
    return resources.close
