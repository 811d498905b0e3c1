"""Uploads: what receiving, verifying and storing a picture costs, against one full decode of it."""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING

from PIL import Image

from bench.load import PATIENCE
from bench.originals import copy
from bench.report import Section, Table, middle, ratio, spread
from bench.systems import ImageRepo

if TYPE_CHECKING:
    from pathlib import Path

    from bench.__main__ import Bench

_UPLOADS = 8
_GOAL = 1.3


def run(bench: Bench) -> Section:
    section = Section("uploads", "Uploads: PUT of a picture, one after the other")
    table = Table("", ["", "CPU ms", "a full decode: CPU ms", "ratio"])
    folder = bench.folder / "originals"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("mp24", "mp12", "png12"):
        source = bench.originals[name]
        files = [copy(source, folder / f"u-{n}{source.suffix}", n) for n in range(_UPLOADS)]
        ours, decodes = _measure(bench, name, files)
        against = ratio(middle(ours), middle(decodes))
        table.rows.append([name, spread(ours, 1e3), spread(decodes, 1e3), f"{against:.2f}"])
        if name == "mp24":
            section.goal("24 MP: CPU against a full decode", against, _GOAL)
    section.tables.append(table)
    return section


def _measure(bench: Bench, name: str, files: list[Path]) -> tuple[list[float], list[float]]:
    ours, decodes = [], []
    with ImageRepo(bench.folder / "image_repo", {}) as server:
        for number in range(bench.rounds + 1):
            before = server.cpu()
            for place, file in enumerate(files):
                _put(server, f"{name}-{number}-{place}", file)
            if number:  # the first round does what is done once in a process
                ours.append((server.cpu() - before) / len(files))
                decodes.append(min(_decode(file) for file in files[:3]))
    return ours, decodes


def _put(server: ImageRepo, name: str, file: Path) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("PUT", f"/images/{name}", file.read_bytes(), {"Content-Type": "application/octet-stream"})
    response = connection.getresponse()
    assert response.status == 201, response.read()
    response.read()
    connection.close()


def _decode(file: Path) -> float:
    began = time.process_time()
    with Image.open(file) as image:
        image.load()
    return time.process_time() - began
