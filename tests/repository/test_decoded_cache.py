"""Decoded pixels: one bounded cache for the node, whatever happens to its files and its processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pictures
import pytest
from rendered import LIMITS
from webserver import embedded, serving

from image_repo.access.principal import ADMIN
from image_repo.caches.eviction import Bounds
from image_repo.caches.file_cache import FileCache
from image_repo.concurrency.limiter import Limiter, limits
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.errors import BrokenPicture
from image_repo.model.names import ImageName
from image_repo.model.operations import Region
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe
from image_repo.repository.decoded_cache import DecodedCache
from image_repo.repository.spool import Spool

MIB = 1 << 20


# -- one decode ------------------------------------------------------------------------

CURRENT = Original(ImageName("a/b"), "a/b.jpg", "v1", 1, 0.0, "image/jpeg")


class Noting(FileCache):
    """Notes each decode in a file that all processes append to."""

    def create(self, key, *arguments):
        with (self._folder.parent / "decodes").open("a") as file:
            file.write(f"{key}\n")
        return super().create(key, *arguments)


def pixels_of(folder: Path, most: int = 64 * MIB) -> DecodedCache:
    files = Noting(folder / "pixels", Bounds(most), "cache of decoded pixels")
    return DecodedCache(files, SingleFlight(folder / "locks"), Limiter(limits(renders=2), folder / "locks"), LIMITS)


def spooled(path: Path) -> Spool:
    body = path.read_bytes()
    return Spool(None, len(body), in_memory=True).fill([body])


def decodes(folder: Path) -> int:
    path = folder / "decodes"
    return len(path.read_text().splitlines()) if path.exists() else 0


def regions(count: int) -> list[Recipe]:
    return [Recipe(kind="png", region=Region("px", 32 * n, 16 * n, 64, 64)) for n in range(count)]


ASKER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
sys.path[:0] = [sys.argv[1], f"{sys.argv[1]}/repository"]
from test_decoded_cache import CURRENT, pixels_of, regions, spooled

folder = Path(sys.argv[2])
pixels = pixels_of(folder)

def ask(recipe):
    with ExitStack() as opened:
        found = pixels.find(CURRENT, recipe, lambda: opened.enter_context(spooled(folder / "original")))
        return found().width

print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(25) as pool:
    print(set(pool.map(ask, regions(25))), flush=True)
pixels.close()
"""


def test_fifty_regions_at_once_over_two_processes_are_one_decode(tmp_path):
    (tmp_path / "original").write_bytes(pictures.jpeg(pictures.photo(1733, 1201)))
    command = [sys.executable, "-c", ASKER, Path(__file__).parents[1], tmp_path]
    with contextlib.ExitStack() as running:
        askers = [
            running.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(2)
        ]
        assert [asker.stdout.readline() for asker in askers] == ["ready\n"] * 2
        for asker in askers:
            asker.stdin.write("\n")
            asker.stdin.flush()
        assert [asker.communicate(timeout=60)[0] for asker in askers] == ["{64}\n"] * 2
    assert decodes(tmp_path) == 1


def test_the_original_is_opened_once_and_not_again_when_pixels_are_kept(tmp_path):
    source = tmp_path / "original"
    source.write_bytes(pictures.jpeg(pictures.photo(1733, 1201)))
    opened = []

    def original() -> Spool:
        opened.append(spooled(source))
        return opened[-1]

    for recipe in regions(5):
        pixels = pixels_of(tmp_path)
        assert pixels.find(CURRENT, recipe, original) is not None
        pixels.close()
    assert len(opened) == 1


def test_of_what_is_not_kept_it_is_remembered(tmp_path):
    source = tmp_path / "original"
    source.write_bytes(pictures.jpeg())
    opened = []

    def original() -> Spool:
        opened.append(spooled(source))
        return opened[-1]

    pixels = pixels_of(tmp_path)
    assert [pixels.find(CURRENT, recipe, original) for recipe in regions(5)] == [None] * 5
    assert len(opened) == 1


