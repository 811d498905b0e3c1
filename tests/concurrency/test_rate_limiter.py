"""Budgets per client: exact, over threads and processes."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from image_repo.concurrency.rate_limiter import RateLimiter

_TAKE = """
import sys
from pathlib import Path
from image_repo.concurrency.rate_limiter import RateLimiter
limiter = RateLimiter(30, Path(sys.argv[1]), clock=lambda: 1000.0)
print(sum(limiter.take("a").wait == 0 for _ in range(40)))
"""


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_client_may_take_its_budget_at_once_and_then_one_by_one() -> None:
    clock = Clock()
    limiter = RateLimiter(6, clock=clock)
    taken = [limiter.take("a") for _ in range(7)]
    assert [each.remaining for each in taken] == [5, 4, 3, 2, 1, 0, 0]
    assert [each.wait for each in taken] == [0] * 6 + [10]
    assert taken[-1].reset == 60
    clock.now += 9.9
    assert limiter.take("a").wait == 1
    clock.now += 0.2
    assert limiter.take("a").wait == 0
    clock.now += 3600.0
    assert limiter.take("a").remaining == 5


def test_another_client_has_a_budget_of_its_own() -> None:
    limiter = RateLimiter(1, clock=Clock())
    assert [limiter.take(client).wait for client in ("a", "a", "b")] == [0, 60, 0]


def test_what_was_counted_before_the_machine_started_is_forgotten() -> None:
    clock = Clock()
    limiter = RateLimiter(1, clock=clock)
    limiter.take("a")
    clock.now = 3.0
    assert limiter.take("a").wait == 0


def test_the_headers_are_those_of_the_draft() -> None:
    allowance = RateLimiter(6, clock=Clock()).take("a")
    assert allowance.headers() == [("RateLimit-Policy", '"renders";q=6;w=60'), ("RateLimit", '"renders";r=5;t=10')]


def test_threads_together_get_exactly_the_budget(tmp_path: Path) -> None:
    limiter = RateLimiter(100, tmp_path / "renders", clock=Clock())
    with ThreadPoolExecutor(8) as pool:
        assert sum(each.wait == 0 for each in pool.map(lambda _: limiter.take("a"), range(400))) == 100
    limiter.close()


def test_processes_together_get_exactly_the_budget(tmp_path: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", _TAKE, tmp_path / "renders"], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert sum(int(process.communicate(timeout=60)[0]) for process in running) == 30


def test_where_there_is_no_file_each_process_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limiter = RateLimiter(1, tmp_path / "none" / "renders", clock=Clock())
    assert [limiter.take("a").wait, limiter.take("a").wait] == [0, 60]
    assert "by itself" in caplog.text
