"""The limiter: application threads and render slots, a few at a time, first come, first served."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import commands
import pytest

from image_repo.concurrency.limiter import Limiter, Stage, aside, limits
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.errors import Busy
from image_repo.server.http_guard import Body

WAIT = 20.0


def application_of(capacity: int, lease: float = 60.0) -> Limiter:
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
    limiter, let_in = application_of(2), threading.Semaphore(0)

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
    limiter, order = application_of(1), []

    def enter(number: int) -> None:
        with limiter.application():
            order.append(number)

    with ThreadPoolExecutor(10) as pool, held(limiter):
        for number in range(10):
            pool.submit(enter, number)
            in_line(limiter, number + 1)
    assert order == list(range(10))


def test_who_waits_for_something_else_lets_others_in() -> None:
    limiter = application_of(1)
    with held(limiter, waiting=True), limiter.application():
        pass


def test_who_has_waited_for_something_else_goes_before_those_who_come() -> None:
    limiter, order = application_of(1), []
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
    limiter, order = application_of(2, lease=0.025), []

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
    limiter = application_of(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), limiter.application():
            raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError), limiter.application(), aside():
            raise ZeroDivisionError
    with held(limiter):
        pass


def test_within_a_place_one_is_not_asked_for_another() -> None:
    limiter = application_of(1)
    with limiter.application(), limiter.application():
        pass
    with aside(), limiter.application(), aside(), aside():
        pass


def test_all_who_wait_for_a_picture_leave_room_for_others() -> None:
    """However many wait for one that is being made, there is a place for who wants something else."""
    limiter, flight = application_of(2), SingleFlight(None)
    making, made = threading.Event(), threading.Event()

    def make() -> str:
        making.set()
        assert made.wait(30)
        return "picture"

    def ask() -> str:
        with limiter.application():
            return flight.do("key", make, lambda: None, 30.0)

    with ThreadPoolExecutor(20) as pool:
        requests = [pool.submit(ask) for _ in range(20)]
        assert making.wait(30)
        with limiter.application():  # a hit
            pass
        with limiter.application():  # something else that is missing
            assert flight.do("other", lambda: "other", lambda: None, 30.0) == "other"
        made.set()
        assert {one.result(30) for one in requests} == {"picture"}


def test_who_waits_for_bytes_of_a_client_leaves_room_for_others() -> None:
    limiter, reading, came = application_of(1), threading.Event(), threading.Event()

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
    limiter = application_of(3)

    def come_and_go(_: int) -> None:
        with limiter.application(), aside():
            pass

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(come_and_go, range(2_000)))
    assert not limiter._queues[Stage.APPLICATION]._admitted
    assert not limiter._queues[Stage.APPLICATION]._line


# -- render slots ----------------------------------------------------------------------


def limiter_of(folder: Path | None, renders: int, queue: int) -> Limiter:
    return Limiter(limits(renders=renders, queue=queue), folder)


@pytest.fixture(params=["over processes", "in one process"])
def folder(request, tmp_path):
    return tmp_path / "locks" if request.param == "over processes" else None


class TestRenderSlots:
    def test_as_many_as_may_run_at_once(self, folder) -> None:
        limiter = limiter_of(folder, 3, 64)
        lock, running, most = threading.Lock(), 0, 0
        all_in = threading.Barrier(3)

        def work(_: int) -> None:
            nonlocal running, most
            with limiter.slot(WAIT):
                with lock:
                    running += 1
                    most = max(most, running)
                all_in.wait(WAIT)  # three at a time can pass, and no fewer
                with lock:
                    running -= 1

        with ThreadPoolExecutor(30) as pool:
            list(pool.map(work, range(30)))
        assert most == 3

    def test_the_queue_is_bounded(self, folder) -> None:
        limiter = limiter_of(folder, 1, 0)
        with limiter.slot(WAIT), pytest.raises(Busy) as caught, limiter.slot(WAIT):
            pass
        assert caught.value.retry_after
        with limiter.slot(WAIT):
            pass

    def test_waiting_has_a_bound(self, folder) -> None:
        limiter = limiter_of(folder, 1, 8)
        with limiter.slot(WAIT), pytest.raises(Busy), limiter.slot(0.05):
            pass

    def test_an_error_frees_the_slot(self, folder) -> None:
        limiter = limiter_of(folder, 1, 0)
        with pytest.raises(ValueError, match="broken"), limiter.slot(WAIT):
            raise ValueError("broken")
        with limiter.slot(0.0):
            pass

    def test_those_who_wait_go_on_in_their_order(self, folder) -> None:
        limiter = limiter_of(folder, 1, 64)
        order: list[int] = []

        def work(number: int) -> None:
            with limiter.slot(WAIT):
                order.append(number)

        with ThreadPoolExecutor(8) as pool, limiter.slot(WAIT):
            for number in range(8):
                pool.submit(work, number)
                deadline = time.monotonic() + WAIT
                while len(limiter._queues[Stage.RENDER]._line) <= number and time.monotonic() < deadline:
                    threading.Event().wait(0.001)
        assert order == list(range(8))

    def test_counts_over_processes_and_a_killed_holder_frees_its_slot(self, start, tmp_path) -> None:
        holders = [start("hold"), start("hold")]
        for holder in holders:
            assert holder.read_line() == "ready"
            holder.go()
            assert holder.read_line() == "holding"
        limiter = limiter_of(tmp_path / "locks", 2, 64)
        with pytest.raises(Busy), limiter.slot(0.05):
            pass
        holders[0].kill()
        with limiter.slot(WAIT), pytest.raises(Busy), limiter.slot(0.05):
            pass
        holders[1].go()
        assert holders[1].read_line() == "freed"
        with limiter.slot(WAIT), limiter.slot(WAIT):
            pass

    def test_a_folder_that_is_deleted_is_made_again(self, tmp_path) -> None:
        limiter = limiter_of(tmp_path / "locks", 1, 0)
        with limiter.slot(WAIT):
            pass
        for path in (tmp_path / "locks").iterdir():
            path.unlink()
        (tmp_path / "locks").rmdir()
        with limiter.slot(WAIT), pytest.raises(Busy), limiter_of(tmp_path / "locks", 1, 0).slot(WAIT):
            pass

    def test_without_a_folder_that_can_be_used_it_counts_its_threads(self, tmp_path, caplog) -> None:
        (tmp_path / "locks").write_text("a file")
        limiter = limiter_of(tmp_path / "locks", 1, 0)
        with caplog.at_level(logging.WARNING), limiter.slot(WAIT), pytest.raises(Busy), limiter.slot(WAIT):
            pass
        assert len(caplog.records) == 1


def test_heavy_work_runs_alone_beside_light_work(tmp_path):
    limiter = limiter_of(tmp_path / "locks", 3, 8)
    with limiter.slot(1, heavy=True):
        with limiter.slot(1):
            pass
        with pytest.raises(Busy), limiter.slot(0.05, heavy=True):
            pass
    with limiter.slot(1, heavy=True):
        pass
