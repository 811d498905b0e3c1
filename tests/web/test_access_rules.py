"""Rules by folder over HTTP: every way in ends where they end."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from zipfile import ZipFile

import pictures
import pytest
from access_site import Site, running_site

from image_repo.access.api_keys import new_key
from image_repo.config import AccessConfiguration, AccessRule

RULES = (
    AccessRule("closed"),
    AccessRule("closed/open", may="read"),
    AccessRule("over", until="2001-01-01"),
    AccessRule("new", until="2999-01-01"),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, dict[str, str]]]:
    """A server that all may read but for some folders; the credentials of a reader."""
    access = AccessConfiguration(anonymous="read", rules=RULES)
    with running_site(tmp_path_factory.mktemp("rules"), access) as site:
        for number, name in enumerate(("a", "closed/a", "closed/open/a", "new/a", "over/a")):
            site.put(name, pictures.jpeg(pictures.photo(20, 10, seed=number)))
        reader = site.repo.authenticator.keys.add(new_key("reader", "reader"))
        yield site, {"Authorization": f"Bearer {reader}"}


@pytest.mark.parametrize(
    ("name", "status", "cache_control"),
    [
        ("a", 200, "public"),
        ("closed/a", 401, "private"),
        ("closed/open/a", 200, "public"),
        ("new/a", 401, "private"),
        ("over/a", 200, "public"),
    ],
)
def test_a_folder_is_closed_to_those_without_credentials_also_where_it_is_hot(
    site: tuple[Site, dict[str, str]], name: str, status: int, cache_control: str
) -> None:
    server, reader = site
    for _ in range(3):
        answer = server.client.get(f"/images/{name}?xsize=9", **reader)
        assert (answer.status, answer.headers["Cache-Control"]) == (200, f"{cache_control}, max-age=3600")
    for headers in ({}, {"If_None_Match": "*"}, {"Range": "bytes=0-1"}):
        expected = {200: (304, 206, 200)}.get(status, (401,))
        assert server.client.get(f"/images/{name}?xsize=9", **headers).status in expected
    assert server.client.get(f"/images/{name}?meta=True").status == status
    sha256 = server.client.get(f"/images/{name}?meta=True", **reader).json()["sha256"]
    assert server.client.get(f"/images/sha256:{sha256}").status in ((200,) if status == 200 else (401, 404))


def test_lists_statistics_and_zips_leave_closed_folders_out(site: tuple[Site, dict[str, str]]) -> None:
    server, reader = site
    open_names = ["a", "closed/open/a", "over/a"]
    for headers, names in (({}, open_names), (reader, ["a", "closed/a", "closed/open/a", "new/a", "over/a"])):
        page = server.client.get("/images?sort=name", **headers).json()
        assert ([record["name"] for record in page["images"]], page["count"]) == (names, len(names))
        assert server.client.get("/stats/width", **headers).json()["count"] == len(names)
        members = ZipFile(BytesIO(server.client.get("/images/?regex=a", **headers).body)).namelist()
        assert sorted(members) == sorted(f"{name}.jpg" for name in names)
    assert server.client.get("/images/new/").status == 401
    (record,) = server.client.get("/images/closed/?meta=True").json()
    assert record["name"] == "closed/open/a"


def test_a_refused_rename_leaves_no_copy(tmp_path_factory: pytest.TempPathFactory) -> None:
    access = AccessConfiguration(anonymous="read", rules=(AccessRule("inbox", "reader", "write"),))
    with running_site(tmp_path_factory.mktemp("rename"), access) as server:
        server.put("kept/a", pictures.jpeg())
        key = server.repo.authenticator.keys.add(new_key("reader", "reader"))
        reader = {"Authorization": f"Bearer {key}"}
        assert server.client("POST", "/images/kept/a?rename=inbox/a", **reader).status == 403
        assert server.client.get("/images/inbox/a").status == 404
        assert server.client.put("/images/inbox/b", pictures.jpeg(), **reader).status == 201
        assert server.client("POST", "/images/inbox/b?rename=inbox/c", **reader).status == 201


def test_a_list_that_others_see_more_of_is_private(site: tuple[Site, dict[str, str]]) -> None:
    server, reader = site
    assert server.client.get("/images").headers["Cache-Control"] == "no-cache"
    assert server.client.get("/images", **reader).headers["Cache-Control"] == "private, no-cache"
