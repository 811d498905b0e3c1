"""How cost grows: with the pictures of a container, the entries of the disk cache, the clients, and the megapixels."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from bench.load import each, wrk
from bench.originals import copy
from bench.report import Section, Table, middle, spread
from bench.sections.collection import _cpu
from bench.systems import ImageRepo

if TYPE_CHECKING:
    from bench.__main__ import Bench

_LEAST = 1_000
#: pictures of a folder
_FOLDER = 1_000
#: names of one file: file systems allow some ten thousand
_LINKS = 20_000
#: entries of the cache that are read again
_HITS = 500
_CLIENTS = (1, 4, 16, 64)
_ORIGINALS = ("mp1", "mp4", "mp12", "mp24", "mp96")
#: how much more a tenfold number of pictures or entries may cost for each of them
_MOST_GROWTH = 1.5


def run(bench: Bench) -> Section:
    section = Section("growth", "How cost grows")
    section.tables += [
        _pictures(bench, section),
        _entries(bench, section),
        _clients(bench),
        _megapixels(bench, section),
    ]
    return section


def _sizes(bench: Bench) -> list[int]:
    """The powers of ten up to the largest."""
    return [10**n for n in range(3, 7) if _LEAST <= 10**n <= bench.largest]


# -- pictures of a container --------------------------------------------------------------


def _pictures(bench: Bench, section: Section) -> Table:
    table = Table(
        "Small pictures in one container on disk, listed for the first time by the command, then served:",
        ["pictures", "listed: CPU µs each", "start: CPU ms", "a picture by its name: CPU ms", "PSS MB"],
    )
    listed = []
    for count in _sizes(bench):
        server = ImageRepo(bench.folder / "growth", {}, catalogue={"enabled": False})
        _fill(server.folder, count)
        command = [str(Path(sys.executable).parent / "image_repo"), "-y", "config.yml"]
        nothing, everything = (
            _cpu([*command, "warm", below, "xsize=40", "--dry-run"], server.folder) for below in ("nothing/", "")
        )
        listed.append((everything - nothing) / count)
        with server:
            started = server.cpu()
            paths = [f"/images/d{n // _FOLDER}/p{n}?xsize=40" for n in range(0, count, count // 100)]
            each(server.port, paths[:20], 1)
            before = server.cpu()
            told = each(server.port, paths[20:], 1)
            by_name = (server.cpu() - before) / len(told.good)
            figures = (listed[-1] * 1e6, started * 1e3, by_name * 1e3, server.pss() / 1e6)
        table.rows.append([f"{count:,}", *(f"{figure:.3g}" for figure in figures)])
        shutil.rmtree(server.folder)
    section.goal("pictures: listing each of ten times as many", _worst(listed), _MOST_GROWTH, " ×")
    return table


def _fill(folder: Path, count: int) -> None:
    data = folder / "data"
    for number in range(count):
        file = folder / f"original-{number // _LINKS}.jpg"
        if number % _LINKS == 0:
            Image.effect_noise((64, 48), 40).save(file)
        parent = data / f"d{number // _FOLDER}"
        if number % _FOLDER == 0:
            parent.mkdir(parents=True)
        os.link(file, parent / f"p{number}.jpg")


def _worst(costs: list[float]) -> float | None:
    """The greatest step from one size to the next."""
    return max((after / before for before, after in itertools.pairwise(costs)), default=None)


# -- entries of the disk cache ------------------------------------------------------------

_CACHE = """
import os, sys, time
from pathlib import Path
from image_repo.caches.eviction import Bounds
from image_repo.caches.file_cache import FileCache

count, hits, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
body = bytes(2000)
cache = FileCache(folder, Bounds(0), "bench")
for number in range(count):
    cache.put_file(f"p{number}@1+size(300,200).jpg", {}, [body])
