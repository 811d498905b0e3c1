"""``near=NAME``: near duplicates over HTTP."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import pictures
import pytest
from access_site import Site, running_site

from image_repo.access.principal import ADMIN
from image_repo.config import AccessConfiguration, AccessRule
from image_repo.model.names import ImageName
from image_repo.model.record import MEDIA_TYPE

PHOTO = pictures.photo(900, 600)


def fill(site: Site) -> None:
    site.put("a/one", pictures.jpeg(PHOTO))
    site.put("b/smaller", pictures.save(PHOTO.resize((300, 200)), "png"))
    site.put("b/worse,3", pictures.jpeg(PHOTO, quality=30))
    site.put("b/other", pictures.jpeg(pictures.photo(900, 600, seed=3)))


def names(site: Site, query: str) -> list[str]:
    return [document["name"] for document in site.client.get(f"/images?{query}").json()["images"]]


def test_near_duplicates_are_found_and_may_be_filtered_and_changed(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        fill(site)
        record = site.client.get("/images/a/one?meta=True").json()
        assert len(record["dhash"]) == 16
        assert names(site, "near=a/one") == ["a/one", "b/smaller", "b/worse,3"]
        assert names(site, "near=a/one.jpg,11&width__lt=900") == ["b/smaller"]
        assert names(site, "near=b/worse,3,6") == names(site, "near=a/one")
        assert names(site, "near=b/other,0") == ["b/other"]
        done = site.client("PATCH", "/images?near=a/one", json.dumps({"copy": True}).encode(),
                           **{"Content-Type": "application/json"})  # fmt: skip
        assert done.json()["matched"] == 3
        assert names(site, "copy=true&near=a/one") == ["a/one", "b/smaller", "b/worse,3"]
        manifest = site.client.get("/iiif/3/query/manifest.json?near=a/one").json()
        assert len(manifest["items"]) == 3


@pytest.mark.parametrize(
    ("query", "status"),
    [("near=none", 404), ("near=a/one,12", 400), ("near=", 400), ("near=a/one&near=a/one", 400)],
)
def test_what_is_wrong_has_its_status(tmp_path: Path, query: str, status: int) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        fill(site)
        assert site.client.get(f"/images?{query}").status == status


LARGE = PHOTO.resize((1500, 1000))


@pytest.mark.parametrize(
    ("file", "body", "is_cheap"),
    [
        pytest.param("foreign.jpg", pictures.jpeg(PHOTO), True, id="JPEG"),
        pytest.param("foreign.jpg", pictures.jpeg(LARGE), True, id="large JPEG"),
        pytest.param("foreign.png", pictures.png(PHOTO), True, id="PNG"),
        pytest.param("foreign.png", pictures.png(LARGE), False, id="large PNG"),
        pytest.param("foreign.jpg", pictures.jpeg(LARGE, progressive=True), False, id="large progressive JPEG"),
    ],
)
def test_what_another_tool_has_stored_has_the_summary_of_an_upload(
    file: str, body: bytes, is_cheap: bool, tmp_path: Path
) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        fill(site)
        site.put("uploaded", body)
        for name in (file, f"seen-{file}"):
            (tmp_path / "data" / name).write_bytes(body)
        site.client.get("/images/seen-foreign?xsize=20")
        made, seen = (site.client.get(f"/images/{name}?meta=True").json() for name in ("foreign", "seen-foreign"))
        assert ("dhash" in made, "dhash" in seen) == (is_cheap, True)
        assert set(names(site, "near=foreign")) == {
            *("a/one", "b/smaller", "b/worse,3", "uploaded", "foreign", "seen-foreign")
        }
        assert "foreign" in names(site, "near=a/one")
        now, uploaded = (site.client.get(f"/images/{name}?meta=True").json() for name in ("foreign", "uploaded"))
        for member in ("dhash", "thumbhash", "palette"):
            assert now[member] == seen[member] == uploaded[member]


def test_a_foreign_file_whose_header_alone_is_whole_has_a_record_without_a_summary(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        body = pictures.png(PHOTO)
        (tmp_path / "data" / "cut.png").write_bytes(body[: len(body) // 2])
        record = site.client.get("/images/cut?meta=True").json()
        assert (record["width"], "dhash" in record) == (900, False)
        assert site.client.get("/images?near=cut").status == 422


def test_of_an_image_that_the_caller_may_not_know_of_nothing_is_told(tmp_path: Path) -> None:
    rules = (AccessRule(prefix="a", who="anonymous", may="none"),)
    with running_site(tmp_path, AccessConfiguration(anonymous="read", rules=rules)) as site:
        fill(site)
        assert site.client.get("/images?near=a/one").status == 401
        assert names(site, "near=b/smaller") == ["b/smaller", "b/worse,3"]


def test_a_replaced_picture_has_the_hash_of_the_new_one(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        fill(site)
        site.put("b/smaller", pictures.jpeg(pictures.photo(900, 600, seed=3)))
        assert names(site, "near=a/one") == ["a/one", "b/worse,3"]
        assert names(site, "near=b/other") == ["b/other", "b/smaller"]


def test_the_record_of_an_upload_has_its_placeholder_and_colours_and_lists_have_them(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        fill(site)
        record = site.client.get("/images/a/one?meta=True").json()
        assert len(base64.b64decode(record["thumbhash"])) <= 25
        assert 1 <= len(record["palette"]) <= 8 and all(
            re.fullmatch("#[0-9a-f]{6}", each) for each in record["palette"]
        )
        listed = site.client.get("/images?regex=one&select=thumbhash,palette").json()["images"]
        assert listed == [{name: record[name] for name in ("thumbhash", "palette")}]


def test_an_earlier_record_without_them_stays_as_it_is(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        fill(site)
        stored = site.repo.metadata.read(site.repo.reader.resolve(ADMIN, ImageName.readings("a/one")))
        earlier = replace(stored, thumbhash="", palette=()).dump()
        site.repo.origin.put("a/one.json", earlier, media_type=MEDIA_TYPE)
        record = site.client.get("/images/a/one?meta=True").json()
        assert record["dhash"] and not {"thumbhash", "palette"} & record.keys()
        assert (tmp_path / "data" / "a" / "one.json").read_bytes() == earlier
