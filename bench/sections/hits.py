"""Hits: one picture of 15 KB that everybody has in memory, over 32 connections; its 304; and as browsers ask for it."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import variants
from bench.load import Client, Run, wrk
from bench.report import Section, Table, middle, ratio, spread
from bench.systems import HERE, ImageRepo, NginxCache, NginxStatic, Server, ShippedNginx, Thumbor

if TYPE_CHECKING:
    from bench.__main__ import Bench

CONNECTIONS = 32
_WANTED_BYTES = 15_000
#: what is measured; the last with heads of browsers, no two the same
_CASES = ("200", "304", "200 to browsers")


@dataclass
class _Measured:
    """Of one system and case: CPU seconds a request, and what wrk told, of each round."""

    cpu: list[float] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        return [run.rate for run in self.runs]


@dataclass
class _Target:
    server: Server
    path: str
    etag: str = ""
    size: int = 0


def run(bench: Bench) -> Section:
    section = Section("hits", f"Hits: a picture of 15 KB, {CONNECTIONS} connections")
    with ExitStack() as stack:
        targets = _start(bench, stack)
        measured: dict[tuple[str, str], _Measured] = defaultdict(_Measured)
        for _ in range(bench.rounds):
            for target in targets:
                for case in _CASES:
                    _one(target, case, bench.seconds, measured[target.server.name, case])
    _tell(section, targets, measured)
    return section


def _start(bench: Bench, stack: ExitStack) -> list[_Target]:
    originals = {"mp4": bench.originals["mp4"]}
    ours = stack.enter_context(ImageRepo(bench.folder / "image_repo", originals))
    width = _width(ours)
    files = bench.folder / "static"
    files.mkdir(parents=True, exist_ok=True)
    client = Client(ours.port)
    (files / "picture.jpg").write_bytes(client.get(ours.path("mp4", width)).body)
    client.close()
    static = stack.enter_context(NginxStatic(bench.folder / "nginx_static", files))
    cache = stack.enter_context(NginxCache(bench.folder / "nginx_cache", static))
    inner = ImageRepo(bench.folder / "behind", originals, "image_repo behind nginx")
    front = stack.enter_context(ShippedNginx(bench.folder / "front", inner))
    thumbor = stack.enter_context(Thumbor(bench.folder / "thumbor", bench.thumbor, bench.originals["mp4"].parent))
    others = [
        stack.enter_context(ImageRepo(bench.folder / name.replace(" ", "_"), originals, name, **settings))
        for name, settings in variants.ours()
    ]
    named = bench.originals["mp4"].stem
    targets = [_Target(server, "/picture.jpg") for server in (static, cache)]
    targets += [_Target(server, server.path("mp4", width)) for server in (ours, *others, front)]
    targets.append(_Target(thumbor, thumbor.path(named, width)))
    for target in targets:
        _warm(target)
    return targets


def _width(server: ImageRepo) -> int:
    """How wide the picture has to be for its 15 KB."""
    client = Client(server.port)
    sizes = {width: len(client.get(server.path("mp4", width)).body) for width in range(200, 520, 20)}
    client.close()
    return min(sizes, key=lambda width: abs(sizes[width] - _WANTED_BYTES))


def _warm(target: _Target) -> None:
    """Until every worker has it."""
    for _ in range(40):
        client = Client(target.server.port)
        answer = client.get(target.path)
        client.close()
        if answer.status != 200:
            raise RuntimeError(f"{target.server.name}: {answer.status} {answer.body[:500]!r}")
    target.etag, target.size = answer.headers["etag"], len(answer.body)


def _one(target: _Target, case: str, seconds: float, into: _Measured) -> None:
    headers = {"If-None-Match": target.etag} if case == "304" else {}
    script = HERE / "browsers.lua" if case == "200 to browsers" else None
    url = f"http://127.0.0.1:{target.server.port}{target.path}"
    before = target.server.cpu()
    run = wrk(url, connections=CONNECTIONS, seconds=seconds, headers=headers, script=script)
    into.cpu.append((target.server.cpu() - before) / run.requests)
    into.runs.append(run)


def _tell(section: Section, targets: list[_Target], measured: dict[tuple[str, str], _Measured]) -> None:
    for case in _CASES:
        base = measured["nginx, static file", case]
        table = Table(
            f"{case}:",
            ["", "bytes", "CPU µs", "× nginx static", "req/s", "of nginx static", "p50 / p99 ms", "errors"],
        )
        for target in targets:
            found = measured[target.server.name, case]
            table.rows.append(
                [
                    target.server.name,
                    "0" if case == "304" else f"{target.size:,}",
                    spread(found.cpu, 1e6),
                    f"{ratio(middle(found.cpu), middle(base.cpu)):.2f}",
                    spread(found.rates),
                    f"{ratio(middle(found.rates), middle(base.rates)):.2f}",
                    _times(found),
                    str(sum(run.errors for run in found.runs)),
                ]
            )
        section.tables.append(table)
        _goals(section, case, measured)


def _times(found: _Measured) -> str:
    p50, p99 = ([getattr(run, name) for run in found.runs] for name in ("p50", "p99"))
    return f"{(middle(p50) or 0) * 1e3:.2f} / {(middle(p99) or 0) * 1e3:.1f}"


def _goals(section: Section, case: str, measured: dict[tuple[str, str], _Measured]) -> None:
    static, ours = measured["nginx, static file", case], measured[variants.keeping_alive(), case]
    cached, front, thumbor = (
        measured[name, case] for name in ("nginx, proxy_cache", "image_repo behind the shipped nginx", "thumbor")
    )
    used = middle(ours.cpu)
    most = 2.2 if case == "304" else 1.8
    section.goal(f"{case}: CPU against nginx static", ratio(used, middle(static.cpu)), most)
    section.goal(f"{case}: CPU of the worst round against the median", ratio(max(ours.cpu), used), 1.3)
    section.goal(f"{case}: req/s of nginx static", ratio(middle(ours.rates), middle(static.rates)), 0.6, least=True)
    section.goal(f"{case}: CPU, thumbor's against ours", ratio(middle(thumbor.cpu), used), 20, least=True)
    for name, other in (("proxy_cache", cached), ("nginx static", static)):
        reached = ratio(middle(front.rates), middle(other.rates))
        section.goal(f"{case}: behind the shipped nginx, req/s of {name}", reached, 0.95, least=True)
