"""Sizes: one client asks for 10,000 different sizes; a hot set stays hot, and the caches keep to their bounds."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.load import Client, each
from bench.originals import copy
from bench.report import Section, Table
from bench.systems import HERE, ImageRepo

if TYPE_CHECKING:
    from bench.__main__ import Bench

SIZES, _CONNECTIONS = 10_000, 4
#: originals and widths of the hot set
_HOT_ORIGINALS, _HOT_WIDTHS = 10, range(100, 300, 20)
_DISK_BYTES = 32 << 20
CASES: dict[str, dict[str, Any]] = {
    "any size": {},
    "renders_per_minute: 60": {"requests": {"renders_per_minute": 60}, "access": {"anonymous": "read"}},
    "mode: steps": {"requests": {"mode": "steps"}},
}


def run(bench: Bench) -> Section:
    title = f"Sizes: one client asks for {SIZES:,} sizes of one original; 100 renditions of others are read meanwhile"
    section = Section("sizes", title)
    table = Table("", ["", "answers to the client", "hot reads", "of them hits %", "disk cache MiB", "of at most"])
    folder = bench.folder / "originals"
    folder.mkdir(parents=True, exist_ok=True)
    used = {}
    for number in range(1 + _HOT_ORIGINALS):
        source = bench.originals["mp4"]
        used[f"a-{number}"] = copy(source, folder / f"s-{number}{source.suffix}", number)
    for name, settings in CASES.items():
        outcomes, layers, size = _flooded(bench.folder / "image_repo", used, settings)
        hits = layers.total() - layers["rendered"]
        told = ", ".join(f"{status}: {count:,}" for status, count in sorted(outcomes.items()))
        share = 100 * hits / layers.total()
        table.rows.append(
            [name, told, f"{layers.total():,}", f"{share:.2f}", f"{size / 2**20:.1f}", f"{_DISK_BYTES / 2**20:.0f}"]
        )
        section.goal(f"{name}: hits of the hot set", share, 99, " %", least=True)
        section.goal(f"{name}: the disk cache against its bound", size / _DISK_BYTES, 1, " ×")
    section.tables.append(table)
    return section


def _flooded(
    folder: Path, originals: dict[str, Path], settings: dict[str, Any]
) -> tuple[Counter[str], Counter[str], int]:
    """Return the answers to the flood by status, those to the hot set by layer, and the bytes on disk afterwards."""
    local = {"cache_path": str(folder / "cache"), "max_size": _DISK_BYTES, "mezzanine_share": 0.25}
    with ExitStack() as stack:
        server = ImageRepo(folder, originals, local_cache_configuration=local, **settings)
        ours = stack.enter_context(server)
        hot = [ours.path(f"a-{number}", width) for number in range(1, 1 + _HOT_ORIGINALS) for width in _HOT_WIDTHS]
        _warm(ours, hot)
        # a process of its own, so that it does not take our interpreter's time
        command = [sys.executable, "-m", "bench.flood", str(ours.port), str(_CONNECTIONS), "sizes", str(SIZES)]
        flood = subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
        layers = _read_until(ours.port, hot, flood)
        outcomes = Counter(json.loads(flood.communicate(timeout=600)[0]))
        size = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())
    return outcomes, layers, size


def _warm(ours: ImageRepo, hot: list[str]) -> None:
    """Have the hot set rendered, by as many clients as a budget needs."""
    client = Client(ours.port)
    for number, path in enumerate(hot):
        client.get(path, X_Forwarded_For=f"192.0.2.{number}")
    client.close()
    each(ours.port, hot, 4)


def _read_until(port: int, hot: list[str], flood: subprocess.Popen[str]) -> Counter[str]:
    """Read the hot set in random order for as long as the flood lasts; return the layers that answered."""
    layers: Counter[str] = Counter()
    dice, client = random.Random(1), Client(port)
    while flood.poll() is None:
        answer = client.get(dice.choice(hot), X_Forwarded_For="198.51.100.1")
        layers[answer.headers.get("cache-status", "").rpartition("detail=")[2] or str(answer.status)] += 1
    client.close()
    return layers