cache.close()
began = time.process_time()
cache = FileCache(folder, Bounds(0), "bench")
opened = time.process_time() - began
step = max(1, count // hits)
began = time.process_time()
for number in range(0, count, step):
    assert cache.get(f"p{number}@1+size(300,200).jpg")
hit = (time.process_time() - began) / len(range(0, count, step))
cache.close()
os.sync()  # to remove what was never written to the disk is cheaper, and only a small cache is so young
cache = FileCache(folder, Bounds(count * 4096 * 9 // 10), "bench")
began = time.process_time()
dropped = cache.sweep()
swept = time.process_time() - began
cache.close()
print(opened, hit, swept / count, dropped)
"""


def _entries(bench: Bench, section: Section) -> Table:
    table = Table(
        "Entries of the disk cache, of 2 KB:",
        ["entries", "start: CPU ms", "a hit: CPU µs", "eviction: CPU µs for each entry", "evicted"],
    )
    hits, sweeps = [], []
    for count in _sizes(bench):
        folder = bench.folder / "entries"
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-c", _CACHE, str(count), str(_HITS), str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        opened, hit, swept, dropped = map(float, done.stdout.split())
        table.rows.append(
            [f"{count:,}", f"{opened * 1e3:.3g}", f"{hit * 1e6:.3g}", f"{swept * 1e6:.3g}", f"{dropped:,.0f}"]
        )
        hits.append(hit)
        sweeps.append(swept)
        shutil.rmtree(folder)
    section.goal("entries: a hit among ten times as many", _worst(hits), _MOST_GROWTH, " ×")
    section.goal("entries: evicting from ten times as many, for each", _worst(sweeps), _MOST_GROWTH, " ×")
    return table


# -- clients, megapixels ------------------------------------------------------------------


def _clients(bench: Bench) -> Table:
    table = Table("Clients of one picture in memory:", ["connections", "CPU µs", "req/s", "p50 ms", "p99 ms", "failed"])
    with ImageRepo(bench.folder / "image_repo", {"a": bench.originals["mp1"]}) as ours:
        ours.wait_for_catalogue()
        url = f"http://127.0.0.1:{ours.port}{ours.path('a', 300)}"
        wrk(url, connections=8, seconds=bench.seconds)
        for connections in _CLIENTS:
            cpu, rates, p50, p99, failed = [], [], [], [], 0
            for _ in range(bench.rounds):
                before = ours.cpu()
                told = wrk(url, connections=connections, seconds=bench.seconds)
                cpu.append((ours.cpu() - before) / told.requests)
                rates.append(told.rate)
                p50.append(told.p50)
                p99.append(told.p99)
                failed += told.errors
            table.rows.append(
                [str(connections), spread(cpu, 1e6), spread(rates), spread(p50, 1e3), spread(p99, 1e3), str(failed)]
            )
    return table


def _megapixels(bench: Bench, section: Section) -> Table:
    table = Table("The first variant, → 300, by the size of a JPEG:", ["megapixels", "CPU ms", "CPU ms for each"])
    folder = bench.folder / "originals"
    folder.mkdir(parents=True, exist_ok=True)
    copies = 4 * bench.rounds
    used = {}
    for name in _ORIGINALS:
        source = bench.originals.get(name) or _four_times(bench, folder)
        used |= {f"{name}-{n}": copy(source, folder / f"{name}-{n}.jpg", n) for n in range(copies + 2)}
    each_one = []
    # a sweep would decode originals before they are asked for
    with ImageRepo(bench.folder / "image_repo", used, catalogue={"enabled": False}) as ours:
        ours.wait_until_idle()
        for name in _ORIGINALS:
            each(ours.port, [ours.path(f"{name}-{copies + n}", 300) for n in range(2)], 1)
            costs = []
            for first in range(0, copies, 4):
                before = ours.cpu()
                each(ours.port, [ours.path(f"{name}-{first + n}", 300) for n in range(4)], 2)
                costs.append((ours.cpu() - before) / 4)
            pixels = float(re.sub(r"\D", "", name))
            each_one.append((middle(costs) or 0.0) / pixels)
            table.rows.append([f"{pixels:.0f}", spread(costs, 1e3), f"{each_one[-1] * 1e3:.2f}"])
    section.goal("megapixels: each of 96 against each of 24", each_one[-1] / each_one[-2], _MOST_GROWTH, " ×")
    return table


def _four_times(bench: Bench, folder: Path) -> Path:
    path = folder / "mp96.jpg"
    if not path.exists():
        script = (
            "import sys, pyvips; pyvips.Image.new_from_file(sys.argv[1]).replicate(2, 2).jpegsave(sys.argv[2], Q=85)"
        )
        subprocess.run([str(bench.vips), "-c", script, str(bench.originals["mp24"]), str(path)], check=True)
    return path
