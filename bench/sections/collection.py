"""A collection larger than the cache: thumbnails of every picture, another size of them, and the first again.

And an export of one whose records are not made yet.
"""

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
#: photographs of the export, and how many of libvips' a CPU second it has to make in each pass
_EXPORTED = 1_000
_EXPORT_GOALS = (("first size", 320, 0.9), ("second size", 200, 3.0))
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
    section.tables.append(_exported(bench, files, section))
    return section


def _exported(bench: Bench, files: list[Path], section: Section) -> Table:
    columns = ["", "CPU ms each", "libvips: CPU ms each", "photographs a CPU second, of libvips'"]
    table = Table(f"image_repo export of {_EXPORTED:,} photographs, no records before", columns)
    server = _container(bench, files, "exported", _EXPORTED)
    for label, width, goal in _EXPORT_GOALS:
        ours = _cpu(_command("export", f"xsize={width}", "-o", f"{width}.zip"), server.folder) / _EXPORTED
        theirs = _libvips(bench, files, width)
        rate = ratio(theirs, ours)
        table.rows.append([label, f"{ours * 1e3:.3g}", f"{theirs * 1e3:.3g}", f"{rate:.2f}"])
        section.goal(f"export, {label}: photographs a CPU second, of libvips'", rate, goal, least=True)
    return table


def _container(bench: Bench, files: list[Path], name: str, names: int) -> ImageRepo:
    """Return a repository over so many hard links of files."""
    server = ImageRepo(bench.folder / name, {}, catalogue={"reconcile": 0})
    data = server.folder / "data"
    data.mkdir()
    for number in range(names):
        os.link(files[number % len(files)], data / f"p{number:05}{files[0].suffix}")
    return server


def _command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "image_repo"), "-y", "config.yml", *arguments]


def _libvips(bench: Bench, files: list[Path], width: int) -> float:
    """CPU seconds of each thumbnail that libvips makes in two processes."""
    target = bench.folder / "thumbnails"
    target.mkdir(exist_ok=True)
    command = [str(bench.vips), str(HERE / "vips_thumbnails.py"), str(width), str(target), *map(str, files)]
    return _cpu(command, target) / len(files)


def _measure(bench: Bench, files: list[Path], names: int, table: Table, section: Section) -> None:
    server = _container(bench, files, "collection", names)
    for label, width in _PASSES:
        ours = _cpu(_command("warm", "", f"xsize={width}"), server.folder) / names
        theirs = _libvips(bench, files, width)
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
