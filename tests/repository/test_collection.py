"""The collection: many records changed, while others change them too, and while parts of the house fail."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pictures
import pytest
from following import read_all
from servers.faults import FaultProxy
from swiftserved import house, until
from webserver import embedded

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.catalogue.base import Row
from image_repo.catalogue.grammar import BULK_WORDS, FILTER_WORDS, IMAGES
from image_repo.catalogue.query import Filter, Query, SortKey
from image_repo.config import CatalogueConfiguration, RenderConfiguration
from image_repo.errors import Busy, CatalogueUnavailable
from image_repo.model.names import ImageName
from image_repo.model.record import Record
from image_repo.repository.collection import Changed, Collection
from image_repo.repository.metadata import UNCONDITIONAL
from image_repo.repository.repository import Repository


@pytest.fixture
def repo(tmp_path) -> Iterator[Repository]:
    # whoever waits for a name that another holds is told soon
    config = replace(embedded(tmp_path), render=RenderConfiguration(wait=0.2))
    assert wiring.prepare(config, wiring.build_stores(config)) == []
    repo = wiring.build(config)
    yield repo
    repo.close()


@pytest.fixture
def collection(repo) -> Collection:
    return Collection(repo)


def say(repo: Repository, **data_by_name: dict[str, Any]) -> None:
    for name, data in data_by_name.items():
        repo.writer.replace_data(ADMIN, ImageName(name), data, UNCONDITIONAL)


def where(**conditions: str) -> Filter:
    return IMAGES.read(conditions.items(), (*FILTER_WORDS, *BULK_WORDS)).query.filter


def stored(repo: Repository, name: str) -> dict[str, Any]:
    return dict(repo.reader.description(ADMIN, (ImageName(name),)).data)


def counts(changed: Changed) -> tuple[int, int, list[tuple[str, int]]]:
    return changed.matched, changed.modified, [(each.name, each.problem.status) for each in changed.failed]


# -- asking -------------------------------------------------------------------------------


def test_documents_are_records_as_they_are_told(repo, collection):
    say(repo, a={"n": 1}, b={"n": 2})
    page = collection.page(ADMIN, Query(where(n="2")))
    assert page.documents == [repo.reader.description(ADMIN, (ImageName("b"),)).public()]
    assert [each["name"] for each in collection.each(ADMIN, Filter())] == ["a", "b"]
    assert [each["name"] for each in collection.each(ADMIN, Filter(), [SortKey(("data", "n"), descending=True)])] == [
        "b",
        "a",
    ]
    assert collection.statistics(ADMIN, Filter(), ("data", "n")).mean == 1.5


def test_what_is_selected(repo, collection):
    say(repo, a={"n": 1, "m": 2})
    assert collection.page(ADMIN, Query(select=(("data", "n"),))).documents == [{"data": {"n": 1}}]


# -- changes, while others change too -----------------------------------------------------


def stale(repo: Repository, name: str, data: dict[str, Any]) -> None:
    """The index knows of something that is not so any more, or never was."""
    repo.indexer.index.put([Row(name, Record.description(name, data).public(), "old")])


def test_a_record_is_judged_again_before_it_is_changed(repo, collection):
    say(repo, changed={"n": 1}, same={"n": 1})
    stale(repo, "changed", {"n": 2})
    stale(repo, "gone", {"n": 2})
    assert counts(collection.update(ADMIN, where(n="2"), {"x": 1})) == (0, 0, [])
    assert (stored(repo, "changed"), stored(repo, "same")) == ({"n": 1}, {"n": 1})
    records = [(each["name"], each["data"]) for each in collection.each(ADMIN, Filter())]
    assert records == [("changed", {"n": 1}), ("same", {"n": 1})], "the catalogue knows better now"
    stale(repo, "changed", {"n": 2})
    assert counts(collection.delete(ADMIN, where(n="2"))) == (0, 0, [])
    assert counts(collection.delete(ADMIN, where(n="1"))) == (2, 2, [])


def test_what_counts_is_what_the_record_says_by_now(repo, collection):
    say(repo, a={"n": 1, "x": 1})
    stale(repo, "a", {"n": 1})
    assert counts(collection.update(ADMIN, where(n="1"), {"x": 1})) == (1, 0, [])
    assert counts(collection.update(ADMIN, where(n="1"), {"x": True})) == (1, 1, [])
    assert stored(repo, "a")["x"] is True


def test_of_changes_of_many_at_the_same_time_none_is_lost(repo, collection):
    say(repo, **{f"r{number}": {"n": number} for number in range(12)})
    begin = threading.Barrier(2)

    def change(key: str) -> Changed:
        begin.wait(10)
        return collection.update(ADMIN, Filter(), {key: True})

    with ThreadPoolExecutor(2) as pool:
        changes = list(pool.map(change, ("one", "two")))
    assert [counts(each) for each in changes] == [(12, 12, [])] * 2
    for number in range(12):
        assert stored(repo, f"r{number}") == {"n": number, "one": True, "two": True}
    assert collection.page(ADMIN, Query(where(one="true", two="true"))).count == 12


def test_one_that_others_write_to_is_told_and_the_rest_is_done(repo, collection):
    say(repo, a={"n": 1}, b={"n": 1}, c={"n": 1})
    with repo.metadata.lock(ImageName("b")):
        changed = collection.update(ADMIN, where(n="1"), {"x": 1})
        assert counts(changed) == (3, 2, [("b", 503)])
        assert changed.passing
        assert counts(collection.delete(ADMIN, where(x="1"))) == (2, 2, [])
    assert [each["name"] for each in collection.each(ADMIN, Filter())] == ["b"]
    assert counts(collection.update(ADMIN, where(n="1"), {"x": 1})) == (1, 1, [])


def test_more_at_a_time_than_may_are_refused(repo, collection):
    say(repo, a={"n": 1}, b={"n": 1})
    begun, ended = threading.Semaphore(0), threading.Event()

    class Waits(dict[str, Any]):
        """A patch that takes its time when it is looked at."""

        def items(self) -> Any:
            begun.release()
            ended.wait(10)
            return super().items()

    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(collection.update, ADMIN, where(name=name), Waits(x=1)) for name in ("a", "b")]
        try:
            assert all(begun.acquire(timeout=10) for _ in others)
            with pytest.raises(Busy):
                collection.delete(ADMIN, Filter())
        finally:
            ended.set()
        assert [counts(other.result()) for other in others] == [(1, 1, [])] * 2
    assert counts(collection.delete(ADMIN, Filter())) == (2, 2, [])


# -- pictures of other tools --------------------------------------------------------------


def test_a_picture_of_another_tool_is_changed_and_deleted_as_all_are(repo, collection, tmp_path):
    (tmp_path / "data" / "theirs.jpg").write_bytes(pictures.jpeg(pictures.photo(64, 48)))
    repo.metadata.reindex(ImageName("theirs"))
    assert counts(collection.update(ADMIN, where(name="theirs"), {"x": 1})) == (1, 1, [])
    (document,) = collection.each(ADMIN, where(width="64"))
    assert document["data"] == {"x": 1}
    assert counts(collection.delete(ADMIN, where(width="64", x="1"))) == (1, 1, [])
    assert not list((tmp_path / "data").glob("theirs*"))


def test_what_is_no_picture_cannot_be_described_and_can_be_deleted(repo, collection, tmp_path):
    (tmp_path / "data" / "bad.jpg").write_bytes(b"no picture")
    repo.metadata.reindex(ImageName("bad"))
    assert counts(collection.update(ADMIN, where(name="bad"), {"x": 1})) == (1, 0, [("bad", 415)])
    assert counts(collection.delete(ADMIN, where(name="bad"))) == (1, 1, [])
    assert not (tmp_path / "data" / "bad.jpg").exists()


def test_a_picture_that_was_replaced_meanwhile_is_judged_by_what_it_is_now(repo, collection, tmp_path):
    path = tmp_path / "data" / "theirs.jpg"
    path.write_bytes(pictures.jpeg(pictures.photo(64, 48)))
    repo.metadata.reindex(ImageName("theirs"))
    read_all(repo)
    path.write_bytes(pictures.jpeg(pictures.photo(99, 33)))
    assert counts(collection.update(ADMIN, where(width="64"), {"x": 1})) == (0, 0, [])
    assert path.exists()


# -- the end ------------------------------------------------------------------------------


def test_a_change_that_takes_too_long_ends_and_says_where(repo, caplog):
    collection = Collection(repo, batch=3)
    say(repo, **{f"r{number}": {} for number in range(5)})
    with caplog.at_level(logging.INFO, "image_repo.repository.collection"):
        changed = collection.update(ADMIN, Filter(), {"x": 1}, seconds=0)
    assert (changed.matched, changed.modified, changed.last) == (3, 3, "r2")
    assert isinstance(changed.ended, Busy)
    assert not changed.is_whole
    assert "PATCH of many ended: 3 matched, 3 modified, 0 failed" in caplog.text
    rest = collection.update(ADMIN, where(name__gt=changed.last), {"x": 1})
    assert (counts(rest), rest.last, rest.is_whole) == ((2, 2, []), "r4", True)
    assert collection.page(ADMIN, Query(where(x="1"))).count == 5


def test_records_in_several_batches_are_all_changed(repo):
    collection = Collection(repo, batch=3)
    say(repo, **{f"r{number:02}": {"n": number % 2} for number in range(20)})
    assert counts(collection.update(ADMIN, where(n="1"), {"n": 3})) == (10, 10, [])
    changed = collection.delete(ADMIN, where(n="3"))
    assert (counts(changed), changed.is_whole) == ((10, 10, []), True)
    assert [each["data"]["n"] for each in collection.each(ADMIN, Filter())] == [0] * 10


def test_the_log_tells_how_far_it_is(repo, caplog):
    say(repo, a={}, b={}, c={})
    with caplog.at_level(logging.INFO, "image_repo.repository.collection"):
        Collection(repo, batch=2, progress=0).delete(ADMIN, Filter())
    messages = [
        record.getMessage().partition(" in ")[0] for record in caplog.records if record.name.endswith("collection")
    ]
    assert messages == [
        "DELETE of many goes on: 2 matched, 2 modified, 0 failed",
        "DELETE of many goes on: 3 matched, 3 modified, 0 failed",
        "DELETE of many ended: 3 matched, 3 modified, 0 failed",
    ]


def test_what_nobody_foresaw_is_told_and_the_rest_is_done(repo, collection, caplog):
    say(repo, a={"n": 1}, c={"n": 1})
    stale(repo, "b\0", {"n": 1})  # no file can be called so
    assert counts(collection.update(ADMIN, where(n="1"), {"x": 1})) == (3, 2, [("b\0", 500)])
    assert "'b\\x00' could not be changed" in caplog.text


def test_where_nothing_can_be_written_it_does_not_go_on(repo):
    collection = Collection(repo, batch=1)
    say(repo, a={"n": 1}, b={"n": 1})
    with repo.metadata.lock(ImageName("a")):
        changed = collection.update(ADMIN, Filter(), {"x": 1})
    assert (counts(changed), changed.last) == ((1, 0, [("a", 503)]), "a")
    assert changed.ended is changed.failed[0].problem
    assert stored(repo, "b") == {"n": 1}


@pytest.mark.servers
def test_while_the_store_fails_nothing_is_claimed_and_the_same_again_does_it(swift, container, tmp_path):
    with house(swift, container, tmp_path) as building, building.node() as served:
        client = served.client
        for number in range(5):
            client("PUT", f"/images/r{number}", b'{"n": 1}', Content_Type="application/json")
        building.proxy.fail(mode="refuse")
        for method, body in (("PATCH", b'{"x": 1}'), ("DELETE", None)):
            answer = client(method, "/images?n=1", body, Content_Type="application/json")
            document = answer.json()
            assert (answer.status, answer.slug, document["matched"], document["modified"]) == (503, "unfinished", 5, 0)
            assert {each["status"] for each in document["failed"]} == {503}
            assert (document["last"], int(answer.headers["Retry-After"])) == ("r4", 2)
        assert client.get("/images?n=1").json()["count"] == 5
        building.proxy.heal()
        until(lambda: client("PATCH", "/images?n=1", b'{"x": 1}', Content_Type="application/json").status == 200)
        assert client.get("/images?x=1").json()["count"] == 5


@pytest.mark.servers
def test_when_the_catalogue_fails_midway_what_is_done_is_told(postgres, tmp_path):
    address = urlsplit(postgres)
    with FaultProxy(address.port) as proxy:
        url = postgres.replace(f":{address.port}/", f":{proxy.port}/")
        config = embedded(tmp_path, catalogue=CatalogueConfiguration(url=url, timeout=1.0))
        assert wiring.prepare(config, wiring.build_stores(config)) == []
        repo = wiring.build(config)
        say(repo, a={"n": 1})
        # more than it tells at a time; what is not there is not changed
        repo.indexer.index.put(Row(f"b/{n}", Record.description(f"b/{n}", {}).public(), "old") for n in range(600))

        class Breaks(dict[str, Any]):
            """A patch with which the catalogue is gone."""

            def items(self) -> Any:
                proxy.fail("refuse")
                return super().items()

        changed = Collection(repo).update(ADMIN, Filter(), Breaks(x=1))
        assert counts(changed) == (1, 1, [])
        assert isinstance(changed.ended, CatalogueUnavailable)
        with pytest.raises(CatalogueUnavailable):
            Collection(repo).update(ADMIN, Filter(), {"x": 1})
        assert stored(repo, "a") == {"n": 1, "x": 1}
        repo.close()
