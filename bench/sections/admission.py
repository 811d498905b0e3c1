"""Admission: hits and ``/livez`` while 500 cold requests are in flight."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.load import Client, each
from bench.originals import copy
from bench.report import Section, Table, middle, percentile, ratio, spread
from bench.systems import HERE, ImageRepo

if TYPE_CHECKING:
    from bench.__main__ import Bench

FLIGHT = 500
_WATCHED = 6.0
_HITS = 4


def run(bench: Bench) -> Section:
    section = Section("admission", f"Admission: {FLIGHT} cold requests for variants of 24 MP originals in flight")
    source, folder = bench.originals["mp24"], bench.folder / "originals"
    folder.mkdir(parents=True, exist_ok=True)
    used = {f"a-{n}": copy(source, folder / f"a-{n}{source.suffix}", n) for n in range(10)}
    calm, busy, livez = [], [], []
    outcomes: Counter[str] = Counter()
    with ExitStack() as stack:
        ours = stack.enter_context(ImageRepo(bench.folder / "image_repo", used))
        hit = ours.path("a-0", 300)
        each(ours.port, [hit] * 40, 4)
        for number in range(bench.rounds):
            calm.append(_watch(ours.port, hit, 2.0)[0])
            # a process of its own, so that it does not take our interpreter's time
            command = [sys.executable, "-m", "bench.flood", str(ours.port), str(FLIGHT), str(_WATCHED + 1), str(number)]
            flood = subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
            time.sleep(1)
            hits, lives = _watch(ours.port, hit, _WATCHED)
            busy.append(hits)
            livez += lives
            told, _ = flood.communicate(timeout=120)
            outcomes.update(json.loads(told))
    _tell(section, calm, busy, livez, outcomes)
    return section


def _watch(port: int, hit: str, seconds: float) -> tuple[list[float], list[float]]:
    """Seconds of each hit, and of each ``/livez``, one after the other."""
    hits, lives, until = [], [], time.monotonic() + seconds
    client = Client(port)
    while time.monotonic() < until:
        lives.append(client.get("/livez").seconds)
        for _ in range(_HITS):
            hits.append(client.get(hit).seconds)
            time.sleep(0.005)
    client.close()
    return hits, lives


def _tell(
    section: Section, calm: list[list[float]], busy: list[list[float]], livez: list[float], outcomes: Counter[str]
) -> None:
    table = Table("", ["", "hits p50 ms", "hits p99 ms", "/livez p50 / worst ms"])
    for name, rounds in (("calm", calm), ("in the flood", busy)):
        lives = f"{percentile(livez, 0.5) * 1e3:.1f} / {max(livez) * 1e3:.0f}" if rounds is busy else ""
        shares = [spread([percentile(one, part) for one in rounds], 1e3) for part in (0.5, 0.99)]
        table.rows.append([name, *shares, lives])
    section.tables.append(table)
    told = ", ".join(f"{status}: {count}" for status, count in sorted(outcomes.items()))
    section.notes.append(f"What the cold requests got, in {len(calm)} rounds: {told}")
    worse = ratio(middle(percentile(one, 0.99) for one in busy), middle(percentile(one, 0.99) for one in calm))
    section.goal("p99 of hits in the flood against without", worse, 2, " ×")
    section.goal("the slowest /livez", max(livez) * 1e3, 50, " ms")
    section.goal("cold requests with another answer than 200 or 503", sum(
        count for status, count in outcomes.items() if status not in ("200", "503")
    ), 0)  # fmt: skip
