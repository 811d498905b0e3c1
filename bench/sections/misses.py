"""Misses: variants that nobody has, 4 connections, against thumbor and ipx."""

from __future__ import annotations

import random
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.load import each
from bench.originals import copy
from bench.report import Section, Table, middle, percentile, ratio, spread
from bench.systems import ImageRepo, Ipx, Server, Thumbor

if TYPE_CHECKING:
    from bench.__main__ import Bench

_CONNECTIONS = 4
_COPIES = 4


@dataclass(frozen=True)
class _Kind:
    """Outputs of one range of widths from originals of one kind."""

    name: str
    original: str
    least: int
    most: int
    #: in one run
    requests: int = 32
    #: originals whose first variants one run asks for: CPU is counted in steps of 10 ms
    firsts: int = 12


KINDS = (
    _Kind("24 MP → 100..320", "mp24", 100, 320),
    _Kind("24 MP → 321..640", "mp24", 321, 640),
    _Kind("12 MP → 100..640", "mp12", 100, 640),
    _Kind("4 MP → 100..640", "mp4", 100, 640),
    _Kind("24 MP progressive → 100..640", "progressive24", 100, 640, 12, 4),
    _Kind("12 MP PNG → 100..640", "png12", 100, 640, 12, 4),
    _Kind("12 MP HEIC → 100..640", "heic12", 100, 640, 8, 4),
)


#: the most CPU of the first variant, of thumbor's
_FIRST = {
    "24 MP → 100": 1.1,
    "12 MP → 100": 1.1,
    "4 MP": 1.2,
    "24 MP progressive": 1.0,
    "12 MP PNG": 1.0,
    "12 MP HEIC": 1.0,
}


#: the most CPU of two small variants, of thumbor's
_TWO = 1.3


@dataclass
class _Measured:
    cpu: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    failed: int = 0


Found = dict[tuple[str, str, str], _Measured]


def run(bench: Bench) -> Section:
    section = Section("misses", f"Misses: {_CONNECTIONS} connections, quality 82, each variant asked for once")
    folder = bench.folder / "originals"
    folder.mkdir(parents=True, exist_ok=True)
    used = {
        f"{kind.original}-{n}": copy(path, folder / f"{kind.original}-{n}{path.suffix}", n)
        for kind in KINDS
        if (path := bench.originals.get(kind.original))
        for n in range(_COPIES + kind.firsts * bench.rounds)
    }
    kinds = [kind for kind in KINDS if f"{kind.original}-0" in used]
    found: Found = defaultdict(_Measured)
    with ExitStack() as stack:
        # a sweep would decode originals before they are asked for
        ours = ImageRepo(bench.folder / "image_repo", used, catalogue={"enabled": False})
        servers: list[Server] = [ours, Thumbor(bench.folder / "thumbor", bench.thumbor, folder)]
        if bench.ipx:
            servers.append(Ipx(bench.folder / "ipx", bench.ipx, folder))
        for server in servers:
            stack.enter_context(server)
        for kind in kinds:
            for server in servers:  # what is done once in each process, and for each original
                each(server.port, [server.path(f"{kind.original}-{n}", 90) for n in range(_COPIES)] * 2, _CONNECTIONS)
        ours.wait_until_idle()
        for number in range(bench.rounds):
            for kind in kinds:
                for server in servers:
                    _first(server, kind, number, found)
                    _second(server, kind, number, found)
                    _following(server, kind, number, found)
    _tell(section, kinds, [server.name for server in servers], found)
    return section


def _first(server: Server, kind: _Kind, number: int, found: Found) -> None:
    """The first variant of originals that another tool has put there."""
    if kind.least > 320:  # the same originals, known by now
        return
    paths = [server.path(name, 300) for name in _foreign(kind, number)]
    _ask(server, paths, found[server.name, kind.name, "first"])


def _second(server: Server, kind: _Kind, number: int, found: Found) -> None:
    """Another small variant of the same originals; with the first one, two of them."""
    if kind.least > 320:
        return
    another = found[server.name, kind.name, "another"]
    _ask(server, [server.path(name, 200) for name in _foreign(kind, number)], another)
    first, two = found[server.name, kind.name, "first"], found[server.name, kind.name, "two"]
    two.cpu = [one + other for one, other in zip(first.cpu, another.cpu, strict=False)]


