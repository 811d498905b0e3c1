"""Stores that know times in whole seconds only, as S3 does: here in whole hours, so that every write shares one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pictures import photo, save
from webserver import embedded

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.model.names import ImageName
from image_repo.stores.base import Entry
from image_repo.stores.disk import DiskStore


def _coarse(entry: Entry) -> Entry:
    return replace(entry, modified=entry.modified // 3600 * 3600)


class CoarseStore(DiskStore):
    def head(self, key):
        entry = super().head(key)
        return entry and _coarse(entry)

    def put(self, key, data, **facts):
        return _coarse(super().put(key, data, **facts))

    def keys(self, prefix="", **bounds) -> Iterator[Entry]:
        return map(_coarse, super().keys(prefix, **bounds))

    def find(self, names, endings):
        return [_coarse(entry) for entry in super().find(names, endings)]


@pytest.mark.parametrize("formats", [("png", "jpeg", "png", "jpeg"), ("jpeg", "tiff", "jpeg")], ids="-".join)
def test_of_originals_of_one_second_the_last_written_is_the_image(tmp_path: Path, formats: tuple[str, ...]) -> None:
    config = embedded(tmp_path)
    store = CoarseStore(tmp_path / "data")
    store.check(create=True)
    repo = wiring.build(config, stores=wiring.Stores(store))
    name = ImageName("a")
    for turn, kind in enumerate(formats):
        with repo.writer.spool() as spool:
            repo.writer.put(ADMIN, name, spool.fill([save(photo(100 + turn, 50), kind)]))
        (original,) = (entry for entry in store.keys("a.") if not entry.key.endswith(".json"))
        assert original.media_type == f"image/{kind}"
    repo.close()
