"""The deadline of a request: every wait takes what is left of it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from image_repo.concurrency import deadline
from image_repo.concurrency.limiter import Limit, Limiter, Stage
from image_repo.concurrency.locks import KeyedLock
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.errors import Busy, RenderTimeout
from image_repo.server.http_guard import Body

WAIT = 20.0


def test_without_a_request_a_wait_has_its_own_timeout() -> None:
    assert deadline.left(7.0) == pytest.approx(7.0, abs=1)


def test_a_wait_has_what_is_left_of_the_request() -> None:
    with deadline.limited(3.0):
        assert deadline.left(7.0) == pytest.approx(3.0, abs=1)
        assert deadline.left(1.0) == pytest.approx(1.0, abs=0.5)
    assert deadline.left(7.0) == pytest.approx(7.0, abs=1)


def test_an_inner_deadline_does_not_move_the_outer_one() -> None:
    with deadline.limited(3.0), deadline.limited(60.0):
        assert deadline.left(60.0) == pytest.approx(3.0, abs=1)


def test_the_time_of_work_is_not_counted() -> None:
    with deadline.limited(0.05):
        with deadline.suspended():
            threading.Event().wait(0.1)
        assert deadline.left(WAIT) > 0


def test_other_threads_have_no_part_in_it() -> None:
    with deadline.limited(0.0), ThreadPoolExecutor(1) as pool:
        assert pool.submit(deadline.left, 5.0).result(WAIT) == pytest.approx(5.0, abs=1)


@pytest.fixture(params=["over processes", "in one process"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "locks" if request.param == "over processes" else None


def test_locks_single_flight_and_limiter_share_one_deadline(folder: Path | None) -> None:
    """Three waits of up to 20 s each end together, after half a second."""
    lock, flight = KeyedLock(folder), SingleFlight(folder)
    limiter = Limiter({Stage.RENDER: Limit(1, 8, is_node_wide=True)}, folder)
    inside, release = threading.Barrier(4), threading.Event()

    def hold_lock() -> None:
        with lock.held("name", WAIT):
            inside.wait(WAIT)
            assert release.wait(WAIT)

    def hold_slot() -> None:
        with limiter.slot(WAIT):
            inside.wait(WAIT)
            assert release.wait(WAIT)

    def lead() -> str:
        inside.wait(WAIT)
        assert release.wait(WAIT)
        return "made"

    with ThreadPoolExecutor(3) as pool:
        holders = [
            pool.submit(hold_lock),
            pool.submit(hold_slot),
            pool.submit(flight.do, "key", lead, lambda: None, WAIT),
        ]
        inside.wait(WAIT)
        began = time.monotonic()
        with deadline.limited(0.5):
            with pytest.raises(Busy), lock.held("name", WAIT):
                pass
            with pytest.raises(Busy), limiter.slot(WAIT):
                pass
            with pytest.raises(RenderTimeout):
                flight.do("key", lead, lambda: None, WAIT)
        took = time.monotonic() - began
        release.set()
        for holder in holders:
            holder.result(WAIT)
    assert 0.5 <= took < 5


def test_the_time_in_which_a_body_arrives_is_not_counted() -> None:
    def read_slowly(size: int) -> bytes:
        threading.Event().wait(0.1)
        return b"x" * size

    with deadline.limited(0.05):
        assert Body(read_slowly, 10, 3).read(3) == b"xxx"
        assert deadline.left(WAIT) > 0
