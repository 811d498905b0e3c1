"""The breaker before a store: who is let through, who is told at once, and when all go through again."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import pytest
from commands import until

from image_repo.errors import LinksNotConfigured, OriginalDamaged, PreconditionFailed, StoreUnavailable
from image_repo.stores.circuit_breaker import CircuitBreaker
from image_repo.stores.disk import DiskStore

PAUSE = 0.1


class Ailing(DiskStore):
    """A store that does what it is told: answers, fails, or keeps everybody waiting.

    :ivar calls: that were made, without probes
    """

    calls = probes = 0
    trouble: Exception | None = None

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.open = threading.Event()
        self.open.set()

    def head(self, key):
        return self._do(lambda: super(Ailing, self).head(key), is_probe=key == ".probe")

    def put(self, key, data, **options):
        return self._do(lambda: super(Ailing, self).put(key, data, **options))

    def keys(self, prefix="", *, after="", before=""):
        yield from self._do(lambda: super(Ailing, self).keys(prefix, after=after, before=before))

    def find(self, names, endings):
        return self._do(lambda: super(Ailing, self).find(names, endings))

    def presign(self, key, expires, filename):
        return self._do(lambda: super(Ailing, self).presign(key, expires, filename))

    def get(self, key):
        body = super().get(key)
        return body and Broken(body, self)

    def _do(self, call: Callable, is_probe: bool = False):
        self.calls += not is_probe
        self.probes += is_probe
        self.open.wait(20)
        if self.trouble:
            raise self.trouble
        return call()


class Broken:
    """A body that breaks off when its store is ailing."""

    def __init__(self, body, store: Ailing) -> None:
        self.entry, self._body, self._store = body.entry, body, store

    def __iter__(self) -> Iterator[bytes]:
        if self._store.trouble:
            raise self._store.trouble
        yield from self._body

    def __enter__(self):
        self._body.__enter__()
        return self

    def __exit__(self, *why: object) -> None:
        self._body.__exit__(*why)


@pytest.fixture
def store(tmp_path):
    store = Ailing(tmp_path / "originals")
    store.check(create=True)
    store.put("a.jpg", b"picture", media_type="image/jpeg")
    store.calls = 0
    return store


@pytest.fixture
def guarded(store):
    return CircuitBreaker(store, failures=3, pause=PAUSE)


def fail(guarded: CircuitBreaker, times: int = 3) -> None:
    for _ in range(times):
        with pytest.raises(StoreUnavailable):
            guarded.head("a.jpg")


def passes(call: Callable[[], object]) -> None:
    """Asks until it is let through and succeeds."""

    def succeeds() -> bool:
        with contextlib.suppress(StoreUnavailable):
            call()
            return True
        return False

    until(succeeds, "it is let through")


CALLS = {
    "head": lambda guarded: guarded.head("a.jpg"),
    "get": lambda guarded: guarded.get("a.jpg"),
    "put of bytes": lambda guarded: guarded.put("b.jpg", b"1", media_type="image/jpeg"),
    "put of a file": lambda guarded: guarded.put("b.jpg", io.BytesIO(b"1"), media_type="image/jpeg"),
    "delete": lambda guarded: guarded.delete("a.jpg"),
    "a listing": lambda guarded: list(guarded.keys("")),
    "what is called so": lambda guarded: guarded.find(["a"], {".jpg"}),
    "the key of links": lambda guarded: guarded.presign("a.jpg", 1, "a.jpg"),
    "a verified link": lambda guarded: guarded.verify_presigned("a.jpg", "00", "1"),
    "a key of links": lambda guarded: guarded.set_link_key("k" * 32),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_after_failures_in_a_row_nobody_waits(store, guarded, call):
    store.trouble = StoreUnavailable("It is on fire.")
    fail(guarded)
    calls = store.calls
    with pytest.raises(StoreUnavailable, match="asked again in a moment") as raised:
        call(guarded)
    assert store.calls == calls
    assert raised.value.retry_after in (1, 2)


def test_a_failure_now_and_then_is_none(store, guarded):
    for _ in range(5):
        store.trouble = StoreUnavailable("A moment.")
        fail(guarded, 2)
        store.trouble = None
        assert guarded.head("a.jpg").size == 7


@pytest.mark.parametrize(
    "answer", [PreconditionFailed("There is one."), OriginalDamaged("It rotted."), LinksNotConfigured("There is none.")]
)
def test_an_answer_that_nobody_likes_is_an_answer(store, guarded, answer):
    store.trouble = answer
    for _ in range(5):
        with pytest.raises(type(answer)):
            guarded.presign("a.jpg", 1, "a.jpg")
    store.trouble = None
    assert guarded.head("a.jpg").size == 7


def test_absence_is_an_answer(store, guarded):
    assert [guarded.head("nothing") for _ in range(5)] == [None] * 5
    assert guarded.get("nothing") is None
    assert guarded.delete("nothing") is False
    assert guarded.head("a.jpg").size == 7


def test_transfers_that_break_off_count(store, guarded):
    store.trouble = StoreUnavailable("The cable.")
    bodies = [guarded.get("a.jpg") for _ in range(3)]
    for body in bodies:
        with body, pytest.raises(StoreUnavailable):
            list(body)
    with pytest.raises(StoreUnavailable, match="asked again in a moment"):
        guarded.head("a.jpg")


def test_it_closes_when_the_store_answers_again(store, guarded):
    store.trouble = StoreUnavailable("It is on fire.")
    fail(guarded)
    store.trouble = None
    passes(lambda: guarded.head("a.jpg"))
    with ThreadPoolExecutor(8) as threads:
        assert {entry.size for entry in threads.map(lambda _: guarded.head("a.jpg"), range(50))} == {7}


def test_a_try_that_fails_keeps_it_shut_for_as_long_again(store, guarded):
    store.trouble = StoreUnavailable("It is on fire.")
    fail(guarded)
    until(lambda: store.probes >= 3, "it is probed again and again")
    fail(guarded, 1)
    store.trouble = None
    passes(lambda: guarded.head("a.jpg"))


@contextmanager
def frozen(store: Ailing) -> Iterator[None]:
    store.open.clear()
    try:
        yield
    finally:
        store.open.set()


def test_a_frozen_store_holds_a_few_and_no_more(store, guarded):
    """Without a failure: nobody got so far as to be told of one."""

    def seconds_until_refused(_: int) -> float | None:
        began = time.monotonic()
        with contextlib.suppress(StoreUnavailable):
            guarded.head("a.jpg")
            return None
        return time.monotonic() - began

    with ThreadPoolExecutor(40) as threads, frozen(store):
        held = [threads.submit(seconds_until_refused, number) for number in range(4)]
        while held[-1] not in wait(held[-1:], 0.3).done:  # until it is seen that nobody gets an answer
            held.append(threads.submit(seconds_until_refused, len(held)))
            assert len(held) < 20
        refused = [took for took in map(seconds_until_refused, range(200)) if took is not None]
        assert len(refused) == 200
        assert sorted(refused)[-10] < 0.1  # the machine of the tests may be busy
        store.open.set()
        assert [one.result(30) for one in held[:-1]] == [None] * (len(held) - 1)
    passes(lambda: guarded.head("a.jpg"))


def test_uploads_that_take_their_time_are_no_sign_of_anything(store, guarded):
    with ThreadPoolExecutor(8) as threads, frozen(store):
        uploads = [threads.submit(guarded.put, f"{number}.jpg", b"1", media_type="image/jpeg") for number in range(5)]
        until(lambda: store.calls == 5, "all have begun")
        assert guarded.get("a.jpg").entry.size == 7
        store.open.set()
        assert [upload.result(30).size for upload in uploads] == [1] * 5


def test_the_person_at_the_command_line_asks_in_any_case(store, guarded):
    store.trouble = StoreUnavailable("It is on fire.")
    fail(guarded)
    guarded.check()


def test_it_says_what_the_store_says_of_itself(store, guarded):
    assert (guarded.description, guarded.identity, guarded.capabilities) == (
        store.description,
        store.identity,
        store.capabilities,
    )
