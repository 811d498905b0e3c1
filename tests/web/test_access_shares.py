"""Share links: anybody may read just that, until then, and write nothing."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from urllib.parse import urlsplit
from zipfile import ZipFile

import pictures
import pytest
from access_site import Site, running_site
from commands import until

from image_repo.access.api_keys import new_key
from image_repo.access.share_links import ShareLinks
from image_repo.config import AccessConfiguration, AccessRule
from image_repo.errors import LinkExpired, LinkRefused
from image_repo.observability.logging import clean

SECRET, OLD = "a secret of the tests", "the secret before it"
Shop = tuple[Site, dict[str, dict[str, str]]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A closed server, and callers: of everything, of one folder, and one whom a rule keeps out of a folder."""
    access = AccessConfiguration(
        anonymous="none", secret=SECRET, secret_2=OLD, rules=(AccessRule("s/secret", "key:kept-out", "none"),)
    )
    with running_site(tmp_path_factory.mktemp("shares"), access) as site:
        for number, name in enumerate(("s/a", "s/b", "s/deep/c", "s/secret/d", "sx/a", "é/ü b")):
            site.put(name, pictures.jpeg(pictures.photo(20, 10, seed=number)))
        keys = site.repo.authenticator.keys
        made = [new_key("reader", "reader"), new_key("folder", "reader", "s/deep"), new_key("kept-out", "reader")]
        yield site, {key.name: {"Authorization": f"Bearer {keys.add(key)}"} for key in made}


def _share(site: Shop, path: str, caller: str = "reader") -> str:
    """Return the path and query of a share link."""
    answer = site[0].client.get(f"/images/{path}?share=True&lifetime=600", **site[1][caller])
    assert answer.status == 200, answer.body
    assert answer.headers["Cache-Control"] == "no-store"
    parts = urlsplit(answer.json()["url"])
    return f"{parts.path}?{parts.query}"


@pytest.mark.parametrize("name", ["s/a", "s/deep/c", "%C3%A9/%C3%BC%20b"])
def test_a_link_of_an_image_opens_it_in_any_size_and_nothing_else(site: Shop, name: str) -> None:
    client, link = site[0].client, _share(site, name)
    for more in ("", "&xsize=9", "&meta=True"):
        for _ in range(2):
            answer = client.get(link + more)
            assert answer.status == 200, answer.body
            assert answer.headers["Cache-Control"].startswith("private")
    query = urlsplit(link).query
    for other in ("s/b", "sx/a", "s/", "s/a/"):
        assert client.get(f"/images/{other}?{query}").status == 401
    assert client.get(f"/images/{name}").status == 401


def test_a_link_of_a_folder_opens_it_and_each_picture_below(site: Shop) -> None:
    client, link = site[0].client, _share(site, "s/")
    members = ZipFile(BytesIO(client.get(link).body)).namelist()
    assert sorted(members) == ["s/a.jpg", "s/b.jpg", "s/deep/c.jpg", "s/secret/d.jpg"]
    query = urlsplit(link).query
    for name, status in (("s/a", 200), ("s/deep/c.png", 200), ("s/deep/", 200), ("sx/a", 401), ("s/none", 404)):
        assert client.get(f"/images/{name}?{query}").status == status


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_a_link_never_allows_writing(site: Shop, method: str) -> None:
    answer = site[0].client(method, _share(site, "s/a"), pictures.jpeg(), Content_Type="image/jpeg")
    assert answer.status in (400, 401, 403)
    assert site[0].client.get(_share(site, "s/a")).status == 200


def test_a_link_makes_no_further_link(site: Shop) -> None:
    assert site[0].client.get(_share(site, "s/a") + "&url=True").status == 403


def test_a_changed_link_is_refused_also_where_the_picture_is_hot(site: Shop) -> None:
    client, link = site[0].client, _share(site, "s/a")
    for _ in range(3):
        answer = client.get(link)
    assert answer.layer == "memory"
    path, _, token = link.partition("?share=")
    expires, _, signature = token.partition(".")
    later = f"{path}?share={int(expires) + 1}.{signature}"
    for changed in (later, link[:-1] + ("A" if link[-1] != "A" else "B"), f"{path}?share=x", f"{path}?share="):
        refused = client.get(changed, If_None_Match=answer.headers["ETag"])
        assert (refused.status, refused.slug) == (401, "link-refused")


def test_a_link_ends_with_its_time_also_where_the_picture_is_hot(site: Shop) -> None:
    client = site[0].client
    url = client.get("/images/s/a?share=True&lifetime=3", **site[1]["reader"]).json()["url"]
    link = "/" + url.split("/", 3)[3]
    answers = [client.get(link) for _ in range(2)]
    until(lambda: client.get(link).status != 200, "the link ends")
    gone = client.get(link, If_None_Match=answers[0].headers["ETag"])
    assert (gone.status, gone.slug) == (410, "link-expired")


def test_who_shares_needs_credentials_and_has_to_see_it_all(site: Shop) -> None:
    client, callers = site[0].client, site[1]
    assert client.get("/images/s/a?share=True").status == 401
    for caller, path, status in (
        ("folder", "s/deep/", 200),
        ("folder", "s/deep/c", 200),
        ("folder", "s/", 403),
        ("folder", "", 403),
        ("folder", "s/a", 403),
        ("kept-out", "s/a", 200),
        ("kept-out", "s/", 403),
        ("kept-out", "s/secret/d", 403),
        ("reader", "s/none", 404),
    ):
        assert client.get(f"/images/{path}?share=True", **callers[caller]).status == status, (caller, path)


def test_a_link_signed_by_the_second_secret_is_accepted(site: Shop) -> None:
    token, _ = ShareLinks([OLD]).sign("s/a", 60)
    assert site[0].client.get(f"/images/s/a?share={token}").status == 200
    token, _ = ShareLinks(["another secret altogether"]).sign("s/a", 60)
    assert site[0].client.get(f"/images/s/a?share={token}").status == 401


def test_a_link_of_everything_opens_everything() -> None:
    links = ShareLinks([SECRET], lambda: 1000.0)
    token, expires = links.sign("", 60)
    assert expires == 1060
    for path in ("", "a", "a/b/", "a/b"):
        assert links.principal(path, token).shared == ""
    with pytest.raises(LinkExpired):
        ShareLinks([SECRET], lambda: 1060.0).principal("a", token)
    for path in ("../a", "a//b"):
        with pytest.raises(LinkRefused):
            links.principal(path, token)


def test_signatures_of_links_are_not_logged() -> None:
    token, _ = ShareLinks([SECRET]).sign("a", 60)
    assert token.split(".")[1] not in clean(f"GET /images/a?share={token}&xsize=9")


def test_without_a_secret_there_are_no_links(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_site(tmp_path_factory.mktemp("no-secret"), AccessConfiguration(anonymous="read")) as site:
        site.put("a", pictures.jpeg())
        key = site.repo.authenticator.keys.add(new_key("reader", "reader"))
        answer = site.client.get("/images/a?share=True", Authorization=f"Bearer {key}")
        assert (answer.status, answer.slug) == (501, "links-not-configured")
        assert "access.secret" in answer.json()["detail"]
