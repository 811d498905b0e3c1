"""Keys by which caches in front purge an image or a folder."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from pictures import photo, save
from webserver import embedded, serving

from image_repo.model.surrogate_keys import surrogate_keys


def key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(("header", "separator"), [("Surrogate-Key", " "), ("xkey", " "), ("Cache-Tag", ",")])
def test_a_picture_has_the_keys_of_its_image_and_of_each_folder_above_it(
    tmp_path: Path, header: str, separator: str
) -> None:
    expected = separator.join(map(key, ("ä/b/c", "ä/", "ä/b/")))
    with serving(replace(embedded(tmp_path), surrogate_header=header), tmp_path) as served:
        served.client.put("/images/%C3%A4/b/c", save(photo(80, 60), "jpeg"))
        responses = [served.client.get("/images/%C3%A4/b/c?w=40") for _ in range(3)]
        responses.append(served.client.get("/images/%C3%A4/b/c?w=40", If_None_Match=responses[0].headers["ETag"]))
        assert [response.status for response in responses] == [200, 200, 200, 304]
        assert [response.headers.get(header) for response in responses] == [expected] * 4


def test_by_default_there_are_none(tmp_path: Path) -> None:
    with serving(embedded(tmp_path), tmp_path) as served:
        served.client.put("/images/a", save(photo(80, 60), "jpeg"))
        headers = served.client.get("/images/a").headers
        assert not {"surrogate-key", "xkey", "cache-tag"} & {name.lower() for name in headers}


def test_of_a_deep_name_the_upper_folders_have_keys() -> None:
    name = "/".join("abcdefghijkl")
    assert surrogate_keys("xkey", name)[1].split() == [
        key(text) for text in (name, *("/".join("abcdefgh"[:depth]) + "/" for depth in range(1, 9)))
    ]
