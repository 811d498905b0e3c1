"""Application threads: few at a time, first come, first served, whatever a holder waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import commands
import pytest

from image_repo.concurrency.limiter import Limiter, Stage, aside, limits
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.server.http_guard import Body


def limiter_of(capacity: int, lease: float = 60.0) -> Limiter:
    """A limiter of application threads alone."""
    return Limiter({Stage.APPLICATION: replace(limits(lease=lease)[Stage.APPLICATION], capacity=capacity)})


@contextmanager
def held(limiter: Limiter, *, waiting: bool = False) -> Iterator[None]:
    """Another thread has a place meanwhile.

    :param waiting: whether it waits for something else with it
    """
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with limiter.application():
            if waiting:
                with aside():
                    entered.set()
                    assert leave.wait(30)
            else:
                entered.set()
                assert leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(30)
    try:
        yield
    finally:
        leave.set()
        thread.join(30)


def in_line(limiter: Limiter, count: int) -> None:
    commands.until(lambda: len(limiter._queues[Stage.APPLICATION]._line) == count, f"{count} stand in line")


def test_as_many_are_let_through_as_there_are_places() -> None:
    limiter, let_in = limiter_of(2), threading.Semaphore(0)

    def enter() -> None:
        with limiter.application():
            let_in.release()

    with held(limiter):
        with held(limiter):
            thread = threading.Thread(target=enter)
            thread.start()
            in_line(limiter, 1)
            assert not let_in.acquire(blocking=False)
        assert let_in.acquire(timeout=30)
        thread.join(30)


def test_who_came_first_is_let_in_first() -> None:
    limiter, order = limiter_of(1), []

    def enter(number: int) -> None:
        with limiter.application():
            order.append(number)

    with ThreadPoolExecutor(10) as pool, held(limiter):
        for number in range(10):
            pool.submit(enter, number)
            in_line(limiter, number + 1)
    assert order == list(range(10))


def test_who_waits_for_something_else_lets_others_in() -> None:
    limiter = limiter_of(1)
    with held(limiter, waiting=True), limiter.application():
        pass


def test_who_has_waited_for_something_else_goes_before_those_who_come() -> None:
    limiter, order = limiter_of(1), []
    is_aside, back = threading.Event(), threading.Event()

    def return_later() -> None:
        with limiter.application():
            with aside():
                is_aside.set()
                assert back.wait(30)
            order.append("returned")

    def come() -> None:
        with limiter.application():
            order.append("came")

    with ThreadPoolExecutor(2) as pool:
        pool.submit(return_later)
        assert is_aside.wait(30)
        with held(limiter):
            pool.submit(come)
            in_line(limiter, 1)
            back.set()
            in_line(limiter, 2)
    assert order == ["returned", "came"]


def test_a_place_that_is_held_for_long_counts_no_more() -> None:
    limiter, order = limiter_of(2, lease=0.025), []

    def enter(number: int) -> None:
        with limiter.application():
            order.append(number)

    with held(limiter), held(limiter), ThreadPoolExecutor(8) as pool:
        for entering in [pool.submit(enter, number) for number in range(8)]:
            entering.result(30)
        assert sorted(order) == list(range(8))
        with held(limiter), held(limiter), limiter.application():  # and whoever holds on again
            pass


def test_a_place_is_given_back_whatever_happens() -> None:
    limiter = limiter_of(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), limiter.application():
            raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError), limiter.application(), aside():
            raise ZeroDivisionError
    with held(limiter):
        pass


def test_within_a_place_one_is_not_asked_for_another() -> None:
    limiter = limiter_of(1)
    with limiter.application(), limiter.application():
        pass
    with aside(), limiter.application(), aside(), aside():
        pass


def test_all_who_wait_for_a_picture_leave_room_for_others() -> None:
    """However many wait for one that is being made, there is a place for who wants something else."""
    limiter, flight = limiter_of(2), SingleFlight(None)
    making, made = threading.Event(), threading.Event()

    def make() -> str:
        making.set()
        assert made.wait(30)
        return "picture"

    def ask() -> str:
        with limiter.application():
            return flight.do("key", make, lambda: None, 30.0)

    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(ask) for _ in range(20)]
        assert making.wait(30)
        with limiter.application():  # a hit
            pass
        with limiter.application():  # something else that is missing
            assert flight.do("other", lambda: "other", lambda: None, 30.0) == "other"
        made.set()
        assert {one.result(30) for one in asked} == {"picture"}


def test_who_waits_for_bytes_of_a_client_leaves_room_for_others() -> None:
    limiter, reading, came = limiter_of(1), threading.Event(), threading.Event()

    def slowly(size: int) -> bytes:
        reading.set()
        assert came.wait(30)
        return b"x" * size

    def upload() -> bytes:
        with limiter.application():
            return Body(slowly, 10, 3).read(3)

    with ThreadPoolExecutor(1) as pool:
        uploading = pool.submit(upload)
        assert reading.wait(30)
        with limiter.application():
            pass
        came.set()
        assert uploading.result(30) == b"xxx"


def test_places_are_free_when_all_have_gone() -> None:
    limiter = limiter_of(3)

    def come_and_go(_: int) -> None:
        with limiter.application(), aside():
            pass

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(come_and_go, range(2_000)))
    assert not limiter._queues[Stage.APPLICATION]._admitted
    assert not limiter._queues[Stage.APPLICATION]._line
