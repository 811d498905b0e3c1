"""Configuration → who may do what: rules, credentials, login."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from image_repo import render
from image_repo.access.api_keys import ApiKeys, ClosingMarker, seconds_of
from image_repo.access.authenticator import Authenticator
from image_repo.access.control import RenditionLimits, Rules
from image_repo.access.folder_rules import FolderRule, FolderRules
from image_repo.access.principal import Role
from image_repo.access.provider import Keys, ProviderKeys, fetch_keys
from image_repo.access.rules import AnonymousLimits, RoleRules
from image_repo.access.scope_rules import ScopeRules
from image_repo.access.sealed_tokens import SealedTokens
from image_repo.access.sessions import Sessions
from image_repo.access.share_links import ShareLinks
from image_repo.access.signed_cookies import CookieSigner
from image_repo.config import Config
from image_repo.errors import BrokenPicture, ConfigurationError
from image_repo.model.names import parse_prefix
from image_repo.model.watermark import Watermark
from image_repo.repository.owners import Owners
from image_repo.wiring.node import Node

if TYPE_CHECKING:
    from image_repo.access.tokens import TokenPolicy

#: what the configuration allows → the role that may it
_ROLES = {"none": Role.NONE, "read": Role.READER, "write": Role.WRITER}


def access_rules(node: Node, owners: Owners) -> Rules:
    """Return who may do what."""
    limits = node.config.access.anonymous_limits
    rules = _unlimited_rules(node)
    if is_scoped(node.config):
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


def _unlimited_rules(node: Node) -> Rules:
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


def _anonymous_role(node: Node) -> Callable[[], Role]:
    """Return what gives the role of callers without credentials."""
    access = node.config.access
    if is_scoped(node.config):
        return lambda: Role.NONE
    if access.anonymous is None and not access.oidc.is_configured:
        file = node.own / "access" if node.own else None
        return ClosingMarker(node.origin, node.epochs, file, node.config.freshness).anonymous_role
    role = _ROLES[access.anonymous or "none"]
    return lambda: role


def is_scoped(config: Config) -> bool:
    """Return whether users are kept apart."""
    return config.access.image_scope == "user"


def build_authenticator(node: Node) -> Authenticator:
    """Return what tells on whose behalf a request is made; nothing is contacted yet."""
    config, oidc = node.config, node.config.access.oidc
    keys = ApiKeys(node.origin, node.epochs, config.freshness, is_scoped=is_scoped(config))
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
    purpose = f"session of {config.access.user_identifier}" if is_scoped(config) else "session"
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
    owner_claim = config.access.user_identifier if is_scoped(config) else None
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
