"""``/grid``: what a query finds as columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pictures
import pytest
from access_site import Site, running_site

from image_repo.config import AccessConfiguration


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("grid"), AccessConfiguration()) as site:
        for number, data in enumerate(({"site": "a", "at": {"x": 1}}, {"site": ["b"], "at": [{"x": 2}]}, {})):
            site.put(f"cams/n{number}", pictures.jpeg(pictures.photo(30 + number, 20)))
            site.client.put(f"/images/cams/n{number}", json.dumps(data).encode(), Content_Type="application/json")
        yield site


def test_columns_are_in_the_order_of_the_query(site: Site) -> None:
    grid = site.client.get("/grid?folder=cams&sort=-width").json()
    assert (grid["names"], grid["widths"]) == (["cams/n2", "cams/n1", "cams/n0"], [32, 31, 30])
    assert grid["count"] == 3 and grid["after"] is None and "columns" not in grid


def test_selected_keys_are_further_columns_with_null_where_nothing_is(site: Site) -> None:
    grid = site.client.get("/grid?select=data.site,at.x,width,exif.captured").json()
    expected = {"data.site": ["a", ["b"], None], "at.x": [1, None, None], "width": [30, 31, 32]}
    assert grid["columns"] == {**expected, "exif.captured": [None] * 3}
    assert grid["unknown_keys"] == ["exif.captured"]


def test_a_bad_selection_is_refused_by_its_name(site: Site) -> None:
    answer = site.client.get("/grid?select=a,,b")
    assert (answer.status, answer.json()["parameter"]) == (400, "select")


def test_selected_keys_are_of_the_pictures_that_the_caller_may_see(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration(anonymous="none")) as site:
        assert site.client.get("/grid?select=exif.captured").status == 401
