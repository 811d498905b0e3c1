"""Progress of long verbs where there is no terminal."""

from __future__ import annotations

import pytest

from image_repo.cli.progress import ProgressLines


def test_a_line_with_the_remaining_time_is_printed_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 1.0, 4.9, 5.0, 9.0, 10.0])
    lines = ProgressLines("Uploading", 400, interval_s=5.0, clock=lambda: next(times))
    for _ in range(5):
        lines.add(10)
    assert capsys.readouterr().err.splitlines() == [
        "Uploading: 400",
        "Uploading: 30 of 400 (8%), 1 min 2 s left",
        "Uploading: 50 of 400 (12%), 1 min 10 s left",
    ]


def test_more_steps_than_announced_are_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 7200.0])
    ProgressLines("Reading", 2, interval_s=5.0, clock=lambda: next(times)).add(3)
    assert capsys.readouterr().err.splitlines()[1] == "Reading: 3 of 2 (100%), 0 s left"
