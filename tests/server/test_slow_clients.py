"""The doorkeeper's round; what it does to connections is tested at the running server."""

from __future__ import annotations

import itertools

import pytest

from image_repo.server.slow_clients import _TICKS, SlowClientReaper


class Ended(BaseException):
    """The test is over."""


@pytest.mark.parametrize("there", [1, 7, _TICKS, 3 * _TICKS])
def test_threads_are_taken_note_of_when_they_are_there_and_again_a_moment_later(there: int) -> None:
    told: list[int] = []
    ticks = itertools.count()
    now = 0

    def rest(_: float) -> None:
        nonlocal now
        now = next(ticks) + 1
        if now > 6 * _TICKS:
            raise Ended

    keeper = SlowClientReaper(0, 1.0, 1.0, lambda: now >= there, ready=lambda: told.append(now), rest=rest)
    with pytest.raises(Ended):
        keeper._run()
    assert told == [there, there + _TICKS]
