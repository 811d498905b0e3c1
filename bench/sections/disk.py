"""Disk hits: what another worker, or this server before a restart, has rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.load import each
from bench.report import Section, Table, middle, percentile, spread
from bench.systems import ImageRepo, Server, Thumbor

if TYPE_CHECKING:
    from bench.__main__ import Bench

_VARIANTS = 800
_CONNECTIONS = 2


def run(bench: Bench) -> Section:
    section = Section(
        "disk", f"Disk hits: {_VARIANTS} variants asked for once each after a restart, {_CONNECTIONS} connections"
    )
    original = bench.originals["mp1"]
    ours = ImageRepo(bench.folder / "image_repo", {"mp1": original})
    thumbor = Thumbor(bench.folder / "thumbor", bench.thumbor, original.parent)
    table = Table("", ["", "CPU µs a hit", "p50 µs", "from disk"])
    with ours, thumbor:
        rows = [_measure(server, image, bench.rounds) for server, image in ((ours, "mp1"), (thumbor, original.stem))]
    for cpu, p50, row in rows:
        table.rows.append([row[0], spread(cpu, 1e6), spread(p50, 1e6), row[1]])
    section.tables.append(table)
    section.goal("CPU of a disk hit", (middle(rows[0][0]) or 0) * 1e3, 0.3, " ms")
    return section


def _measure(server: Server, image: str, rounds: int) -> tuple[list[float], list[float], tuple[str, str]]:
    paths = [server.path(image, 50 + n) for n in range(_VARIANTS)]
    each(server.port, paths, 4)
    cpu, p50, layers = [], [], []
    for _ in range(rounds):
        server.restart()
        each(server.port, [server.path(image, 49)] * 60, _CONNECTIONS)  # what is done once in each process
        before = server.cpu()
        told = each(server.port, paths, _CONNECTIONS)
        cpu.append((server.cpu() - before) / len(told.all))
        p50.append(percentile([answer.seconds for answer in told.all], 0.5))
        layers += [answer.layer for answer in told.all]
    share = f"{layers.count('disk') / len(layers):.0%}" if isinstance(server, ImageRepo) else "100%"
    return cpu, p50, (server.name, share)
