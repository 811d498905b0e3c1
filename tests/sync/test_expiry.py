"""Expired renditions in S3, which knows no expiry of single objects."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import until
from conftest import opened_bucket, s3_settings

from image_repo.stores.s3 import S3Store
from image_repo.sync.expiry import ExpirySweeper

pytestmark = pytest.mark.servers
DAY = 86_400.0
#: so that what was written just now is old, whatever the clocks
AT_ONCE = -2 * DAY


@pytest.fixture
def store(moto: str, container: str) -> Iterator[S3Store]:
    """A bucket with an expired rendition, one that is promised for longer, and an original."""
    with opened_bucket(s3_settings(moto), container, page=2) as store:
        now = time.time()
        store.put(".renditions/promised", b"1", media_type="image/jpeg", expires=now + DAY)
        for name in ("a", "b", "c"):
            store.put(f".renditions/{name}", b"1", media_type="image/jpeg", expires=now - 1)
        store.put("a.jpg", b"1", media_type="image/jpeg")
        yield store


def keys(store: S3Store) -> list[str]:
    return [entry.key for entry in store.keys()]  # noqa: SIM118, a store is no dict


def test_only_what_is_old_and_has_expired_is_deleted(store: S3Store, tmp_path: Path) -> None:
    before = keys(store)
    assert ExpirySweeper(store, {".renditions/": DAY}, tmp_path).sweep() == 0
    assert keys(store) == before
    assert ExpirySweeper(store, {".renditions/": AT_ONCE}, tmp_path).sweep() == 3
    assert keys(store) == [".renditions/promised", "a.jpg"]


def test_a_missing_bucket_is_nothing_to_sweep(store: S3Store, moto: str, tmp_path: Path) -> None:
    other = S3Store(store._client, "no-such-bucket")
    assert ExpirySweeper(other, {".renditions/": AT_ONCE}, tmp_path).sweep() == 0


def test_one_process_sweeps_and_notes_when(store: S3Store, tmp_path: Path) -> None:
    sweepers = [ExpirySweeper(store, {".renditions/": AT_ONCE}, tmp_path, every=0.05) for _ in range(2)]
    for sweeper in sweepers:
        sweeper.start()
    until(lambda: ".renditions/c" not in keys(store) and (tmp_path / "swept").exists(), "the sweep")
    for sweeper in sweepers:
        sweeper.close()
    assert keys(store) == [".renditions/promised", "a.jpg"]
