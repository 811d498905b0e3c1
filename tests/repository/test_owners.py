"""Owners of images where users are kept apart: while the store fails, and after uploads that were cut off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pictures
import pytest
from swiftserved import SwiftSite, house, until
from webserver import embedded

from image_repo import wiring
from image_repo.access.principal import ADMIN, Principal, of_owner
from image_repo.config import AccessConfiguration, Config
from image_repo.errors import ImageNotFound, NameConflict, StoreUnavailable
from image_repo.model.names import ImageName
from image_repo.model.recipe import Recipe
from image_repo.model.record import Record
from image_repo.repository.metadata import UNCONDITIONAL
from image_repo.repository.repository import Repository

ANN, BOB = (of_owner(Principal(name, frozenset({"writer"})), name) for name in ("ann", "bob"))
SCOPED = AccessConfiguration(image_scope="user")
ORIGINAL, OTHER = (pictures.jpeg(pictures.photo(320, 240, seed)) for seed in range(2))
RECIPE = Recipe(width=60, background="ffffff", quality=82)
NAME = ImageName("a")
#: seconds that a hit may take while the store is silent, on a busy machine
HIT_S = 0.5


def put(repo: Repository, principal: Principal, body: bytes, name: str = "a", data: Any = None) -> Record:
    with repo.writer.spool() as spool:
        return repo.writer.put(principal, ImageName(name), spool.fill([body]), data=data)[0]


def read(repo: Repository, principal: Principal, name: str = "a") -> bytes:
    original = repo.reader.resolve(principal, [ImageName(name)])
    with repo.reader.original(principal, original) as (_, spool):
        return b"".join(iter(lambda: spool.file.read(1 << 16), b""))


def build(folder: Path, **changes: Any) -> Repository:
    config: Config = embedded(folder, access=SCOPED, serve_originals=True, **changes)
    assert wiring.prepare(config, wiring.build_stores(config)) == []
    return wiring.build(config)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repository]:
    with closing(build(tmp_path)) as repo:
        yield repo


def test_an_administrator_who_replaces_a_picture_leaves_it_to_its_owner(repo: Repository) -> None:
    put(repo, ANN, ORIGINAL, data={"n": 1})
    replaced = put(repo, ADMIN, OTHER, "ann/a")
    assert (replaced.owner, replaced.data) == ("ann", {"n": 1})
    assert read(repo, ANN) == OTHER
    with pytest.raises(ImageNotFound):
        read(repo, BOB)


def test_another_process_sees_a_change_of_owner_at_once(tmp_path: Path) -> None:
    with closing(build(tmp_path, freshness=3600.0)) as one, closing(build(tmp_path, freshness=3600.0)) as other:
        put(one, ANN, ORIGINAL)
        assert read(other, ANN) == ORIGINAL
        one.writer.delete(ANN, NAME)
        put(one, ADMIN, OTHER, "ann/a")
        with pytest.raises(ImageNotFound):
            read(other, ANN)


def test_an_owner_that_another_node_changes_is_read_again_within_freshness(tmp_path: Path) -> None:
    with closing(build(tmp_path, freshness=0.2)) as repo:
        put(repo, ANN, ORIGINAL)
        assert read(repo, ANN) == ORIGINAL
        path = next(tmp_path.rglob("ann/a.json"))
        path.write_bytes(path.read_bytes().replace(b'"owner":"ann"', b'"owner":null '))

        def is_gone() -> bool:
            try:
                return not read(repo, ANN)
            except ImageNotFound:
                return True

        assert until(is_gone) < 2.0


def test_the_deleted_versions_of_an_owner_are_its_own(repo: Repository) -> None:
    put(repo, ANN, ORIGINAL)
    repo.writer.delete(ANN, NAME)
    put(repo, ADMIN, OTHER, "ann/a")
    repo.writer.delete(ADMIN, ImageName("ann/a"))
    assert repo.writer.delete(ANN, NAME, disposal="erase") == {"trash": 1}
    assert [item.record.owner for item in repo.trash.items()] == [None]
    with pytest.raises(ImageNotFound):
        repo.writer.delete(ANN, NAME, disposal="erase")


@pytest.mark.parametrize("is_picture", [True, False], ids=["a picture", "a description"])
def test_only_the_owner_writes_to_a_name(repo: Repository, is_picture: bool) -> None:
    if is_picture:
        put(repo, ADMIN, ORIGINAL, "ann/a")
    else:
        repo.writer.replace_data(ADMIN, ImageName("ann/a"), {"n": 1}, UNCONDITIONAL)
    for write in (
        lambda: put(repo, ANN, OTHER),
        lambda: repo.writer.replace_data(ANN, NAME, {"n": 2}, UNCONDITIONAL),
    ):
        with pytest.raises(NameConflict, match="Choose another name"):
            write()
    for change in (
        lambda: repo.writer.patch_data(ANN, NAME, {"n": 2}, UNCONDITIONAL),
        lambda: repo.writer.delete(ANN, NAME),
    ):
        with pytest.raises(ImageNotFound, match="'a'"):
            change()
    assert repo.writer.replace_many(ANN, {NAME: {"n": 2}, ImageName("b"): {"n": 2}}) == {ImageName("b"): "stored"}
    assert repo.reader.description(ANN, [ImageName("b")]).owner == "ann"


# -- a store that fails -------------------------------------------------------------------


@pytest.fixture
def building(swift, container, tmp_path):
    with house(swift, container, tmp_path, timeout=10.0) as building:
        yield building


@pytest.mark.servers
def test_the_owner_of_a_known_picture_does_not_wait_for_a_silent_store(building: SwiftSite) -> None:
    with building.node(access=SCOPED) as served:
        put(served.repo, ANN, ORIGINAL)
        reader = served.repo.reader

        def fetch() -> bytes:
            return reader.fetch(reader.variant(ANN, reader.resolve(ANN, [NAME]), RECIPE)).rendition.body

        known = fetch()
        building.proxy.fail("blackhole")
        time.sleep(building.config.freshness)  # what is known is old by now
        took = []
        for _ in range(10):
            began = time.monotonic()
            assert fetch() == known
            took.append(time.monotonic() - began)
        assert sorted(took)[-2] < HIT_S
        with pytest.raises(ImageNotFound):
            reader.variant(BOB, reader.resolve(ANN, [NAME]), RECIPE)
        building.proxy.heal()


@pytest.mark.servers
def test_a_restarted_node_knows_the_owners_while_the_store_is_away(building: SwiftSite) -> None:
    with building.node(access=SCOPED) as served:
        put(served.repo, ANN, ORIGINAL)
        reader = served.repo.reader
        known = reader.fetch(reader.variant(ANN, reader.resolve(ANN, [NAME]), RECIPE)).rendition.body
    building.proxy.fail("refuse")
    with building.node(access=SCOPED, reachable=False) as served:
        reader = served.repo.reader
        assert reader.fetch(reader.variant(ANN, reader.resolve(ANN, [NAME]), RECIPE)).rendition.body == known
        building.proxy.heal()


CUT_OFF = {
    "the upload is refused": {"mode": "status", "status": 503, "match": b".jpg HTTP/1.1\r\n"},
    "the answer to the upload is lost": {"mode": "cut", "after": 0, "match": b".jpg HTTP/1.1\r\n"},
    "the record cannot be written": {"mode": "status", "status": 503, "match": b".json HTTP/1.1\r\n"},
    "the answer to the record is lost": {"mode": "cut", "after": 0, "match": b".json HTTP/1.1\r\n"},
}


@pytest.mark.servers
@pytest.mark.parametrize("fault", CUT_OFF.values(), ids=CUT_OFF)
def test_an_upload_of_a_user_that_fails_can_be_repeated(building: SwiftSite, fault: dict[str, Any]) -> None:
    with building.node(access=SCOPED) as served:
        repo = served.repo
        put(repo, ANN, ORIGINAL, "warm")  # the lease is there
        building.proxy.fail(**fault)
        with pytest.raises(StoreUnavailable):
            put(repo, ANN, ORIGINAL)
        building.proxy.heal()
        until(lambda: served.client.get("/livez").status == 200)
        until(lambda: _is_stored(repo))
        assert read(repo, ANN) == ORIGINAL
        original = repo.reader.resolve(ANN, [NAME])
        assert repo.reader.record(ANN, original).owner == "ann"


def _is_stored(repo: Repository) -> bool:
    try:
        return put(repo, ANN, ORIGINAL).owner == "ann"
    except StoreUnavailable:  # the circuit is open for a moment
        return False
