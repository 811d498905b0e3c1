"""Who may, by bearer token and without: over HTTP, through the fast path."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pictures
import pytest
from access_site import Site, running_site
from identity_provider import IdentityProvider, running_provider

from image_repo.config import AccessConfiguration, OidcConfiguration

PICTURE = "/images/a?xsize=30"


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with running_provider() as provider:
        yield provider


def _oidc(provider: IdentityProvider) -> OidcConfiguration:
    return OidcConfiguration(issuer=provider.issuer, audience="images", roles_claim="roles")


def _bearer(provider: IdentityProvider, role: str) -> str:
    return "Bearer " + provider.token(sub=f"a {role}", roles=[role])


@pytest.fixture(scope="module")
def closed(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Nothing without a token."""
    with running_site(tmp_path_factory.mktemp("closed"), AccessConfiguration(oidc=_oidc(provider))) as site:
        site.put("a", pictures.jpeg(pictures.photo(60, 40)))
        yield site


@pytest.fixture(scope="module")
def readable(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Reading without a token, writing with one."""
    access = AccessConfiguration(anonymous="read", oidc=_oidc(provider))
    with running_site(tmp_path_factory.mktemp("readable"), access) as site:
        site.put("a", pictures.jpeg(pictures.photo(60, 40)))
        yield site


#: method, path, headers, body; what needs which role
READS = [
    ("GET", PICTURE),
    ("HEAD", PICTURE),
    ("GET", "/images/a?kind=original"),
    ("GET", "/images/a?meta=True"),
    ("GET", "/images/none"),
    ("GET", "/images/?meta=True"),
    ("GET", "/images"),
    ("GET", "/search"),
    ("GET", "/stats/width"),
    ("GET", "/export"),
    ("GET", "/artifacts"),
    ("GET", "/snapshots"),
]
WRITES = [
    ("PUT", "/images/new"),
    ("POST", "/images"),
    ("POST", "/images/folder/"),
    ("PATCH", "/images/a"),
    ("PATCH", "/images?all=True"),
    ("DELETE", "/images/a"),
    ("DELETE", "/images?all=True"),
    ("POST", "/artifacts"),
    ("DELETE", "/artifacts/sha256:" + "0" * 64),
    ("POST", "/snapshots"),
    ("POST", "/import"),
]


@pytest.mark.parametrize(("method", "path"), [*READS, *WRITES])
def test_nothing_is_open_without_a_token(closed: Site, method: str, path: str) -> None:
    answer = closed.client(method, path, b"x" if method not in ("GET", "HEAD") else None)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert method == "HEAD" or answer.slug == "unauthenticated"


@pytest.mark.parametrize(("method", "path"), READS)
def test_a_reader_reads(closed: Site, provider: IdentityProvider, method: str, path: str) -> None:
    answer = closed.client(method, path, Authorization=_bearer(provider, "reader"))
    assert answer.status == (404 if "none" in path else 200)


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_reader_writes_nothing(closed: Site, provider: IdentityProvider, method: str, path: str) -> None:
    answer = closed.client(method, path, b"x", Authorization=_bearer(provider, "reader"))
    assert (answer.status, answer.slug) == (403, "forbidden")


@pytest.mark.parametrize(("method", "path"), [*READS, *WRITES])
def test_a_token_without_a_role_is_403(closed: Site, provider: IdentityProvider, method: str, path: str) -> None:
    body = b"x" if method not in ("GET", "HEAD") else None
    assert closed.client(method, path, body, Authorization=_bearer(provider, "guest")).status == 403


@pytest.mark.parametrize("role", ["writer", "admin"])
def test_a_writer_writes_and_an_admin_too(closed: Site, provider: IdentityProvider, role: str) -> None:
    token, body = _bearer(provider, role), pictures.jpeg(pictures.photo(8, 8, seed=len(role)))
    assert closed.client.put(f"/images/{role}", body, Authorization=token).status == 201
    changed = closed.client(
        "PATCH", f"/images/{role}", b'{"x": 1}', Authorization=token, Content_Type="application/json"
    )
    assert changed.status == 200
    assert closed.client.delete(f"/images/{role}", Authorization=token).status == 200


@pytest.mark.parametrize(
    "path", ["/health", "/healthz", "/livez", "/readyz", "/openapi.json", "/docs", "/problems/forbidden"]
)
def test_what_says_how_to_get_in_needs_no_token(closed: Site, path: str) -> None:
    assert closed.client.get(path).status == 200
    assert closed.client.get(path, Authorization="Bearer rubbish").status == 200


@pytest.mark.parametrize("path", ["/metrics", "/readyz?verbose", "/health?verbose"])
def test_operation_is_for_this_machine_and_for_admins(closed: Site, provider: IdentityProvider, path: str) -> None:
    assert closed.client.get(path).status == 200
    through_a_proxy = {"X_Forwarded_For": "192.0.2.1"}
    assert closed.client.get(path, **through_a_proxy).status == 401
    assert closed.client.get(path, **through_a_proxy, Authorization=_bearer(provider, "writer")).status == 403
    assert closed.client.get(path, **through_a_proxy, Authorization=_bearer(provider, "admin")).status == 200


def test_a_bad_token_is_401_also_where_anybody_may_read(readable: Site, provider: IdentityProvider) -> None:
    for _ in range(3):
        assert readable.client.get(PICTURE).status == 200
    etag = readable.client.get(PICTURE).headers["ETag"]
    for token in ("x", provider.token(exp=int(time.time()) - 1)):
        for headers in ({}, {"If_None_Match": etag}, {"Range": "bytes=0-9"}):
            answer = readable.client.get(PICTURE, Authorization=f"Bearer {token}", **headers)
            assert (answer.status, answer.slug) == (401, "invalid-token")
            assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_reading_is_shared_where_anybody_may_and_writing_needs_a_token(
    readable: Site, provider: IdentityProvider
) -> None:
    for headers in ({}, {"Authorization": _bearer(provider, "guest")}):
        answer = readable.client.get(PICTURE, **headers)
        assert answer.headers["Cache-Control"] == "public, max-age=3600"
        assert "Vary" not in answer.headers
    assert readable.client.put("/images/new", pictures.jpeg()).status == 401
    assert readable.client.put("/images/new", pictures.jpeg(), Authorization=_bearer(provider, "writer")).status == 201


def test_answers_that_need_a_token_are_private(closed: Site, provider: IdentityProvider) -> None:
    token = _bearer(provider, "reader")
    for path, cache_control in ((PICTURE, "private, max-age=3600"), ("/images/a?meta=True", "private, no-cache")):
        for _ in range(2):
            answer = closed.client.get(path, Authorization=token)
            assert (answer.headers["Cache-Control"], answer.headers["Vary"]) == (cache_control, "Authorization")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_in_any_case(closed: Site, provider: IdentityProvider, scheme: str) -> None:
    token = provider.token(roles="reader")
    assert closed.client.get(PICTURE, Authorization=f"{scheme} {token}").status == 200


def test_a_token_in_the_query_is_not_one(closed: Site, provider: IdentityProvider) -> None:
    answer = closed.client.get(f"/images/a?access_token={provider.token(roles='reader')}")
    assert answer.status in (400, 401)


def test_a_token_seen_before_is_answered_from_memory_and_ends_with_its_time(
    closed: Site, provider: IdentityProvider
) -> None:
    expires = int(time.time()) + 3
    token = "Bearer " + provider.token(sub="brief", roles="reader", exp=expires)
    closed.client.get(PICTURE, Authorization=token)
    closed.passed.clear()
    answer = closed.client.get(PICTURE, Authorization=token)
    assert (answer.status, answer.layer, closed.passed) == (200, "memory", [])
    while time.time() < expires:
        assert closed.client.get("/health").status == 200
    assert closed.client.get(PICTURE, Authorization=token).status == 401
    assert closed.client.get(PICTURE, Authorization=token, If_None_Match=answer.headers["ETag"]).status == 401


def test_a_hot_picture_is_not_for_those_without_a_token(closed: Site, provider: IdentityProvider) -> None:
    token = _bearer(provider, "reader")
    for _ in range(3):
        answer = closed.client.get(PICTURE, Authorization=token)
    assert answer.layer == "memory"
    for headers in ({}, {"If_None_Match": answer.headers["ETag"]}, {"Authorization": "Basic eDp5"}):
        assert closed.client.get(PICTURE, **headers).status == 401


def test_a_provider_that_is_not_there_opens_nothing(tmp_path: Path) -> None:
    oidc = OidcConfiguration(jwks_uri="http://127.0.0.1:9/jwks")
    with running_site(tmp_path, AccessConfiguration(oidc=oidc)) as site, running_provider() as other:
        site.put("a", pictures.jpeg())
        assert site.client.get("/images/a").status == 401
        answer = site.client.get("/images/a", Authorization=f"Bearer {other.token()}")
        assert (answer.status, answer.slug) == (503, "provider-unavailable")
        assert int(answer.headers["Retry-After"]) > 0


def test_without_a_provider_anonymous_says_what_is_open(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration(anonymous="read")) as site:
        site.put("a", pictures.jpeg())
        assert site.client.get("/images/a").status == 200
        assert site.client.put("/images/a", pictures.jpeg()).status == 401
        assert site.client.get("/images/a", Authorization="Bearer of-nobody").status == 200
