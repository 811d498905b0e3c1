"""The catalogue follows a Swift container: what other tools do there, records of ours, segments, faults."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace

import pictures
import pytest
from following import followed, in_background, indexed_records, swept
from swiftclient import client as swiftclient
from swiftserved import SwiftSite, house, until
from webserver import embedded

from image_repo import wiring
from image_repo.cli import startup as verbs
from image_repo.config import CatalogueConfiguration, Config
from image_repo.repository.repository import Repository
from image_repo.sync.reconciler import Difference, Images, compare

pytestmark = pytest.mark.servers

ONE = pictures.jpeg(pictures.photo(40, 30), gps=True)
TWO = pictures.jpeg(pictures.photo(20, 10, seed=1))


@pytest.fixture
def building(swift, container, tmp_path):
    with house(swift, container, tmp_path) as building:
        yield building


@pytest.fixture
def other_tool(swift):
    """What ``swift upload`` is made of."""
    connection = swiftclient.Connection(f"{swift.url}/auth/v1.0", "test:tester", "testing")
    yield connection
    connection.close()


def widths(repo: Repository) -> dict[str, int | None]:
    return {name: record["width"] for name, record in indexed_records(repo).items()}


def test_what_other_tools_do_is_in_the_catalogue_after_one_look(building, other_tool, container):
    with building.node() as served:
        repo = served.repo
        apart = unicodedata.normalize("NFD", "Möhre/grün.jpg")
        for key in ("a/b.JPG", apart, "no-ending"):
            other_tool.put_object(container, key, ONE, content_type="image/jpeg")
        other_tool.put_object(container, "a/b.json", b"{}", content_type="application/json")
        other_tool.put_object(container, "notes.txt", b"text", content_type="text/plain")
        followed(repo)
        assert {name: record["width"] for name, record in indexed_records(repo).items()} == {
            "a/b": 40,
            "Möhre/grün": 40,
            "no-ending": 40,
        }
        assert followed(repo).written == 0
        other_tool.put_object(container, "a/b.JPG", TWO, content_type="image/jpeg")
        other_tool.delete_object(container, "no-ending")
        outcome = followed(repo)
        assert (outcome.written, outcome.removed) == (1, 1)
        assert widths(repo) == {"a/b": 20, "Möhre/grün": 40}


def test_our_own_writes_leave_the_stamps_that_the_listing_tells(building):
    with building.node() as served:
        served.client.put("/images/a", ONE)
        served.client.put("/images/b", TWO)
        served.client("PATCH", "/images/a", json.dumps({"site": 1}), Content_Type="application/json")
        served.client("PUT", "/images/later", json.dumps({"site": 2}), Content_Type="application/json")
        served.client.delete("/images/b")
        assert compare(served.repo.indexer.index, Images(served.repo).listing()) == Difference()
        before = indexed_records(served.repo)
        assert before["a"]["data"] == {"site": 1}
        served.repo.indexer.index.clear()
        swept(served.repo)
        assert indexed_records(served.repo) == before


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_large_object_in_segments_is_read_once(building, other_tool, container, kind):
    other_tool.put_container(f"{container}-segments")
    halves = ONE[:700], ONE[700:]
    for number, half in enumerate(halves):
        other_tool.put_object(f"{container}-segments", f"big/{number}", half)
    if kind == "static":
        manifest = [{"path": f"/{container}-segments/big/{number}"} for number in range(2)]
        other_tool.put_object(
            container, "big.jpg", json.dumps(manifest), content_type="image/jpeg", query_string="multipart-manifest=put"
        )
    else:
        header = {"X-Object-Manifest": f"{container}-segments/big/"}
        other_tool.put_object(container, "big.jpg", b"", content_type="image/jpeg", headers=header)
    with building.node() as served:
        followed(served.repo)
        assert (indexed_records(served.repo)["big"]["width"], indexed_records(served.repo)["big"]["bytes"]) == (
            40,
            len(ONE),
        )
        followed(served.repo)
        assert indexed_records(served.repo)["big"]["width"] == 40
        assert followed(served.repo).written == 0, "it has come to rest"
        served.client("PATCH", "/images/big", json.dumps({"site": 1}), Content_Type="application/json")
        followed(served.repo)
        assert indexed_records(served.repo)["big"] == served.client.get("/images/big?meta=True").json()
        assert followed(served.repo).written == 0


def test_a_store_that_is_away_stops_the_look_and_it_goes_on_later(building, other_tool, container):
    for number in range(20):
        other_tool.put_object(container, f"{number:02}.jpg", ONE, content_type="image/jpeg")
    with building.node(catalogue=CatalogueConfiguration(reconcile=1)) as served:
        served.client.put("/images/known", TWO)
        building.proxy.fail("refuse")
        with in_background(served.repo, served.config):
            until(lambda: served.client.get("/images/unknown").status == 503)
            assert indexed_records(served.repo).keys() == {"known"}, "nothing is taken out because nobody answers"
            building.proxy.heal()
            until(
                lambda: (
                    all(record["width"] for record in indexed_records(served.repo).values())
                    and len(indexed_records(served.repo)) == 21
                ),
                60,
            )


def test_renditions_and_notes_of_nodes_in_the_same_container_are_no_images(swift, container, tmp_path):
    with house(swift, container, tmp_path, one=True) as building, building.node() as served:
        served.client.put("/images/a", ONE)
        served.client.get("/images/a?w=20&kind=png")
        with in_background(served.repo, served.config):
            until(lambda: any(building.cache.keys(".nodes/")))
        assert any(building.cache.keys(".renditions/"))
        assert not any(building.cache.keys(".nodes/")), "it has left"
        swept(served.repo)
        assert indexed_records(served.repo).keys() == {"a"}


def config_of(building: SwiftSite, name: str) -> Config:
    own = embedded(building.folder / name)
    (building.folder / name).mkdir(exist_ok=True)
    store = building.config.persistent_store_configuration
    return replace(
        own,
        persistent_store_configuration=store,
        swift_cache_configuration=building.config.swift_cache_configuration,
    )


def test_two_nodes_with_a_catalogue_of_their_own_are_refused(building):
    with building.node("one") as served, in_background(served.repo, served.config):
        until(lambda: any(building.cache.keys(".nodes/")))
        wrong = [finding for finding in verbs.trial(config_of(building, "two")) if not finding.ok]
        assert [finding.subject for finding in wrong] == ["other nodes"]
        assert [finding for finding in verbs.trial(config_of(building, "one")) if not finding.ok] == []
    assert [finding for finding in verbs.trial(config_of(building, "two")) if not finding.ok] == []


def test_a_note_of_a_node_expires_by_itself(building):
    nodes = wiring.nodes(config_of(building, "two"), wiring.build_stores(config_of(building, "two")))
    nodes.tell(shared=False)
    (entry,) = building.cache.keys(".nodes/")
    assert building.cache.head(entry.key).expires is not None
