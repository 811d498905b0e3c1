"""The bin: what is deleted or replaced can be restored, and is erased after some days."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pictures
import pytest
from threats import is_clean_problem
from webserver import Served, embedded, serving

from image_repo.config import TrashConfiguration
from image_repo.model.names import ImageName

FIRST, SECOND = (pictures.jpeg(pictures.photo(64, 48, seed)) for seed in (1, 2))


@pytest.fixture
def served(tmp_path: Path):
    with serving(embedded(tmp_path, freshness=0.0, serve_originals=True), tmp_path) as served:
        yield served


def put(served: Served, name: str, body: bytes, data: object = None) -> dict:
    parts = [("file", "a.jpg", body)] + ([("data", None, json.dumps(data).encode())] if data is not None else [])
    return served.client.form(f"/images/{name}", *parts).json()


def original(served: Served, name: str) -> bytes:
    return served.client.get(f"/images/{name}?kind=original").body


def binned(served: Served, query: str = "") -> list[tuple[str, str]]:
    return [(item["name"], item["reason"]) for item in served.client.get(f"/trash{query}").json()["items"]]


def files(served: Served) -> list[Path]:
    return [path for path in (served.folder / "data" / ".trash").rglob("*") if path.is_file()]


def test_a_deleted_image_is_restored_with_its_record(served):
    before = put(served, "a/b", FIRST, {"site": "x"})
    assert served.client.delete("/images/a/b").json()["deleted"]["original"] == 1
    assert served.client.get("/images/a/b").status == 404
    assert served.client.get("/images").json()["count"] == 0
    assert binned(served) == [("a/b", "deleted")]
    answer = served.client("POST", "/images/a/b?restore=True")
    assert answer.status == 201
    same = ("name", "sha256", "data", "uploaded", "filename", "width")
    assert {key: answer.json()[key] for key in same} == {key: before[key] for key in same}
    assert original(served, "a/b") == FIRST
    assert served.client.get("/images?site=x").json()["count"] == 1
    assert (binned(served), files(served)) == ([], [])


def test_a_replaced_image_is_restored_and_the_other_goes_into_the_bin(served):
    put(served, "a", FIRST, {"n": 1})
    put(served, "a", SECOND, {"n": 2})
    assert binned(served) == [("a", "replaced")]
    assert served.client("POST", "/images/a?restore=1").json()["data"] == {"n": 1}
    assert original(served, "a") == FIRST
    assert binned(served) == [("a", "replaced")]
    assert served.client("POST", "/images/a?restore=1").json()["data"] == {"n": 2}
    assert original(served, "a") == SECOND


def test_a_version_is_restored_by_its_id(served):
    for body in (FIRST, SECOND, pictures.jpeg(pictures.photo(64, 48, 3))):
        put(served, "a", body)
    oldest = served.client.get("/trash").json()["items"][0]
    assert served.client("POST", f"/images/a?restore={oldest['id']}").json()["sha256"] == oldest["sha256"]
    assert original(served, "a") == FIRST
    assert served.client("POST", f"/images/a?restore={oldest['id']}").status == 404


def test_a_description_is_restored_unless_something_has_its_name(served):
    body, headers = b'{"only":"words"}', {"Content_Type": "application/json"}
    served.client("PUT", "/images/d", body, **headers)
    served.client.delete("/images/d")
    put(served, "d", FIRST)
    assert served.client("POST", "/images/d?restore=True").status == 412
    served.client.delete("/images/d?permanent=False")
    items = served.client.get("/trash").json()["items"]
    assert served.client("POST", f"/images/d?restore={items[0]['id']}").json()["data"] == {"only": "words"}


def test_the_same_bytes_again_put_nothing_into_the_bin(served):
    put(served, "a", FIRST)
    put(served, "a", FIRST, {"n": 1})
    served.client.delete("/images/a?derived=True")
    assert binned(served) == []


def test_permanent_erases_also_what_is_in_the_bin(served):
    put(served, "a", FIRST)
    put(served, "a", SECOND)
    put(served, "a/b", FIRST)
    served.client.delete("/images/a/b")
    assert served.client.delete("/images/a?permanent=True").json()["deleted"]["trash"] == 1
    assert binned(served) == [("a/b", "deleted")]
    assert served.client.delete("/images/a/b?permanent=True").json()["deleted"] == {"trash": 1}
    assert files(served) == []
    assert served.client.delete("/images/a/b?permanent=True").status == 404


def test_many_are_deleted_into_the_bin_or_for_good(served):
    for name in ("x/1", "x/2", "y/1"):
        put(served, name, FIRST, {"n": name[0]})
    assert served.client.delete("/images?n=x").json() == {"matched": 2, "modified": 2}
    assert binned(served, "?prefix=x/") == [("x/1", "deleted"), ("x/2", "deleted")]
    assert served.client.delete("/images?n=y&permanent=True").json() == {"matched": 1, "modified": 1}
    assert binned(served, "?limit=1") == [("x/1", "deleted")]
    assert served.client.delete("/images?n=y&permanent=maybe").json()["parameter"] == "permanent"


def test_a_failed_condition_puts_nothing_into_the_bin(served):
    put(served, "a", FIRST)
    assert served.client.delete("/images/a?permanent=True", If_Match='"other"').status == 412
    assert served.client.put("/images/a", SECOND, If_Match='"other"').status == 412
    assert binned(served) == []


def test_items_are_erased_after_some_days(served):
    put(served, "a", FIRST)
    served.client.delete("/images/a")
    assert served.repo.trash.tidy() == 0
    for path in files(served):
        path.rename(path.with_name("0" + path.name[1:]))
    assert served.repo.trash.tidy() == 2
    assert (binned(served), files(served)) == ([], [])


def test_without_days_there_is_no_bin(tmp_path: Path):
    config = replace(embedded(tmp_path, freshness=0.0), trash=TrashConfiguration(days=0))
    with serving(config, tmp_path) as served:
        put(served, "a", FIRST)
        put(served, "a", SECOND)
        served.client.delete("/images/a")
        assert (binned(served), files(served)) == ([], [])
        assert served.client("POST", "/images/a?restore=True").slug == "image-not-found"


def test_an_image_is_renamed_with_its_record(served):
    put(served, "a", SECOND)
    before = put(served, "a", FIRST, {"n": 1})
    answer = served.client("POST", "/images/a.jpg?rename=b/c.jpg")
    assert (answer.status, answer.headers["Location"]) == (201, "/images/b/c")
    assert {**answer.json(), "name": "a", "version": 0} == {**before, "version": 0}
    assert (served.client.get("/images/a").status, original(served, "b/c")) == (404, FIRST)
    assert binned(served) == [("a", "replaced")], "an earlier version stays in the bin"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/images/a?rename=b", 412),
        ("/images/none?rename=c", 404),
        ("/images/a?rename=", 400),
        ("/images/a?rename=../c", 400),
        ("/images/a?rename=c&restore=True", 400),
        ("/images/none?restore=True", 404),
        ("/images/a?renam=c", 400),
    ],
)
def test_what_cannot_be_renamed_or_restored_is_refused(served, path, status):
    put(served, "a", FIRST)
    put(served, "b", SECOND)
    answer = served.client("POST", path)
    assert answer.status == status
    is_clean_problem(answer)
    assert (original(served, "a"), original(served, "b")) == (FIRST, SECOND)


def test_a_damaged_item_is_passed_over(served):
    for name in ("a", "b"):
        put(served, name, FIRST)
        served.client.delete(f"/images/{name}")
    next(path for path in files(served) if path.suffix == ".json" and path.parent.name == "a").write_text("{")
    assert binned(served) == [("b", "deleted")]
    assert served.repo.trash.erase(ImageName("a")) == 1
