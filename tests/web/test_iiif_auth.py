"""IIIF Authorization Flow 2.0 at the level of its protocol: what a viewer reads, opens and is posted."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pictures
import pytest
from access_site import Site, running_site
from identity_provider import IdentityProvider, running_provider
from webserver import Answer

from image_repo.access.principal import Principal
from image_repo.access.sealed_tokens import SealedTokens
from image_repo.config import AccessConfiguration, AccessRule, OidcConfiguration

CONTEXT = "http://iiif.io/api/auth/2/context.json"
VIEWER = "https://viewer.example.org"
READER = Principal("ann", frozenset({"reader"}))
GUEST = Principal("eve")


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def site(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A closed server but for one folder; info.json is for everybody."""
    oidc = OidcConfiguration(issuer=provider.issuer, roles_claim="roles", client_id="web")
    rules = (AccessRule("open", "anonymous", "read"),)
    access = AccessConfiguration(oidc=oidc, secret="a secret of the tests", iiif_info=True, rules=rules)
    with running_site(tmp_path_factory.mktemp("auth"), access) as site:
        for name in ("s/ä", "open/b"):
            site.put(name, pictures.jpeg(pictures.photo(60, 40)))
        yield site


def _cookie(site: Site, principal: Principal) -> dict[str, str]:
    assert site.repo.authenticator.sessions
    return {"Cookie": f"a=b; image_repo_session={site.repo.authenticator.sessions.begin(principal)}"}


def _path(address: str) -> str:
    return "/" + address.split("/", 3)[3]


def _info(site: Site, name: str, dialect: int = 3) -> Any:
    answer = site.client.get(f"/iiif/{dialect}/{quote(name, safe='')}/info.json")
    assert answer.status == 200, answer.body
    return answer.json()


