"""Parameters of mailers and trackers: passed over, wherever they stand."""

from __future__ import annotations

import json
from dataclasses import replace

import pictures
import pytest
from webserver import embedded, serving

from image_repo.web.ignored_parameters import IgnoredParameters

PICTURE = pictures.jpeg(pictures.photo(64, 48))


@pytest.mark.parametrize(
    ("query", "rest"),
    [
        ("utm_source=a&utm_medium=b", ""),
        ("xsize=3&utm_source=a&ysize=4", "xsize=3&ysize=4"),
        ("fbclid=a&xsize=3", "xsize=3"),
        ("xsize=3&_=17", "xsize=3"),
        ("_&xsize=3&gclid", "xsize=3"),
        ("utm_source=a&utm_medium=b&xsize=3&_=1&_=2", "xsize=3"),
        ("fbclidx=1&_x=2&x_=3&utm=4", "fbclidx=1&_x=2&x_=3&utm=4"),
        ("a[_=1].b=2", "a[_=1].b=2"),
        ("", ""),
    ],
)
def test_parameters_are_removed_from_the_query(query, rest):
    seen = []
    middleware = IgnoredParameters(
        lambda environ, _: seen.append(environ["QUERY_STRING"]) or [], ("utm_*", "fbclid", "gclid", "_")
    )
    middleware({"QUERY_STRING": query}, lambda *_: None)
    assert seen == [rest]


def test_a_link_from_a_mail_shows_the_picture_and_is_no_condition(tmp_path):
    with serving(embedded(tmp_path), tmp_path) as served:
        client = served.client
        client.put("/images/a", PICTURE)
        plain, tracked = client.get("/images/a?xsize=20"), client.get("/images/a?utm_source=mail&xsize=20&fbclid=x")
        assert (tracked.status, tracked.headers["ETag"], tracked.body) == (200, plain.headers["ETag"], plain.body)
        assert client.get("/images?gclid=1&width=64").json()["count"] == 1
        assert client.delete("/images?utm_source=mail").json()["parameter"] == "all"
        assert client("PUT", "/images/b?_=17", json.dumps({}).encode(), Content_Type="application/json").status == 201
        assert client.get("/images/a?utmsource=mail").status == 400


def test_the_list_is_a_setting(tmp_path):
    with serving(replace(embedded(tmp_path), ignored_parameters=("ref",)), tmp_path) as served:
        served.client.put("/images/a", PICTURE)
        assert served.client.get("/images/a?ref=mail").status == 200
        assert served.client.get("/images/a?utm_source=mail").status == 400
        assert served.client.get("/images?_=1").json()["unknown_keys"] == ["_"]


def test_a_logo_stays_transparent_where_the_default_is_the_format_of_the_original(tmp_path):
    logo = pictures.save(pictures.photo(64, 48).convert("RGBA"), "PNG")
    with serving(replace(embedded(tmp_path), image_default_format="source"), tmp_path) as served:
        served.client.put("/images/photo", PICTURE)
        served.client.put("/images/logo", logo)
        answer = served.client.get("/images/logo?xsize=20")
        assert (answer.headers["Content-Type"], answer.body[1:4]) == ("image/png", b"PNG")
        assert served.client.get("/images/photo?xsize=20").headers["Content-Type"] == "image/jpeg"
        assert served.client.get("/images/logo?kind=jpg").headers["Content-Type"] == "image/jpeg"
        replaced = served.client.put("/images/logo", logo, If_Match=served.client.get("/images/logo").headers["ETag"])
        assert replaced.status == 200
