"""API keys over HTTP and by the command: what they open, where they end, and that the first one closes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import commands
import pictures
import pytest
from access_site import Site, running_site
from webserver import Answer

from image_repo.access.api_keys import new_key
from image_repo.config import AccessConfiguration

JSON = {"Content_Type": "application/json"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A closed server with pictures in three folders, and keys for one."""
    with running_site(tmp_path_factory.mktemp("keys"), AccessConfiguration()) as site:
        for number, name in enumerate(("robots/a", "robots/b", "robotsx/a", "other/a")):
            site.put(name, pictures.jpeg(pictures.photo(20, 10, seed=number)))
        yield site


def _key(site: Site, name: str, role: str, prefix: str = "") -> dict[str, str]:
    keys = site.repo.authenticator.keys
    if any(key.name == name for key in keys.all()):
        keys.revoke(name)
    return {"Authorization": "Bearer " + keys.add(new_key(name, role, prefix))}


def _names(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [record["name"] for record in answer.json()["images"]]


def test_the_first_key_closes_and_stays_closed_without_keys(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        site.put("a", pictures.jpeg())
        for _ in range(3):
            answer = site.client.get("/images/a")
        assert (answer.status, answer.layer) == (200, "memory")
        key = _key(site, "robot", "reader")
        for headers in ({}, {"If_None_Match": answer.headers["ETag"]}):
            assert site.client.get("/images/a", **headers).status == 401
        assert site.client.get("/images/a", **key).status == 200
        site.repo.authenticator.keys.revoke("robot")
        assert site.client.get("/images/a", **key).status == 401
        assert site.client.get("/images/a").status == 401


def test_anonymous_opens_it_again(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        site.put("a", pictures.jpeg())
        _key(site, "robot", "reader")
    with running_site(tmp_path, AccessConfiguration(anonymous="read")) as site:
        assert site.client.get("/images/a").status == 200
        assert site.client.delete("/images/a").status == 401


@pytest.mark.parametrize("path", ["/images/robots/a?xsize=9", "/images/robots/?regex=a", "/images/robots/a?meta=True"])
def test_a_key_reads_below_its_folder(site: Site, path: str) -> None:
    assert site.client.get(path, **_key(site, "inside", "reader", "robots")).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/images/other/a?xsize=9",
        "/images/robotsx/a",
        "/images/robotsx/?regex=a",
        "/images/other/a?meta=True",
        "/images/other/a?url=True",
        "/images/other/none",
        "/artifacts",
        "/snapshots",
    ],
)
def test_a_key_reads_nothing_elsewhere(site: Site, path: str) -> None:
    assert site.client.get(path, **_key(site, "outside", "admin", "robots")).status in (403, 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/images/other/new"),
        ("PUT", "/images/robotsx/new"),
        ("PATCH", "/images/other/a"),
        ("DELETE", "/images/other/a"),
        ("POST", "/images"),
        ("POST", "/images/other/"),
        ("POST", "/artifacts"),
        ("POST", "/snapshots"),
        ("POST", "/import?prefix=other"),
    ],
)
def test_a_key_writes_nothing_elsewhere(site: Site, method: str, path: str) -> None:
    key = _key(site, "outside", "admin", "robots")
    assert site.client(method, path, pictures.jpeg(), **key).status == 403


def test_lists_zips_statistics_and_content_names_end_at_the_folder(site: Site) -> None:
    key = _key(site, "lists", "reader", "robots")
    assert _names(site.client.get("/images", **key)) == ["robots/a", "robots/b"]
    assert _names(site.client.get("/search?name__regex=a", **key)) == ["robots/a"]
    assert site.client.get("/images", **key).json()["count"] == 2
    assert site.client.get("/stats/width", **key).json()["count"] == 2
    assert len(ZipFile(BytesIO(site.client.get("/images/?regex=a|b", **key).body)).namelist()) == 2
    members = ZipFile(BytesIO(site.client.get("/export", **key).body)).namelist()
    assert {name.split("/")[0] for name in members if "/" in name} == {"robots"}
    admin = _key(site, "admin", "admin")
    for name, status in (("robots/a", 200), ("other/a", 404)):
        sha256 = site.client.get(f"/images/{name}?meta=True", **admin).json()["sha256"]
        assert site.client.get(f"/images/sha256:{sha256}", **admin).status == 200
        assert site.client.get(f"/images/sha256:{sha256}", **key).status in ((200,) if status == 200 else (403, 404))