def _services(site: Site, name: str = "s/ä") -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the probe service of an image, its external and its active access service."""
    (probe,) = _info(site, name)["service"]
    external, active = probe["service"]
    return probe, external, active


def _message(answer: Answer) -> tuple[str, dict[str, Any]]:
    """Return the origin that a page of the token service posts to, and its message."""
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    page = answer.body.decode()
    match = re.search(r'data-origin="([^"]*)" data-message="([^"]*)"', page)
    assert match, page
    assert re.search(r'<script src="(/static/post_message.js)"', page)
    return html.unescape(match[1]), json.loads(html.unescape(match[2]))


def _token(site: Site, headers: dict[str, str], origin: str = VIEWER, message_id: str | None = "m 1") -> dict[str, Any]:
    _, external, _ = _services(site)
    query = f"?origin={quote(origin, safe='')}" + (f"&messageId={quote(message_id)}" if message_id is not None else "")
    target, message = _message(site.client.get(_path(external["service"][0]["id"]) + query, **headers))
    assert target == origin
    assert message["@context"] == CONTEXT
    return message


def _probe(site: Site, name: str, **headers: str) -> Any:
    probe = _services(site)[0]["id"].replace(quote("s/ä", safe=""), quote(name, safe=""))
    answer = site.client.get(_path(probe), **headers)
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert (answer.headers["Cache-Control"], answer.headers["Vary"]) == ("no-store", "Authorization, Cookie")
    result = answer.json()
    assert (result["@context"], result["type"]) == (CONTEXT, "AuthProbeResult2")
    assert ("heading" in result) is (result["status"] != 200)
    return result["status"]


def test_info_json_declares_the_services(site: Site) -> None:
    document = _info(site, "s/ä")
    assert document["@context"] == [CONTEXT, "http://iiif.io/api/image/3/context.json"]
    probe, external, active = _services(site)
    assert probe["type"] == "AuthProbeService2"
    assert (external["type"], external["profile"], "id" in external) == ("AuthAccessService2", "external", False)
    assert (active["type"], active["profile"]) == ("AuthAccessService2", "active")
    assert {"id", "label", "heading", "note", "confirmLabel"} <= active.keys()
    for access in (external, active):
        assert [each["type"] for each in access["service"]].count("AuthAccessTokenService2") == 1
        assert not any("@context" in each for each in (probe, access, *access["service"]))
    (logout,) = (each for each in active["service"] if each["type"] == "AuthLogoutService2")
    assert "Clear-Site-Data" in site.client.get(_path(logout["id"])).headers


def test_at_version_2_the_context_stands_in_the_service(site: Site) -> None:
    document = _info(site, "s/ä", 2)
    assert document["@context"] == "http://iiif.io/api/image/2/context.json"
    assert [service["@context"] for service in document["service"]] == [CONTEXT]


def test_what_everybody_may_see_has_no_services(site: Site) -> None:
    document = _info(site, "open/b")
    assert "service" not in document
    assert document["@context"] == "http://iiif.io/api/image/3/context.json"


def test_info_json_opens_nothing_else(site: Site) -> None:
    base = f"/iiif/3/{quote('s/ä', safe='')}"
    for path in (f"{base}/full/max/0/default.jpg", f"{base}/manifest.json", "/images/s/%C3%A4?meta=True"):
        assert site.client.get(path).status == 401
    assert site.client.get(f"{base}/info.json", Authorization="Bearer x").status == 401
    assert site.client.get(f"{base}/info.json", **_cookie(site, GUEST)).status == 403


def test_the_external_flow_ends_with_the_picture(site: Site) -> None:
    cookie = _cookie(site, READER)
    assert _probe(site, "s/ä") == 401
    message = _token(site, cookie)
    assert (message["type"], message["messageId"]) == ("AuthAccessToken2", "m 1")
    assert 0 < message["expiresIn"] <= 300
    assert _probe(site, "s/ä", Authorization=f"Bearer {message['accessToken']}") == 200
    # An <img> has the cookie, not the token.
    image = f"/iiif/3/{quote('s/ä', safe='')}/full/max/0/default.jpg"
    assert site.client.get(image, **cookie).status == 200
    assert site.client.get(image, Authorization=f"Bearer {message['accessToken']}").status == 401


def test_the_active_flow_begins_at_the_provider_and_closes_the_tab(site: Site, provider: IdentityProvider) -> None:
    _, _, active = _services(site)
    path = _path(active["id"]) + f"?origin={quote(VIEWER, safe='')}"
    begun = site.client.get(path)
    assert (begun.status, begun.headers["Location"]) == (303, "/login?next=%2Fiiif%2Fauth%2F2%2Faccess")
    there = site.client.get(begun.headers["Location"])
    assert there.headers["Location"].startswith(f"{provider.issuer}/authorization?")
    page = site.client.get("/iiif/auth/2/access", **_cookie(site, READER))
    assert page.status == 200
    assert b'src="/static/close_tab.js"' in page.body
    assert b"window.close()" in site.client.get("/static/close_tab.js").body
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(("name", "status"), [("s/ä", 200), ("s/none", 404), ("open/b", 200), (".x", 400)])
def test_a_probe_tells_what_the_image_would_answer(site: Site, name: str, status: int) -> None:
    token = _token(site, _cookie(site, READER))["accessToken"]
    assert _probe(site, name, Authorization=f"Bearer {token}") == status
    assert _probe(site, name, **_cookie(site, READER)) == status


def test_without_a_token_a_probe_does_not_tell_what_there_is(site: Site) -> None:
    assert [_probe(site, name) for name in ("s/ä", "s/none", "open/b")] == [401, 401, 200]
    token = _token(site, _cookie(site, GUEST))["accessToken"]
    assert _probe(site, "s/ä", Authorization=f"Bearer {token}") == 403
    assert _probe(site, "s/ä", Authorization="Bearer rubbish") == 401


def test_why_there_is_no_token(site: Site, provider: IdentityProvider, tmp_path_factory: Any) -> None:
    reader = _cookie(site, READER)
    for headers, message_id, profile in (
        ({}, "m", "missingAspect"),
        ({"Cookie": reader["Cookie"] + "x"}, "m", "invalidAspect"),
        (reader, None, "invalidRequest"),
        (reader, "", "invalidRequest"),
    ):
        message = _token(site, headers, message_id=message_id)
        assert (message["type"], message["profile"]) == ("AuthAccessTokenError2", profile)
        assert message["messageId"] == (message_id or "")
        assert "accessToken" not in message
    oidc = OidcConfiguration(issuer=provider.issuer, client_id="web")
    access = AccessConfiguration(oidc=oidc, secret="a secret of the tests", iiif_info=True)
    with running_site(tmp_path_factory.mktemp("one"), access, cors_origin="https://ours.example.org") as other:
        other.put("s/ä", pictures.jpeg())
        assert _token(other, _cookie(other, READER))["profile"] == "invalidOrigin"
        assert _token(other, _cookie(other, READER), "https://ours.example.org")["type"] == "AuthAccessToken2"


@pytest.mark.parametrize(
    "origin", ["", "null", "*", "viewer.example.org", "https://a b", "https://a;script-src *", "https://a/b"]
)
def test_an_origin_that_is_none_is_refused(site: Site, origin: str) -> None:
    answer = site.client.get(f"/iiif/auth/2/token?messageId=m&origin={quote(origin)}", **_cookie(site, READER))
    assert (answer.status, answer.json()["parameter"]) == (400, "origin")


def test_a_page_with_a_token_is_framed_by_its_viewer_alone_and_holds_no_markup_of_others(site: Site) -> None:
    message_id = '"><script>alert(1)</script>'
    query = f"?messageId={quote(message_id)}&origin={quote(VIEWER, safe='')}"
    answer = site.client.get(f"/iiif/auth/2/token{query}", **_cookie(site, READER))
    assert _message(answer)[1]["messageId"] == message_id
    assert b"<script>alert" not in answer.body
    policy = answer.headers["Content-Security-Policy"]
    assert policy == f"default-src 'none'; style-src 'self'; script-src 'self'; frame-ancestors {VIEWER}"
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_token_says_nothing_and_holds_for_minutes(site: Site) -> None:
    token = _token(site, _cookie(site, READER))["accessToken"]
    assert "ann" not in token
    tokens = SealedTokens(["a secret"], "iiif-probe", lifetime=1)
    sealed = tokens.seal(READER)
    assert tokens.open(sealed) == READER
    assert SealedTokens(["new", "a secret"], "iiif-probe").open(sealed) == READER
    assert SealedTokens(["a secret"], "other").open(sealed) is None
    assert tokens.open(sealed[:-3] + "AAA") is None
    until = time.monotonic() + 10
    while tokens.open(sealed) is not None:
        assert time.monotonic() < until


def test_where_nobody_can_log_in_there_are_no_services(tmp_path_factory: Any) -> None:
    with running_site(tmp_path_factory.mktemp("none"), AccessConfiguration(anonymous="none")) as site:
        site.put("a", pictures.jpeg())
        assert site.client.get("/iiif/3/a/info.json").status == 401
        assert site.client.get("/iiif/auth/2/access").status == 501
        assert site.client.get("/iiif/auth/2/probe/a").json()["status"] == 401
