"""The cache container: held to what every keeper promises, and to what only a shared container needs."""

from __future__ import annotations

import io
import math
import time

import pytest
from conftest import opened
from tier_contract import LinkTargetContract, rendition

from image_repo.caches.container import PREFIX, ContainerTier
from image_repo.caches.tiers import Caches
from image_repo.errors import OriginalDamaged, StoreUnavailable
from image_repo.stores.disk import DiskStore

KEY = "a/b@1+size(2,3)+g(x).jpg"


class _Contract(LinkTargetContract):
    def test_what_was_only_put_is_not_promised(self, tier) -> None:
        """Here every object has its time, and an expiry is a promise: a link within it costs no second write."""
        before = time.time()
        tier.put("a@1.jpg", rendition())
        assert before + 60 <= tier.pinned_until("a@1.jpg") <= math.ceil(time.time() + 60)


class TestOverDisk(_Contract):
    @pytest.fixture
    def tier(self, disk):
        return ContainerTier(disk, 60)


@pytest.mark.servers
class TestOverSwift(_Contract):
    @pytest.fixture
    def tier(self, swift_store):
        return ContainerTier(swift_store, 60)


class Counted:
    """A store that counts what it is asked, and is otherwise the real one."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self.requested_keys: list[str] = []

    def __getattr__(self, name: str):
        self.requested_keys.append(name)
        return getattr(self._store, name)


@pytest.fixture
def disk(tmp_path):
    store = DiskStore(tmp_path / "cache")
    store.check(create=True)
    return store


@pytest.fixture
def counted(disk):
    return Counted(disk)


@pytest.fixture
def tier(counted):
    return ContainerTier(counted, 60)


def test_objects_tell_what_they_are(tier, disk):
    tier.put(KEY, rendition(b"body", "tag"))
    entry = disk.head(PREFIX + KEY)
    assert entry.media_type == "image/jpeg"
    assert (entry.metadata["etag"], entry.metadata["modified"]) == ("tag", "1700000000.25")
    assert entry.expires == pytest.approx(time.time() + 60, abs=2)


@pytest.mark.parametrize(
    ("body", "metadata"),
    [
        (b"bodX", {"etag": "tag", "modified": "1.0", "sha256": "0" * 64}),
        (b"body", {"etag": "tag", "modified": "1.0"}),
        (b"a body without facts", {}),
    ],
    ids=["other bytes", "no digest", "no facts"],
)
def test_a_lying_object_was_never_there(tier, disk, body, metadata):
    tier.put(KEY, rendition(b"body"))
    disk.put(PREFIX + KEY, body, media_type="image/jpeg", metadata=metadata)
    assert tier.get(KEY) is None
    assert disk.head(PREFIX + KEY) is None
    tier.put(KEY, rendition(b"body"))
    assert tier.get(KEY) == rendition(b"body")


def test_a_date_that_is_no_number_is_a_miss(tier, disk):
    tier.put(KEY, rendition(b"body"))
    facts = dict(disk.head(PREFIX + KEY).metadata) | {"modified": "yesterday"}
    disk.put(PREFIX + KEY, b"body", media_type="image/jpeg", metadata=facts)
    assert tier.get(KEY) is None


def test_a_remembered_promise_costs_nothing(tier, counted):
    until = time.time() + 1000
    tier.pin(KEY, b"body", rendition(), until)
    counted.requested_keys.clear()
    for _ in range(3):
        tier.pin(KEY, b"body", rendition(), until - 1)
        assert tier.pinned_until(KEY) >= until
        tier.put(KEY, rendition(b"body"))
    assert counted.requested_keys == []


def test_a_promise_of_another_node_is_seen(tier, disk):
    until = float(int(time.time()) + 1000)
    ContainerTier(disk, 60).pin(KEY, b"body", rendition(), until)
    tier.put(KEY, rendition(b"body"))
    assert disk.head(PREFIX + KEY).expires == until


def test_a_deleted_one_is_kept_anew(tier, disk):
    until = time.time() + 1000
    tier.pin(KEY, b"body", rendition(), until)
    assert tier.delete(KEY)
    tier.pin(KEY, b"body", rendition(), until)
    assert disk.head(PREFIX + KEY).expires >= until


def test_a_promise_that_cannot_be_kept_raises(tier, disk, tmp_path):
    def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("no")

    disk.put = fail
    with pytest.raises(StoreUnavailable):
        tier.pin(KEY, b"body", rendition(), time.time() + 1000)
    assert Caches([tier]).get(KEY) is None
    assert tier.pinned_until(KEY) is None


def test_a_damaged_entry_does_not_keep_its_tier_from_being_filled(tier, disk):
    tier.put(KEY, rendition(b"body"))
    facts = disk.head(PREFIX + KEY).metadata
    disk.put(PREFIX + KEY, b"bodX", media_type="image/jpeg", metadata=facts)
    caches = Caches([tier])
    assert not caches.contains(KEY)
    assert caches.get(KEY) is None
    caches.fill(KEY, rendition(b"body"))
    assert caches.contains(KEY)
    assert caches.get(KEY) == (rendition(b"body"), "cache")


def test_other_objects_of_the_container_are_left_alone(tier, disk):
    disk.put("a/b@1.jpg", b"original", media_type="image/jpeg")
    tier.put("a/b@1.jpg", rendition())
    assert tier.purge("") == 1
    assert disk.head("a/b@1.jpg").size == 8


def test_what_is_open_is_checked_too(tier, disk):
    tier.pin(KEY, io.BytesIO(b"body"), rendition(), time.time() + 1000)
    facts = disk.head(PREFIX + KEY).metadata
    disk.put(PREFIX + KEY, b"bodY", media_type="image/jpeg", metadata=facts)
    with pytest.raises(OriginalDamaged):
        tier.open(KEY)


@pytest.mark.servers
def test_bytes_that_rot_in_swift_are_a_miss(swift, container, faulty):
    store, proxy = faulty
    tier = ContainerTier(store, 3600)
    tier.put(KEY, rendition(b"x" * 100_000))
    proxy.fail("corrupt", after=50_000, match=b"GET ")
    assert tier.get(KEY) is None
    proxy.heal()
    assert store.head(PREFIX + KEY) is None


@pytest.mark.servers
def test_two_containers_share_their_connections(swift, container):
    with opened(swift.settings, container) as store:
        tier = ContainerTier(store, 60)
        tier.put(KEY, rendition())
        tier.close()
        assert tier.get(KEY) == rendition()  # closed connections are made anew
