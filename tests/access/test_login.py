"""Login: what tokens of a provider are accepted, and where roles are found."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from identity_provider import IdentityProvider, running_provider

from image_repo.access.login import LoginClient, LoginFlow, find_endpoints
from image_repo.access.provider import ProviderKeys, fetch_keys
from image_repo.access.signed_cookies import CookieSigner
from image_repo.access.tokens import TokenPolicy, TokenVerifier
from image_repo.errors import LoginFailed, ProviderUnavailable

HERE = "http://127.0.0.1/login/callback"


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with running_provider() as provider:
        yield provider


def _flow(provider: IdentityProvider, **changes: Any) -> LoginFlow:
    keys = ProviderKeys(partial(fetch_keys, provider.issuer, None), cooldown=0)
    policy = TokenPolicy(provider.issuer, "images", roles_claim="roles")
    client = replace(LoginClient(provider.issuer, "web", "a secret"), **changes)
    tokens, bearer = TokenVerifier(replace(policy, audience="web"), keys), TokenVerifier(policy, keys)
    return LoginFlow(client, tokens, bearer, CookieSigner(["x"], "login", 600), find_endpoints)


def _complete(provider: IdentityProvider, access_token: str = "opaque", **claims: Any) -> Any:
    """Log in at a provider whose ID token says this."""
    flow = _flow(provider)
    url, cookie = flow.begin(HERE, "/here")
    parameters = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    token = provider.token(**{"aud": "web", "nonce": parameters["nonce"], **claims})
    provider.tokens = {"token_type": "Bearer", "access_token": access_token, "id_token": token}
    return flow.complete(HERE, {"code": "c", "state": parameters["state"]}, cookie)


def test_the_provider_is_asked_for_a_code_with_pkce(provider: IdentityProvider) -> None:
    url, cookie = _flow(provider).begin(HERE, "/")
    parameters = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert url.startswith(f"{provider.issuer}/authorization?")
    assert parameters["response_type"] == "code"
    assert (parameters["client_id"], parameters["redirect_uri"], parameters["scope"]) == ("web", HERE, "openid profile")
    assert (parameters["code_challenge_method"], len(parameters["code_challenge"])) == ("S256", 43)
    assert len(parameters["state"]) == len(parameters["nonce"]) == 43
    assert _flow(provider).begin(HERE, "/")[1] != cookie


def test_roles_are_those_of_the_id_token(provider: IdentityProvider) -> None:
    principal, target = _complete(provider, roles=["writer"])
    assert (principal.name, principal.roles, target) == ("ann", {"writer"}, "/here")
    assert "/userinfo" not in provider.fetches


def test_else_those_of_an_access_token_that_requests_may_bear(provider: IdentityProvider) -> None:
    assert _complete(provider, provider.token(roles="admin"))[0].roles == {"admin"}
    assert _complete(provider, provider.token(roles="admin", aud="other"))[0].roles == set()


def test_else_those_of_the_user_info(provider: IdentityProvider) -> None:
    provider.claims = {"sub": "ann", "roles": ["reader"]}
    assert _complete(provider)[0].roles == {"reader"}


def test_roles_of_somebody_else_do_not_count(provider: IdentityProvider) -> None:
    provider.claims = {"sub": "eve", "roles": ["admin"]}
    assert _complete(provider, provider.token(sub="bob", roles="admin"))[0].roles == set()


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "images"},
        {"aud": None},
        {"nonce": None},
        {"nonce": "of another login"},
        {"iss": "https://other.example"},
        {"exp": 1_700_000_000},
        {"sub": "../ann"},
        {"sub": None},
        {"aud": ["web", "other"], "azp": "other"},
    ],
    ids=str,
)
def test_a_wrong_id_token_is_refused(provider: IdentityProvider, claims: dict[str, Any]) -> None:
    with pytest.raises(LoginFailed):
        _complete(provider, **claims)


def test_an_id_token_of_another_signer_is_refused(provider: IdentityProvider) -> None:
    with running_provider() as other:
        provider.token = partial(other.token, iss=provider.issuer)  # type: ignore[method-assign]
        with pytest.raises(LoginFailed):
            _complete(provider)


@pytest.mark.parametrize("tokens", [{}, {"access_token": "x", "token_type": "Bearer"}, {"error": "invalid_grant"}])
def test_an_answer_without_an_id_token_is_refused(provider: IdentityProvider, tokens: dict[str, str]) -> None:
    flow = _flow(provider)
    url, cookie = flow.begin(HERE, "/")
    provider.tokens = tokens
    with pytest.raises(LoginFailed):
        flow.complete(HERE, {"code": "c", "state": parse_qs(urlsplit(url).query)["state"][0]}, cookie)


def test_a_provider_that_fails_is_unavailable_and_known_addresses_outlive_it(provider: IdentityProvider) -> None:
    flow = _flow(provider)
    url, cookie = flow.begin(HERE, "/")
    provider.status = 500
    with pytest.raises(ProviderUnavailable):
        flow.complete(HERE, {"code": "c", "state": parse_qs(urlsplit(url).query)["state"][0]}, cookie)
    with pytest.raises(ProviderUnavailable):
        _flow(provider).begin(HERE, "/")


def _flow_of(endpoints: Callable[[str], Mapping[str, Any]], clock: Callable[[], float] = time.monotonic) -> LoginFlow:
    verifier = TokenVerifier(TokenPolicy(), ProviderKeys(dict))
    client = LoginClient("http://127.0.0.1", "web")
    return LoginFlow(client, verifier, verifier, CookieSigner(["x"], "login", 600), endpoints, clock)


def test_many_logins_at_a_provider_that_does_not_answer_wait_for_one_fetch(provider: IdentityProvider) -> None:
    fetches, has_begun, fails = [], threading.Event(), threading.Event()

    def fetch(issuer: str) -> Mapping[str, Any]:
        fetches.append(issuer)
        has_begun.set()
        assert fails.wait(10)
        raise TimeoutError

    flow = _flow_of(fetch)
    with ThreadPoolExecutor(8) as pool:
        logins = [pool.submit(flow.begin, HERE, "/") for _ in range(8)]
        assert has_begun.wait(10)
        fails.set()
        assert all(isinstance(login.exception(10), ProviderUnavailable) for login in logins)
    assert len(fetches) == 1


def test_nobody_waits_for_the_provider_where_its_addresses_are_known(provider: IdentityProvider) -> None:
    now, fetches, has_begun, ends = [0.0], [], threading.Event(), threading.Event()

    def fetch(issuer: str) -> Mapping[str, Any]:
        fetches.append(issuer)
        if len(fetches) > 1:
            has_begun.set()
            assert ends.wait(10)
        return find_endpoints(provider.issuer)

    flow = _flow_of(fetch, lambda: now[0])
    flow.begin(HERE, "/")
    now[0] = 1000.0
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(flow.begin, HERE, "/")
        assert has_begun.wait(10)
        flow.begin(HERE, "/")
        ends.set()
        fetching.result(10)
    assert len(fetches) == 2


def test_a_login_takes_ten_minutes_at_most(provider: IdentityProvider) -> None:
    now = [0.0]
    flow = LoginFlow(
        LoginClient(provider.issuer, "web"),
        *(TokenVerifier(TokenPolicy(), ProviderKeys(dict)),) * 2,
        CookieSigner(["x"], "login", 600, lambda: now[0]),
        find_endpoints,
    )
    url, cookie = flow.begin(HERE, "/")
    now[0] = 600
    with pytest.raises(LoginFailed):
        flow.complete(HERE, {"code": "c", "state": parse_qs(urlsplit(url).query)["state"][0]}, cookie)
