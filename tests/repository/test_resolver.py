"""What a name stands for, asked while others write."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from image_repo.concurrency.invalidation import InvalidationEpochs
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.repository.resolver import Resolver, original_of
from image_repo.stores.base import Entry
from image_repo.stores.disk import DiskStore

NAME = ImageName("a")
T = TypeVar("T")


class SlowStore(DiskStore):
    """A store whose answers to one thread are long on their way, once it is told so."""

    slow = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.has_asked, self.go = threading.Event(), threading.Event()

    def head(self, key: str) -> Entry | None:
        return self._late(super().head(key))

    def find(self, names: Collection[str], endings: Collection[str]) -> list[Entry]:
        return self._late(super().find(names, endings))

    def _late(self, answer: T) -> T:
        if self.slow:
            self.slow = False
            self.has_asked.set()
            assert self.go.wait(5)
        return answer


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[SlowStore, Resolver, Resolver]]:
    """A store, and two processes of a node over it: the first one's answers may be slow, the second one writes."""
    (tmp_path / "data").mkdir()
    slow = SlowStore(tmp_path / "data")
    slow.check(create=True)
    reading = Resolver(slow, InvalidationEpochs(tmp_path / "marks"), None, freshness=60.0)
    writing = Resolver(DiskStore(tmp_path / "data"), InvalidationEpochs(tmp_path / "marks"), None, freshness=60.0)
    yield slow, reading, writing
    reading.close()
    writing.close()


def written(store: SlowStore, versions: Resolver, body: bytes) -> Original:
    current = original_of(NAME, store.put("a.jpg", body, media_type="image/jpeg"))
    versions.note_write(NAME, current)
    return current


def test_who_asks_after_a_write_does_not_get_the_answer_to_a_question_from_before_it(
    nodes: tuple[SlowStore, Resolver, Resolver],
) -> None:
    store, reading, writing = nodes
    written(store, writing, b"one")
    store.slow = True
    with ThreadPoolExecutor(2) as pool:
        early = pool.submit(reading.resolve, NAME)
        assert store.has_asked.wait(5)
        second = written(store, writing, b"two")  # acknowledged while the first answer is on its way
        late = pool.submit(reading.resolve, NAME)
        try:
            assert late.result(5) == second
        finally:
            store.go.set()
        assert early.result(5) is not None
    assert reading.resolve(NAME) == second
