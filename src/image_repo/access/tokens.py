"""Bearer tokens: JSON Web Tokens of an OpenID provider (RFC 7519, RFC 8725)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from image_repo.access.principal import Principal, of_owner
from image_repo.access.provider import Jwk, ProviderKeys
from image_repo.errors import BadName, InvalidToken
from image_repo.model.namespaces import KEY_OWNER

#: asymmetric ones only: a published key must never verify an HMAC
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
#: allowed lead of a provider's clock, seconds
LEEWAY_S = 120.0
_MAX_TOKEN_CHARS = 16_384
#: of the name of a caller: no control character, no backslash, no half of a surrogate pair
_NAME = re.compile(
    r"[^\x00-\x20\x7f-\xa0\\\ud800-\udfff](?:[^\x00-\x1f\x7f\\\ud800-\udfff]{0,253}[^\x00-\x20\x7f-\xa0\\\ud800-\udfff])?"
)
_WRITER = frozenset({"writer"})
_ROLES = ("reader", "writer", "admin")


@dataclass(frozen=True)
class TokenPolicy:
    """What a token has to say.

    :param issuer: its ``iss``, None for any
    :param audience: one of its ``aud``, None for any
    :param roles_claim: the claim with the roles, dotted; None where every valid token is a writer's
    :param roles: value of that claim → role; the names of the roles mean themselves
    :param owner_claim: the claim, dotted, with the user whose images alone the caller sees; None where all see all
    """

    issuer: str | None = None
    audience: str | None = None
    roles_claim: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    owner_claim: str | None = None

    def principal(self, claims: Mapping[str, Any]) -> Principal:
        """Return on whose behalf a caller with verified claims acts.

        :raises InvalidToken: when they name no acceptable subject, or no acceptable user
        """
        principal = Principal(_name_in(claims, "sub"), self._roles(claims))
        return principal if self.owner_claim is None else _as_owner(principal, claims, self.owner_claim)

    def _roles(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """Return the roles that the claim names, by the table of the configuration."""
        if self.roles_claim is None:
            return _WRITER
        value = _claim(claims, self.roles_claim)
        names = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
        table = {**{role: role for role in _ROLES}, **self.roles}
        return frozenset(table[name] for name in names if isinstance(name, str) and name in table)


class TokenVerifier:
    """Verifies tokens.

    :param keys: of the provider
    """

    def __init__(self, policy: TokenPolicy, keys: ProviderKeys, clock: Callable[[], float] = time.time) -> None:
        self._policy = policy
        self._keys = keys
        self._clock = clock

    def verify(self, token: str) -> tuple[Principal, float]:
        """Return whose token it is, and when it expires in seconds since the epoch.

        :raises InvalidToken: when it is not accepted
        :raises ProviderUnavailable: when that cannot be decided now
        """
        claims = self.claims(token)
        return self.principal(claims), float(claims["exp"])

    def claims(self, token: str) -> Mapping[str, Any]:
        """Return what a token says.

        :raises InvalidToken: when it is not accepted
        :raises ProviderUnavailable: when that cannot be decided now
        """
        if len(token) > _MAX_TOKEN_CHARS:
            raise InvalidToken("The token is too long.")
        try:
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            if algorithm not in ALGORITHMS:
                raise InvalidToken("The token is signed by an algorithm that is not accepted.")
            return self._decode(token, str(algorithm), kid)
        except jwt.ExpiredSignatureError as error:
            raise InvalidToken("The token has expired.") from error
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise InvalidToken("The token is not valid.") from error

    def principal(self, claims: Mapping[str, Any]) -> Principal:
        """Return who the claims of an accepted token are about.

        :raises InvalidToken: when they name no acceptable subject, or no acceptable user
        """
        return self._policy.principal(claims)

    def _decode(self, token: str, algorithm: str, kid: str | None) -> Mapping[str, Any]:
        policy = self._policy
        key = self._keys.find(kid)
        if key is None or not _fits(key, algorithm):
            raise InvalidToken("The token is signed by a key that the identity provider does not have.")
        required = ["exp", "sub", *(["iss"] if policy.issuer else []), *(["aud"] if policy.audience else [])]
        claims: Mapping[str, Any] = jwt.decode(
            token,
            jwt.PyJWK({**key}, algorithm),
            algorithms=[algorithm],
            audience=policy.audience,
            issuer=policy.issuer,
            # Only the start of the validity has a leeway, which PyJWT does not know apart.
            options={
                "require": required,
                "verify_aud": policy.audience is not None,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
        starts = claims.get("nbf", 0)
        if isinstance(starts, bool) or not isinstance(starts, int | float) or starts > self._clock() + LEEWAY_S:
            raise InvalidToken("The token is not valid yet.")
        return claims


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return the value of a claim, dotted; None where there is none."""
    if path in claims:  # names of claims may be URLs
        return claims[path]
    value: Any = claims
    for member in path.split("."):
        value = value.get(member) if isinstance(value, Mapping) else None
    return value


def _fits(key: Jwk, algorithm: str) -> bool:
    """Return whether a key may verify signatures of an algorithm (RFC 8725, section 3.1)."""
    declared = key.get("alg", algorithm)
    return declared == algorithm or (declared, algorithm) == ("Ed25519", "EdDSA")


def _name_in(claims: Mapping[str, Any], claim: str) -> str:
    """Return the name of a caller that a claim holds, which may name a folder.

    :raises InvalidToken: when it is no acceptable text
    """
    value = _claim(claims, claim)
    is_clean = isinstance(value, str) and _NAME.fullmatch(value)
    if not is_clean or not {".", ".."}.isdisjoint(value.split("/")):
        raise InvalidToken(f"The token has no acceptable text as {claim}.")
    return str(value)


def _as_owner(principal: Principal, claims: Mapping[str, Any], claim: str) -> Principal:
    """Return a caller that sees the images of the user alone that a claim names; of an administrator, of all.

    :raises InvalidToken: when it names none that can have a folder
    """
    owner = _name_in(claims, claim)
    try:
        scoped = of_owner(principal, owner)
    except BadName as error:
        raise InvalidToken(f"The token has no acceptable text as {claim}: {error.detail}") from error
    if owner.startswith(KEY_OWNER):
        raise InvalidToken(f"The token has no acceptable text as {claim}.")
    return principal if "admin" in principal.roles else scoped