def _foreign(kind: _Kind, number: int) -> list[str]:
    """The originals whose first variants a round asks for."""
    begin = _COPIES + kind.firsts * number
    return [f"{kind.original}-{n}" for n in range(begin, begin + kind.firsts)]


def _following(server: Server, kind: _Kind, number: int, found: Found) -> None:
    """Further variants of the originals that were warmed; other widths in each round."""
    widths = list(range(kind.least, kind.most + 1))
    random.Random(1).shuffle(widths)
    mine = widths[number * kind.requests : (number + 1) * kind.requests]
    asked = [(n % _COPIES, width) for n, width in enumerate(mine)]
    paths = [server.path(f"{kind.original}-{n}", width) for n, width in asked]
    _ask(server, paths, found[server.name, kind.name, "following"])


def _ask(server: Server, paths: list[str], into: _Measured) -> None:
    before = server.cpu()
    told = each(server.port, paths, _CONNECTIONS)
    if isinstance(server, ImageRepo):  # what is written after the answer counts
        server.wait_until_idle()
    into.failed += len(paths) - len(told.good)
    if not told.good:
        return
    into.cpu.append((server.cpu() - before) / len(paths))
    into.rates.append(len(told.good) / told.wall)
    into.p50.append(percentile([answer.seconds for answer in told.good], 0.5))


def _tell(section: Section, kinds: list[_Kind], names: list[str], found: Found) -> None:
    for when, title in (
        ("following", "Further variants:"),
        ("first", "The first variant of a foreign original, → 300:"),
        ("another", "Another small variant of it, → 200:"),
    ):
        table = Table(title, ["", "", "CPU ms", "thumbor's / its", "req/s", "its / thumbor's", "p50 ms", "failed"])
        for kind in kinds:
            base = found[("thumbor", kind.name, when)]
            for name in names:
                this = found[(name, kind.name, when)]
                if this.cpu or this.failed:
                    table.rows.append([kind.name if name == names[0] else "", name, *_figures(this, base)])
        section.tables.append(table)
    _goals(section, found)


def _figures(this: _Measured, base: _Measured) -> list[str]:
    cpu, rate = ratio(middle(base.cpu), middle(this.cpu)), ratio(middle(this.rates), middle(base.rates))
    return [
        spread(this.cpu, 1e3), f"{cpu:.2f}" if cpu else "–", spread(this.rates),
        f"{rate:.2f}" if rate else "–", spread(this.p50, 1e3), str(this.failed),
    ]  # fmt: skip


def _goals(section: Section, found: Found) -> None:
    def cpu(kind: str, when: str = "following") -> float | None:
        """image_repo's CPU against thumbor's."""
        name = next(one.name for one in KINDS if one.name.startswith(kind))
        return ratio(middle(found["image_repo", name, when].cpu), middle(found["thumbor", name, when].cpu))

    section.goal("24 MP → 100..320: CPU against thumbor's", cpu("24 MP → 100"), 1 / 3)
    section.goal("24 MP → 321..640: CPU against thumbor's", cpu("24 MP → 321"), 1 / 2)
    mix = [kind.name for kind in KINDS if kind.original == "mp24"]
    for peer in ("thumbor", "ipx"):
        # the mix of both ranges, half and half
        times = {
            name: sum(1 / (middle(found[name, kind, "following"].rates) or float("inf")) for kind in mix)
            for name in ("image_repo", peer)
        }
        section.goal(
            f"24 MP, both ranges: req/s against {peer}'s",
            ratio(times[peer] or None, times["image_repo"]),
            3,
            least=True,
        )
    for kind in ("24 MP progressive", "12 MP PNG", "12 MP HEIC"):
        against = cpu(kind)
        section.goal(f"{kind}: thumbor's CPU against ours", 1 / against if against else None, 8, least=True)
    for kind in ("24 MP → 100", "12 MP → 100", "4 MP"):
        section.goal(f"{kind}, two small variants: CPU against thumbor's", cpu(kind, "two"), _TWO)
    for kind, most in _FIRST.items():
        section.goal(f"{kind}, first variant: CPU against thumbor's", cpu(kind, "first"), most)
    section.goal("4 MP: CPU against thumbor's", cpu("4 MP"), 1.0)
