"""Folders and files that may not be read: named, passed over, and no trouble for the rest."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from image_repo.stores.base import NotReadable
from image_repo.stores.circuit_breaker import CircuitBreaker
from image_repo.stores.disk import DiskStore

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders of other users")


@contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder of pictures that belongs to nobody, with ``lost+found`` and a picture that belong to root."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "originals"
        Path(folder).chmod(0o755)
        for name in ("a.jpg", "closed.jpg", "lost+found/b.jpg", "z/c.jpg"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"picture")
        for path in (root, root / "a.jpg", root / "z", root / "z" / "c.jpg"):
            os.chown(path, NOBODY, NOBODY)
        (root / "lost+found").chmod(0o700)
        (root / "closed.jpg").chmod(0o600)
        yield root


def test_a_folder_that_cannot_be_read_is_named_and_passed_over(root: Path, caplog) -> None:
    store = DiskStore(root)
    with as_nobody():
        assert [entry.key for entry in store.keys("")] == ["a.jpg", "closed.jpg", "z/c.jpg"]
        assert [entry.key for entry in store.keys("")] == ["a.jpg", "closed.jpg", "z/c.jpg"]
    assert store.passed_over() == [str(root / "lost+found")]
    assert caplog.text.count("lost+found cannot be read") == 1
    (root / "lost+found").chmod(0o755)
    with as_nobody():
        assert "lost+found/b.jpg" in [entry.key for entry in store.keys("")]
    assert store.passed_over() == []


def test_a_check_of_the_store_names_what_cannot_be_read(root: Path) -> None:
    store = DiskStore(root)
    with as_nobody():
        store.check()
    assert store.passed_over() == [str(root / "lost+found")]


@pytest.mark.parametrize("key", ["closed.jpg", "lost+found/b.jpg", "lost+found/none.jpg"])
def test_requests_for_what_cannot_be_read_do_not_open_the_circuit(root: Path, key: str) -> None:
    store = CircuitBreaker(DiskStore(root), failures=3)
    with as_nobody():
        for _ in range(5):
            with pytest.raises(NotReadable):
                store.get(key)
        assert store.get("a.jpg") is not None


def test_originals_that_cannot_be_written_are_read(root: Path) -> None:
    os.chown(root, 0, 0)
    root.chmod(0o755)
    store = DiskStore(root)
    with as_nobody():
        store.check()
        assert store.head("a.jpg") is not None
