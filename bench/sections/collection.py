"""A collection larger than the cache: thumbnails of every picture, another size of them, and the first again."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.originals import copy
from bench.report import Section, Table, ratio
from bench.systems import HERE, ImageRepo

if TYPE_CHECKING:
    from bench.__main__ import Bench

#: names in the container, which are hard links of so many files
_NAMES = (600, 5_000)
_FILES = 100
#: widths in the order in which they are wanted
_PASSES = (("first size", 320), ("second size", 200), ("first size again", 320))
_GOALS = {(600, "first size"): 1.1, (600, "second size"): 1 / 3, (5_000, "second size"): 1.0}


def run(bench: Bench) -> Section:
    section = Section("collection", "A collection: image_repo warm, 12 MP photographs, default settings, no server")
    table = Table("", ["names", "", "CPU ms each", "of libvips", "disk cache MiB"])
    folder = bench.folder / "originals"
    folder.mkdir(parents=True, exist_ok=True)
    source = bench.originals["mp12"]
    files = [copy(source, folder / f"c-{number}{source.suffix}", number) for number in range(_FILES)]
    for names in _NAMES:
        _measure(bench, files, names, table, section)
    section.tables.append(table)
    return section


def _measure(bench: Bench, files: list[Path], names: int, table: Table, section: Section) -> None:
    server = ImageRepo(bench.folder / "collection", {}, catalogue={"reconcile": 0})
    data = server.folder / "data"
    data.mkdir()
    for number in range(names):
        os.link(files[number % len(files)], data / f"p{number:05}{files[0].suffix}")
    target = bench.folder / "thumbnails"
    target.mkdir(exist_ok=True)
    vips = [str(bench.vips), str(HERE / "vips_thumbnails.py")]
    for label, width in _PASSES:
        command = [str(Path(sys.executable).parent / "image_repo"), "-y", "config.yml", "warm", "", f"xsize={width}"]
        ours = _cpu(command, server.folder) / names
        theirs = _cpu([*vips, str(width), str(target), *map(str, files)], target) / len(files)
        size = sum(path.stat().st_size for path in (server.folder / "cache").rglob("*") if path.is_file())
        of_libvips = ratio(ours, theirs)
        table.rows.append([f"{names:,}", label, f"{ours * 1e3:.3g}", f"{of_libvips:.2f}", f"{size / 2**20:,.0f}"])
        if (names, label) in _GOALS:
            section.goal(f"{names:,} names, {label}: CPU against libvips", of_libvips, _GOALS[names, label])
        section.goal(f"{names:,} names, {label}: disk cache", size / 2**20, 1024, " MiB")


def _cpu(command: list[str], folder: Path) -> float:
    """CPU seconds of a command and what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
