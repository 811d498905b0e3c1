"""The catalogue's engines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from index_contract import IndexContract, Opener

from image_repo.catalogue.engines import open_index as opened


class TestSqlite(IndexContract):
    @pytest.fixture
    def open_index(self, tmp_path: Path) -> Iterator[Opener]:
        with ExitStack() as stack:

            def opener(collection: str, scope: str = "test", **given: object):  # type: ignore[no-untyped-def]
                index = opened(f"sqlite:///{tmp_path}/index.sqlite", None, collection=collection, scope=scope, **given)  # type: ignore[arg-type]
                return stack.enter_context(closing(index))

            yield opener
