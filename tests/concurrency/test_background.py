"""Work in the background: bounded, in order, and finished at the end."""

from __future__ import annotations

import threading
import time

import pytest

from image_repo.concurrency.background import BackgroundWorker


@pytest.fixture
def worker():
    worker = BackgroundWorker("test", capacity=2)
    yield worker
    worker.close()


def test_tasks_run_in_order_in_another_thread(worker) -> None:
    threads: list[tuple[int, int]] = []
    for number in range(2):
        worker.submit(lambda number=number: threads.append((number, threading.get_ident())))
    assert worker.flush()
    assert [number for number, _ in threads] == [0, 1]
    assert threading.get_ident() not in {thread for _, thread in threads}


def test_what_exceeds_the_queue_is_run_by_the_caller(worker) -> None:
    started, release = threading.Event(), threading.Event()
    threads: list[int] = []

    def first() -> None:
        started.set()
        release.wait(10)

    worker.submit(first)
    assert started.wait(10)
    for _ in range(3):
        worker.submit(lambda: threads.append(threading.get_ident()))
    assert threads == [threading.get_ident()]
    assert not worker.flush(timeout=0.01)
    release.set()
    assert worker.flush()
    assert len(threads) == 3


def test_a_task_that_fails_is_logged_and_the_next_one_runs(worker, caplog) -> None:
    done = threading.Event()
    worker.submit(lambda: 1 / 0)
    worker.submit(done.set)
    assert worker.flush()
    assert done.is_set()
    assert "background work failed" in caplog.text


def test_closing_finishes_what_was_submitted_and_ends_the_thread() -> None:
    worker = BackgroundWorker("test-closing")
    done: list[int] = []
    for number in range(5):
        worker.submit(lambda number=number: done.append(number))
    worker.close()
    assert done == [0, 1, 2, 3, 4]
    assert "test-closing" not in {thread.name for thread in threading.enumerate()}
    worker.submit(lambda: done.append(5))
    assert done[-1] == 5


def test_several_threads_work_at_a_time_and_what_exceeds_the_queue_is_refused() -> None:
    worker = BackgroundWorker("test", capacity=2, threads=2)
    together, release = threading.Barrier(3), threading.Event()
    for _ in range(2):
        assert worker.offer(lambda: (together.wait(10), release.wait(10)))
    together.wait(10)
    assert [worker.offer(lambda: None) for _ in range(3)] == [True, True, False]
    release.set()
    worker.close()
    assert not worker.offer(lambda: None)


def test_closing_does_not_wait_for_a_task_that_does_not_end() -> None:
    worker, started, release = BackgroundWorker("test"), threading.Event(), threading.Event()
    worker.submit(lambda: (started.set(), release.wait(10)))
    assert started.wait(10)
    began = time.monotonic()
    worker.close(0.05)
    assert time.monotonic() - began < 5
    release.set()
