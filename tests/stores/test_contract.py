"""Each store, held to what all of them promise."""

from __future__ import annotations

import time

import pytest
import requests
from conftest import opened, opened_bucket, s3_settings
from store_contract import StoreContract

from image_repo.errors import LinkRefused, LinksNotConfigured
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


class S3Contract(StoreContract):
    """S3 signs URLs with its credentials, and serves them itself."""

    def test_what_it_presigns_it_verifies_until_it_expires(self, store):
        store.put("a/b c.jpg", b"picture", media_type="image/jpeg")
        url = store.presign("a/b c.jpg", int(time.time()) + 60, "ü.jpg")
        answer = requests.get(url, timeout=10)
        assert (answer.status_code, answer.content) == (200, b"picture")
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["Content-Disposition"] == "inline; filename*=UTF-8''%C3%BC.jpg"
        with pytest.raises(LinkRefused):
            store.verify_presigned("a/b c.jpg", "x", "1")
        with pytest.raises(LinksNotConfigured):
            store.set_link_key("a key of more than thirty-two characters")


@pytest.mark.servers
class TestS3OnMoto(S3Contract):
    @pytest.fixture
    def store(self, moto, container):
        with opened_bucket(s3_settings(moto), container, page=10) as store:
            yield store


@pytest.mark.servers
class TestS3OnSwift(S3Contract):
    @pytest.fixture
    def store(self, swift, container):
        with opened_bucket(s3_settings(swift.url), container, page=10) as store:
            yield store
