"""The catalogue's engines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from index_contract import IndexContract, Opener

from image_repo.catalogue import Index
from image_repo.catalogue.engines import open_index as opened

_numbers = itertools.count()


def _openers(url: str, own: str) -> Iterator[Opener]:
    with ExitStack() as stack:

        def opener(collection: str, scope: str = "test", **given: float) -> Index:
            index = opened(url, None, collection=collection, scope=scope + own, **given)  # type: ignore[arg-type]
            return stack.enter_context(closing(index))

        yield opener


class TestSqlite(IndexContract):
    @pytest.fixture
    def open_index(self, tmp_path: Path) -> Iterator[Opener]:
        yield from _openers(f"sqlite:///{tmp_path}/index.sqlite", "")


@pytest.mark.servers
class TestPostgres(IndexContract):
    @pytest.fixture
    def open_index(self, postgres: str) -> Iterator[Opener]:
        yield from _openers(postgres, f" of test {next(_numbers)}")
