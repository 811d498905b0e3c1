"""Zipf: 4,000 requests for 1,000 variants of 50 originals, some far more often than others, from empty caches."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.load import Answers, connect, each, read_answer
from bench.originals import copy
from bench.report import Section, Table, middle, percentile, ratio, spread
from bench.systems import ImageRepo, Server, Thumbor

if TYPE_CHECKING:
    from bench.__main__ import Bench

REQUESTS, VARIANTS, CONNECTIONS = 4_000, 1_000, 16
#: 50 originals
_SHARES = {"mp24": 10, "mp12": 15, "mp4": 25}
#: rounds over which memory has to stay flat
_LONG = 10
_MB = 1 << 20


@dataclass
class _Measured:
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    repeats: list[float] = field(default_factory=list)
    peak: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    failed: int = 0
    hits: list[float] = field(default_factory=list)


def run(bench: Bench) -> Section:
    section = Section(
        "zipf", f"Zipf: {REQUESTS:,} requests, {VARIANTS:,} variants of 50 originals, {CONNECTIONS} connections"
    )
    folder = bench.folder / "zipf"
    folder.mkdir(parents=True, exist_ok=True)
    used = _originals(bench, folder)
    rounds = max(1, min(bench.rounds, 3))
    with ExitStack() as stack:
        foreign = stack.enter_context(ImageRepo(bench.folder / "image_repo", used, "image_repo, foreign originals"))
        uploaded = stack.enter_context(ImageRepo(bench.folder / "uploaded", {}, "image_repo, uploaded"))
        thumbor = stack.enter_context(Thumbor(bench.folder / "thumbor", bench.thumbor, folder))
        spent = _upload(uploaded, used)
        servers: list[Server] = [foreign, uploaded, thumbor]
        found = {server.name: _Measured() for server in servers}
        for number in range(rounds):
            for server in servers:
                if number and server is not uploaded:  # what came with its upload may stay; the variants are others
                    server.stop()
                    server.forget()
                    server.start()
                _round(server, number, found[server.name])
        for number in range(rounds, _LONG if bench.rounds >= 3 else rounds):
            _round(uploaded, number, found[uploaded.name])
    _tell(section, servers, found, spent)
    return section


def _originals(bench: Bench, folder: Path) -> dict[str, Path]:
    used = {}
    for kind, count in _SHARES.items():
        source = bench.originals[kind]
        for n in range(count):
            used[f"{kind}-{n}"] = copy(source, folder / f"{kind}-{n}{source.suffix}", n)
    return used


def _upload(server: Server, used: dict[str, Path]) -> float:
    """Puts every original through the interface; CPU seconds for all."""
    before = server.cpu()
    for name, path in used.items():
        body = path.read_bytes()
        with connect(server.port) as sock:
            head = f"PUT /images/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            sock.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            status, _, answer, _ = read_answer(sock)
        if status != 201:
            raise RuntimeError(f"{name}: {status} {answer[:300]!r}")
    return server.cpu() - before


def asked(server: Server, number: int) -> list[str]:
    """The requests of a round: always the same, but for widths that are others in each round."""
    dice = random.Random(7)
    names = [f"{kind}-{n}" for kind, count in _SHARES.items() for n in range(count)]
    each_has = VARIANTS // len(names)
    variants = [(name, 100 + 25 * n + number) for name in names for n in range(each_has)]
    dice.shuffle(variants)
    weights = [1 / rank for rank in range(1, len(variants) + 1)]
    return [server.path(name, width) for name, width in dice.choices(variants, weights, k=REQUESTS)]


def _round(server: Server, number: int, into: _Measured) -> None:
    memory: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            memory.append(server.pss())

    watching = threading.Thread(target=watch)
    watching.start()
    before = server.cpu()
    told = each(server.port, asked(server, number), CONNECTIONS)
    into.cpu.append(server.cpu() - before)
    ended.set()
    watching.join()
    into.wall.append(told.wall)
    into.failed += REQUESTS - len(told.good)
    into.peak.append(max(memory, default=0))
    into.after.append(server.pss())
    into.repeats += _repeats(told)


def _repeats(told: Answers) -> list[float]:
    """Seconds of the requests for what was answered before they began."""
    first: dict[str, float] = {}
    for answer in told.good:
        first[answer.path] = min(first.get(answer.path, answer.ended), answer.ended)
    return [answer.seconds for answer in told.good if answer.began > first[answer.path]]


def _tell(section: Section, servers: list[Server], found: dict[str, _Measured], spent: float) -> None:
    columns = ["", "req/s", "CPU s", "repeats p50 / p99 ms", "peak PSS MB", "PSS MB after each round", "failed"]
    table = Table("", columns)
    for server in servers:
        this = found[server.name]
        table.rows.append(
            [
                server.name,
                spread([REQUESTS / wall for wall in this.wall]),
                spread(this.cpu),
                f"{percentile(this.repeats, 0.5) * 1e3:.2f} / {percentile(this.repeats, 0.99) * 1e3:.0f}",
                spread(this.peak, 1 / _MB),
                " ".join(f"{size / _MB:.0f}" for size in this.after),
                str(this.failed),
            ]
        )
    section.tables.append(table)
    section.notes.append(f"The uploads of the 50 originals took {spent:.1f} s of CPU.")
    foreign, uploaded, thumbor = (found[server.name] for server in servers)

    def faster(this: _Measured) -> float | None:
        return ratio(middle(thumbor.wall), middle(this.wall))

    section.goal("foreign: rate against thumbor's", faster(foreign), 2.5, least=True)
    section.goal("foreign: CPU against thumbor's", ratio(middle(foreign.cpu), middle(thumbor.cpu)), 2 / 3)
    section.goal("uploaded: rate against thumbor's", faster(uploaded), 3.3, least=True)
    section.goal("memory of all processes at its peak", max(foreign.peak + uploaded.peak) / _MB, 250, " MB")
    flat = uploaded.after[-1] / uploaded.after[len(uploaded.after) // 3]
    enough = len(uploaded.after) >= _LONG
    section.goal(f"memory after {_LONG} rounds against a third of them", flat if enough else None, 1.05)
    section.goal("p50 of repeats while renders run", percentile(foreign.repeats, 0.5) * 1e3, 1, " ms")
