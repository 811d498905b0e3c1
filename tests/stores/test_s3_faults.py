"""S3 over a bad network and from a busy store: what is right, and how long it takes."""

from __future__ import annotations

import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import commands
import pytest
from conftest import QUICK, opened_bucket, s3_settings
from servers.faults import FaultProxy

from image_repo.errors import OriginalDamaged, PreconditionFailed, StoreUnavailable
from image_repo.stores.circuit_breaker import CircuitBreaker

pytestmark = pytest.mark.servers
JPEG = "image/jpeg"


def read(store, key: str) -> bytes:
    with store.get(key) as body:
        return b"".join(body)


def problem(code: str) -> bytes:
    """Return the body of an error of S3."""
    text = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>m</Message></Error>'
    return text.encode()


CALLS = {
    "head": lambda store: store.head("a.jpg"),
    "get": lambda store: read(store, "a.jpg"),
    "put": lambda store: store.put("new.jpg", b"1" * 100_000, media_type=JPEG),
    "delete": lambda store: store.delete("a.jpg"),
    "keys": lambda store: list(store.keys()),
}
FAULTS = {
    "connections are reset": {"mode": "reset"},
    "nothing answers": {"mode": "blackhole"},
    "500": {"mode": "status", "status": 500},
    "503": {"mode": "status", "status": 503},
    "503 SlowDown": {"mode": "status", "status": 503, "body": problem("SlowDown")},
    "429": {"mode": "status", "status": 429},
    "507": {"mode": "status", "status": 507},
    "403": {"mode": "status", "status": 403},
    "answers end in their head": {"mode": "end", "after": 20},
    "answers are cut in their head": {"mode": "cut", "after": 20},
    "answers stall in their head": {"mode": "stall", "after": 20},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_trouble_is_never_absence_and_never_takes_long(faulty_bucket, fault):
    store, proxy = faulty_bucket
    store.put("a.jpg", b"picture", media_type=JPEG)
    for name, call in CALLS.items():
        proxy.fail(**fault)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable) as raised:
            call(store)
        assert time.monotonic() - began < 5, name
        assert raised.value.retry_after
        assert "testing" not in raised.value.detail
        proxy.heal()
        assert read(store, "a.jpg") == b"picture", name


@pytest.mark.parametrize("mode", ["cut", "end", "stall"])
@pytest.mark.parametrize("after", [1_000, 500_000, 999_999], ids=lambda after: f"after {after} bytes")
def test_a_transfer_that_breaks_off_is_reported(faulty_bucket, mode, after):
    store, proxy = faulty_bucket
    store.put("a.jpg", os.urandom(1_000_000), media_type=JPEG)
    proxy.fail(mode, after=after, match=b"GET ")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        read(store, "a.jpg")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("after", [1000, 300_000, 999_999], ids=lambda after: f"at byte {after}")
def test_a_flipped_bit_is_found_before_the_last_byte(faulty_bucket, after):
    store, proxy = faulty_bucket
    data = os.urandom(1_000_000)
    store.put("a.jpg", data, media_type=JPEG)
    proxy.fail("corrupt", after=after, match=b"GET ")
    received = 0
    with pytest.raises(OriginalDamaged), store.get("a.jpg") as body:
        for chunk in body:
            received += len(chunk)
    assert received < len(data)
    proxy.heal()
    assert read(store, "a.jpg") == data


def test_a_listing_that_is_cut_is_no_empty_listing(faulty_bucket):
    store, proxy = faulty_bucket
    for number in range(20):
        store.put(f"{number:02}.jpg", b"1", media_type=JPEG)
    for after in (30, 150, 400, 1500):
        proxy.fail("end", after=after, match=b"list-type")
        with pytest.raises(StoreUnavailable):
            list(store.keys())
    proxy.heal()
    assert len(list(store.keys())) == 20


@pytest.mark.parametrize(
    "fault",
    [
        {"mode": "reset"},
        {"mode": "cut", "after": 10},
        {"mode": "status", "status": 503, "body": problem("SlowDown")},
        {"mode": "status", "status": 500, "body": problem("InternalError")},
        {"mode": "status", "status": 409, "body": problem("OperationAborted")},
    ],
    ids=["a reset", "a cut", "503 SlowDown", "500", "409"],
)
@pytest.mark.parametrize("size", [0, 3_000_000], ids=lambda size: f"{size} bytes")
def test_one_fault_is_not_noticed(faulty_bucket, fault, size):
    store, proxy = faulty_bucket
    file = io.BytesIO(b"before" + os.urandom(size))
    file.seek(6)
    for call in (
        lambda: store.put("a.jpg", file, media_type=JPEG),
        lambda: store.head("a.jpg"),
        lambda: read(store, "a.jpg"),
        lambda: list(store.keys()),
        lambda: store.delete("a.jpg"),
    ):
        proxy.fail(**fault, times=1)
        assert call() is not None
    assert store.head("a.jpg") is None


def test_the_pauses_between_attempts_grow_and_end_within_two_seconds(faulty_bucket):
    store, proxy = faulty_bucket
    proxy.fail("status", status=503, body=problem("SlowDown"))
    before, began = len(proxy.requests), time.monotonic()
    with pytest.raises(StoreUnavailable, match="fewer requests"):
        list(store.keys())
    assert time.monotonic() - began < 2
    assert 3 <= len(proxy.requests) - before <= 10


