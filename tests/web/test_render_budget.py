"""requests.renders_per_minute: what one client has rendered is bounded, and what is cached is served all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pictures
import pytest
from access_site import Site, running_site

from image_repo.access.api_keys import new_key
from image_repo.config import (
    AccessConfiguration,
    LocalCacheConfiguration,
    MemoryCacheConfiguration,
    RequestsConfiguration,
)

QUOTA = 5
MEMORY, DISK, FILES = 64 << 10, 200 << 10, 50


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    access = AccessConfiguration(anonymous="read", secret="a secret of the tests")
    local = LocalCacheConfiguration(cache_path=str(tmp_path / "cache"), max_size=DISK, max_elements=FILES)
    with running_site(
        tmp_path,
        access,
        requests=RequestsConfiguration(renders_per_minute=QUOTA),
        local_cache_configuration=local,
        memory_cache_configuration=MemoryCacheConfiguration(MEMORY),
    ) as site:
        for name in "abcdefgh":
            site.put(f"s/{name}", pictures.jpeg(pictures.photo(60, 40, seed=ord(name))))
        yield site


def _key(site: Site, role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {site.repo.authenticator.keys.add(new_key(role, role))}"}


def test_over_its_budget_a_client_gets_429_and_when_to_come_again(site: Site) -> None:
    answers = [site.client.get(f"/images/s/a?w={width}") for width in range(10, 10 + QUOTA + 1)]
    assert [answer.status for answer in answers] == [200] * QUOTA + [429]
    lefts = [answer.headers["RateLimit"].partition(";t=")[0] for answer in answers]
    assert lefts == [f'"renders";r={left}' for left in (*range(QUOTA - 1, -1, -1), 0)]
    assert answers[-1].slug == "too-many-renders"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 12
    assert answers[-1].headers["RateLimit-Policy"] == f'"renders";q={QUOTA};w=60'


def test_hits_and_304_are_free_and_tell_nothing_of_the_budget(site: Site) -> None:
    first = site.client.get("/images/s/a?w=10")
    for number in range(QUOTA):
        site.client.get(f"/images/s/a?w={number + 20}")
    assert site.client.get("/images/s/a?w=99").status == 429
    for _ in range(3):
        answer = site.client.get("/images/s/a?w=10")
        assert answer.status == 200
        assert "RateLimit" not in answer.headers
        assert site.client.get("/images/s/a?w=10", If_None_Match=first.headers["ETag"]).status == 304


def test_callers_with_credentials_are_not_counted(site: Site) -> None:
    caller = _key(site, "reader")
    for width in range(10, 10 + 3 * QUOTA):
        answer = site.client.get(f"/images/s/a?w={width}", **caller)
        assert answer.status == 200
        assert "RateLimit" not in answer.headers


def test_a_share_link_is_no_credential(site: Site) -> None:
    url = site.client.get("/images/s/a?share=True", **_key(site, "reader")).json()["url"]
    link = "/" + url.split("/", 3)[3]
    statuses = [site.client.get(f"{link}&w={width}").status for width in range(10, 10 + QUOTA + 1)]
    assert statuses == [200] * QUOTA + [429]


def test_links_and_members_of_zips_count(site: Site) -> None:
    assert site.client.get("/images/s/a?w=9&url=True").status in (200, 501)
    with ZipFile(BytesIO(site.client.get("/images/s/?w=12").body)) as archive:
        rendered = [name for name in archive.namelist() if name.endswith(".jpg")]
        missing = archive.read("_missing.txt").decode()
    assert len(rendered) == QUOTA - 1
    assert missing.count(" 429 ") == 8 - len(rendered)


def test_a_picture_that_is_decoded_for_its_hash_counts(site: Site, tmp_path: Path) -> None:
    body = pictures.png(pictures.photo(1500, 1000))  # no part of a record that is read
    (tmp_path / "data" / "foreign.png").write_bytes(body)
    (tmp_path / "data" / "cut.png").write_bytes(body[: len(body) // 2])
    near = [site.client.get(f"/images?near={name}").status for name in ("foreign", *["foreign"] * 3, *["cut"] * QUOTA)]
    assert near == [200] * 4 + [422] * (QUOTA - 1) + [429]
    assert site.client.get("/images?near=s/a").status == site.client.get("/images?near=foreign").status == 200
    assert site.client.get("/stats/name?near=cut").slug == "too-many-renders"
    assert site.client.get("/images?near=cut", **_key(site, "reader")).status == 422


def test_an_export_of_renditions_needs_credentials(site: Site) -> None:
    assert site.client.get("/export").status == 401
    assert site.client.get("/export?kind=original").status == 200
    assert site.client.get("/export", **_key(site, "reader")).status == 200


def test_a_flood_of_sizes_leaves_hot_pictures_hot_and_the_caches_within_bounds(site: Site, tmp_path: Path) -> None:
    hot = [f"/images/s/{name}?w=16" for name in "abc"]
    for path in hot:
        site.client.get(path)
    layers, statuses = Counter[str](), Counter[int]()
    for width in range(100, 700):
        statuses[site.client.get(f"/images/s/d?w={width}&enlarge=True").status] += 1
        layers.update(site.client.get(path).layer for path in hot)
    assert statuses[429] > 500
    assert layers["memory"] >= 0.99 * layers.total()
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and "renditions" in path.parts]
    assert len(files) <= FILES + 10
    assert sum(path.stat().st_size for path in files) <= DISK + (100 << 10)


def test_what_counts_the_renders_is_closed_with_the_repository(tmp_path: Path) -> None:
    access = AccessConfiguration(anonymous="read", secret="a secret of the tests")
    with running_site(tmp_path, access, requests=RequestsConfiguration(renders_per_minute=QUOTA)) as site:
        site.put("a", pictures.jpeg(pictures.photo(60, 40)))
        site.client.get("/images/a?w=20")
        assert _open_files("renders")
    assert not _open_files("renders")


def _open_files(name: str) -> list[Path]:
    """Return the open files of this process that have this name."""
    links = (link for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
    return [target for link in links if (target := link.readlink()).name == name]
