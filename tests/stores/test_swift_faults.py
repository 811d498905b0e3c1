"""Swift over a bad network: cut, flipped, stalled, refused. What is right, and how long it takes."""

from __future__ import annotations

import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import commands
import pytest
from conftest import QUICK

from image_repo.errors import OriginalDamaged, PreconditionFailed, StoreUnavailable
from image_repo.stores.circuit_breaker import CircuitBreaker

pytestmark = pytest.mark.servers
JPEG = "image/jpeg"


def read(store, key: str) -> bytes:
    with store.get(key) as body:
        return b"".join(body)


CALLS = {
    "head": lambda store: store.head("a.jpg"),
    "get": lambda store: read(store, "a.jpg"),
    "put": lambda store: store.put("new.jpg", b"1" * 100_000, media_type=JPEG),
    "delete": lambda store: store.delete("none.jpg"),
    "keys": lambda store: list(store.keys()),
    "link_base": lambda store: store.link_base(),
}
FAULTS = {
    "connections are reset": {"mode": "reset"},
    "nothing answers": {"mode": "blackhole"},
    "500": {"mode": "status", "status": 500},
    "503": {"mode": "status", "status": 503},
    "429": {"mode": "status", "status": 429},
    "507": {"mode": "status", "status": 507},
    "403": {"mode": "status", "status": 403},
    "401 again and again": {"mode": "status", "status": 401},
    "answers end in their head": {"mode": "end", "after": 20},
    "answers are cut in their head": {"mode": "cut", "after": 20},
    "answers stall in their head": {"mode": "stall", "after": 20},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_trouble_is_never_absence_and_never_takes_long(faulty, call, fault):
    store, proxy = faulty
    store.put("a.jpg", b"picture", media_type=JPEG)
    proxy.fail(**fault)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as raised:
        call(store)
    assert time.monotonic() - began < 5
    assert raised.value.retry_after
    assert "AUTH_tk" not in raised.value.detail
    proxy.heal()
    assert read(store, "a.jpg") == b"picture"


@pytest.mark.parametrize("mode", ["cut", "end", "stall"])
@pytest.mark.parametrize("after", [1_000, 500_000, 999_999], ids=lambda after: f"after {after} bytes")
def test_a_transfer_that_breaks_off_is_told(faulty, mode, after):
    store, proxy = faulty
    store.put("a.jpg", os.urandom(1_000_000), media_type=JPEG)
    proxy.fail(mode, after=after, match=b"GET ")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        read(store, "a.jpg")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("after", [600, 300_000, 999_999], ids=lambda after: f"at byte {after}")
def test_a_flipped_bit_is_found_before_the_last_byte(faulty, after):
    store, proxy = faulty
    data = os.urandom(1_000_000)
    store.put("a.jpg", data, media_type=JPEG)
    proxy.fail("corrupt", after=after, match=b"GET ")
    seen = 0
    with pytest.raises(OriginalDamaged), store.get("a.jpg") as body:
        for chunk in body:
            seen += len(chunk)
    assert seen < len(data)
    proxy.heal()
    assert read(store, "a.jpg") == data


def test_a_slow_network_is_no_fault(faulty):
    store, proxy = faulty
    proxy.fail("latency", seconds=0.02)
    data = os.urandom(1_000_000)
    store.put("a.jpg", data, media_type=JPEG)
    assert read(store, "a.jpg") == data


@pytest.mark.parametrize(
    "fault",
    [{"mode": "reset"}, {"mode": "cut", "after": 10}, {"mode": "status", "status": 401}],
    ids=["a reset", "a cut", "a refused token"],
)
@pytest.mark.parametrize("size", [0, 100, 3_000_000], ids=lambda size: f"{size} bytes")
def test_one_fault_is_not_noticed(faulty, fault, size):
    store, proxy = faulty
    file = io.BytesIO(b"before" + os.urandom(size))
    file.seek(6)
    for call in (
        lambda: store.put("a.jpg", file, media_type=JPEG),
        lambda: store.head("a.jpg"),
        lambda: read(store, "a.jpg"),
        lambda: list(store.keys()),
        lambda: store.delete("a.jpg"),
    ):
        proxy.fail(**fault, times=1, match=b"/AUTH_test/")
        assert call() is not None
    assert store.head("a.jpg") is None
    assert file.getvalue()[6:] == file.getvalue()[-size:] or size == 0


def test_an_upload_whose_token_is_refused_in_the_middle_succeeds(faulty):
    store, proxy = faulty
    data = os.urandom(4_000_000)
    proxy.fail("refuse-upload", status=401, after=1_000_000, times=1, match=b"PUT ")
    store.put("a.jpg", io.BytesIO(data), media_type=JPEG)
    assert read(store, "a.jpg") == data


def test_a_first_write_is_not_made_twice(faulty):
    store, proxy = faulty
    proxy.fail("cut", after=0, times=1, match=b"PUT ")
    with pytest.raises(StoreUnavailable):
        store.put("a.jpg", b"1", media_type=JPEG, overwrite=False)
    proxy.heal()
    # It may have taken effect: then it is there whole, and saying it again is refused.
    if store.head("a.jpg"):
        assert read(store, "a.jpg") == b"1"
        with pytest.raises(PreconditionFailed):
            store.put("a.jpg", b"1", media_type=JPEG, overwrite=False)


def test_an_upload_that_was_cut_leaves_the_old(faulty):
    store, proxy = faulty
    store.put("a.jpg", b"old", media_type=JPEG)
    proxy.fail("refuse-upload", status=503, after=500_000, match=b"PUT ")
    with pytest.raises(StoreUnavailable):
        store.put("a.jpg", os.urandom(4_000_000), media_type=JPEG)
    proxy.heal()
    assert read(store, "a.jpg") == b"old"


def test_swift_is_told_the_digest(swift_store):
    store = swift_store
    data = b"picture" * 1000
    file = io.BytesIO(data)
    # The bytes change between the reading for the digest and the sending: as good as a flip on the way.
    seek = file.seek

    def change(*where: int) -> int:
        file.getbuffer()[500] ^= 1
        return seek(*where)

    file.seek = change  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable, match="damaged on their way"):
        store.put("a.jpg", file, media_type=JPEG)
    assert store.head("a.jpg") is None


