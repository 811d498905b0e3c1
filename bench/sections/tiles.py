"""Tiles: what deep zoom asks for, region after region of one 24 megapixel original, at full and at half size."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

from bench.load import each
from bench.originals import copy
from bench.report import Section, Table, percentile, spread
from bench.systems import ImageRepo

if TYPE_CHECKING:
    from pathlib import Path

    from bench.__main__ import Bench

_TILE = 512
#: the regions of a level, as wide as so many tiles
_LEVELS = (1, 2)
#: ending, and how libvips writes it
_HUGE = {
    "JPEG": ("jpg", "jpegsave(sys.argv[2], Q=85)"),
    "TIFF of tiles": ("tif", "tiffsave(sys.argv[2], tile=True, compression='jpeg', Q=85)"),
    "TIFF of strips": ("tif", "tiffsave(sys.argv[2], compression='deflate')"),
}


def run(bench: Bench) -> Section:
    section = Section("tiles", f"Tiles: regions of {_TILE} px of a 24 MP original, one after the other")
    source, folder = bench.originals["mp24"], bench.folder / "originals"
    folder.mkdir(parents=True, exist_ok=True)
    used = {f"t-{n}": copy(source, folder / f"t-{n}{source.suffix}", n) for n in range(bench.rounds)}
    table = Table("", ["region", "the first: ms", "the others: CPU ms", "p50 ms", "p99 ms", "failed"])
    with ImageRepo(bench.folder / "image_repo", used) as ours:
        each(ours.port, [ours.path("t-0", 90 + n) for n in range(8)], 4)
        for level in _LEVELS:
            first, cpu, p50, p99, failed = [], [], [], [], 0
            for name in used:
                paths = _regions(ours, name, level)
                begun = each(ours.port, paths[:1], 1)
                ours.wait_until_idle()
                before = ours.cpu()
                told = each(ours.port, paths[1:], 1)
                cpu.append((ours.cpu() - before) / len(told.all))
                first.append(begun.all[0].seconds)
                times = [answer.seconds for answer in told.all]
                p50.append(percentile(times, 0.5))
                p99.append(percentile(times, 0.99))
                failed += len(paths) - len(told.good) - len(begun.good)
            side = _TILE * level
            table.rows.append(
                [f"{side} × {side} → {_TILE}", *(spread(v, 1e3) for v in (first, cpu, p50, p99)), str(failed)]
            )
            section.goal(f"{side} px → {_TILE}: p50 of a region after the first", percentile(p50, 0.5) * 1e3, 10, " ms")
    section.tables += [table, _iiif(bench, section, used), _huge(bench, section)]
    return section


def _iiif(bench: Bench, section: Section, originals: dict[str, Path]) -> Table:
    """Tiles of the IIIF Image API: the first one of each original, and further ones."""
    table = Table("", ["IIIF tiles at full size", "a full decode: CPU ms", "the first: CPU ms", "the others: CPU ms"])
    first, others = [], []
    with ImageRepo(bench.folder / "image_repo", originals) as ours:
        ours.wait_for_catalogue()
        decodes = [_decode(bench.originals["mp24"]) for _ in originals]
        for name in originals:
            places = [(x, y) for x in range(0, 6000 - _TILE, _TILE) for y in range(0, 4000 - _TILE, _TILE)]
            random.Random(3).shuffle(places)
            size = f"{_TILE},{_TILE}"
            paths = [f"/iiif/3/{name}/{x},{y},{size}/{size}/0/default.jpg" for x, y in places[:40]]
            ours.wait_until_idle()
            before = ours.cpu()
            each(ours.port, paths[:1], 1)
            first.append(ours.cpu() - before)
            ours.wait_until_idle()
            before = ours.cpu()
            told = each(ours.port, paths[1:], 1)
            others.append((ours.cpu() - before) / len(told.good))
    table.rows.append([f"{_TILE} × {_TILE}", *(spread(values, 1e3) for values in (decodes, first, others))])
    against = percentile(first, 0.5) / percentile(decodes, 0.5)
    section.goal("IIIF, the first tile of 24 MP: CPU against a full decode", against, 1.2)
    section.goal("IIIF, further tiles of 24 MP: CPU", percentile(others, 0.5) * 1e3, 5, " ms")
    return table


def _huge(bench: Bench, section: Section) -> Table:
    """The first region of originals of 96 megapixels, and further ones."""
    table = Table(
        "Originals of 96 MP, 512 × 512 at full size:",
        [
            "",
            "a full decode: CPU ms",
            "the first: CPU ms",
            "ratio",
            "then written: CPU ms",
            "the others: CPU ms",
            "PSS MB",
        ],
    )
    for label, (ending, saving) in _HUGE.items():
        path = bench.folder / "originals" / f"huge.{ending}"
        script = f"import sys, pyvips; pyvips.Image.new_from_file(sys.argv[1]).replicate(2, 2).{saving}"
        subprocess.run([str(bench.vips), "-c", script, str(bench.originals["mp24"]), str(path)], check=True)
        decode = _decode(path)
        with ImageRepo(bench.folder / "image_repo", {"huge": path}) as ours:
            ours.wait_for_catalogue()
            ours.wait_until_idle()
            paths = [f"/images/huge?crop={512 * n},{512 * n},512,512" for n in range(12)]
            before = ours.cpu()
            each(ours.port, paths[:1], 1)
            first = ours.cpu() - before
            written = ours.wait_until_idle()
            before = ours.cpu()
            told = each(ours.port, paths[1:], 1)
            others = (ours.cpu() - before) / len(told.all)
            pss = ours.pss() / 1e6
        against = first / decode
        table.rows.append([label, *(f"{value * 1e3:.3g}" for value in (decode, first)), f"{against:.2f}",
                           *(f"{value * 1e3:.3g}" for value in (written, others)), f"{pss:.0f}"])  # fmt: skip
        section.goal(f"{label} of 96 MP, the first region: CPU against a full decode", against, 1.2)
        section.goal(f"{label} of 96 MP, further regions: CPU", others * 1e3, 10, " ms")
    return table


def _decode(path: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    script = "import sys; from PIL import Image; Image.MAX_IMAGE_PIXELS = None; Image.open(sys.argv[1]).load()"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _regions(server: ImageRepo, name: str, level: int) -> list[str]:
    """Of a picture of 6000 × 4000, in the order in which nobody reads."""
    side = _TILE * level
    places = [(x, y) for x in range(0, 6000 - side, side) for y in range(0, 4000 - side, side)]
    random.Random(3).shuffle(places)
    return [f"/images/{name}?crop={x},{y},{side},{side}&xsize={_TILE}" for x, y in places[:40]]
