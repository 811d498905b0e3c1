"""Share links of a query: anybody may read what it matches, until then, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit
from zipfile import ZipFile

import pictures
import pytest
from access_site import Site, running_site
from commands import until

from image_repo.access.api_keys import new_key
from image_repo.access.principal import ADMIN
from image_repo.access.share_links import ShareLinks
from image_repo.access.shared_queries import signed_text
from image_repo.config import AccessConfiguration, AccessRule, AnonymousLimitsConfiguration
from image_repo.model.names import ImageName

SECRET = "a secret of the tests"
KINDS = {"s/a": "cat", "s/b": "dog", "s/deep/c": "cat", "s/secret/d": "cat", "open/e": "cat", "open/f": "dog"}
Shop = tuple[Site, dict[str, dict[str, str]]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A closed server but for one folder, and callers: of all, of a folder, one kept out of a folder, and a writer."""
    rules = (AccessRule("s/secret", "key:kept-out", "none"), AccessRule("open", "anonymous", "read"))
    access = AccessConfiguration(anonymous="none", secret=SECRET, rules=rules)
    with running_site(tmp_path_factory.mktemp("queries"), access) as site:
        keys = site.repo.authenticator.keys
        made = [
            *(new_key("reader", "reader"), new_key("folder", "reader", "s/deep"), new_key("kept-out", "reader")),
            new_key("writer", "writer"),
        ]
        callers = {key.name: {"Authorization": f"Bearer {keys.add(key)}"} for key in made}
        for number, (name, kind) in enumerate(KINDS.items()):
            site.put(name, pictures.jpeg(pictures.photo(20, 10, seed=number)))
            body = json.dumps({"species": kind}).encode()
            headers = {"Content_Type": "application/json", **callers["writer"]}
            assert site.client("PATCH", f"/images/{name}", body, **headers).status == 200
        yield site, callers


def _link(site: Shop, query: str, caller: str = "reader") -> str:
    """Return the path and query of a share link."""
    answer = site[0].client.get(f"/images?{query}&share=True&lifetime=600", **site[1][caller])
    assert answer.status == 200, answer.body
    assert answer.headers["Cache-Control"] == "no-store"
    parts = urlsplit(answer.json()["url"])
    return f"{parts.path}?{parts.query}"


def _names(site: Shop, link: str) -> set[str]:
    answer = site[0].client.get(link)
    assert answer.status == 200, answer.body
    return {record["name"] for record in answer.json()["images"]}


def test_a_link_lists_what_matches_and_opens_each_picture_of_it(site: Shop) -> None:
    link = _link(site, "species=cat")
    page = site[0].client.get(link)
    assert page.headers["Cache-Control"].startswith("private")
    records = page.json()["images"]
    assert {record["name"] for record in records} == {name for name, kind in KINDS.items() if kind == "cat"}
    for record in records:
        parts = urlsplit(record["url"])
        assert site[0].client.get(f"{parts.path}?{parts.query}&xsize=9").image().width == 9
        assert parts.query.partition("=")[2].split(".")[0] == link.partition("share=")[2].split(".")[0]
    assert site[0].client.get("/images/s/a").status == 401


def test_a_link_of_a_folder_holds_all_of_it_where_anybody_may_read_a_part(site: Shop) -> None:
    answer = site[0].client.get("/images/?share=True", **site[1]["reader"])
    parts = urlsplit(answer.json()["url"])
    members = ZipFile(BytesIO(site[0].client.get(f"{parts.path}?{parts.query}").body)).namelist()
    assert {name.removesuffix(".jpg") for name in members} == set(KINDS)


def test_what_is_added_later_is_in_it(site: Shop) -> None:
    link = _link(site, "name=s/later")
    assert _names(site, link) == set()
    site[0].put("s/later", pictures.jpeg())
    until(lambda: _names(site, link) == {"s/later"}, "it is found")
    site[0].client.delete("/images/s/later?permanent=True", **site[1]["writer"])


@pytest.mark.parametrize(
    "changed",
    [
        lambda link: link.replace("species=cat", "species=dog"),
        lambda link: link.replace("species=cat", "species__ne=dog"),
        lambda link: link.replace("species=cat&", ""),
        lambda link: link + "&species=cat",
        lambda link: link + "&sort=name",
        lambda link: link + "&text=x",
        lambda link: link.replace("/images?", "/search?"),
        lambda link: link.replace("/images?", "/stats/species?"),
        lambda link: link.replace("/images?", "/export?"),
        lambda link: link.replace("/images?", "/images/?"),
        lambda link: link.replace("/images?", "/images/s/a?"),
        lambda link: link[:-2] + ("A" if link[-2] != "A" else "B") + link[-1],
    ],
)
def test_another_query_or_address_is_refused(site: Shop, changed: object) -> None:
    assert callable(changed)
    answer = site[0].client.get(changed(_link(site, "species=cat")))
    # Where all may read a folder, that is what there is without a link.
    is_refused = answer.status == 401
    assert is_refused or not {name.encode() for name in KINDS if name.startswith("s/") and name.encode() in answer.body}


def test_its_holder_turns_pages_in_any_order_of_parameters(site: Shop) -> None:
    link = _link(site, "species=cat&sort=name")
    first = site[0].client.get(link + "&limit=2")
    (following,) = re.findall(r'<([^>]*)>; rel="next"', first.headers["Link"])
    second = site[0].client.get(following)
    names = [record["name"] for page in (first, second) for record in page.json()["images"]]
    assert names == sorted(name for name, kind in KINDS.items() if kind == "cat")
    path, _, query = link.partition("?")
    assert site[0].client.get(f"{path}?{'&'.join(reversed(query.split('&')))}").status == 200


