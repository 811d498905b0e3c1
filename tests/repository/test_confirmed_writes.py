"""Each write to an image is preceded by a check that no other node may hold its name by now."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pictures
import pytest
from webserver import embedded

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.errors import StoreUnavailable
from image_repo.model.names import ImageName
from image_repo.repository.metadata import UNCONDITIONAL
from image_repo.repository.repository import Repository
from image_repo.stores.base import Store

NAME = ImageName("a")


@dataclass
class Order:
    """An order of writers over nodes, lost as soon as that is set."""

    is_confirmed: bool = False
    is_lost: bool = False

    def held(self, key: str, end: float, *, to_write: bool = True) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def confirm(self) -> None:
        if self.is_lost:
            raise StoreUnavailable("The order is lost.")
        self.is_confirmed = True

    def close(self) -> None:
        pass


@dataclass
class WatchedStore:
    """A store that notes the writes to images without a check since the write before."""

    store: Store
    order: Order
    writes: list[str] = field(default_factory=list)
    unconfirmed: list[str] = field(default_factory=list)
    fails: str = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def put(self, key: str, *arguments: Any, **members: Any) -> Any:
        self._note(key)
        if self.fails and key.endswith(self.fails):
            raise StoreUnavailable("No.")
        return self.store.put(key, *arguments, **members)

    def delete(self, key: str) -> int:
        self._note(key)
        return self.store.delete(key)

    def _note(self, key: str) -> None:
        if key.startswith("."):
            return
        self.writes.append(key)
        if not self.order.is_confirmed:
            self.unconfirmed.append(key)
        self.order.is_confirmed = False


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Repository, WatchedStore]]:
    config, order = embedded(tmp_path), Order()
    store = WatchedStore(wiring.build_stores(config).origin, order)
    stores = wiring.Stores(store)  # type: ignore[arg-type]
    with closing(wiring.build(config, stores=stores, order=order)) as repo:
        yield repo, store


def put(repo: Repository, body: bytes, **members: Any) -> None:
    with repo.writer.spool() as spool:
        repo.writer.put(ADMIN, NAME, spool.fill([body]), **members)


JPEG, PNG = pictures.jpeg(pictures.photo(40, 30)), pictures.png(pictures.photo(40, 30))


def test_every_write_of_a_picture_its_data_and_its_deletion_is_confirmed(
    watched: tuple[Repository, WatchedStore],
) -> None:
    repo, store = watched
    put(repo, JPEG, data={"n": 1})
    put(repo, PNG, data={"n": 2})  # and the JPEG is deleted
    repo.writer.patch_data(ADMIN, NAME, {"n": 3}, UNCONDITIONAL)
    store.fails = ".jpg"
    with pytest.raises(StoreUnavailable):
        put(repo, JPEG, data={"n": 4})  # and its intent is withdrawn
    repo.writer.delete(ADMIN, NAME)
    assert {"a.jpg", "a.png", "a.json"} == set(store.writes)
    assert store.writes[-2:] == ["a.png", "a.json"]
    assert store.unconfirmed == []


@pytest.mark.parametrize("disposal", ["bin", "erase"])
def test_nothing_is_deleted_after_the_order_is_lost(watched: tuple[Repository, WatchedStore], disposal: Any) -> None:
    repo, store = watched
    put(repo, JPEG, data={"n": 1})
    store.writes.clear()
    store.order.is_lost = True
    with pytest.raises(StoreUnavailable, match="order is lost"):
        repo.writer.delete(ADMIN, NAME, disposal=disposal)
    assert store.writes == []
