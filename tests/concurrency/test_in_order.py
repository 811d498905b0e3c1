"""Work on several things at a time, with the outcomes in order."""

from __future__ import annotations

import threading

import pytest

from image_repo.concurrency.in_order import map_ahead


def test_outcomes_are_in_order_and_few_items_are_begun_ahead() -> None:
    begun: list[int] = []

    def square(number: int) -> int:
        begun.append(number)
        return number * number

    for number, outcome in enumerate(map_ahead(square, iter(range(200)), 4, 8)):
        assert outcome == number * number
        assert len(begun) - number <= 10


def test_what_is_not_taken_is_discarded() -> None:
    discarded: list[int] = []
    have_begun = threading.Barrier(3)

    def work(number: int) -> int:
        if number:
            have_begun.wait(20)
        return number

    outcomes = map_ahead(work, range(100), 2, 2, discarded.append)
    assert next(outcomes) == 0
    have_begun.wait(20)
    outcomes.close()  # type: ignore[attr-defined]
    assert sorted(discarded) == [1, 2]


def test_an_error_ends_it_after_the_items_that_have_begun() -> None:
    begun: list[int] = []

    def fail(number: int) -> int:
        begun.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        list(map_ahead(fail, range(1000), 2, 4))
    assert len(begun) <= 6