def test_a_link_holds_no_more_than_its_maker_sees(site: Shop) -> None:
    assert _names(site, _link(site, "species=cat", "folder")) == {"s/deep/c", "open/e"} & _visible(site, "folder")
    assert _names(site, _link(site, "species=cat", "kept-out")) == {"s/a", "s/deep/c", "open/e"}


def _visible(site: Shop, caller: str) -> set[str]:
    records = site[0].client.get("/images?species=cat", **site[1][caller]).json()["images"]
    return {record["name"] for record in records}


@pytest.mark.parametrize("method", ["PATCH", "DELETE", "POST"])
def test_a_link_changes_nothing(site: Shop, method: str) -> None:
    answer = site[0].client(method, _link(site, "species=cat"), b'{"x": 1}', Content_Type="application/json")
    assert answer.status in (400, 401, 403)


def test_sharing_needs_credentials_a_good_query_and_a_good_lifetime(site: Shop) -> None:
    client, reader = site[0].client, site[1]["reader"]
    assert client.get("/images?species=cat&share=True").status == 401
    assert client.get(_link(site, "species=cat").replace("share=", "x=") + "&share=True").status == 401
    for query in ("width__gt=abc", "limit=0", "species=cat&share=True", "lifetime=0"):
        assert client.get(f"/images?{query}&share=True", **reader).status == 400


def test_a_key_of_the_data_may_be_called_share(site: Shop) -> None:
    writer = {"Content_Type": "application/json", **site[1]["writer"]}
    assert site[0].client("PATCH", "/images/s/b", b'{"share": 50, "lifetime": 3}', **writer).status == 200
    for query in ("share=50", "lifetime=3"):
        records = site[0].client.get(f"/images?{query}", **site[1]["reader"]).json()["images"]
        assert [record["name"] for record in records] == ["s/b"]


def test_its_holder_adds_no_condition(site: Shop) -> None:
    link = _link(site, "species=cat")
    for more in ("lifetime=3", "text=a", "sort=name", "select=data", "owner=x", "species=dog"):
        assert site[0].client.get(f"{link}&{more}").status == 401


def test_the_url_of_a_name_that_ends_as_pictures_do_opens_that_picture(site: Shop) -> None:
    site[0].put("ends/x", pictures.jpeg(pictures.photo(20, 10)))
    site[0].put("ends/x.tif", pictures.jpeg(pictures.photo(10, 30)))
    record = site[0].client.get(_link(site, "name=ends/x.tif")).json()["images"][0]
    parts = urlsplit(record["url"])
    assert site[0].client.get(f"{parts.path}?{parts.query}").image().size == (10, 30)
    for name in ("ends/x", "ends/x.tif"):
        site[0].repo.writer.delete(ADMIN, ImageName(name))


def test_it_ends_with_its_time_and_with_its_secret() -> None:
    now = [1_000.0]
    links = ShareLinks([SECRET], lambda: now[0])
    query = signed_text([("b", "1"), ("a", "2"), ("limit", "3")])
    token, expires = links.sign_query(query, 60)
    assert expires == 1_060
    principal = links.query_principal(signed_text([("a", "2"), ("b", "1"), ("page", "2"), ("share", token)]), token)
    assert principal is not None
    assert principal.shared == ""
    for other in (ShareLinks(["another"], lambda: now[0]), ShareLinks([], lambda: now[0])):
        with pytest.raises(Exception, match="not valid"):
            other.query_principal(query, token)
    with pytest.raises(Exception, match="not valid"):  # of an image that is called as the query is written
        links.query_principal(query, links.sign(query, 60)[0])
    now[0] = 1_060
    with pytest.raises(Exception, match="expired"):
        links.query_principal(query, token)


def test_limits_of_anonymous_callers_do_not_hold_for_it(tmp_path: Path) -> None:
    limits = AnonymousLimitsConfiguration(max_width=10)
    access = AccessConfiguration(anonymous="read", anonymous_limits=limits, secret=SECRET)
    with running_site(tmp_path, access) as site:
        site.put("a", pictures.jpeg(pictures.photo(60, 40)))
        reader = {"Authorization": f"Bearer {site.repo.authenticator.keys.add(new_key('reader', 'reader'))}"}
        url = site.client.get("/images?name=a&share=True", **reader).json()["url"]
        parts = urlsplit(site.client.get(url.partition(str(site.client.port))[2]).json()["images"][0]["url"])
        assert site.client.get(f"{parts.path}?{parts.query}").image().size == (60, 40)
        assert site.client.get("/images/a").image().width == 10


def test_a_user_that_is_kept_apart_shares_its_own_and_under_its_own_names(tmp_path: Path) -> None:
    access = AccessConfiguration(anonymous="none", secret=SECRET, image_scope="user")
    with running_site(tmp_path, access) as site:
        keys = site.repo.authenticator.keys
        ann, bob = ({"Authorization": f"Bearer {keys.add(new_key(name, 'writer'))}"} for name in ("ann", "bob"))
        for caller in (ann, bob):
            for name in ("a", "b"):
                assert site.client.put(f"/images/{name}", pictures.jpeg(), **caller).status == 201
        url = site.client.get("/images?name=a&share=True", **ann).json()["url"]
        link = url.partition(str(site.client.port))[2]
        (record,) = site.client.get(link).json()["images"]
        assert record["name"] == "a"
        parts = urlsplit(record["url"])
        assert site.client.get(f"{parts.path}?{parts.query}").status == 200
        for other in (link.replace("name=a", "name=b"), link.replace("ann", "bob")):
            assert site.client.get(other).status == 401
        assert site.client.get(f"{parts.path.replace('ann', 'bob')}?{parts.query}").status == 401
