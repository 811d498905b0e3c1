"""Progress of long verbs: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import click

#: adds to the number of finished steps
Step = Callable[[int], object]
#: begins to report on a task: its label and number of steps
Bar = Callable[[str, int], AbstractContextManager[Step]]

LINE_INTERVAL_S = 5.0


@contextmanager
def report_progress(label: str, length: int) -> Iterator[Step]:
    """Report progress on standard error.

    :param length: number of steps
    """
    if sys.stderr.isatty():
        with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
            yield bar.update
    else:
        yield ProgressLines(label, length).add


class ProgressLines:
    """Progress as lines, for logs and pipes.

    :param interval_s: seconds between lines
    :param clock: seconds
    """

    def __init__(
        self,
        label: str,
        length: int,
        *,
        interval_s: float = LINE_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._length = length
        self._interval_s = interval_s
        self._clock = clock
        self._count = 0
        self._start = self._last_line = clock()
        click.echo(f"{label}: {length}", err=True)

    def add(self, steps: int) -> None:
        """Add finished steps."""
        self._count += steps
        now = self._clock()
        if now - self._last_line < self._interval_s or not self._count:
            return
        self._last_line = now
        remaining_s = (now - self._start) / self._count * max(0, self._length - self._count)
        share = min(1.0, self._count / self._length) if self._length else 1.0
        click.echo(
            f"{self._label}: {self._count} of {self._length} ({share:.0%}), {_duration(remaining_s)} left", err=True
        )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
