"""Never starved: how soon a new connection is answered while 500 say nothing, say it slowly, or stay."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench import variants
from bench.load import Client, loitering
from bench.report import Section, Table, percentile
from bench.systems import ImageRepo, Server, ShippedNginx

if TYPE_CHECKING:
    from bench.__main__ import Bench

HELD = 500
_WATCHED = 5.0
_ASKED = "GET /livez HTTP/1.1\r\nHost: localhost\r\n"
#: kind: what each connection says at once, and what after, a byte every half second
_KINDS: Mapping[str, tuple[bytes, bytes]] = {
    "silent": (b"", b""),
    "slow heads": (_ASKED.encode(), b"X-Slow: 0123456789012345678901234567890123456789"),
    "idle after an answer": (f"{_ASKED}\r\n".encode(), b""),
}


def run(bench: Bench) -> Section:
    section = Section("starvation", f"Starvation: {HELD} idle or slow connections are open")
    originals = {"mp1": bench.originals["mp1"]}
    servers: list[Server] = [ImageRepo(bench.folder / "image_repo", originals)]
    servers += [ImageRepo(bench.folder / name.replace(" ", "_"), originals, name, **s) for name, s in variants.ours()]
    inner = ImageRepo(bench.folder / "behind", originals, "inner")
    servers.append(ShippedNginx(bench.folder / "front", inner))
    table = Table(
        f"A new connection every 50 ms for {_WATCHED:g} s, a hit in memory, ms:", ["", "held", "p50", "worst"]
    )
    for server in servers:
        with server:
            path = server.path("mp1", 300)
            _ask(server.port, path)
            for kind, (first, drip) in _KINDS.items():
                with loitering(server.port, HELD, first, drip):
                    waits = _watch(server.port, path)
                worst = max(waits)
                table.rows.append([server.name, kind, f"{percentile(waits, 0.5) * 1e3:.1f}", f"{worst * 1e3:.0f}"])
                section.goal(f"{server.name}, {kind}: the slowest new connection", worst * 1e3, 50, " ms")
    section.tables.append(table)
    return section


def _watch(port: int, path: str) -> list[float]:
    waits, until = [], time.monotonic() + _WATCHED
    while time.monotonic() < until:
        waits.append(_ask(port, path))
        time.sleep(0.05)
    return waits


def _ask(port: int, path: str) -> float:
    """Seconds from before the connection is made to the end of the answer."""
    client = Client(port)
    try:
        return client.get(path).seconds
    finally:
        client.close()
