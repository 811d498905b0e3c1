"""Catalogue: 1,000,000 records of about 500 bytes in each engine; pages, counts, statistics, writes. Without HTTP."""

from __future__ import annotations

import hashlib
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image_repo.catalogue import Index, Indexed, Row
from image_repo.catalogue.engines import open_index
from image_repo.catalogue.query import Condition, Filter, Query, SortKey
from image_repo.patterns import searcher

from bench.report import Section, Table, middle, spread
from bench.systems import HERE

if TYPE_CHECKING:
    from bench.__main__ import Bench

RECORDS = 1_000_000
_BATCH = 5_000
_SITES = [f"plot-{number:03}" for number in range(200)]
_SPECIES = [f"{genus} {kind}" for genus in ("Vulpes", "Lynx", "Cervus", "Sus") for kind in ("a", "b", "c", "d")]
_KEYS = (
    Indexed(("data", "site"), ("uploaded",)),
    Indexed(("data", "species")),
    Indexed(("data", "temperature")),
)


def run(bench: Bench) -> Section:
    section = Section("catalogue", f"Catalogue: {RECORDS:,} records, asked for without HTTP")
    folder = bench.folder / "catalogue"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    table = Table("", ["", "what", "ms", "found"])
    writing = Table("Writing", ["", "records/s", "one record ms", "s for an index", "MB of memory"])
    with ExitStack() as stack:
        for engine, url in _urls(folder, stack):
            index = stack.enter_context(
                closing(open_index(url, None, collection="images", scope="bench", timeout=120, slow=1e9))
            )
            writing.rows.append([engine, *_fill(section, engine, index, bench.rounds)])
            table.rows += _ask(section, engine, index, bench.rounds)
    section.tables += [table, writing]
    return section


def _urls(folder: Path, stack: ExitStack) -> Iterator[tuple[str, str]]:
    yield "SQLite", f"sqlite:///{folder}/index.sqlite"
    sys.path.insert(0, str(HERE.parent / "tests"))
    from servers import launch  # noqa: PLC0415, of the tests

    yield "PostgreSQL", stack.enter_context(launch.running("pg_up.py"))["url"]


def _record(number: int, dice: random.Random) -> Row:
    site, name = _SITES[number % 200], f"sites/{_SITES[number % 200]}/IMG_{number:07}"
    uploaded = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(1.7e9 + 31 * number))
    data = {
        "site": site,
        "species": dice.sample(_SPECIES, dice.choice((0, 1, 1, 1, 2))),
        "stars": dice.randrange(1, 6),
        "temperature": round(dice.gauss(10, 8), 1) if number % 1000 else "n/a",
        "camera": {"id": f"cam-{dice.randrange(50)}", "battery": dice.randrange(101)},
    }
    document = {
        "name": name,
        "version": f"{number:032x}",
        "sha256": hashlib.sha256(name.encode()).hexdigest(),
        "media_type": "image/jpeg",
        "bytes": dice.randrange(10**5, 10**7),
        "width": 4000,
        "height": 3000,
        "filename": f"IMG_{number:07}.JPG",
        "uploaded": uploaded,
        "owner": f"user{number % 7}",
        "exif": {"Make": "RECONYX", "Model": "HF2X", "ISO": dice.choice((100, 200, 400, 800))},
        "data": data,
    }
    return Row(name, document, str(number))


def _fill(section: Section, engine: str, index: Index, rounds: int) -> list[str]:
    dice = random.Random(1)
    begun = time.perf_counter()
    for first in range(0, RECORDS, _BATCH):
        index.put(_record(number, dice) for number in range(first, first + _BATCH))
    rate = RECORDS / (time.perf_counter() - begun)
    making = [_timed(lambda key=key: index.add_index(key)) for key in _KEYS]  # type: ignore[misc]
    one = [_timed(lambda: index.put([_record(RECORDS + 1, dice)])) for _ in range(20 * rounds)]
    index.remove([_record(RECORDS + 1, dice).name])
    section.goal(f"{engine}: records/s, {_BATCH} at a time", rate, 500, least=True)
    if engine == "SQLite":
        section.goal(f"{engine}: writing one record, p50", (middle(one) or 0) * 1e3, 1, " ms")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [f"{rate:,.0f}", spread(one, 1e3), spread(making), f"{memory:.0f}"]


def _timed(what: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def _where(path: str, op: Any, value: Any) -> Filter:
    test = searcher("regex", value) if op == "regex" else None
    return Filter((Condition(tuple(path.split(".")), op, (value,), test),))


def _questions(index: Index) -> dict[str, tuple[Callable[[], Any], float]]:
    """What is asked, and the most milliseconds that it may take."""
    site = _where("data.site", "eq", "plot-007")
    newest = (SortKey(("uploaded",), True),)
    deep = index.page(Query(order=newest, skip=RECORDS - 1_000)).after
    warm = _where("data.temperature", "gt", 30)
    battery = _where("data.camera.battery", "gt", 50)
    return {
        "page 1 of all, newest first": (lambda: index.page(Query(order=newest)), 3),
        "page 9,991 of all, by its place": (lambda: index.page(Query(order=newest, after=deep)), 3),
        "page of a site, newest first (indexed)": (lambda: index.page(Query(site, newest)), 3),
        "page of the warmest (indexed)": (
            lambda: index.page(Query(warm, (SortKey(("data", "temperature"), True),))),
            3,
        ),
        "page of a species, in an array (indexed)": (
            lambda: index.page(Query(_where("data.species", "eq", "Lynx a"))),
            3,
        ),
        "exact count, no index": (lambda: index.count(battery), 1_500),
        "exact count of elements of arrays, no index": (
            lambda: index.count(_where("data.species", "ne", "Sus a")),
            1_500,
        ),
        "exact count of a regular expression over names": (lambda: index.count(_where("name", "regex", "99$")), 3_000),
        "statistics, no index": (lambda: index.statistics(Filter(), ("data", "camera", "battery")), 1_500),
        "statistics of elements of arrays": (lambda: index.statistics(Filter(), ("data", "species")), 1_500),
    }


def _ask(section: Section, engine: str, index: Index, rounds: int) -> list[list[str]]:
    rows = []
    for what, (ask, most) in _questions(index).items():
        found = ask()
        times = [_timed(ask) for _ in range(rounds if most > 100 else 10 * rounds)]
        count = found if isinstance(found, int) else found.count
        rows.append([engine, what, spread(times, 1e3), f"{count:,}"])
        section.goal(f"{engine}: {what}, p50", (middle(times) or 0) * 1e3, most, " ms")
    return rows
