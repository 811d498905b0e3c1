"""Herd: 200 requests at the same moment for one variant that nobody has, of a 24 megapixel original."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.load import Answers, at_once, each
from bench.originals import copy
from bench.report import Section, Table, middle, percentile, spread
from bench.systems import ImageRepo, Server, Thumbor

if TYPE_CHECKING:
    from bench.__main__ import Bench

HERD = 200


def run(bench: Bench) -> Section:
    section = Section("herd", f"Herd: {HERD} requests at once for one missing variant of a 24 MP original")
    source, folder = bench.originals["mp24"], bench.folder / "originals"
    folder.mkdir(parents=True, exist_ok=True)
    used = {f"h-{n}": copy(source, folder / f"h-{n}{source.suffix}", n) for n in range(2 * bench.rounds + 1)}
    with ExitStack() as stack:
        ours = stack.enter_context(ImageRepo(bench.folder / "image_repo", used))
        thumbor = stack.enter_context(Thumbor(bench.folder / "thumbor", bench.thumbor, folder))
        table = Table(
            "", ["", "original", "renders", "p50 ms", "slowest ms", "a lone one ms", "slowest / lone", "failed"]
        )
        for server in (ours, thumbor):
            each(server.port, [server.path(f"h-{2 * bench.rounds}", 90 + n) for n in range(8)], 4)
            for known in (False, True):
                table.rows.append(_measure(server, bench.rounds, section, known=known))
        floor = [_slowest(at_once(ours.port, [ours.path("h-0", 300)] * HERD)) for _ in range(bench.rounds)]
    section.tables.append(table)
    section.notes.append(f"The same {HERD} requests for what is in memory: the slowest after {spread(floor, 1e3)} ms.")
    return section


def _slowest(told: Answers) -> float:
    return max(answer.seconds for answer in told.all)


def _measure(server: Server, rounds: int, section: Section, *, known: bool) -> list[str]:
    """A lone request and a herd, for originals that nobody has asked for yet, or the same ones afterwards."""
    lone, slowest, p50, renders, failed = [], [], [], [], 0
    width = 280 if known else 300
    for number in range(rounds):
        lone += [each(server.port, [server.path(f"h-{number}", width)], 1).all[0].seconds]
        told = at_once(server.port, [server.path(f"h-{rounds + number}", width)] * HERD)
        failed += HERD - len(told.good)
        slowest.append(_slowest(told))
        p50.append(percentile([answer.seconds for answer in told.all], 0.5))
        renders.append(_renders(told))
    against = (middle(slowest) or 0) / (middle(lone) or 1)
    kind = "seen before" if known else "foreign, first variant"
    if isinstance(server, ImageRepo):
        section.goal(f"{kind}: renders", max(renders), 1)
        section.goal(f"{kind}: the slowest of {HERD} against a lone one", against, 1.5, " ×")
        section.goal(f"{kind}: requests that failed", failed, 0)
    count = f"{max(renders)}" if isinstance(server, ImageRepo) else ""
    times = [spread(values, 1e3) for values in (p50, slowest, lone)]
    return [server.name, kind, count, *times, f"{against:.2f}", str(failed)]


def _renders(told: Answers) -> int:
    """How many of the answers were rendered: those who waited for one share its times."""
    timings = [answer.headers.get("server-timing") for answer in told.good if answer.layer == "rendered"]
    return len(set(timings))