def test_a_first_write_is_not_made_twice(faulty_bucket):
    store, proxy = faulty_bucket
    store.put("warm.jpg", b"1", media_type=JPEG, overwrite=False)
    proxy.fail("cut", after=0, times=1, match=b"PUT ")
    with pytest.raises(StoreUnavailable):
        store.put("a.jpg", b"1", media_type=JPEG, overwrite=False)
    proxy.heal()
    # It may have taken effect: then it is there whole, and the same again is refused.
    if store.head("a.jpg"):
        assert read(store, "a.jpg") == b"1"
        with pytest.raises(PreconditionFailed):
            store.put("a.jpg", b"1", media_type=JPEG, overwrite=False)


def test_two_conditional_writes_that_meet_are_made_again(faulty_bucket):
    store, proxy = faulty_bucket
    store.put("warm.jpg", b"1", media_type=JPEG, overwrite=False)
    proxy.fail("status", status=409, body=problem("ConditionalRequestConflict"), times=1, match=b"PUT ")
    store.put("a.jpg", b"1", media_type=JPEG, overwrite=False)
    assert read(store, "a.jpg") == b"1"


def test_a_condition_that_only_the_store_finds_broken_is_a_refusal(faulty_bucket):
    store, proxy = faulty_bucket
    store.put("warm.jpg", b"1", media_type=JPEG, overwrite=False)
    proxy.fail("status", status=412, body=problem("PreconditionFailed"), times=1, match=b"PUT ")
    with pytest.raises(PreconditionFailed):
        store.put("a.jpg", b"1", media_type=JPEG, overwrite=False)


def test_where_conditional_writes_are_not_implemented_a_look_precedes_them(moto, container):
    with FaultProxy(int(moto.rpartition(":")[2])) as proxy:
        proxy.fail("status", status=501, body=problem("NotImplemented"), match=b"If-None-Match")
        with opened_bucket(s3_settings(f"http://127.0.0.1:{proxy.port}", **QUICK), container) as store:
            assert "conditional writes are not honoured" in store.capabilities.probed
            store.put("a.jpg", b"1", media_type=JPEG, overwrite=False)
            with pytest.raises(PreconditionFailed):
                store.put("a.jpg", b"2", media_type=JPEG, overwrite=False)
            assert read(store, "a.jpg") == b"1"


def test_wrong_clocks_are_named(faulty_bucket):
    store, proxy = faulty_bucket
    proxy.fail("status", status=403, body=problem("RequestTimeTooSkewed"))
    with pytest.raises(StoreUnavailable, match="clocks of this machine and of the store"):
        store.check()


def test_an_upload_that_was_cut_leaves_the_old(faulty_bucket):
    store, proxy = faulty_bucket
    store.put("a.jpg", b"old", media_type=JPEG)
    proxy.fail("refuse-upload", status=503, after=500_000, match=b"PUT ")
    with pytest.raises(StoreUnavailable):
        store.put("a.jpg", os.urandom(4_000_000), media_type=JPEG)
    proxy.heal()
    assert read(store, "a.jpg") == b"old"


def test_bytes_that_change_on_their_way_are_refused_and_not_stored(swift, container):
    with opened_bucket(s3_settings(swift.url), container) as store:
        file = io.BytesIO(b"picture" * 1000)
        seek = file.seek
        file.seek = lambda *where: file.getbuffer().__setitem__(500, file.getbuffer()[500] ^ 1) or seek(*where)
        with pytest.raises(StoreUnavailable, match="damaged on their way"):
            store.put("a.jpg", file, media_type=JPEG)
        assert store.head("a.jpg") is None


def test_the_store_says_when_to_come_back(faulty_bucket):
    store, proxy = faulty_bucket
    proxy.fail("status", status=503, headers={"Retry-After": "17"})
    with pytest.raises(StoreUnavailable) as raised:
        store.head("a.jpg")
    assert raised.value.retry_after == 17


def test_connections_are_used_again(swift, container):
    with (
        FaultProxy(swift.port) as proxy,
        opened_bucket(s3_settings(f"http://127.0.0.1:{proxy.port}"), container) as store,
    ):
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


def answers(store) -> bool:
    try:
        return store.head("a.jpg").size == 1
    except StoreUnavailable:
        return False


def test_a_store_that_is_down_is_asked_no_more_and_comes_back(faulty_bucket):
    store, proxy = faulty_bucket
    guarded = CircuitBreaker(store, failures=3, pause=0.2)
    guarded.put("a.jpg", b"1", media_type=JPEG)
    proxy.fail("status", status=503)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            guarded.head("a.jpg")
    before = proxy.count("/a.jpg")
    with pytest.raises(StoreUnavailable):
        guarded.head("a.jpg")
    assert proxy.count("/a.jpg") == before
    proxy.heal()
    commands.until(lambda: answers(guarded), "the store is asked again")


def test_more_threads_than_connections_share_them(swift, container):
    with FaultProxy(swift.port) as proxy:
        settings = s3_settings(f"http://127.0.0.1:{proxy.port}", connections=2)
        with opened_bucket(settings, container) as store:
            store.put("a.jpg", b"1", media_type=JPEG)
            barrier = threading.Barrier(8)

            def look(_: int) -> bytes:
                barrier.wait(10)
                return read(store, "a.jpg")

            with ThreadPoolExecutor(8) as threads:
                assert list(threads.map(look, range(8))) == [b"1"] * 8
            assert proxy.connections <= 2
