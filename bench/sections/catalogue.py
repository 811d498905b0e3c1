"""Catalogue: 1,000,000 records of about 500 bytes in each engine, asked for through HTTP."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from image_repo import config, wiring
from image_repo.access.principal import ADMIN
from image_repo.catalogue.base import Index, Indexed, Row
from image_repo.catalogue.indexer import SweepState
from image_repo.model.names import ImageName
from image_repo.repository.repository import Repository
from PIL import Image

from bench.load import Answer, Client
from bench.report import Section, Table, middle, spread
from bench.systems import HERE, ImageRepo

if TYPE_CHECKING:
    from bench.__main__ import Bench

RECORDS = 1_000_000
_BATCH = 5_000
_SITES = [f"plot-{number:03}" for number in range(200)]
#: of one scene; of the others, pictures of each
_ONE_SCENE, _SHOTS = _SITES[-1], 8
_SPECIES = [f"{genus} {kind}" for genus in ("Vulpes", "Lynx", "Cervus", "Sus") for kind in ("a", "b", "c", "d")]
_KEYS = (
    Indexed(("data", "site"), ("uploaded",)),
    Indexed(("data", "species")),
    Indexed(("data", "temperature")),
)
#: the goals: milliseconds of a page, of near duplicates, a count or a statistic, a regular expression; MB of memory
_PAGE, _NEAR, _COUNT, _REGEX, _MEMORY = 5.0, 100.0, 1_500.0, 3_000.0, 300.0


def run(bench: Bench) -> Section:
    section = Section("catalogue", f"Catalogue: {RECORDS:,} records, asked for through HTTP over one connection")
    pages = Table("Pages, counts and statistics", ["", "what", "ms", "counted", "which is"])
    writing = Table("Writing", ["", "records/s", "one record ms", "s for an index", "MB of the server"])
    with ExitStack() as stack:
        for engine, settings in _engines(stack):
            server = ImageRepo(bench.folder / f"catalogue-{engine}", {}, catalogue={"reconcile": 0, **settings})
            with closing(wiring.build(_configured(server))) as repo:
                told = _fill(section, engine, repo.indexer.index, bench.rounds)
                _put_scenes(repo)
            with server:
                pages.rows += _ask(section, engine, server, bench.rounds)
                memory = server.pss() / 1e6
            section.goal(f"{engine}: memory of the server", memory, _MEMORY, " MB")
            writing.rows.append([engine, *told, f"{memory:.0f}"])
    section.tables += [pages, writing]
    return section


def _engines(stack: ExitStack) -> Iterator[tuple[str, Mapping[str, str]]]:
    yield "SQLite", {}
    sys.path.insert(0, str(HERE.parent / "tests"))
    from servers import launch  # noqa: PLC0415, of the tests

    yield "PostgreSQL", {"url": stack.enter_context(launch.running("pg_up.py"))["url"]}


def _configured(server: ImageRepo) -> config.Config:
    read = config.load(server.folder / "config.yml", {})
    wiring.prepare(read, wiring.build_stores(read))
    return read


# -- writing -------------------------------------------------------------------------------


def _record(number: int, dice: random.Random) -> Row:
    name = f"sites/{_SITES[number % len(_SITES)]}/IMG_{number:07}"
    uploaded = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(1.7e9 + 31 * number))
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
        "dhash": _dhash(number, dice),
        "exif": {"Make": "RECONYX", "Model": "HF2X", "ISO": dice.choice((100, 200, 400, 800))},
        "data": data(number, dice),
    }
    return Row(name, document, str(number))


def _dhash(number: int, dice: random.Random) -> str:
    """Return the hash of one of eight shots of a scene; one site is a single scene, as of a camera that never moves."""
    site = _SITES[number % len(_SITES)]
    scene = site if site == _ONE_SCENE else f"scene {number // len(_SITES) // _SHOTS} at {site}"
    flips = sum(1 << place for place in dice.sample(range(64), dice.randrange(4)))
    return f"{int(hashlib.sha256(scene.encode()).hexdigest()[:16], 16) ^ flips:016x}"


def data(number: int, dice: random.Random) -> dict[str, Any]:
    """What a user might say of a picture."""
    return {
        "site": _SITES[number % len(_SITES)],
        "species": dice.sample(_SPECIES, dice.choice((0, 1, 1, 1, 2))),
        "stars": dice.randrange(1, 6),
        "temperature": round(dice.gauss(10, 8), 1) if number % 1000 else "n/a",
        "camera": {"id": f"cam-{dice.randrange(50)}", "battery": dice.randrange(101)},
    }


def _fill(section: Section, engine: str, index: Index, rounds: int) -> list[str]:
    dice = random.Random(1)
    begun = time.perf_counter()
    for first in range(0, RECORDS, _BATCH):
        index.put(_record(number, dice) for number in range(first, first + _BATCH))
    rate = RECORDS / (time.perf_counter() - begun)
    making = [_timed(lambda key=key: index.add_index(key)) for key in _KEYS]  # type: ignore[misc]
    one = [_timed(lambda: index.put([_record(RECORDS + 1, dice)])) for _ in range(20 * rounds)]
    index.remove([_record(RECORDS + 1, dice).name])
    # What was never held against a container is told as being made, and is made anew.
    SweepState(time.time(), 0.0).save(index)
    section.goal(f"{engine}: records/s, {_BATCH} at a time", rate, 500, least=True)
    return [f"{rate:,.0f}", spread(one, 1e3), spread(making)]


def _put_scenes(repo: Repository) -> None:
    """Store pictures whose records say that they show what others do."""
    body = io.BytesIO()
    Image.new("RGB", (64, 48)).save(body, "jpeg")
    for name, number in (("near/few", 12), ("near/many", len(_SITES) - 1)):
        with repo.writer.spool() as spool:
            spool.fill([body.getvalue()])
            record, _ = repo.writer.put(ADMIN, ImageName(name), spool)
        repo.metadata.write(replace(record, dhash=_dhash(number, random.Random(number))))


def _timed(what: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


# -- asking --------------------------------------------------------------------------------


_DEEP = f"/images?sort=-uploaded&skip={RECORDS - 2_000}&limit=100"

#: what is asked, and the most milliseconds that it may take
_QUESTIONS = {
    "a site, newest first (indexed)": ("/images?site=plot-007&sort=-uploaded", _PAGE),
    "a site, newest 20 (indexed)": ("/images?site=plot-007&sort=-uploaded&limit=20", _PAGE),
    "the warmest 20 (indexed)": ("/images?temperature__gt=30&sort=-temperature&limit=20", _PAGE),
    "a species, in an array, 20 by name (indexed)": ("/images?species=Lynx+a&limit=20", _PAGE),
    "all, newest 20": ("/images?sort=-uploaded&limit=20", _PAGE),
    "page 9,981 of all, by its place": ("", _PAGE),
    "a site, 100 by name (an index does not sort it so)": ("/images?site=plot-007", None),
    "exact count, no index": ("/images?camera.battery__gt=50&count=exact&limit=1", _COUNT),
    "exact count of elements of arrays, no index": ("/images?species__ne=Sus+a&count=exact&limit=1", _COUNT),
    "exact count of a regular expression over names": (f"/images?regex={quote('99$')}&count=exact&limit=1", _REGEX),
    "statistics, no index": ("/stats/camera.battery", _COUNT),
    "statistics of elements of arrays": ("/stats/species", _COUNT),
    "statistics, as many values as records": ("/stats/filename?limit=10", None),
    "near duplicates: 8 of a scene": ("/images?near=near/few", _NEAR),
    "near duplicates: 8 of a scene, up to 11 bits": ("/images?near=near/few,11", _NEAR),
    "near duplicates: 5,000 of a scene": ("/images?near=near/many", _NEAR),
    "free text": ("/images?text=lynx&limit=20", None),
}


def _ask(section: Section, engine: str, server: ImageRepo, rounds: int) -> list[list[str]]:
    client = Client(server.port)
    following = re.search(r'<([^>]+)>; rel="next"', _good(client.get(_DEEP)).headers["link"])
    assert following, "the pages end early"
    rows = []
    for what, (path, most) in _QUESTIONS.items():
        quick = most == _PAGE
        answers = [_good(client.get(path or following[1])) for _ in range(10 * rounds if quick else rounds)]
        times = [answer.seconds for answer in answers[1:]]
        told = json.loads(answers[0].body)
        rows.append([engine, what, spread(times, 1e3), f"{told.get('count', 0):,}", told.get("count_is", "exact")])
        if most is not None:
            section.goal(f"{engine}: {what}, p50", (middle(times) or 0) * 1e3, most, " ms")
    client.close()
    return rows


def _good(answer: Answer) -> Answer:
    assert answer.status == 200, f"{answer.path}: {answer.status} {answer.body[:300]!r}"
    return answer
