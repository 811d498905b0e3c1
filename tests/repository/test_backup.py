"""A folder of originals that was restored from a backup without times."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pictures
import pytest
from conftest import opened
from swiftserved import house
from webserver import embedded, serving


@pytest.mark.parametrize("copy", [shutil.copy, shutil.copy2], ids=["without times", "with times"])
def test_a_restored_backup_keeps_uploads_versions_and_data(tmp_path: Path, copy) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    path = "/images/a?meta=True"
    with serving(embedded(first, freshness=0.0), first) as served:
        body = pictures.jpeg(pictures.photo(60, 40))
        served.client.form("/images/a", ("file", "north.jpg", body), ("data", None, b'{"site":"Bern"}'))
        before, etag = served.client.get(path).json(), served.client.get("/images/a?w=30").headers["ETag"]
    shutil.copytree(first / "data", second / "data", copy_function=copy)
    if copy is shutil.copy:
        os.utime(second / "data" / "a.jpg", (1e9, 1e9))
    with serving(embedded(second, freshness=0.0), second) as served:
        assert served.client.get(path).json() == before
        assert served.client.get("/images/a?w=30").headers["ETag"] == etag


def test_other_bytes_in_place_of_a_picture_are_a_new_version(tmp_path: Path) -> None:
    with serving(embedded(tmp_path, freshness=0.0), tmp_path) as served:
        served.client.put("/images/a", pictures.jpeg(pictures.photo(60, 40)))
        before = served.client.get("/images/a?meta=True").json()
        (tmp_path / "data" / "a.jpg").write_bytes(pictures.jpeg(pictures.photo(50, 40, seed=2)))
        after = served.client.get("/images/a?meta=True").json()
        assert after["version"] != before["version"]
        assert after["width"] == 50


@pytest.mark.servers
def test_a_restored_container_keeps_uploads_versions_data_and_links(swift, container, tmp_path: Path) -> None:
    """Objects are copied one by one with their media types, as the page says."""
    paths = ("/images/a?meta=True", "/images/only%20words?meta=True")
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    with house(swift, container, tmp_path / "first") as first, first.node() as served:
        body = pictures.jpeg(pictures.photo(60, 40))
        served.client.form("/images/a", ("file", "north.jpg", body), ("data", None, b'{"site":"Bern"}'))
        served.client("PUT", "/images/only%20words", b'{"n":1}', Content_Type="application/json")
        before = [served.client.get(path).json() for path in paths]
        etag = served.client.get("/images/a?w=30").headers["ETag"]
        with opened(swift.settings, f"{container}-restored") as restored:
            for entry in first.origin.keys():  # noqa: SIM118, a store is no dict
                with first.origin.get(entry.key) as copy:
                    restored.put(entry.key, b"".join(copy), media_type=entry.media_type)
            with (
                house(swift, f"{container}-restored", tmp_path / "second") as second,
                second.node() as again,
            ):
                assert [again.client.get(path).json() for path in paths] == before
                assert again.client.get("/images/a?w=30").headers["ETag"] == etag
