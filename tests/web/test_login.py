"""Login of people: the whole flow with a real OpenID provider, and their sessions over HTTP and the fast path."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pictures
import pytest
from access_site import Site, running_site
from browser import Browser
from cryptography.hazmat.primitives.asymmetric import rsa
from servers.launch import running_oidc_provider

from image_repo.access.api_keys import new_key
from image_repo.access.principal import Principal
from image_repo.config import AccessConfiguration, OidcConfiguration

PICTURE = "/images/a?xsize=30"
SECRET = "a secret of the tests"

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("node") is None, reason="needs node: make test installs it where there is root"),
]


@pytest.fixture(scope="module")
def provider() -> Iterator[dict[str, Any]]:
    with running_oidc_provider() as provider:
        yield provider


def _access(provider: dict[str, Any], **changes: Any) -> AccessConfiguration:
    oidc = OidcConfiguration(
        issuer=provider["issuer"], roles_claim="realm_access.roles", client_id="web", client_secret="web-secret"
    )
    return AccessConfiguration(oidc=oidc, secret=SECRET, **changes)


@pytest.fixture(scope="module")
def site(provider: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("login"), _access(provider)) as site:
        site.put("a", pictures.jpeg(pictures.photo(60, 40)))
        yield site


def _logged_in(site: Site, name: str) -> Browser:
    browser = Browser()
    answer = browser("GET", browser.sign_in(site.client.port, name))
    assert (answer.status, answer.headers["Location"]) == (303, "/"), answer.body
    return browser


def _session(site: Site, principal: Principal) -> dict[str, str]:
    """Return the header of a session as login makes it."""
    assert site.repo.authenticator.sessions
    return {"Cookie": f"image_repo_session={site.repo.authenticator.sessions.begin(principal)}"}


def _own(site: Site) -> str:
    return f"http://127.0.0.1:{site.client.port}"


def test_a_person_logs_in_at_the_provider_and_out_again(site: Site) -> None:
    assert site.client.get("/me").json() == {"name": None, "roles": [], "prefix": "", "may": [], "login": "/login"}
    browser = _logged_in(site, "writer-ann")
    me = browser("GET", f"{_own(site)}/me").json()
    assert (me["name"], me["roles"], me["logout"]) == ("writer-ann", ["writer"], "/logout")
    assert browser("GET", _own(site) + PICTURE).status == 200
    left = browser("GET", f"{_own(site)}/logout")
    assert (left.status, left.headers["Clear-Site-Data"], left.headers["Location"]) == (303, '"cache"', "/")
    assert browser("GET", f"{_own(site)}/me").json()["name"] is None
    refused = browser("GET", _own(site) + PICTURE)
    assert (refused.status, refused.json()["login"]) == (401, "/login")


def test_the_browser_goes_on_where_it_wanted_to(site: Site) -> None:
    browser = Browser()
    answer = browser("GET", browser.sign_in(site.client.port, "reader-bob", "/login?next=/docs%3Fa=b"))
    assert answer.headers["Location"] == "/docs?a=b"


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "a", "/a b", ""])
def test_login_sends_nobody_to_another_site(site: Site, target: str) -> None:
    for path in ("/login", "/logout"):
        answer = Browser()("GET", f"{_own(site)}{path}?next={target.replace(' ', '%20')}")
        assert (answer.status, answer.json()["parameter"]) == (400, "next")


def test_the_cookie_is_for_no_script_and_no_other_site(site: Site) -> None:
    browser = Browser()
    answer = browser("GET", browser.sign_in(site.client.port, "reader-bob"))
    cookie = next(text for text in answer.headers.get_all("Set-Cookie") or () if "image_repo_session" in text)
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=28800"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_cookie_is_secure_where_browsers_see_tls(provider: dict[str, Any], tmp_path: Path) -> None:
    access = _access(provider)
    with running_site(tmp_path, access, public_url="https://images.example.org/pictures") as site:
        answer = site.client.get("/login")
        cookie = answer.headers["Set-Cookie"].split("; ")
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/pictures/login"} <= set(cookie)
        callback = "https%3A%2F%2Fimages.example.org%2Fpictures%2Flogin%2Fcallback"
        assert f"redirect_uri={callback}" in answer.headers["Location"]
        assert site.client.get("/me").json()["login"] == "/pictures/login"


def test_an_answer_counts_once_and_in_the_browser_that_began(site: Site) -> None:
    browser = Browser()
    back = browser.sign_in(site.client.port, "writer-ann")
    for refused in (Browser()("GET", back), browser("GET", back.replace("state=", "state=x"))):
        assert (refused.status, refused.slug) == (403, "login-failed")
        assert "Set-Cookie" not in refused.headers
    cookie = browser.cookie(site.client.port, "/login")
    assert browser("GET", back).status == 303
    for again in (browser("GET", back), browser("GET", back, Cookie=cookie)):
        assert (again.status, again.slug) == (403, "login-failed")


def test_what_the_provider_refuses_is_said(site: Site) -> None:
    browser = Browser()
    location = browser("GET", f"{_own(site)}/login").headers["Location"]
    state = location.partition("state=")[2].partition("&")[0]
    answer = browser("GET", f"{_own(site)}/login/callback?error=access_denied&state={state}")
    assert (answer.status, answer.slug) == (403, "login-failed")
    assert "access_denied" in answer.json()["detail"]


def test_an_answer_of_another_provider_is_refused(site: Site) -> None:
    browser = Browser()
    back = browser.sign_in(site.client.port, "writer-ann").replace("&iss=", "&iss=x")
    assert browser("GET", back).slug == "login-failed"


def test_a_role_that_is_none_may_nothing(site: Site) -> None:
    browser = _logged_in(site, "guest-eve")
    assert browser("GET", f"{_own(site)}/me").json()["roles"] == []
    assert browser("GET", _own(site) + PICTURE).status == 403


def test_without_a_client_nobody_logs_in(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration(anonymous="read")) as site:
        answer = site.client.get("/login")
        assert (answer.status, answer.slug) == (501, "login-not-configured")
        assert "login" not in site.client.get("/me").json()


def test_a_provider_that_is_not_there_is_503(tmp_path: Path) -> None:
    with running_site(tmp_path, _access({"issuer": "http://127.0.0.1:9"})) as site:
        answer = site.client.get("/login")
        assert (answer.status, answer.slug) == (503, "provider-unavailable")
        assert int(answer.headers["Retry-After"]) > 0


# -- sessions ------------------------------------------------------------------------------


def test_a_picture_in_memory_is_answered_by_session_without_the_application(site: Site) -> None:
    cookie = _session(site, Principal("hot", frozenset({"reader"})))
    site.client.get(PICTURE, **cookie)
    site.passed.clear()
    hit = site.client.get(PICTURE, **cookie)
    assert (hit.status, hit.layer, site.passed) == (200, "memory", [])
    assert hit.headers["Cache-Control"].startswith("private")
    assert hit.headers["Vary"] == "Authorization, Cookie"
    unchanged = site.client.get(PICTURE, If_None_Match=hit.headers["ETag"], **cookie)
    assert (unchanged.status, unchanged.headers["Vary"], site.passed) == (304, "Authorization, Cookie", [])


def test_the_session_of_one_never_answers_another(site: Site) -> None:
    reader = _session(site, Principal("hot", frozenset({"reader"})))
    guest = _session(site, Principal("guest"))
    for _ in range(3):
        hit = site.client.get(PICTURE, **reader)
    assert hit.layer == "memory"
    for headers, status in (({}, 401), (guest, 403), ({"Cookie": reader["Cookie"] + "x"}, 401)):
        for more in ({}, {"If_None_Match": hit.headers["ETag"]}, {"Range": "bytes=0-9"}):
            assert site.client.get(PICTURE, **headers, **more).status == status
            assert site.client("HEAD", PICTURE, **headers, **more).status == status


def test_a_cookie_of_another_program_changes_nothing(provider: dict[str, Any], tmp_path: Path) -> None:
    with running_site(tmp_path, _access(provider, anonymous="read")) as site:
        site.put("a", pictures.jpeg(pictures.photo(60, 40)))
        site.client.get(PICTURE)
        site.passed.clear()
        for number in range(2):
            hit = site.client.get(PICTURE, Cookie=f"_ga={number}; other=1")
            assert (hit.layer, hit.headers["Cache-Control"], site.passed) == ("memory", "public, max-age=3600", [])


def test_a_token_comes_before_the_session(site: Site) -> None:
    cookie = _session(site, Principal("hot", frozenset({"reader"})))
    key = site.repo.authenticator.keys.add(new_key("machine", "admin"))
    assert site.client.get("/me", Authorization=f"Bearer {key}", **cookie).json()["name"] == "key:machine"
    assert site.client.get("/me", Authorization="Bearer ir_wrong", **cookie).status == 401
    assert site.client.get("/me", Authorization="Basic eDp5", **cookie).json()["name"] == "hot"


WRITES = [("PUT", "/images/by-cookie"), ("POST", "/images"), ("PATCH", "/images/a"), ("DELETE", "/images/none")]


@pytest.mark.parametrize(
    ("headers", "is_allowed"),
    [
        ({"Origin": "OWN"}, True),
        ({"Sec_Fetch_Site": "same-origin"}, True),
        ({"Origin": "OWN", "Sec_Fetch_Site": "same-origin"}, True),
        ({}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://127.0.0.1"}, False),
        ({"Origin": "https://OWN"}, False),
        ({"Sec_Fetch_Site": "same-site"}, False),
        ({"Sec_Fetch_Site": "none"}, False),
        ({"Origin": "OWN", "Sec_Fetch_Site": "cross-site"}, False),
        ({"Authorization": "Basic eDp5"}, False),
    ],
)
@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_change_by_cookie_comes_from_the_same_origin(
    site: Site, method: str, path: str, headers: dict[str, str], is_allowed: bool
) -> None:
    host = _own(site).removeprefix("http://")
    own = {name: f"http://{host}" if value == "OWN" else value.replace("OWN", host) for name, value in headers.items()}
    cookie = _session(site, Principal("ann", frozenset({"writer"})))
    media_type = {"PATCH": "application/json"}.get(method, "image/jpeg")
    body = b"{}" if method == "PATCH" else pictures.jpeg()
    answer = site.client(method, path, body, Content_Type=media_type, **cookie, **own)
    if is_allowed:
        assert answer.status in ((200, 201) if path != "/images/none" else (404,)), answer.body
    else:
        assert (answer.status, answer.slug) == (403, "cross-origin")


def test_an_upload_in_parts_by_cookie_comes_from_the_same_origin(site: Site) -> None:
    cookie = _session(site, Principal("ann", frozenset({"writer"})))
    tus = {"Tus_Resumable": "1.0.0", "Upload_Length": "9", "Upload_Offset": "0", **cookie}
    part = {"Content_Type": "application/offset+octet-stream", **tus}
    own, foreign = ({"Sec_Fetch_Site": place} for place in ("same-origin", "cross-site"))
    assert site.client("POST", "/uploads", **tus, **foreign).slug == "cross-origin"
    path = site.client("POST", "/uploads", **tus, **own).headers["Location"]
    assert site.client("PATCH", path, b"x", **part, **foreign).slug == "cross-origin"
    assert site.client("DELETE", path, **tus, **foreign).slug == "cross-origin"
    assert site.client("PATCH", path, b"x", **part, **own).headers["Upload-Offset"] == "1"
    assert site.client("DELETE", path, **tus, **own).status == 204


def test_a_change_by_token_may_come_from_anywhere(site: Site) -> None:
    key = site.repo.authenticator.keys.add(new_key("uploader", "writer"))
    cookie = _session(site, Principal("ann", frozenset({"writer"})))
    elsewhere = {"Origin": "https://lab.example", "Authorization": f"Bearer {key}", **cookie}
    assert site.client.put("/images/by-token", pictures.jpeg(), **elsewhere).status == 201


def test_a_session_ends_where_users_are_kept_apart_or_not_any_more(provider: dict[str, Any], tmp_path: Path) -> None:
    cookies = []
    for scope in ("all", "user", "all"):
        with running_site(tmp_path, _access(provider, image_scope=scope)) as site:
            assert all(site.client.get("/me", Cookie=cookie).json()["name"] is None for cookie in cookies)
            browser = _logged_in(site, "writer-ann")
            cookies = [browser.cookie(site.client.port)]
            assert site.client.get("/me", Cookie=cookies[0]).json()["name"] == "writer-ann"


def test_people_who_log_in_have_their_own_images_where_users_are_kept_apart(
    provider: dict[str, Any], tmp_path: Path
) -> None:
    with running_site(tmp_path, _access(provider, image_scope="user")) as site:
        ann, bob = (_logged_in(site, name) for name in ("writer-ann", "writer-bob"))
        origin, body = {"Origin": _own(site), "Content_Type": "image/jpeg"}, pictures.jpeg(pictures.photo(60, 40))
        assert ann("PUT", f"{_own(site)}/images/a", body, **origin).json()["owner"] == "writer-ann"
        assert ann("GET", f"{_own(site)}/me").json()["owner"] == "writer-ann"
        for _ in range(2):
            assert ann("GET", _own(site) + PICTURE).status == 200
        assert bob("GET", _own(site) + PICTURE).status == 404
        assert bob("GET", f"{_own(site)}/images").json()["count"] == 0
        admin = _logged_in(site, "admin-eve")
        assert [each["name"] for each in admin("GET", f"{_own(site)}/images").json()["images"]] == ["writer-ann/a"]


@pytest.mark.parametrize("audit", [None, "log"])
def test_a_token_that_cannot_be_verified_now_is_503_beside_a_session(tmp_path: Path, audit: str | None) -> None:
    with running_site(tmp_path, _access({"issuer": "http://127.0.0.1:9"}, audit=audit)) as site:
        token = jwt.encode({"sub": "eve"}, rsa.generate_private_key(65537, 2048), "RS256", {"kid": "new"})
        headers = {"Authorization": f"Bearer {token}", **_session(site, Principal("ann", frozenset({"writer"})))}
        for method, path in WRITES:
            answer = site.client(method, path, b"{}", Content_Type="application/json", **headers)
            assert (answer.status, answer.slug) == (503, "provider-unavailable")


def test_a_user_that_is_kept_apart_has_its_own_pictures_in_a_session(provider: dict[str, Any], tmp_path: Path) -> None:
    access = _access(provider, image_scope="user", user_identifier="preferred_username")
    with running_site(tmp_path, access) as site:
        ann, bob = _logged_in(site, "writer-ann"), _logged_in(site, "writer-bob")
        for number, browser in enumerate((ann, bob)):
            body = pictures.jpeg(pictures.photo(20 + number, 10))
            headers = {"Content_Type": "image/jpeg", "Origin": _own(site)}
            assert browser("PUT", f"{_own(site)}/images/a", body, **headers).status == 201
        for _ in range(2):
            widths = [browser("GET", f"{_own(site)}/images/a").image().width for browser in (ann, bob)]
            assert widths == [20, 21]
        assert Browser()("GET", f"{_own(site)}/images/a").status == 401
