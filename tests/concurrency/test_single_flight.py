"""Single flight: one leader per key, over threads and processes."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from image_repo.concurrency.background import BackgroundWorker
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.errors import BadParameter, BrokenPicture, Problem, RenderTimeout

WAIT = 20.0


def made(folder: Path) -> int:
    return len((folder / "made").read_text().splitlines())


@pytest.fixture(params=["over processes", "in one process"])
def flight(request, tmp_path):
    return SingleFlight(tmp_path / "locks" if request.param == "over processes" else None)


class TestThreads:
    def test_who_asks_meanwhile_gets_what_the_maker_got(self, flight) -> None:
        thing = object()
        inside, release, calls = threading.Event(), threading.Event(), []

        def make() -> object:
            calls.append(1)
            inside.set()
            assert release.wait(WAIT)
            return thing

        with ThreadPoolExecutor(9) as pool:
            leader = pool.submit(flight.do, "key", make, lambda: None, WAIT)
            assert inside.wait(WAIT)
            # A follower's own make would fail the test; it can only wait, or come too late and look again.
            others = [pool.submit(flight.do, "key", make, lambda: thing, WAIT) for _ in range(8)]
            release.set()
            assert {id(future.result(WAIT)) for future in [leader, *others]} == {id(thing)}
        assert len(calls) == 1

    def test_what_is_found_is_not_made(self, flight) -> None:
        assert flight.do("key", lambda: pytest.fail("made"), lambda: "found", WAIT) == "found"

    def test_other_keys_do_not_wait(self, flight) -> None:
        assert flight.do("a", lambda: flight.do("b", lambda: 1, lambda: None, WAIT) + 1, lambda: None, WAIT) == 2

    def test_an_error_is_not_remembered(self, flight) -> None:
        def fail() -> str:
            raise BrokenPicture("cut off")

        with pytest.raises(BrokenPicture):
            flight.do("key", fail, lambda: None, WAIT)
        assert flight.do("key", lambda: "made", lambda: None, WAIT) == "made"

    def test_an_error_is_shared_and_each_thread_has_its_own(self, flight) -> None:
        inside, followers = threading.Event(), 4
        waiting = threading.Semaphore(0)
        raised = BadParameter("crop", "outside", limit=3)

        def fail() -> str:
            inside.set()
            for _ in range(followers):
                assert waiting.acquire(timeout=WAIT)
            raise raised

        def follow() -> Problem:
            future = flight._flights["key"]
            waiting.release()
            with pytest.raises(Problem) as caught:
                future.outcome(time.monotonic() + WAIT)
            return caught.value

        with ThreadPoolExecutor(followers + 1) as pool:
            leader = pool.submit(flight.do, "key", fail, lambda: None, WAIT)
            assert inside.wait(WAIT)
            errors = [future.result(WAIT) for future in [pool.submit(follow) for _ in range(followers)]]
            assert leader.exception(WAIT) is raised
        assert {(type(error), error.detail, error.members["limit"]) for error in errors} == {
            (BadParameter, "outside", 3)
        }
        assert len({id(error) for error in [raised, *errors]}) == followers + 1
        assert all(error.__cause__ is raised for error in errors)

    def test_waiting_has_a_bound(self, flight) -> None:
        inside, release = threading.Event(), threading.Event()

        def make() -> str:
            inside.set()
            assert release.wait(WAIT)
            return "made"

        with ThreadPoolExecutor(1) as pool:
            leader = pool.submit(flight.do, "key", make, lambda: None, WAIT)
            assert inside.wait(WAIT)
            with pytest.raises(RenderTimeout):
                flight.do("key", make, lambda: None, 0.05)
            release.set()
            assert leader.result(WAIT) == "made"

    def test_a_maker_that_is_interrupted_strands_nobody(self, flight) -> None:
        inside, release = threading.Event(), threading.Event()

        def interrupted() -> str:
            inside.set()
            assert release.wait(WAIT)
            raise SystemExit

        with ThreadPoolExecutor(2) as pool:
            leader = pool.submit(flight.do, "key", interrupted, lambda: None, WAIT)
            assert inside.wait(WAIT)
            other = pool.submit(flight.do, "key", lambda: "made", lambda: None, WAIT)
            release.set()
            assert other.result(WAIT) == "made"
            assert isinstance(leader.exception(WAIT), SystemExit)

    def test_what_a_worker_makes_is_made_once_for_requests_too(self, flight) -> None:
        inside, release, calls = threading.Event(), threading.Event(), []

        def make() -> str:
            calls.append(1)
            inside.set()
            assert release.wait(WAIT)
            return "made"

        worker = BackgroundWorker("test", capacity=1)
        begun = flight.start("key", make, WAIT, worker)
        assert inside.wait(WAIT)
        assert flight.start("key", make, WAIT, worker) is begun
        with pytest.raises(RenderTimeout):
            begun.outcome(time.monotonic() + 0.01)
        with ThreadPoolExecutor(1) as pool:
            follower = pool.submit(flight.do, "key", make, lambda: "made", WAIT)
            release.set()
            assert follower.result(WAIT) == begun.outcome(time.monotonic() + WAIT) == "made"
        worker.close()
        assert calls == [1]

    def test_what_a_worker_cannot_take_is_left_to_the_request(self, flight) -> None:
        inside, release = threading.Event(), threading.Event()
        worker = BackgroundWorker("test", capacity=1)
        worker.submit(lambda: (inside.set(), release.wait(WAIT)))
        assert inside.wait(WAIT)
        assert flight.start("a", lambda: "made", WAIT, worker) is not None
        assert flight.start("b", lambda: "made", WAIT, worker) is None
        assert flight.do("b", lambda: "made here", lambda: None, WAIT) == "made here"
        release.set()
        worker.close()

    def test_an_error_in_a_worker_reaches_those_that_wait_and_is_not_remembered(self, flight, caplog) -> None:
        worker = BackgroundWorker("test")

        def fail() -> str:
            raise BrokenPicture("cut off")

        begun = flight.start("key", fail, WAIT, worker)
        with pytest.raises(BrokenPicture):
            begun.outcome(time.monotonic() + WAIT)
        assert flight.do("key", lambda: "made", lambda: None, WAIT) == "made"
        worker.close()
        assert caplog.records == []

    def test_leaves_no_files(self, tmp_path) -> None:
        flight = SingleFlight(tmp_path / "locks")
        for number in range(5):
            flight.do(f"key {number}", lambda: 1, lambda: None, WAIT)
        assert list((tmp_path / "locks").iterdir()) == []

    def test_without_a_folder_that_can_be_used_it_works_in_one_process(self, tmp_path, caplog) -> None:
        (tmp_path / "locks").write_text("a file")
        flight = SingleFlight(tmp_path / "locks")
        with caplog.at_level(logging.WARNING):
            assert [flight.do("key", lambda: 1, lambda: None, WAIT) for _ in range(3)] == [1, 1, 1]
        assert len(caplog.records) == 1


class TestProcesses:
    def test_thirty_two_requests_over_four_processes_make_once(self, start, tmp_path) -> None:
        workers = [start("quick", 8) for _ in range(4)]
        assert [worker.read_line() for worker in workers] == ["ready"] * 4
        for worker in workers:
            worker.go()
        assert [answer for worker in workers for answer in worker.answers()] == ["result"] * 32
        assert made(tmp_path) == 1

    def test_a_killed_maker_strands_nobody(self, start, tmp_path) -> None:
        leader = start("slow")
        assert leader.read_line() == "ready"
        leader.go()
        assert leader.read_line() == "making"
        inside = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(
                SingleFlight(tmp_path / "locks").do, "a/b@1", lambda: inside.set() or "mine", lambda: None, WAIT
            )
            assert not inside.wait(0.2)  # it waits
            leader.kill()
            assert other.result(WAIT) == "mine"
        assert list((tmp_path / "locks").glob("[0-9a-f]*")) == []

    def test_the_problem_of_a_maker_reaches_those_who_wait_in_other_processes(self, start, tmp_path) -> None:
        leader = start("broken")
        assert leader.read_line() == "ready"
        leader.go()
        assert leader.read_line() == "making"
        flight = SingleFlight(tmp_path / "locks")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(flight.do, "a/b@1", lambda: pytest.fail("made"), lambda: None, WAIT)
            wait_for_lock_waiter(tmp_path / "locks")
            leader.go()
            error = waiting.exception(WAIT)
        assert isinstance(error, BadParameter)
        assert (error.detail, error.members) == (
            "Expected a crop inside the picture.",
            {"parameter": "crop", "limit": 3},
        )
        assert flight.do("a/b@1", lambda: "made later", lambda: None, WAIT) == "made later"

    def test_waiting_for_another_process_has_a_bound_and_leaves_no_handle(self, start, tmp_path) -> None:
        leader = start("slow")
        assert leader.read_line() == "ready"
        leader.go()
        assert leader.read_line() == "making"
        handles = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(RenderTimeout):
            SingleFlight(tmp_path / "locks").do("a/b@1", lambda: "mine", lambda: None, 0.05)
        leader.go()
        assert leader.answers() == ["result"]
        assert len(list(Path("/proc/self/fd").iterdir())) <= handles


def wait_for_lock_waiter(folder: Path) -> None:
    """Return when this process has a lock file of another process open (``/proc/PID/fd``, proc_pid_fd(5))."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        for handle in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if handle.readlink().parent == folder:
                    return
    raise AssertionError("nobody waits")
