"""Every route of the interface, for every kind of caller. A route that is not in the table fails."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pictures
import pytest
from access_site import Site, running_site

from image_repo.access.api_keys import new_key
from image_repo.config import AccessConfiguration, DialectsConfiguration
from image_repo.config.rules import RESERVED
from image_repo.web.app import create_app

#: what nobody needs credentials for: paths of Flask's table
PUBLIC = {
    "/", "/me", "/docs", "/openapi.json", "/problems", "/problems/{slug}", "/health", "/healthz", "/livez", "/readyz",
    "/static/{filename}", "/login", "/login/callback", "/logout",
    "/iiif/auth/2/probe/{path}", "/iiif/auth/2/access", "/iiif/auth/2/token",
    # the signature is the permission
    "/temp/{path}",
}  # fmt: skip
#: (method, path of Flask's table) → the least role, and a request that a caller of that role may make
TABLE: dict[tuple[str, str], tuple[str, str]] = {
    ("GET", "/images/{path}"): ("reader", "/images/a/b"),
    ("POST", "/images/{path}"): ("writer", "/images/a/new"),
    ("PUT", "/images/{path}"): ("writer", "/images/a/new"),
    ("PATCH", "/images/{path}"): ("writer", "/images/a/b"),
    ("DELETE", "/images/{path}"): ("writer", "/images/a/none"),
    ("GET", "/images"): ("reader", "/images"),
    ("POST", "/images"): ("writer", "/images"),
    ("PATCH", "/images"): ("writer", "/images?name=none"),
    ("DELETE", "/images"): ("writer", "/images?name=none"),
    ("GET", "/search"): ("reader", "/search"),
    ("GET", "/keys"): ("reader", "/keys"),
    ("GET", "/stats/{key}"): ("reader", "/stats/width"),
    ("GET", "/export"): ("reader", "/export"),
    ("POST", "/import"): ("writer", "/import"),
    ("POST", "/uploads"): ("writer", "/uploads"),
    ("POST", "/uploads/{upload_id}"): ("writer", "/uploads/" + "0" * 32),
    ("HEAD", "/uploads/{upload_id}"): ("writer", "/uploads/" + "0" * 32),
    ("PATCH", "/uploads/{upload_id}"): ("writer", "/uploads/" + "0" * 32),
    ("DELETE", "/uploads/{upload_id}"): ("writer", "/uploads/" + "0" * 32),
    ("GET", "/artifacts"): ("reader", "/artifacts"),
    ("POST", "/artifacts"): ("writer", "/artifacts"),
    ("GET", "/artifacts/{artifact_id}"): ("reader", "/artifacts/sha256:" + "0" * 64),
    ("DELETE", "/artifacts/{artifact_id}"): ("writer", "/artifacts/sha256:" + "0" * 64),
    ("GET", "/snapshots"): ("reader", "/snapshots"),
    ("POST", "/snapshots"): ("writer", "/snapshots"),
    ("GET", "/snapshots/{snapshot_id}"): ("reader", "/snapshots/sha256:" + "0" * 64),
    ("GET", "/trash"): ("writer", "/trash"),
    ("GET", "/grid"): ("reader", "/grid"),
    ("GET", "/iiif/{path}"): ("reader", "/iiif/3/a/b/full/9,/0/default.jpg"),
    ("GET", "/thumbor/{path}"): ("reader", "/thumbor/unsafe/9x0/a/b"),
    ("GET", "/imgproxy/{path}"): ("reader", "/imgproxy/_/w:9/plain/a/b"),
    ("GET", "/dzi/{path}"): ("reader", "/dzi/a/b.dzi"),
    ("GET", "/oembed"): ("reader", "/oembed?url=/images/a/b"),
    ("GET", "/metrics"): ("admin", "/metrics"),
    ("GET", "/access/audit"): ("admin", "/access/audit"),
    ("GET", "/access/keys"): ("admin", "/access/keys"),
    ("POST", "/access/keys"): ("admin", "/access/keys"),
    ("DELETE", "/access/keys/{name}"): ("admin", "/access/keys/none"),
}
ROLES = ("reader", "writer", "admin")
#: routes where a caller whose key ends at another folder finds nothing, but is not refused
EMPTY_ELSEWHERE = {
    "/trash",
    "/grid",
    "/images",
    "/search",
    "/keys",
    "/stats/width",
    "/export",
    "/import",
    "/uploads",
    "/uploads/" + "0" * 32,
    "/images?name=none",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, dict[str, dict[str, str]]]]:
    """A closed server, and the credentials of each kind of caller."""
    dialects = DialectsConfiguration(thumbor=True, imgproxy=True, deep_zoom=True)
    folder = tmp_path_factory.mktemp("routes")
    with running_site(folder, AccessConfiguration(anonymous="none"), dialects=dialects) as site:
        site.put("a/b", pictures.jpeg())
        keys = site.repo.authenticator.keys
        callers = {role: keys.add(new_key(role, role)) for role in ROLES}
        callers["another"] = keys.add(new_key("another", "admin", "other"))
        yield site, {name: {"Authorization": f"Bearer {key}"} for name, key in callers.items()}


@pytest.fixture(scope="module")
def scoped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, dict[str, dict[str, str]]]]:
    """A server whose users are kept apart, the owner of a picture, and another user."""
    access = AccessConfiguration(image_scope="user", secret="sixteen letters!")
    with running_site(tmp_path_factory.mktemp("scoped"), access) as site:
        keys = site.repo.authenticator.keys
        users = {
            name: {"Authorization": f"Bearer {keys.add(new_key(name, 'writer'))}"} for name in ("owner", "another")
        }
        made = site.client.put("/images/a/b", pictures.jpeg(), **users["owner"])
        assert made.status == 201
        changed = {"Content_Type": "application/json", **users["owner"]}
        assert site.client("PATCH", "/images/a/b", b'{"secretive": "treasure"}', **changed).status == 200
        yield site, users


@pytest.mark.parametrize("route", TABLE, ids=" ".join)
def test_nothing_of_a_user_is_in_an_answer_to_another(
    scoped: tuple[Site, dict[str, dict[str, str]]], route: tuple[str, str]
) -> None:
    site, users = scoped
    path = TABLE[route][1]
    body = None if route[0] in ("GET", "HEAD") else b"{}"
    # As if through a proxy: what this machine may do is not what is tested.
    headers = {"Content_Type": "application/json", "X_Forwarded_For": "192.0.2.1"}
    answer = site.client(route[0], path, body, **headers, **users["another"])
    if "a/b" in path:
        missing = site.client(route[0], path.replace("a/b", "a/c"), body, **headers, **users["another"])
        assert answer.status == missing.status
    assert not any(word in answer.body for word in (b"treasure", b"secretive", b"key:owner"))
    assert site.client.get("/images/a/b", **users["owner"]).status == 200


def _routes(site: Site) -> set[tuple[str, str]]:
    """Return every method and path that the application has."""
    rules = create_app(site.repo, site.config).url_map.iter_rules()
    return {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in rules
        for method in (rule.methods or set()) - ({"HEAD", "OPTIONS"} if "GET" in (rule.methods or ()) else {"OPTIONS"})
    }


def test_every_route_is_in_the_table(site: tuple[Site, dict[str, dict[str, str]]]) -> None:
    routes = _routes(site[0])
    assert {route for route in routes if route[1] not in PUBLIC} == set(TABLE)
    assert {path for _, path in routes} >= PUBLIC


def test_the_paths_of_images_can_begin_with_the_name_of_no_other_route(
    site: tuple[Site, dict[str, dict[str, str]]],
) -> None:
    first_segments = {path.split("/")[1] for _, path in _routes(site[0])}
    assert first_segments - {"", "images"} <= RESERVED


def test_every_operation_of_the_document_is_a_route(site: tuple[Site, dict[str, dict[str, str]]]) -> None:
    routes = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in _routes(site[0])}
    for path, item in site[0].client.get("/openapi.json").json()["paths"].items():
        for method in item.keys() - {"parameters"}:
            route = re.sub(r"\{\w+\}/?", "{}", path)
            assert (method.upper(), route) in routes, "it needs a row in the table"


@pytest.mark.parametrize("caller", ["nobody", "another", *ROLES])
@pytest.mark.parametrize("route", TABLE, ids=" ".join)
def test_a_route_is_for_callers_of_its_role(
    site: tuple[Site, dict[str, dict[str, str]]], route: tuple[str, str], caller: str
) -> None:
    server, callers = site
    least, path = TABLE[route]
    body = None if route[0] in ("GET", "HEAD") else b"{}"
    # As if through a proxy: what this machine may do is not what is tested.
    headers = {"Content_Type": "application/json", "X_Forwarded_For": "192.0.2.1", **callers.get(caller, {})}
    answer = server.client(route[0], path, body, **headers)
    if caller == "nobody":
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    elif caller == "another":
        assert (answer.status in (403, 404)) is (path not in EMPTY_ELSEWHERE or (route[0], path) == ("POST", "/images"))
        assert b"a/b" not in answer.body.replace(path.encode(), b"")
    elif ROLES.index(caller) < ROLES.index(least):
        assert answer.status == 403
    else:
        assert answer.status not in (401, 403)
        assert answer.status < 500
