"""Hits: one picture of 15 KB that everybody has in memory, asked for over 32 connections; and its 304."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import variants
from bench.load import Client, Run, wrk
from bench.report import Section, Table, middle, ratio, spread
from bench.systems import ImageRepo, NginxCache, NginxStatic, Server, ShippedNginx, Thumbor

if TYPE_CHECKING:
    from bench.__main__ import Bench

CONNECTIONS = 32
_WANTED_BYTES = 15_000


@dataclass
class _Measured:
    """Of one system and status: CPU seconds a request, and what wrk told, of each round."""

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
        measured: dict[tuple[str, int], _Measured] = defaultdict(_Measured)
        for _ in range(bench.rounds):
            for target in targets:
                for status in (200, 304):
                    _one(target, status, bench.seconds, measured[target.server.name, status])
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


def _one(target: _Target, status: int, seconds: float, into: _Measured) -> None:
    headers = {"If-None-Match": target.etag} if status == 304 else {}
    url = f"http://127.0.0.1:{target.server.port}{target.path}"
    before = target.server.cpu()
    run = wrk(url, connections=CONNECTIONS, seconds=seconds, headers=headers)
    into.cpu.append((target.server.cpu() - before) / run.requests)
    into.runs.append(run)


def _tell(section: Section, targets: list[_Target], measured: dict[tuple[str, int], _Measured]) -> None:
    for status in (200, 304):
        base = measured["nginx, static file", status]
        table = Table(
            f"{status}:",
            ["", "bytes", "CPU µs", "× nginx static", "req/s", "of nginx static", "p50 / p99 ms", "errors"],
        )
        for target in targets:
            found = measured[target.server.name, status]
            table.rows.append(
                [
                    target.server.name,
                    f"{target.size:,}" if status == 200 else "0",
                    spread(found.cpu, 1e6),
                    f"{ratio(middle(found.cpu), middle(base.cpu)):.2f}",
                    spread(found.rates),
                    f"{ratio(middle(found.rates), middle(base.rates)):.2f}",
                    _times(found),
                    str(sum(run.errors for run in found.runs)),
                ]
            )
        section.tables.append(table)
        _goals(section, status, measured)


def _times(found: _Measured) -> str:
    p50, p99 = ([getattr(run, name) for run in found.runs] for name in ("p50", "p99"))
    return f"{(middle(p50) or 0) * 1e3:.2f} / {(middle(p99) or 0) * 1e3:.1f}"


def _goals(section: Section, status: int, measured: dict[tuple[str, int], _Measured]) -> None:
    def rate(name: str) -> float | None:
        return middle(measured[name, status].rates) if (name, status) in measured else None

    def cpu(name: str) -> float | None:
        return middle(measured[name, status].cpu) if (name, status) in measured else None

    static, cached, kept = "nginx, static file", "nginx, proxy_cache", variants.keeping_alive()
    front = "image_repo behind the shipped nginx"
    told = f"{status}: "
    section.goal(told + "(a) bare, req/s of nginx static", ratio(rate("image_repo"), rate(static)), 0.25, least=True)
    section.goal(told + "(b) keep-alive, CPU against nginx static", ratio(cpu(kept), cpu(static)), 1.7)
    section.goal(told + "(b) keep-alive, req/s of nginx static", ratio(rate(kept), rate(static)), 0.6, least=True)
    section.goal(
        told + "(c) behind the shipped nginx, req/s of proxy_cache", ratio(rate(front), rate(cached)), 0.9, least=True
    )
    section.goal(told + "bare, CPU: thumbor's against ours", ratio(cpu("thumbor"), cpu("image_repo")), 20, least=True)