def test_bulk_changes_end_at_the_folder(site: Site) -> None:
    key = _key(site, "bulk", "writer", "robots")
    answer = site.client("PATCH", "/images?all=True", b'{"seen": 1}', **key, **JSON)
    assert (answer.status, answer.json()["matched"]) == (200, 2)
    admin = _key(site, "admin", "admin")
    assert site.client.get("/images/other/a?meta=True", **admin).json()["data"] == {}


# -- /access/keys and /me -----------------------------------------------------------------


def test_an_admin_makes_lists_and_revokes_keys(site: Site) -> None:
    admin = _key(site, "admin", "admin")
    wanted = {"name": "camera-7", "role": "writer", "prefix": "cameras/7", "expires": "2999-01-01"}
    made = site.client("POST", "/access/keys", json.dumps(wanted), **admin, **JSON)
    assert made.status == 201
    assert made.headers["Cache-Control"] == "no-store"
    camera = {"Authorization": f"bearer {made.json()['key']}"}
    assert site.client.put("/images/cameras/7/x", pictures.jpeg(), **camera).status == 201
    (listed,) = [key for key in site.client.get("/access/keys", **admin).json()["keys"] if key["name"] == "camera-7"]
    assert (listed["role"], listed["prefix"], listed["expires"]) == ("writer", "cameras/7/", "2999-01-01T00:00:00.000Z")
    assert made.json()["key"] not in json.dumps(listed)
    assert site.client("POST", "/access/keys", json.dumps(wanted), **admin, **JSON).status == 409
    assert site.client.delete("/access/keys/camera-7", **admin).status == 200
    assert site.client.delete("/access/keys/camera-7", **admin).status == 404
    assert site.client.get("/images/cameras/7/x", **camera).status == 401


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'{"name": "a"}',
        b'{"name": "a", "role": "x"}',
        b'{"name": "a", "role": "reader", "x": "y"}',
        b'{"name": 1, "role": "reader"}',
    ],
)
def test_a_mistaken_key_is_400(site: Site, body: bytes) -> None:
    assert site.client("POST", "/access/keys", body, **_key(site, "admin", "admin"), **JSON).status == 400


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", ""), ("DELETE", "/admin")])
@pytest.mark.parametrize(
    ("role", "prefix", "status"), [(None, "", 401), ("reader", "", 403), ("writer", "", 403), ("admin", "robots", 403)]
)
def test_keys_are_for_admins(site: Site, method: str, path: str, role: str | None, prefix: str, status: int) -> None:
    caller = _key(site, "caller", role, prefix) if role else {}
    body = b'{"name": "mine", "role": "admin"}' if method == "POST" else None
    assert site.client(method, f"/access/keys{path}", body, **caller, **JSON).status == status


def test_an_open_server_lets_nobody_make_keys_over_http(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        body = b'{"name": "mine", "role": "admin"}'
        assert site.client("POST", "/access/keys", body, **JSON).status == 401
        assert site.client.get("/images").status == 200


def test_me_says_who_is_asking_and_what_that_one_may(site: Site) -> None:
    nobody = site.client.get("/me")
    assert (nobody.status, nobody.json()) == (200, {"name": None, "roles": [], "prefix": "", "may": []})
    reader = site.client.get("/me", **_key(site, "me", "reader", "robots")).json()
    assert reader == {"name": "key:me", "roles": ["reader"], "prefix": "robots/", "may": ["read", "list", "link"]}
    assert "administer" in site.client.get("/me", **_key(site, "admin", "admin")).json()["may"]


# -- the command -----------------------------------------------------------------------


def test_the_command_makes_lists_and_revokes_keys(tmp_path: Path) -> None:
    config = commands.configure(tmp_path, create_new=True)
    made = commands.run("-y", config, "key", "add", "robot", "--role", "writer", "--prefix", "robots")
    assert made.returncode == 0, made.stderr
    (word,) = made.stdout.split()
    assert word.startswith("ir_")
    again = commands.run("-y", config, "key", "add", "robot", "--role", "reader")
    assert (again.returncode, again.stdout) == (1, "")
    listed = commands.run("-y", config, "key", "list", "--json")
    (key,) = json.loads(listed.stdout)
    assert (key["name"], key["role"], key["prefix"]) == ("robot", "writer", "robots/")
    assert word not in listed.stdout
    assert "an API key was made" in commands.run("-y", config, "-t").stdout
    assert commands.run("-y", config, "key", "revoke", "robot").returncode == 0
    assert commands.run("-y", config, "key", "revoke", "robot").returncode == 1
    assert json.loads(commands.run("-y", config, "key", "list", "--json").stdout) == []
