"""The turnstile: few at a time, first come, first served, and nobody is kept out by whatever a holder waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import commands
import pytest

from image_repo.concurrency.single_flight import SingleFlight
from image_repo.concurrency.turnstile import Turnstile, aside
from image_repo.wsgi import Body


@pytest.fixture
def for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places count for as long as they are held."""
    monkeypatch.setattr("image_repo.concurrency.turnstile.LENT", 60.0)


@contextmanager
def held(turnstile: Turnstile, *, waiting: bool = False) -> Iterator[None]:
    """Another thread has a place meanwhile.

    :param waiting: whether it waits for something else with it
    """
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with turnstile.place():
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


def in_line(turnstile: Turnstile, count: int) -> None:
    commands.until(lambda: len(turnstile._line) == count, f"{count} stand in line")


@pytest.mark.usefixtures("for_good")
def test_as_many_are_let_through_as_there_are_places() -> None:
    turnstile, let_in = Turnstile(2), threading.Semaphore(0)

    def enter() -> None:
        with turnstile.place():
            let_in.release()

    with held(turnstile):
        with held(turnstile):
            thread = threading.Thread(target=enter)
            thread.start()
            in_line(turnstile, 1)
            assert not let_in.acquire(blocking=False)
        assert let_in.acquire(timeout=30)
        thread.join(30)


@pytest.mark.usefixtures("for_good")
def test_who_came_first_is_let_in_first() -> None:
    turnstile, order = Turnstile(1), []

    def enter(number: int) -> None:
        with turnstile.place():
            order.append(number)

    with ThreadPoolExecutor(10) as pool, held(turnstile):
        for number in range(10):
            pool.submit(enter, number)
            in_line(turnstile, number + 1)
    assert order == list(range(10))


@pytest.mark.usefixtures("for_good")
def test_who_waits_for_something_else_lets_others_in() -> None:
    turnstile = Turnstile(1)
    with held(turnstile, waiting=True), turnstile.place():
        pass


@pytest.mark.usefixtures("for_good")
def test_who_has_waited_for_something_else_goes_before_those_who_come() -> None:
    turnstile, order = Turnstile(1), []
    is_aside, back = threading.Event(), threading.Event()

    def return_later() -> None:
        with turnstile.place():
            with aside():
                is_aside.set()
                assert back.wait(30)
            order.append("returned")

    def come() -> None:
        with turnstile.place():
            order.append("came")

    with ThreadPoolExecutor(2) as pool:
        pool.submit(return_later)
        assert is_aside.wait(30)
        with held(turnstile):
            pool.submit(come)
            in_line(turnstile, 1)
            back.set()
            in_line(turnstile, 2)
    assert order == ["returned", "came"]


def test_a_place_that_is_held_for_long_counts_no_more() -> None:
    turnstile, order = Turnstile(2), []

    def enter(number: int) -> None:
        with turnstile.place():
            order.append(number)

    with held(turnstile), held(turnstile), ThreadPoolExecutor(8) as pool:
        for entering in [pool.submit(enter, number) for number in range(8)]:
            entering.result(30)
        assert sorted(order) == list(range(8))
        with held(turnstile), held(turnstile), turnstile.place():  # and whoever holds on again
            pass


@pytest.mark.usefixtures("for_good")
def test_a_place_is_given_back_whatever_happens() -> None:
    turnstile = Turnstile(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), turnstile.place():
            raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError), turnstile.place(), aside():
            raise ZeroDivisionError
    with held(turnstile):
        pass


@pytest.mark.usefixtures("for_good")
def test_within_a_place_one_is_not_asked_for_another() -> None:
    turnstile = Turnstile(1)
    with turnstile.place(), turnstile.place():
        pass
    with aside(), turnstile.place(), aside(), aside():
        pass


@pytest.mark.usefixtures("for_good")
def test_all_who_wait_for_a_picture_leave_room_for_others() -> None:
    """However many wait for one that is being made, there is a place for who wants something else."""
    turnstile, flight = Turnstile(2), SingleFlight(None)
    making, made = threading.Event(), threading.Event()

    def make() -> str:
        making.set()
        assert made.wait(30)
        return "picture"

    def ask() -> str:
        with turnstile.place():
            return flight.do("key", make, lambda: None, 30.0)

    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(ask) for _ in range(20)]
        assert making.wait(30)
        with turnstile.place():  # a hit
            pass
        with turnstile.place():  # something else that is missing
            assert flight.do("other", lambda: "other", lambda: None, 30.0) == "other"
        made.set()
        assert {one.result(30) for one in asked} == {"picture"}


@pytest.mark.usefixtures("for_good")
def test_who_waits_for_bytes_of_a_client_leaves_room_for_others() -> None:
    turnstile, reading, came = Turnstile(1), threading.Event(), threading.Event()

    def slowly(size: int) -> bytes:
        reading.set()
        assert came.wait(30)
        return b"x" * size

    def upload() -> bytes:
        with turnstile.place():
            return Body(slowly, 10, 3).read(3)

    with ThreadPoolExecutor(1) as pool:
        uploading = pool.submit(upload)
        assert reading.wait(30)
        with turnstile.place():
            pass
        came.set()
        assert uploading.result(30) == b"xxx"


def test_places_are_free_when_all_have_gone() -> None:
    turnstile = Turnstile(3)

    def come_and_go(_: int) -> None:
        with turnstile.place(), aside():
            pass

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(come_and_go, range(2_000)))
    assert not turnstile._counted
    assert not turnstile._line