def test_the_store_says_when_to_come_back(faulty):
    store, proxy = faulty
    proxy.fail("status", status=503, headers={"Retry-After": "17"})
    with pytest.raises(StoreUnavailable) as raised:
        store.head("a.jpg")
    assert raised.value.retry_after == 17


def test_threads_sign_in_once_together(faulty):
    store, proxy = faulty
    store.put("a.jpg", b"1", media_type=JPEG)
    before = proxy.count("/auth/")
    barrier = threading.Barrier(8)
    proxy.fail("status", status=401, times=8, match=b"HEAD ")

    def look(_: int) -> int:
        barrier.wait(10)
        return store.head("a.jpg").size

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(look, range(8))) == [1] * 8
    # A token that is given out anew is the same one here, so a straggler may ask once more.
    assert proxy.count("/auth/") - before <= 8


def test_connections_are_used_again(faulty):
    store, proxy = faulty
    store.put("a.jpg", b"1" * 1000, media_type=JPEG)
    store.put("empty.jpg", b"", media_type=JPEG)
    before = proxy.connections
    for _ in range(10):
        read(store, "a.jpg")
        read(store, "empty.jpg")
        store.head("none")
        assert store.get("none") is None
        list(store.keys())
    assert proxy.connections == before


# -- the breaker ---------------------------------------------------------------------


def answers(store) -> bool:
    try:
        return store.head("a.jpg").size == 1
    except StoreUnavailable:
        return False


def test_a_store_that_is_down_is_asked_no_more_and_comes_back(faulty):
    store, proxy = faulty
    guarded = CircuitBreaker(store, failures=3, pause=0.2)
    guarded.put("a.jpg", b"1", media_type=JPEG)
    proxy.fail("status", status=503)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            guarded.head("a.jpg")
    before = proxy.count("/a.jpg")
    with pytest.raises(StoreUnavailable) as raised:
        guarded.head("a.jpg")
    assert proxy.count("/a.jpg") == before
    assert raised.value.retry_after == 1
    proxy.heal()
    commands.until(lambda: answers(guarded), "the store is asked again")
    assert all(guarded.head("a.jpg").size == 1 for _ in range(5))


def test_a_frozen_store_holds_few_threads_and_not_for_long(faulty):
    store, proxy = faulty
    guarded = CircuitBreaker(store)
    guarded.put("a.jpg", b"1", media_type=JPEG)
    proxy.fail("blackhole")

    def ask(_: int) -> float:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            guarded.head("a.jpg")
        return time.monotonic() - began

    with ThreadPoolExecutor(16) as threads:
        first = list(threads.map(ask, range(16)))
        before = proxy.count("/a.jpg")
        then = list(threads.map(ask, range(200)))
    assert max(first) < 4
    assert proxy.count("/a.jpg") - before <= 2
    assert sum(seconds > QUICK["connect_timeout"] for seconds in then) <= 2
