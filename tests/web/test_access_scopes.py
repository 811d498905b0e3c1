"""Users that are kept apart (access.image_scope: user): nobody sees that another's picture is there."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pictures
import pytest
from access_site import Site, running_site
from identity_provider import IdentityProvider, running_provider
from webserver import Answer

from image_repo import wiring
from image_repo.access.api_keys import new_key
from image_repo.config import AccessConfiguration, DialectsConfiguration, OidcConfiguration, RequestsConfiguration

PICTURES = [pictures.jpeg(pictures.photo(60, 40, seed)) for seed in range(4)]
SHARED_BYTES = PICTURES[3]
ADDRESS = f"sha256:{sha256(SHARED_BYTES).hexdigest()}"
SECRET = "sixteen letters!"


@dataclass
class Users:
    """A site, and the credentials of its users."""

    site: Site
    provider: IdentityProvider

    @property
    def host(self) -> str:
        return f"{self.site.client.host}:{self.site.client.port}"

    def headers(self, user: str | None) -> dict[str, str]:
        if user is None:
            return {}
        role = "admin" if user == "root" else "writer"
        token = self.provider.token(sub=f"id of {user}", preferred_username=user, roles=[role])
        return {"Authorization": f"Bearer {token}"}

    def __call__(self, user: str | None, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        if isinstance(body, dict):
            body, headers = json.dumps(body).encode(), {"Content_Type": "application/json", **headers}
        return self.site.client(method, path, body, **{**self.headers(user), **headers})

    def get(self, user: str | None, path: str, **headers: str) -> Answer:
        return self(user, "GET", path, **headers)

    def put(self, user: str, name: str, body: bytes, **data: Any) -> None:
        answer = self(user, "PUT", f"/images/{name}", body, Content_Type="image/jpeg")
        assert answer.status in (200, 201), answer.body
        if data:
            assert self(user, "PATCH", f"/images/{name}", data).status == 200

    def names(self, user: str, path: str = "/images") -> list[str]:
        return [each["name"] for each in self.get(user, path).json()["images"]]


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with running_provider() as provider:
        yield provider


def scoped(provider: IdentityProvider, **changes: Any) -> AccessConfiguration:
    oidc = OidcConfiguration(issuer=provider.issuer, audience="images", roles_claim="roles")
    return AccessConfiguration(oidc=oidc, image_scope="user", secret=SECRET, **changes)


@pytest.fixture
def users(provider: IdentityProvider, tmp_path: Path) -> Iterator[Users]:
    with running_site(tmp_path, scoped(provider)) as site:
        yield Users(site, provider)


@pytest.fixture(scope="module")
def filled(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    """Two users with pictures of the same name and of the same bytes; one from before is in a folder ``ann``."""
    dialects = DialectsConfiguration(deep_zoom=True)
    with running_site(tmp_path_factory.mktemp("scopes"), scoped(provider), dialects=dialects) as site:
        users = Users(site, provider)
        site.put("ann/before", PICTURES[2])
        users.put("ann", "a", PICTURES[0], colour="red", secretive="x")
        users.put("ann", "trip/one", PICTURES[2], colour="red")
        users.put("bob", "a", PICTURES[1], colour="blue")
        for user in ("ann", "bob"):
            assert users(user, "POST", "/images", SHARED_BYTES, Content_Type="image/jpeg").status == 201
        yield users


def unsaid(answer: Answer, *names: str) -> tuple[int, str, str]:
    """Return an answer without the name that was asked for, and what differs between two equal requests."""
    varying = ("Date", "X-Request-ID", "Content-Length")
    headers = "".join(f"{name}: {value}\n" for name, value in answer.headers.items() if name not in varying)
    text = answer.body.decode("latin-1")
    for name in names:
        headers, text = (each.replace(name, "NAME").replace(quote(name, safe=""), "NAME") for each in (headers, text))
    return answer.status, headers, text


# -- names and owners ---------------------------------------------------------------------


def test_two_users_have_an_image_of_the_same_name_each(filled: Users) -> None:
    for user, picture, colour in (("ann", PICTURES[0], "red"), ("bob", PICTURES[1], "blue")):
        assert filled.get(user, "/images/a?kind=original").body == picture
        record = filled.get(user, "/images/a?meta=True").json()
        assert (record["name"], record["owner"], record["data"]["colour"]) == ("a", user, colour)


def test_the_same_bytes_unnamed_by_two_users_are_two_images(filled: Users) -> None:
    for user in ("ann", "bob"):
        record = filled.get(user, f"/images/{ADDRESS}?meta=True").json()
        assert (record["name"], record["owner"]) == (ADDRESS, user)
    assert filled("ann", "PATCH", f"/images/{ADDRESS}", {"mine": 1}).status == 200
    assert filled.get("bob", f"/images/{ADDRESS}?meta=True").json()["data"] == {}
    assert filled.get("root", f"/images/ann/{ADDRESS}?meta=True").json()["data"] == {"mine": 1}


def test_an_administrator_sees_all_below_the_folders_of_their_owners(filled: Users) -> None:
    names = filled.names("root")
    assert {"ann/a", "bob/a", "ann/trip/one", "ann/before", f"ann/{ADDRESS}", f"bob/{ADDRESS}"} == set(names)
    assert filled.get("root", "/images/bob/a?kind=original").body == PICTURES[1]
    assert filled.get("root", "/images/a").status == 404


def test_the_written_image_and_its_address_have_the_name_that_the_user_gave(users: Users) -> None:
    answer = users("ann", "PUT", "/images/x/y", PICTURES[0], Content_Type="image/jpeg")
    assert (answer.status, answer.headers["Location"], answer.json()["name"]) == (201, "/images/x/y", "x/y")
    assert answer.headers["ETag"] == users.get("ann", "/images/x/y?meta=True").headers["ETag"]
    matched = users("ann", "PATCH", "/images/x/y", {"n": 1}, If_Match=answer.headers["ETag"])
    assert (matched.status, matched.json()["name"]) == (200, "x/y")
    assert users("ann", "PATCH", "/images/x/y", {"n": 2}, If_Match=answer.headers["ETag"]).status == 412
    described = users("ann", "PUT", "/images/words", {"site": "north"})
    assert (described.status, described.json()["owner"]) == (201, "ann")
    assert users.get("bob", "/images/words?meta=True").status == 404
    assert users.get("ann", "/images/words?meta=True").json()["data"] == {"site": "north"}


@pytest.mark.parametrize(
    ("owner", "folder"),
    [
        ("ann@example.org", "ann@example.org"),
        ("auth0|5f7c", "auth0|5f7c"),
        ("https://id.example/ann", "https:%2F%2Fid.example%2Fann"),
        ("50%", "50%25"),
        ("50%25", "50%2525"),
        (".ann", "%2Eann"),
        ("Müller", "Müller"),
    ],
)
def test_an_owner_is_encoded_once_as_one_folder(users: Users, owner: str, folder: str) -> None:
    users.put(owner, "a", PICTURES[0])
    assert users.names("root") == [f"{folder}/a"]
    assert users.names(owner) == ["a"]
    assert users.get("root", f"/images?owner={quote(owner)}").json()["count"] == 1


@pytest.mark.parametrize(
    "claim",
    [
        pytest.param("", id="empty"),
        pytest.param("../bob", id="a path"),
        pytest.param("bob/..", id="a path at the end"),
        pytest.param("..", id="dots"),
        pytest.param("bob\0", id="NUL"),
        pytest.param(["bob"], id="a list"),
        pytest.param(7, id="a number"),
        pytest.param(None, id="none"),
        pytest.param(" bob", id="a blank"),
        pytest.param("bo\\b", id="a backslash"),
        pytest.param("bo\u0301b", id="not NFC"),
        pytest.param("key:camera", id="that of an API key"),
        pytest.param("x" * 201, id="too long"),
        pytest.param("bob\ud800", id="half a character"),
    ],
)
def test_a_token_without_an_acceptable_user_is_401(filled: Users, claim: Any) -> None:
    token = filled.provider.token(preferred_username=claim, roles=["writer"])
    answer = filled.site.client.get("/images/a", Authorization=f"Bearer {token}")
    assert (answer.status, 'error="invalid_token"' in answer.headers["WWW-Authenticate"]) == (401, True)


def test_callers_without_credentials_see_nothing(filled: Users) -> None:
    for path in ("/images/a", "/images/ann/a", "/images", "/search", "/artifacts", "/snapshots", "/export"):
        assert filled.get(None, path).status == 401, path


@pytest.mark.parametrize("anonymous", ["read", "write"])
def test_they_see_nothing_whatever_access_anonymous_says(
    provider: IdentityProvider, tmp_path: Path, anonymous: Any
) -> None:
    with running_site(tmp_path, scoped(provider, anonymous=anonymous)) as site:
        users = Users(site, provider)
        users.put("ann", "a", PICTURES[0])
        for path in ("/images/ann/a", "/images/a", "/images"):
            assert users.get(None, path).status == 401
        assert users.get("bob", "/images/ann/a").status == 404
        answer = users.get("root", "/images/ann/a")
        assert answer.headers["Cache-Control"].startswith("private")


# -- another's and a missing one ----------------------------------------------------------

#: what bob does with the name that ann knows, and with one that nobody has
READS: dict[str, tuple[str, str, dict[str, str]]] = {
    "a picture": ("GET", "/images/NAME?xsize=30", {}),
    "its head": ("HEAD", "/images/NAME?xsize=30", {}),
    "an encoded path": ("GET", "/images/NAME%2Ejpg?xsize=30", {}),
    "a 304": ("GET", "/images/NAME?xsize=30", {"If_None_Match": "ETAG"}),
    "a 304 of any": ("GET", "/images/NAME?xsize=30", {"If_None_Match": "*"}),
    "a condition": ("GET", "/images/NAME?xsize=30", {"If_Match": '"other"'}),
    "a range": ("GET", "/images/NAME?xsize=30", {"Range": "bytes=0-9"}),
    "a range outside": ("GET", "/images/NAME?xsize=30", {"Range": "bytes=999999-"}),
    "the original": ("GET", "/images/NAME?kind=original", {}),
    "the record": ("GET", "/images/NAME?meta=True", {}),
    "the record by Accept": ("GET", "/images/NAME", {"Accept": "application/json"}),
    "a temporary URL": ("GET", "/images/NAME?url=True", {}),
    "a share link": ("GET", "/images/NAME?share=True", {}),
    "a version": ("GET", "/images/NAME?v=VERSION", {}),
    "its picture by the other address": ("GET", "/images/NAME/image", {}),
    "a folder": ("GET", "/images/NAME/", {}),
    "records of a folder": ("GET", "/images/NAME/?meta=True", {}),
    "links to a folder": ("GET", "/images/NAME/?url=True", {}),
    "a regular expression": ("GET", "/images/?regex=^NAME$", {}),
    "an image service": ("GET", "/iiif/3/NAME/info.json", {}),
    "its base": ("GET", "/iiif/3/NAME", {}),
    "a tile": ("GET", "/iiif/3/NAME/0,0,20,20/10,/0/default.jpg", {}),
    "a tile of IIIF 2": ("GET", "/iiif/2/NAME/0,0,20,20/10,/0/default.jpg", {}),
    "widths": ("GET", "/images/NAME?srcset=True", {}),
    "a placeholder": ("GET", "/images/NAME?kind=thumbhash", {}),
    "a manifest of a picture": ("GET", "/iiif/3/NAME/manifest.json", {}),
    "a manifest of a folder": ("GET", "/iiif/3/collection/NAME/manifest.json", {}),
    "a probe": ("GET", "/iiif/auth/2/probe/NAME", {}),
    "a Deep Zoom image": ("GET", "/dzi/NAME.dzi", {}),
    "a tile of Deep Zoom": ("GET", "/dzi/NAME_files/5/0_0.jpg", {}),
    "an embedding": ("GET", "/oembed?url=http://HOST/images/NAME", {}),
    "the columns of a grid": ("GET", "/grid?name=NAME", {}),
    "the columns of a folder": ("GET", "/grid?folder=NAME", {}),
    "a page of records": ("GET", "/images?name=NAME", {}),
    "a search": ("GET", "/search?name_gte=NAME&name_lte=NAME", {}),
    "statistics": ("GET", "/stats/name?name=NAME", {}),
    "free text": ("GET", "/images?text=NAME", {}),
    "a deletion": ("DELETE", "/images/NAME", {}),
    "a purge": ("DELETE", "/images/NAME?derived=True", {}),
    "an erasure": ("DELETE", "/images/NAME?permanent=True", {}),
    "a patch": ("PATCH", "/images/NAME", {"Content_Type": "application/json"}),
    "a renaming": ("POST", "/images/NAME?rename=stolen", {}),
    "a restoration": ("POST", "/images/NAME?restore=True", {}),
    "the bin": ("GET", "/trash?prefix=NAME", {}),
}


@pytest.mark.parametrize("way", READS.values(), ids=READS)
def test_anothers_image_is_answered_as_a_missing_one(filled: Users, way: tuple[str, str, dict[str, str]]) -> None:
    method, path, headers = way
    hot = filled.get("ann", "/images/trip/one?xsize=30")
    assert filled.get("ann", "/images/trip/one?xsize=30").layer == "memory"
    version = filled.get("ann", "/images/trip/one?meta=True").json()["version"]
    body = b"{}" if method == "PATCH" else None

    def ask(name: str) -> Answer:
        spelt = name.replace("/", "%2F") if path.startswith("/iiif") else name
        sent = {key: value.replace("ETAG", hot.headers["ETag"]) for key, value in headers.items()}
        spelt_path = path.replace("NAME", spelt).replace("VERSION", version).replace("HOST", filled.host)
        return filled("bob", method, spelt_path, body, **sent)

    pairs = (("trip/one", "trip/two"), ("trip", "trop"), ("ann/a", "amm/a"), ("ann/trip/one", "amm/trip/one"))
    for name, missing in pairs:
        one, other = (unsaid(ask(each), each, each.replace("/", "%2F")) for each in (name, missing))
        assert one == other
        is_list = path.startswith(("/images?", "/search", "/stats", "/trash", "/grid", "/iiif/auth"))
        assert one[0] == (200 if is_list else 404), one


@pytest.mark.parametrize("way", [way for way in READS.items() if way[1][0] == "GET"], ids=lambda way: str(way[0]))
def test_each_of_these_ways_leads_the_owner_to_the_image(filled: Users, way: tuple[str, tuple[str, str, Any]]) -> None:
    title, (_, path, headers) = way
    name = "trip" if "folder" in title else "trip/one"
    spelt = name.replace("/", "%2F") if path.startswith("/iiif") else name
    answer = filled.get(
        "ann", path.replace("NAME", spelt).replace("VERSION", "1").replace("HOST", filled.host), **headers
    )
    assert answer.status in (200, 206, 303, 304, 412, 416)


# -- a folder that was there before ---------------------------------------------------------


@pytest.mark.parametrize(
    "way", [key for key in READS if key not in ("a folder", "records of a folder", "links to a folder")]
)
def test_what_was_there_before_is_no_users(filled: Users, way: str) -> None:
    method, path, headers = READS[way]
    body = b"{}" if method == "PATCH" else None

    def ask(name: str) -> Answer:
        spelt_path = path.replace("NAME", name).replace("VERSION", "1").replace("HOST", filled.host)
        return filled(
            "ann", method, spelt_path, body, **{key: value.replace("ETAG", '"1"') for key, value in headers.items()}
        )

    assert unsaid(ask("before"), "before") == unsaid(ask("behind"), "behind")
    assert filled.get("root", "/images/ann/before?kind=original").body == PICTURES[2]


@pytest.mark.parametrize("body", [PICTURES[0], {"mine": True}], ids=["a picture", "data"])
def test_an_occupied_name_is_a_conflict_that_says_to_choose_another(filled: Users, body: Any) -> None:
    media_type = {} if isinstance(body, dict) else {"Content_Type": "image/jpeg"}
    answer = filled("ann", "PUT", "/images/before", body, **media_type)
    assert (answer.status, answer.json()["detail"]) == (409, "Choose another name.")
    assert filled.get("root", "/images/ann/before?kind=original").body == PICTURES[2]
    assert filled.get("root", "/images/ann/before?meta=True").json()["owner"] is None


def test_it_is_in_no_list_of_the_user_whose_name_the_folder_has(filled: Users) -> None:
    assert set(filled.names("ann")) == {"a", "trip/one", ADDRESS}
    listed = filled.get("ann", "/images/?meta=True").json()
    assert {each["name"] for each in listed} == {"a", "trip/one", ADDRESS}
    assert filled.get("root", "/images/ann/?meta=True").json()[0]["name"] == "ann/a"


# -- lists, counts, statistics ---------------------------------------------------------------


def test_pages_counts_and_statistics_are_of_the_own_images(filled: Users) -> None:
    page = filled.get("bob", "/images?count=exact").json()
    assert (page["count"], {each["name"] for each in page["images"]}) == (2, {"a", ADDRESS})
    values = filled.get("bob", "/stats/colour").json()["values"]
    assert values == [{"count": 1, "value": "blue"}]
    assert filled.get("bob", "/stats/owner").json()["values"] == [{"count": 2, "value": "bob"}]
    names = filled.get("ann", "/stats/name").json()
    assert {each["value"] for each in names["values"]} == {"a", "trip/one", ADDRESS}
    assert (names["min"], names["max"]) == ("a", "trip/one")
    assert filled.get("bob", "/search?owner=ann").json()["count"] == 0


def test_conditions_on_names_are_on_the_own_names(filled: Users) -> None:
    names = filled.names
    assert names("ann", "/images?name=trip/one") == ["trip/one"]
    assert names("ann", "/images?name__in=a,trip/one&sort=-name") == ["trip/one", "a"]
    assert names("ann", "/images?regex=^trip/") == ["trip/one"]
    assert names("ann", "/images?regex=^ann") == []
    assert names("ann", "/images?name__gt=sha&name__lt=u") == [ADDRESS, "trip/one"]
    assert names("ann", "/images?name__ne=a&name__regex=o") == ["trip/one"]
    assert names("root", "/images?regex=^ann/trip") == ["ann/trip/one"]
    first = filled.get("ann", "/images?limit=1&select=name")
    assert first.json()["images"] == [{"name": "a"}]
    following = re.search(r'<([^>]*)>; rel="next"', first.headers["Link"])
    assert following
    assert filled.names("ann", following[1]) == [ADDRESS]


def test_the_folder_of_the_owner_is_no_word_of_the_name(filled: Users) -> None:
    assert filled.names("ann", "/images?text=ann") == []
    assert filled.names("ann", "/images?text=trip") == ["trip/one"]
    assert filled("ann", "PATCH", "/images?text=ann", {"n": 1}).json() == {"matched": 0, "modified": 0}


def test_a_cursor_of_another_user_shows_the_own_images(filled: Users) -> None:
    link = re.search(r'<([^>]*)>; rel="next"', filled.get("ann", "/images?limit=1").headers["Link"])
    assert link
    assert set(filled.names("bob", link[1])) <= {"a", ADDRESS}


def test_keys_and_suggestions_know_the_own_records_alone(filled: Users) -> None:
    keys = {each["key"] for each in filled.get("bob", "/keys").json()["keys"]}
    assert "colour" in keys
    assert "secretive" not in keys
    assert filled.get("bob", "/images?secretiv=x").json()["unknown_keys"] == ["secretiv"]
    assert "nearest" not in filled.get("bob", "/images?secretiv=x").json()
    assert filled.get("bob", "/images?secretive=x").json()["unknown_keys"] == ["secretive"]
    assert filled.get("ann", "/images?secretiv=x").json()["nearest"] == {"secretiv": "secretive"}


def test_an_export_holds_the_own_images_under_the_own_names(filled: Users) -> None:
    with zipfile.ZipFile(io.BytesIO(filled.get("ann", "/export?kind=original").body)) as archive:
        assert {"a.jpg", "trip/one.jpg"} < set(archive.namelist())
        lines = [json.loads(line) for line in archive.read("metadata.jsonl").splitlines()]
        text = archive.read("metadata.jsonl")
    assert {line["name"] for line in lines} == {"a", "trip/one", ADDRESS}
    assert b"ann/" not in text
    assert b"bob" not in text


def test_a_zip_of_a_folder_holds_the_own_images_under_the_own_names(filled: Users) -> None:
    with zipfile.ZipFile(io.BytesIO(filled.get("bob", "/images/").body)) as archive:
        assert set(archive.namelist()) == {"a.jpg", f"{ADDRESS.replace(':', '%3A')}.jpg"}
    links = filled.get("ann", "/images/trip/?url=True").json()
    assert [link["name"] for link in links] == ["trip/one"]


# -- changes ---------------------------------------------------------------------------------


def test_bulk_changes_reach_the_own_images_alone(users: Users) -> None:
    users.site.put("ann/before", PICTURES[2])
    for user in ("ann", "bob"):
        users.put(user, "a", PICTURES[0])
        users.put(user, "b", PICTURES[1])
    changed = users("ann", "PATCH", "/images?all=True", {"seen": True})
    assert changed.json() == {"matched": 2, "modified": 2}
    assert users("ann", "PATCH", "/images?name=b", {"seen": 2}).json()["modified"] == 1
    assert users.get("bob", "/search?seen__exists=True").json()["count"] == 0
    assert users("ann", "DELETE", "/images?all=True").json()["modified"] == 2
    assert users.names("ann") == []
    assert set(users.names("root")) == {"ann/before", "bob/a", "bob/b"}
    items = users.get("ann", "/trash").json()["items"]
    assert [item["name"] for item in items] == ["a", "b"]
    assert users.get("bob", "/trash").json()["items"] == []
    assert users("bob", "POST", "/images/a?restore=True").status == 404
    restored = users("ann", "POST", "/images/a?restore=True")
    assert (restored.status, restored.json()["name"], restored.json()["owner"]) == (201, "a", "ann")


def test_a_renamed_image_stays_in_the_namespace_of_its_owner(users: Users) -> None:
    users.put("ann", "a", PICTURES[0], n=1)
    renamed = users("ann", "POST", "/images/a?rename=bob/a")
    assert (renamed.status, renamed.json()["name"], renamed.json()["owner"]) == (201, "bob/a", "ann")
    assert users.names("root") == ["ann/bob/a"]
    assert users.names("bob") == []
    assert users.get("ann", "/images/bob/a?meta=True").json()["data"] == {"n": 1}


def test_an_import_is_the_callers_whatever_the_archive_says(users: Users) -> None:
    line = {"file_name": "x.jpg", "name": "bob/x", "owner": "bob", "data": {"n": 1}}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.jpg", PICTURES[0])
        archive.writestr("metadata.jsonl", json.dumps(line) + "\n" + json.dumps({"name": "d", "data": {"n": 2}}) + "\n")
    users.site.put("ann/occupied", PICTURES[1])
    report = users("ann", "POST", "/import", packed.getvalue(), Content_Type="application/zip").json()
    assert [entry["name"] for entry in report["entries"]] == ["bob/x", "d"]
    assert users.get("ann", "/images/bob/x?meta=True").json()["owner"] == "ann"
    assert users.get("ann", "/images/d?meta=True").json()["owner"] == "ann"
    again = users("ann", "POST", "/import", packed.getvalue(), Content_Type="application/zip").json()
    assert {entry["status"] for entry in again["entries"]} == {"unchanged"}
    assert users.names("bob") == []


def test_an_import_over_what_was_there_before_is_a_conflict(users: Users) -> None:
    users.site.put("ann/x", PICTURES[1])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.jpg", PICTURES[1])
        archive.writestr("metadata.jsonl", "\n".join(json.dumps({"name": name, "data": {}}) for name in ("x", "y")))
    report = users("ann", "POST", "/import", packed.getvalue(), Content_Type="application/zip").json()
    assert {entry["problem"]["status"] for entry in report["entries"] if entry["status"] == "failed"} == {409}
    assert users.names("ann") == ["y"]


# -- beside the images -----------------------------------------------------------------------


def test_the_same_bytes_are_an_artifact_of_each_user(users: Users) -> None:
    made = [users(user, "POST", f"/artifacts?meta=%7B%22of%22%3A%22{user}%22%7D", b"model") for user in ("ann", "bob")]
    assert [answer.status for answer in made] == [201, 201]
    name = made[0].json()["artifact_id"]
    assert name == made[1].json()["artifact_id"] == f"sha256:{sha256(b'model').hexdigest()}"
    for user in ("ann", "bob"):
        assert users.get(user, f"/artifacts/{name}").body == b"model"
        assert users.get(user, f"/artifacts/{name}?meta=True").json()["meta"] == {"of": user}
        page = users.get(user, "/artifacts").json()
        assert [(each["artifact_id"], each["meta"]) for each in page["artifacts"]] == [(name, {"of": user})]
    listed = users.get("root", "/artifacts").json()["artifacts"]
    assert [each["artifact_id"] for each in listed] == [f"ann/{name}", f"bob/{name}"]
    assert users.get("root", f"/artifacts/ann/{name}?meta=True").json()["artifact_id"] == f"ann/{name}"
    assert users("ann", "DELETE", f"/artifacts/{name}").status == 200
    assert users.get("ann", f"/artifacts/{name}").status == 404
    assert users.get("bob", f"/artifacts/{name}").status == 200


def test_anothers_artifact_is_answered_as_a_missing_one(users: Users) -> None:
    name = users("ann", "POST", "/artifacts", b"model").json()["artifact_id"]
    missing = f"sha256:{sha256(b'none').hexdigest()}"
    for method in ("GET", "HEAD", "DELETE"):
        for place in ("", "ann/"):
            one, other = (users("bob", method, f"/artifacts/{place}{each}") for each in (name, missing))
            assert unsaid(one, name) == unsaid(other, missing)
            assert one.status == 404
    assert users.get("bob", "/artifacts").json()["count"] == 0
    assert users.get("bob", f"/artifacts?artifact_id={name}").json()["count"] == 0
    assert users.get("root", f"/artifacts/{name}").status == 404


def test_snapshots_are_of_the_user_who_froze_them(users: Users) -> None:
    for user in ("ann", "bob"):
        users.put(user, "a", PICTURES[0])
    frozen = users("ann", "POST", "/snapshots?name=a")
    assert (frozen.status, frozen.json()["count"]) == (201, 1)
    name = frozen.json()["id"]
    assert users("ann", "POST", "/snapshots?name=a").status == 200
    assert users.get("ann", f"/snapshots/{name}?check=True").json()["ok"] is True
    with zipfile.ZipFile(io.BytesIO(users.get("ann", f"/export?snapshot={name}&kind=original").body)) as archive:
        assert archive.read("a.jpg") == PICTURES[0]
    assert [each["id"] for each in users.get("ann", "/snapshots").json()["snapshots"]] == [name]
    assert users.get("bob", "/snapshots").json()["count"] == 0
    for path in ("/snapshots/NAME", "/snapshots/NAME?meta=True", "/snapshots/NAME?check=True", "/export?snapshot=NAME"):
        for place in ("", "ann/"):
            one, other = (users.get("bob", path.replace("NAME", place + each)) for each in (name, "0" * 64))
            assert unsaid(one, name) == unsaid(other, "0" * 64)
            assert one.status == 404
    assert [each["id"] for each in users.get("root", "/snapshots").json()["snapshots"]] == [f"ann/{name}"]
    assert users.get("root", f"/snapshots/ann/{name}?check=True").json()["ok"] is True
    manifest = users.get("root", f"/snapshots/ann/{name}").body.splitlines()
    assert json.loads(manifest[1])["name"] == "ann/a", "a manifest names images as the container does"


def test_a_probe_says_what_the_caller_would_get(filled: Users) -> None:
    statuses = [filled.get(user, "/iiif/auth/2/probe/trip%2Fone").json()["status"] for user in ("ann", "bob", None)]
    assert statuses == [200, 404, 401]
    assert b"bob/" not in filled.get("bob", "/iiif/auth/2/probe/trip%2Fone").body


def test_iiif_identifiers_are_the_own_names(filled: Users) -> None:
    info = filled.get("ann", "/iiif/3/trip%2Fone/info.json").json()
    assert info["id"].endswith("/iiif/3/trip%2Fone")
    assert filled.get("ann", "/iiif/3/trip%2Fone/full/30,/0/default.jpg").status == 200
    assert filled.get("ann", "/iiif/3/trip%2Fone/full/30,/0/default.jpg").layer == "memory"
    manifest = filled.get("ann", "/iiif/3/collection/trip/manifest.json")
    assert manifest.status == 200
    assert b"ann" not in manifest.body
    assert filled.get("bob", "/iiif/3/collection/trip/manifest.json").status == 404
    assert filled.get("bob", "/iiif/3/query/manifest.json?colour=red").status == 404


# -- links -------------------------------------------------------------------------------------


def test_share_links_carry_the_name_in_the_container(filled: Users) -> None:
    link = filled.get("ann", "/images/trip/one?share=True").json()
    assert link["name"] == "trip/one"
    path = link["url"].partition("127.0.0.1")[2].partition("/")[2]
    assert path.startswith("images/ann/trip/one?share=")
    assert filled.get(None, f"/{path}&kind=original").body == PICTURES[2]
    token = path.partition("?")[2]
    for other in ("trip/one", "ann/a", "bob/a", "bob/trip/one"):
        assert filled.get(None, f"/images/{other}?{token}").status == 401


def test_a_share_link_of_a_folder_shows_the_images_of_its_maker_alone(users: Users) -> None:
    users.site.put("ann/trip/before", PICTURES[2])
    users.put("ann", "trip/one", PICTURES[0])
    users.put("ann", "trip/two", PICTURES[1])
    url = users.get("ann", "/images/trip/?share=True").json()["url"]
    path, _, token = url.partition("127.0.0.1")[2].partition("/")[2].partition("?")
    assert path == "images/ann/trip/"
    assert users.get(None, f"/{path}one?{token}&kind=original").body == PICTURES[0]
    assert users.get(None, f"/{path}before?{token}").status == 404
    listed = users.get(None, f"/{path}?{token}&meta=True").json()
    assert [each["name"] for each in listed] == ["ann/trip/one", "ann/trip/two"]
    assert users.get(None, f"/images/ann/?{token}").status == 401
    whole = users.get("ann", "/images/?share=True").json()["url"].partition("127.0.0.1")[2].partition("/")[2]
    assert whole.startswith("images/ann/?share=")
    by_root = users.get("root", "/images/ann/trip/?share=True").json()["url"]
    path, _, token = by_root.partition("127.0.0.1")[2].partition("/")[2].partition("?")
    assert users.get(None, f"/{path}before?{token}&kind=original").body == PICTURES[2]


def test_a_temporary_url_is_called_by_the_own_name(filled: Users) -> None:
    link = filled.get("ann", "/images/a?url=True&xsize=20").json()
    assert link["name"] == "a"
    path = "/" + link["url"].partition("127.0.0.1")[2].partition("/")[2]
    assert filled.get(None, path).status == 200


# -- repeated answers ----------------------------------------------------------------------------


def test_an_answer_in_memory_is_of_its_own_user(filled: Users) -> None:
    sizes = {}
    for user in ("ann", "bob"):
        for _ in range(2):
            answer = filled.get(user, "/images/a?xsize=31")
        assert answer.layer == "memory"
        assert answer.headers["Cache-Control"].startswith("private")
        assert "Authorization" in answer.headers["Vary"]
        sizes[user] = answer
    assert sizes["ann"].body != sizes["bob"].body
    tag = sizes["ann"].headers["ETag"]
    assert filled.get("bob", "/images/a?xsize=31", If_None_Match=tag).status == 200
    assert filled.get("ann", "/images/a?xsize=31", If_None_Match=tag).status == 304


def test_an_image_given_away_is_gone_from_memory_at_once(users: Users) -> None:
    users.put("ann", "a", PICTURES[0])
    for _ in range(2):
        assert users.get("ann", "/images/a?xsize=30").status == 200
    passed = len(users.site.passed)
    assert users.get("ann", "/images/a?xsize=30").layer == "memory"
    assert len(users.site.passed) == passed, "without the application"
    assert users("ann", "DELETE", "/images/a").status == 200
    users.site.put("ann/a", PICTURES[1])
    assert users.get("ann", "/images/a?xsize=30").status == 404


# -- API keys ----------------------------------------------------------------------------------------


def _key(users: Users, name: str, role: str, prefix: str = "") -> dict[str, str]:
    key = users.site.repo.authenticator.keys.add(new_key(name, role, prefix))
    return {"Authorization": f"Bearer {key}"}


def test_a_key_is_of_the_user_whose_folder_it_ends_at_or_a_user_of_its_own(users: Users) -> None:
    users.put("ann", "a", PICTURES[0])
    users.put("ann", "robots/b", PICTURES[1])
    users.site.put("old/c", PICTURES[2])
    get: Callable[..., Answer] = users.site.client.get
    of_ann, robot, own = (
        _key(users, "1", "writer", "ann"),
        _key(users, "2", "writer", "ann/robots"),
        _key(users, "3", "writer"),
    )
    assert get("/images/a", **of_ann).status == 200
    assert get("/images/robots/b", **robot).status == 200
    assert get("/images/a", **robot).status == 403
    assert get("/images", **robot).json()["count"] == 1
    made = users.site.client.put("/images/robots/c", PICTURES[0], **robot)
    assert (made.status, made.json()["owner"]) == (201, "ann")
    assert users.get("ann", "/images/robots/c").status == 200
    for path in ("/images/a", "/images/ann/a", "/images/old/c"):
        assert get(path, **own).status == 404
    assert users.site.client.put("/images/a", PICTURES[0], **own).json()["owner"] == "key:3"
    assert users.get("root", "/images/key:3/a").status == 200
    admin = _key(users, "4", "admin")
    assert get("/images/old/c", **admin).status == get("/images/ann/a", **admin).status == 200


# -- quotas ----------------------------------------------------------------------------------------------


@pytest.fixture
def bounded(provider: IdentityProvider, tmp_path: Path) -> Iterator[Users]:
    """Each user may have two pictures and a half."""
    quota = int(2.5 * len(PICTURES[0]))
    with running_site(tmp_path, scoped(provider, owner_quota=quota)) as site:
        yield Users(site, provider)


def _put(users: Users, user: str, name: str, body: bytes) -> int:
    answer = users(user, "PUT", f"/images/{name}", body, Content_Type="image/jpeg")
    assert answer.status != 413 or answer.slug == "quota-exceeded"
    return answer.status


def test_the_bytes_of_a_user_are_bounded(bounded: Users) -> None:
    one, two = PICTURES[0], PICTURES[0] + bytes(10)
    assert [_put(bounded, "ann", name, body) for name, body in (("a", one), ("b", two), ("c", one))] == [201, 201, 413]
    assert bounded.names("ann") == ["a", "b"], "a refused upload changes nothing"
    assert _put(bounded, "ann", "a", one) == 200, "the same bytes are no more"
    assert _put(bounded, "bob", "a", one) == 201, "another user has a quota of its own"
    assert _put(bounded, "root", "ann/c", one) == 201, "administrators have none"
    assert bounded("ann", "POST", "/artifacts", one).status == 413
    assert bounded("bob", "POST", "/artifacts", one).status == 201
    assert bounded("bob", "POST", "/artifacts", one).status == 200
    assert _put(bounded, "bob", "b", two) == 413


def test_what_waits_in_the_bin_counts_until_it_is_erased(bounded: Users) -> None:
    assert [_put(bounded, "ann", name, PICTURES[0]) for name in "ab"] == [201, 201]
    assert bounded("ann", "DELETE", "/images/a").status == 200
    assert _put(bounded, "ann", "c", PICTURES[0]) == 413
    assert bounded("ann", "DELETE", "/images/a?permanent=True").status == 200
    assert _put(bounded, "ann", "c", PICTURES[0]) == 201


def test_a_user_whose_quota_is_used_up_renames_and_restores(bounded: Users) -> None:
    assert [_put(bounded, "ann", name, PICTURES[0]) for name in "ab"] == [201, 201]
    assert bounded("ann", "POST", "/images/a?rename=c").status == 201
    assert bounded("ann", "DELETE", "/images/c").status == 200
    assert bounded("ann", "POST", "/images/c?restore=True").status == 201
    assert bounded.names("ann") == ["b", "c"]
    assert _put(bounded, "ann", "a", PICTURES[0]) == 413


def test_an_import_is_refused_where_the_quota_ends(bounded: Users) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(4):
            archive.writestr(f"{number}.jpg", PICTURES[0] + bytes(number))
    report = bounded("ann", "POST", "/import", packed.getvalue(), Content_Type="application/zip").json()
    assert (report["stored"], report["failed"]) == (2, 2)
    problems = [entry["problem"]["status"] for entry in report["entries"] if "problem" in entry]
    assert problems == [413, 413]


def test_a_share_link_of_a_query_shows_the_images_of_its_maker_alone(filled: Users) -> None:
    link = filled.get("ann", "/images?colour__exists=True&share=True").json()["url"]
    path = "/" + link.partition("127.0.0.1")[2].partition("/")[2]
    page = filled.get(None, path).json()
    assert page["count"] == 2
    assert "bob" not in json.dumps(page)
    picture = page["images"][0]["url"].partition("127.0.0.1")[2].partition("/")[2]
    assert filled.get(None, f"/{picture}").status == 200
    assert filled.get(None, path.replace("owner=ann", "owner=bob")).status == 401


def test_a_signature_is_for_the_name_in_the_container(provider: IdentityProvider, tmp_path: Path) -> None:
    requests = RequestsConfiguration(mode="signed", key="another sixteen letters")
    with running_site(tmp_path, scoped(provider), requests=requests) as site:
        users = Users(site, provider)
        for user in ("ann", "bob"):
            users.put(user, "a", PICTURES[0])
        signature = wiring.request_signer(site.config).sign("ann/a", ["xsize=20"])
        assert users.get("ann", f"/images/a?xsize=20&signature={signature}").status == 200
        assert users.get("bob", f"/images/a?xsize=20&signature={signature}").status == 401
        assert users.get("ann", "/images/a?xsize=20").status == 401
        sources = users.get("ann", "/images/a?srcset=20").json()["sources"]
        path = sources[0]["url"].partition("127.0.0.1")[2].partition("/")[2]
        assert path.startswith("images/a?")
        assert users.get("ann", f"/{path}").status == 200