class Blocked(FileCache):
    """Writes nothing before it is let go."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "pixels", Bounds(64 * MIB), "cache of decoded pixels")
        self.began, self.go = threading.Event(), threading.Event()

    def create(self, *arguments):
        self.began.set()
        assert self.go.wait(20)
        return super().create(*arguments)


def test_the_first_regions_are_answered_before_the_pixels_are_written_and_are_the_same_afterwards(tmp_path):
    source = tmp_path / "original"
    source.write_bytes(pictures.jpeg(pictures.photo(1733, 1201)))
    files = Blocked(tmp_path)
    pixels = DecodedCache(files, SingleFlight(None), Limiter(limits(renders=2)), LIMITS)
    recipes = [*regions(3), Recipe(kind="png", region=Region("px", 0, 0, 1600, 1200), width=800)]
    early = [pixels.find(CURRENT, recipe, lambda: spooled(source))() for recipe in recipes]
    assert files.began.wait(20)
    assert not list((tmp_path / "pixels").glob("??/*"))
    files.go.set()
    pixels.close()
    assert len(list((tmp_path / "pixels").glob("??/*"))) == 1
    assert [pixels.find(CURRENT, recipe, pytest.fail)() for recipe in recipes] == early


def test_pixels_that_are_written_when_their_picture_is_purged_do_not_stay(tmp_path):
    source = tmp_path / "original"
    source.write_bytes(pictures.jpeg(pictures.photo(1733, 1201)))
    files = Blocked(tmp_path)
    pixels = DecodedCache(files, SingleFlight(None), Limiter(limits(renders=2)), LIMITS)
    pixels.find(CURRENT, regions(1)[0], lambda: spooled(source))
    assert files.began.wait(20)
    pixels.purge(CURRENT.name)
    files.go.set()
    pixels.close()
    assert not list((tmp_path / "pixels").glob("??/*"))


def test_a_picture_that_cannot_be_decoded_fails_all_of_its_regions_and_is_not_remembered(tmp_path):
    source = tmp_path / "original"
    whole = pictures.jpeg(pictures.photo(1733, 1201))
    source.write_bytes(whole[: len(whole) // 2])
    pixels = pixels_of(tmp_path)

    def ask(recipe):
        with pytest.raises(BrokenPicture):
            pixels.find(CURRENT, recipe, lambda: spooled(source))

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(ask, regions(5)))
    source.write_bytes(whole)
    assert pixels.find(CURRENT, regions(1)[0], lambda: spooled(source))().width == 64
    pixels.close()


def test_no_render_slot_is_held_while_others_are_waited_for(tmp_path):
    """With a single slot, many regions of two pictures still come to an end."""
    (tmp_path / "original").write_bytes(pictures.jpeg(pictures.photo(1733, 1201)))
    limiter = Limiter(limits(renders=1), tmp_path / "locks")
    files = FileCache(tmp_path / "pixels", Bounds(64 * MIB), "cache of decoded pixels")
    pixels = DecodedCache(files, SingleFlight(tmp_path / "locks"), limiter, LIMITS)
    wanted = [(replace(CURRENT, version=version), recipe) for recipe in regions(6) for version in ("v1", "v2")]

    def ask(pair):
        with contextlib.ExitStack() as opened:
            region = pixels.find(*pair, lambda: opened.enter_context(spooled(tmp_path / "original")))
        with limiter.slot(20.0):
            return region is not None

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, wanted))
    pixels.close()


# -- over HTTP -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original() -> bytes:
    return pictures.png(pictures.photo(1733, 1201), compress_level=1)


def pixel_files(served) -> list[Path]:
    served.repo.renditions.decoded.flush()
    return list(served.folder.glob("shared/*/pixels/??/*"))


TILES = [f"/images/a?crop={x},{y},256,256&kind=png" for x in (0, 256, 1500) for y in (0, 1000)]

#: every pixel of the levels that are used: smaller ones of this picture come from its mezzanine
ALL_TILES = [
    *(f"/images/a?crop={x},{y},400,400&kind=png" for x in range(0, 1733, 400) for y in range(0, 1201, 400)),
    "/images/a?crop=0,0,1733,1201&kind=png&xsize=850",
]


def test_tiles_are_exact_come_from_one_decode_and_go_with_the_picture(tmp_path, original):
    whole = pictures.load(original)
    with serving(embedded(tmp_path), tmp_path) as served:
        served.client.put("/images/a", original, Content_Type="image/png")
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(served.client.get, TILES))
        for path, answer in zip(TILES, answers, strict=True):
            x, y = map(int, path.partition("crop=")[2].split(",")[:2])
            wanted = whole.crop((x, y, min(1733, x + 256), min(1201, y + 256)))
            assert np.array_equal(np.asarray(answer.image()), np.asarray(wanted))
        assert len(pixel_files(served)) == 1
        served.client.delete("/images/a")
        assert pixel_files(served) == []


def test_a_new_picture_is_never_cut_out_of_the_old_one(tmp_path, original):
    other = pictures.png(pictures.photo(1733, 1201, seed=1), compress_level=1)
    with serving(embedded(tmp_path), tmp_path) as served:
        served.client.put("/images/a", original, Content_Type="image/png")
        before = served.client.get(TILES[0])
        served.client.put("/images/a", other, Content_Type="image/png")
        after = served.client.get(TILES[0])
        assert np.array_equal(np.asarray(after.image()), np.asarray(pictures.load(other).crop((0, 0, 256, 256))))
        assert after.headers["ETag"] != before.headers["ETag"]


def test_with_and_without_the_cache_tiles_are_the_same(tmp_path, original):
    bodies = []
    for most in (512 * MIB, 0):
        folder = tmp_path / str(most)
        folder.mkdir()
        origin = embedded(tmp_path).persistent_store_configuration
        config = embedded(folder, persistent_store_configuration=origin, render=replace(LIMITS, pixel_cache=most))
        with serving(config, folder) as served:
            if not bodies:
                served.client.put("/images/a", original, Content_Type="image/png")
            answers = [served.client.get(f"{path}&xsize=100") for path in TILES]
            bodies.append([(answer.status, answer.headers["ETag"], answer.body) for answer in answers])
            assert bool(pixel_files(served)) == bool(most)
    assert bodies[0] == bodies[1]


def _flip(place: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[place * (len(content) - 1) // 1000] ^= 0x20
        path.write_bytes(content)

    return flip


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: os.truncate(path, path.stat().st_size - 1), id="shortened"),
        pytest.param(lambda path: path.write_bytes(b""), id="emptied"),
        pytest.param(lambda path: shutil.rmtree(path.parent), id="deleted"),
        *(pytest.param(_flip(place), id=f"a byte flipped at {place} of 1000") for place in (0, 1, 20, 400, 700, 1000)),
    ],
)
def test_damaged_or_deleted_pixels_cost_time_and_nothing_else(tmp_path, original, caplog, change):
    with serving(embedded(tmp_path), tmp_path) as served:
        served.client.put("/images/a", original, Content_Type="image/png")
        expected = [served.client.get(path).body for path in TILES]
        assert len(pixel_files(served)) == 1, "written: pixels that are purged before are not stored"
        shutil.rmtree(tmp_path / "cache")
        served.repo.writer.purge(ADMIN, ImageName("a"))
        assert served.client.get(TILES[0]).status == 200
        (path,) = pixel_files(served)
        change(path)
        for tile in ALL_TILES:
            served.client.get(tile)
        assert [served.client.get(path).body for path in TILES] == expected
        assert "damaged" in caplog.text or not change.__closure__
        assert len(pixel_files(served)) == 1, "they were stored anew"


def test_a_page_that_is_not_there_is_told(tmp_path, original):
    with serving(embedded(tmp_path), tmp_path) as served:
        served.client.put("/images/a", original, Content_Type="image/png")
        answer = served.client.get("/images/a?crop=0,0,5,5&page=2")
        assert (answer.status, answer.slug) == (400, "bad-parameter")
