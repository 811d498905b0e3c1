"""Each store, held to what all of them promise."""

from __future__ import annotations

import pytest
from conftest import opened
from store_contract import StoreContract

from image_repo.stores.circuit_breaker import CircuitBreaker
from image_repo.stores.disk import DiskStore


class TestDisk(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = DiskStore(tmp_path / "originals")
        store.check(create=True)
        return store


class TestGuarded(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = CircuitBreaker(DiskStore(tmp_path / "originals"))
        store.check(create=True)
        return store


@pytest.mark.servers
class TestSwift(StoreContract):
    @pytest.fixture
    def store(self, swift, container):
        with opened(swift.settings, container, page=10) as store:
            yield store
