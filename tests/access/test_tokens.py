"""Bearer tokens: which are accepted, and as whose. The row "tokens" of the threats is here."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from identity_provider import IdentityProvider, SigningKey, running_provider

from image_repo.access.provider import ProviderKeys, fetch_keys
from image_repo.access.tokens import TokenPolicy, TokenVerifier
from image_repo.errors import InvalidToken


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with running_provider() as provider:
        yield provider


def verifier(provider: IdentityProvider, **policy: Any) -> TokenVerifier:
    keys = ProviderKeys(partial(fetch_keys, None, provider.jwks_uri))
    return TokenVerifier(TokenPolicy(**{"issuer": provider.issuer, "audience": "images", **policy}), keys)


def _by_hand(provider: IdentityProvider, header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """Return a token that no library would make."""

    def text(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).decode().rstrip("=")

    claims = {"iss": provider.issuer, "aud": "images", "sub": "ann", "exp": int(time.time()) + 600}
    signed = ".".join(text(json.dumps(part).encode()) for part in ({"kid": "first", **header}, claims))
    return f"{signed}.{text(sign(signed.encode()))}"


def _unsigned(provider: IdentityProvider, algorithm: str) -> str:
    return _by_hand(provider, {"alg": algorithm}, lambda _: b"")


def _signed_with_the_public_key(provider: IdentityProvider) -> str:
    public = provider.keys[0].private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return _by_hand(provider, {"alg": "HS256"}, lambda signed: hmac.digest(public, signed, "sha256"))


def _signed(provider: IdentityProvider, **header: Any) -> str:
    private = provider.keys[0].private
    return _by_hand(provider, {"alg": "RS256", **header}, lambda text: private.sign(text, PKCS1v15(), SHA256()))


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_a_token_of_each_asymmetric_algorithm_is_accepted(provider: IdentityProvider, algorithm: str) -> None:
    provider.keys = [provider.add_key("k", algorithm)]
    principal, expires = verifier(provider).verify(provider.token(sub="ann", exp=int(time.time()) + 100))
    assert principal.name == "ann"
    assert expires == pytest.approx(time.time() + 100, abs=2)


def test_a_key_that_names_no_algorithm_verifies_those_of_its_type(provider: IdentityProvider) -> None:
    published = {name: value for name, value in provider.keys[0].jwk.items() if name != "alg"}
    keys = ProviderKeys(lambda: {"first": published})
    policy = TokenPolicy(provider.issuer, "images")
    for algorithm in ("RS256", "PS256"):
        token = provider.token(SigningKey("first", algorithm, provider.keys[0].private))
        assert TokenVerifier(policy, keys).verify(token)[0].name == "ann"


REFUSED = {
    "expired": lambda p: p.token(exp=int(time.time()) - 1),
    "no expiry": lambda p: p.token(exp=None),
    "an expiry that is no number": lambda p: p.token(exp="soon"),
    "valid only in ten minutes": lambda p: p.token(nbf=int(time.time()) + 600),
    "a start that is no number": lambda p: p.token(nbf="now"),
    "another audience": lambda p: p.token(aud="mail"),
    "no audience": lambda p: p.token(aud=None),
    "another issuer": lambda p: p.token(iss="https://elsewhere.example"),
    "no issuer": lambda p: p.token(iss=None),
    "no subject": lambda p: p.token(sub=None),
    "an empty subject": lambda p: p.token(sub=""),
    "a subject that is a path": lambda p: p.token(sub="../bob"),
    "a subject with a NUL": lambda p: p.token(sub="ann\0"),
    "a subject with half a surrogate pair": lambda p: p.token(sub="ann\ud800"),
    "a subject that is a list": lambda p: p.token(sub=["ann"]),
    "no signature": lambda p: _unsigned(p, "none"),
    "no signature, in capitals": lambda p: _unsigned(p, "NONE"),
    "no signature, but an algorithm": lambda p: _unsigned(p, "RS256"),
    "an HMAC with the public key": _signed_with_the_public_key,
    "a key of nobody": lambda p: p.token(SigningKey("other", "RS256", p.add_key("gone").private)),
    "the id of another key": lambda p: p.token(p.add_key("second", "ES256"), {"kid": "first"}),
    "a key id that is a path": lambda p: p.token(headers={"kid": "../../etc/passwd"}),
    "a key id that is a number": lambda p: _signed(p, kid=7),
    "a key id that is a list": lambda p: _signed(p, kid=["first"]),
    "a critical extension": lambda p: p.token(headers={"crit": ["x"], "x": 1}),
    "a changed payload": lambda p: ".".join(
        (p.token().split(".")[0], p.token(sub="bob").split(".")[1], p.token().split(".")[2])
    ),
    "rubbish": lambda p: "x.y.z",
    "one part": lambda p: "x",
    "five parts": lambda p: "a.b.c.d.e",
    "more than a token may be long": lambda p: p.token(sub="a", x="y" * 20_000),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_token_is_refused_for(provider: IdentityProvider, name: str) -> None:
    token = REFUSED[name](provider)
    check = verifier(provider)
    provider.keys = provider.keys[:1]
    with pytest.raises(InvalidToken) as refused:
        check.verify(token)
    assert refused.value.status == 401
    assert 'error="invalid_token"' in str(refused.value.challenge)


def test_a_token_signed_by_hand_is_accepted_so_that_the_refusals_mean_something(provider: IdentityProvider) -> None:
    assert verifier(provider).verify(_signed(provider))[0].name == "ann"


@pytest.mark.parametrize("header", ["jku", "x5u", "jwk"])
def test_a_key_that_the_token_itself_brings_is_not_used(provider: IdentityProvider, header: str) -> None:
    with running_provider() as own:
        value = own.keys[0].jwk if header == "jwk" else own.jwks_uri
        token = own.token(headers={header: value, "kid": "first"}, iss=provider.issuer)
        with pytest.raises(InvalidToken):
            verifier(provider).verify(token)
        assert own.fetches == []


@pytest.mark.parametrize("ahead", [0, 100])
def test_a_provider_whose_clock_is_ahead_is_forgiven(provider: IdentityProvider, ahead: int) -> None:
    now = int(time.time()) + ahead
    assert verifier(provider).verify(provider.token(nbf=now, iat=now))[0].name == "ann"


@pytest.mark.parametrize(
    ("policy", "claims", "roles"),
    [
        pytest.param({}, {}, {"writer"}, id="no claim configured"),
        pytest.param({"roles_claim": "roles"}, {"roles": "reader"}, {"reader"}, id="text"),
        pytest.param({"roles_claim": "roles"}, {"roles": "x admin y"}, {"admin"}, id="text with spaces"),
        pytest.param({"roles_claim": "roles"}, {"roles": ["writer", "x"]}, {"writer"}, id="a list"),
        pytest.param({"roles_claim": "a.b"}, {"a": {"b": ["reader"]}}, {"reader"}, id="a dotted path"),
        pytest.param({"roles_claim": "roles", "roles": {"lab": "writer"}}, {"roles": "lab"}, {"writer"}, id="a table"),
        pytest.param({"roles_claim": "roles"}, {"roles": ["x"]}, set(), id="none of them"),
        pytest.param({"roles_claim": "roles"}, {}, set(), id="no such claim"),
        pytest.param({"roles_claim": "roles"}, {"roles": {"admin": True}}, set(), id="an object"),
        pytest.param({"roles_claim": "roles"}, {"roles": [["admin"], 1]}, set(), id="a list of other things"),
    ],
)
def test_roles_come_from_the_claim(
    provider: IdentityProvider, policy: dict[str, Any], claims: dict[str, Any], roles: set[str]
) -> None:
    assert verifier(provider, **policy).verify(provider.token(**claims))[0].roles == roles


def test_without_issuer_and_audience_neither_is_checked(provider: IdentityProvider) -> None:
    check = verifier(provider, issuer=None, audience=None)
    assert check.verify(provider.token(iss=None, aud=None))[0].name == "ann"
    assert check.verify(provider.token(iss="x", aud=["y"]))[0].name == "ann"
