"""Backoff: pauses grow exponentially to a cap, with jitter, and begin anew after a success."""

from __future__ import annotations

import pytest

from image_repo.concurrency.backoff import Backoff


def test_pauses_grow_by_the_factor_up_to_the_cap() -> None:
    backoff = Backoff(1.0, 30.0, jitter=0.0)
    assert [backoff.grow() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_part_of_each_pause_is_random() -> None:
    pauses = {Backoff(1.0, 30.0, jitter=0.5).grow() for _ in range(50)}
    assert len(pauses) > 1
    assert all(0.5 <= pause <= 1.0 for pause in pauses)


def test_failures_during_a_pause_are_counted_as_one() -> None:
    backoff = Backoff(10.0, 60.0, jitter=0.0)
    assert [backoff.fail() for _ in range(3)] == pytest.approx([10, 10, 10], abs=1)


def test_after_a_success_the_next_attempt_is_due_and_pauses_are_short_again() -> None:
    backoff = Backoff(10.0, 60.0, jitter=0.0)
    backoff.grow()
    backoff.fail()
    assert (backoff.is_failing, backoff.left() > 10) == (True, True)
    backoff.reset()
    assert (backoff.is_failing, backoff.left() > 0) == (False, False)
    assert backoff.grow() == 10
