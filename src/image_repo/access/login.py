"""Login of people at an OpenID provider: the authorization code flow with PKCE, state and nonce.

OpenID Connect Core 1.0, section 3.1; RFC 7636; RFC 9207. What has to be remembered between its two steps lies in a
signed cookie of the browser.
"""

from __future__ import annotations

import contextlib
import hmac
import itertools
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from image_repo.access.principal import Principal
from image_repo.access.provider import FETCH_TIMEOUT_S, discover
from image_repo.access.signed_cookies import CookieSigner
from image_repo.access.tokens import TokenVerifier
from image_repo.errors import InvalidToken, LibraryMissing, LoginFailed, ProviderUnavailable

log = logging.getLogger(__name__)

#: seconds that a login may take
LOGIN_LIFETIME_S = 600
#: seconds after which the discovery document is fetched again
_DISCOVERY_LIFETIME_S = 300.0
#: seconds without a fetch after one that has failed, and to wait for that of another thread
_DISCOVERY_COOLDOWN_S, _DISCOVERY_WAIT_S = 2.0, 4.5
_ENDPOINTS = ("authorization_endpoint", "token_endpoint")
_RANDOM_BYTES = 32
_AGAIN = "Begin again at /login."


@dataclass(frozen=True)
class LoginClient:
    """What the provider knows this server as.

    :param secret: None for a public client
    :param scope: separated by spaces, ``openid`` among them
    """

    issuer: str
    id: str
    secret: str | None = None
    scope: str = "openid profile"


