"""Imports: what ``image_repo import`` takes in a second on the disk store, the start of the command included."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from bench.report import Section, Table, middle, spread
from bench.sections.catalogue import data
from bench.systems import ImageRepo

if TYPE_CHECKING:
    from bench.__main__ import Bench

_DATA, _PICTURES, _UPLOADS = 5_000, 4_000, 1_000
_GOAL = 500


def run(bench: Bench) -> Section:
    section = Section("imports", f"Imports: {_DATA:,} times data, {_PICTURES:,} small pictures")
    rates: dict[str, list[float]] = {}
    for number in range(min(bench.rounds, 3)):
        # Nobody listens: the command opens the repository itself.
        server = ImageRepo(bench.folder / "imports", {}, catalogue={"reconcile": 0})
        for what, (folder, count) in _sources(server.folder, random.Random(number)).items():
            rates.setdefault(what, []).append(count / _seconds(server, "import", folder))
        rates.setdefault(_PUT, []).append(_UPLOADS / _uploading(bench, random.Random(number)))
    table = Table("", ["what is imported", "records/s"])
    for what, found in rates.items():
        table.rows.append([what, spread(found)])
        if what not in (_PICTURED, _PUT):
            section.goal(f"{what}: records/s", middle(found), _GOAL, least=True)
    section.tables.append(table)
    return section


_PICTURED = "pictures of 64 × 48, with their data"
_PUT = "image_repo put DIR of 1,000 pictures of 64 × 48"


def _uploading(bench: Bench, dice: random.Random) -> float:
    """Seconds that ``image_repo put DIR`` takes."""
    server = ImageRepo(bench.folder / "imports", {}, catalogue={"reconcile": 0})
    source = server.folder / "source"
    for number in range(_UPLOADS):
        folder = source / f"d{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((64, 48), dice.uniform(10, 90)).save(folder / f"P{number:05}.jpg")
    return _seconds(server, "put", source)


def _sources(folder: Path, dice: random.Random) -> dict[str, tuple[Path, int]]:
    """What is imported → its folder and how many it tells of; to be imported in this order."""
    bare = [{"name": f"bare/B{number:05}", "data": data(number, dice)} for number in range(_DATA)]
    pictured = [{"file_name": f"P{number:05}.jpg", "data": data(number, dice)} for number in range(_PICTURES)]
    other = [{"name": f"P{number:05}", "data": data(number, dice)} for number in range(_PICTURES)]
    pictures = _sheet(folder / "pictures", "metadata.jsonl", pictured)
    for line in pictured:
        Image.effect_noise((64, 48), dice.uniform(10, 90)).save(pictures / line["file_name"])
    return {
        "data of names without a picture": (_sheet(folder / "bare", "descriptions.jsonl", bare), _DATA),
        "the same again": (folder / "bare", _DATA),
        _PICTURED: (pictures, _PICTURES),
        "other data for these pictures": (_sheet(folder / "other", "descriptions.jsonl", other), _PICTURES),
    }


def _sheet(folder: Path, name: str, lines: Iterable[dict[str, Any]]) -> Path:
    folder.mkdir()
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def _seconds(server: ImageRepo, verb: str, folder: Path) -> float:
    command = [str(Path(sys.executable).parent / "image_repo"), "-y", "config.yml", verb, str(folder)]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=server.folder, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begun
    assert done.returncode == 0, done.stderr[-2000:]
    return took