class LoginFlow:
    """Sends browsers to the provider, and learns from it who they are when they come back.

    :param tokens: verifies ID tokens, whose audience is the client
    :param bearer: verifies access tokens as those of requests are verified
    :param states: signs what is remembered of a login that has begun
    :param endpoints: returns the discovery document of an issuer, or raises OSError or ValueError
    """

    def __init__(
        self,
        client: LoginClient,
        tokens: TokenVerifier,
        bearer: TokenVerifier,
        states: CookieSigner,
        endpoints: Callable[[str], Mapping[str, Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._bearer = bearer
        self._states = states
        self._find_endpoints = endpoints
        self._clock = clock
        self._document: Mapping[str, Any] | None = None
        self._until = -math.inf
        self._lock = threading.Lock()

    def begin(self, redirect_uri: str, target: str) -> tuple[str, str]:
        """Return the address of the provider for a browser, and the cookie of this login.

        :param redirect_uri: where the provider sends the browser back to
        :param target: a path, where it goes on after that
        :raises ProviderUnavailable: when the provider is not known
        :raises LibraryMissing: without authlib
        """
        state, nonce, verifier = (secrets.token_urlsafe(_RANDOM_BYTES) for _ in range(3))
        with self._session(document := self._endpoints(), redirect_uri) as session:
            url, _ = session.create_authorization_url(
                document["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
            )
        return url, self._states.sign({"state": state, "nonce": nonce, "verifier": verifier, "target": target})

    def complete(self, redirect_uri: str, answer: Mapping[str, str], cookie: str | None) -> tuple[Principal, str]:
        """Return who has logged in, and the path where the browser goes on.

        :param answer: the parameters with which the provider sent the browser back
        :param cookie: of this login
        :raises LoginFailed: when the provider refuses, or the answer does not belong to the cookie
        :raises ProviderUnavailable: when it cannot be asked
        """
        begun = self._states.read(cookie)
        if begun is None or not hmac.compare_digest(begun["state"].encode(), answer.get("state", "").encode()):
            raise LoginFailed(f"This answer belongs to no login of this browser, or came too late. {_AGAIN}")
        if answer.get("iss", self._client.issuer) != self._client.issuer:
            raise LoginFailed(f"This answer is of another identity provider. {_AGAIN}")
        if "code" not in answer:
            raise LoginFailed(f"The identity provider refused the login: {answer.get('error', 'no code')[:80]!r}.")
        document = self._endpoints()
        with self._session(document, redirect_uri) as session:
            token = self._exchange(session, document, answer["code"], begun["verifier"])
            return self._principal(session, document, token, begun["nonce"]), begun["target"]

    def _exchange(self, session: Any, document: Mapping[str, Any], code: str, verifier: str) -> Mapping[str, Any]:
        """Return the tokens for a code."""
        try:
            token: Mapping[str, Any] = session.fetch_token(
                document["token_endpoint"], code=code, code_verifier=verifier, allow_redirects=False
            )
        except (OSError, ValueError) as error:
            raise ProviderUnavailable("The identity provider cannot be asked for the tokens of a login.") from error
        except import_client().OAuthError as error:
            raise LoginFailed(f"The identity provider does not accept its code. {_AGAIN}") from error
        return token

    def _principal(self, session: Any, document: Mapping[str, Any], token: Mapping[str, Any], nonce: str) -> Principal:
        """Return whose tokens they are."""
        claims = self._id_claims(token, nonce)
        # Where the ID token does not name the roles, the other sources may.
        principal = None
        for source in itertools.chain((claims,), self._sources(session, document, token)):
            if source.get("sub") != claims["sub"]:
                continue
            with contextlib.suppress(InvalidToken):
                principal = self._tokens.principal({**source, **claims})
            if principal is not None and principal.roles:
                break
        if principal is None:
            raise LoginFailed("The identity provider names no acceptable subject.")
        return principal

    def _id_claims(self, token: Mapping[str, Any], nonce: str) -> Mapping[str, Any]:
        """Return the claims of the ID token (OpenID Connect Core 1.0, section 3.1.3.7)."""
        try:
            claims = self._tokens.claims(str(token.get("id_token", "")))
        except InvalidToken as error:
            raise LoginFailed(f"{error.detail} {_AGAIN}") from error
        if claims.get("nonce") != nonce or claims.get("azp", self._client.id) != self._client.id:
            raise LoginFailed(f"The token of the identity provider is not of this login. {_AGAIN}")
        return claims

    def _sources(
        self, session: Any, document: Mapping[str, Any], token: Mapping[str, Any]
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the claims of the access token, where it is one that requests may bear, and of the user info."""
        with contextlib.suppress(InvalidToken):
            yield self._bearer.claims(str(token.get("access_token", "")))
        endpoint = document.get("userinfo_endpoint")
        try:
            answer = session.get(endpoint, allow_redirects=False) if endpoint else None
            claims = answer.json() if answer is not None and answer.ok else None
        except (OSError, ValueError) as error:
            raise ProviderUnavailable("The identity provider cannot be asked who has logged in.") from error
        if isinstance(claims, dict):
            yield claims

    def _session(self, document: Mapping[str, Any], redirect_uri: str) -> Any:
        methods = document.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        method = "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        return import_client().OAuth2Session(
            self._client.id,
            self._client.secret,
            token_endpoint_auth_method=method if self._client.secret else "none",
            scope=self._client.scope,
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            default_timeout=FETCH_TIMEOUT_S,
        )

    def _endpoints(self) -> Mapping[str, Any]:
        """Return the discovery document; an old one while the provider cannot be reached.

        One thread fetches it. Others go on with the old one, or wait; none waits for a second fetch.
        """
        is_current = self._document is not None and self._clock() < self._until
        if not is_current and self._lock.acquire(timeout=_DISCOVERY_WAIT_S if self._document is None else 0):
            try:
                self._refresh()
            finally:
                self._lock.release()
        if self._document is None:
            raise ProviderUnavailable("The identity provider cannot be reached.")
        return self._document

    def _refresh(self) -> None:
        """Fetch the discovery document, unless that was done just now."""
        if self._clock() < self._until:
            return
        try:
            self._document = self._find_endpoints(self._client.issuer)
            self._until = self._clock() + _DISCOVERY_LIFETIME_S
        except (OSError, ValueError) as error:
            log.warning("the discovery document of the identity provider cannot be fetched: %s", error)
            self._until = self._clock() + _DISCOVERY_COOLDOWN_S


def find_endpoints(issuer: str) -> Mapping[str, Any]:
    """Return the discovery document of a provider at which people can log in.

    :raises OSError, ValueError: when it cannot be had, or names no endpoint for that
    """
    document = discover(issuer, time.monotonic() + FETCH_TIMEOUT_S)
    missing = [name for name in _ENDPOINTS if not isinstance(document.get(name), str)]
    if missing:
        raise ValueError(f"the discovery document names no {missing[0]}")
    return document


def import_client() -> ModuleType:
    """Return the library of OAuth clients (measured: its import takes 0.25 s).

    :raises LibraryMissing: when it is not installed
    """
    try:
        from authlib.integrations import requests_client  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        raise LibraryMissing("Login needs authlib: pip install 'image_repo[login]'.") from error
    return requests_client  # type: ignore[no-any-return]
