"""Decoded pixels: one bounded cache for the node, whatever happens to its files and its processes."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pictures
import pytest
from rendered import LIMITS
from webserver import embedded, serving

from image_repo.access.principal import ADMIN
from image_repo.concurrency.limiter import Limiter, limits
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.errors import BrokenPicture
from image_repo.model.names import ImageName
from image_repo.model.operations import Region
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe
from image_repo.repository.decoded_cache import DecodedCache, DecodedFiles

MIB = 1 << 20


def writes(body: bytes):
    """What the cache is told to do."""

    def write(file: BinaryIO) -> None:
        file.write(body)

    return write


def keep(files: DecodedFiles, key: str, size: int = MIB, *, used: int | None = None) -> bool:
    """Keeps something of this size; whether it was kept.

    :param used: how many seconds ago it is to have been used last
    """
    before = set(entries(files._folder))
    kept = files.keep(key, size, writes(b"x" * size)) is not None
    for path in set(entries(files._folder)) - before if used else ():
        then = path.stat().st_mtime - (used or 0)
        os.utime(path, (then, then))
    return kept


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.exists() else []


@pytest.fixture
def files(tmp_path) -> DecodedFiles:
    return DecodedFiles(tmp_path / "pixels", 10 * MIB)


# -- files -----------------------------------------------------------------------------


def test_what_is_kept_is_found_again_also_by_another_process(files, tmp_path):
    body = os.urandom(3 * MIB)
    assert bytes(files.keep("a/b@1", len(body), writes(body))) == body
    assert bytes(files.open("a/b@1")) == body
    assert files.open("a/b@2") is None
    script = """
import sys; from pathlib import Path; from image_repo.repository.decoded_cache import DecodedFiles
sys.stdout.buffer.write(DecodedFiles(Path(sys.argv[1]), 10 << 20).open("a/b@1"))"""
    found = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "pixels"], check=True, capture_output=True, timeout=60
    )
    assert found.stdout == body


def test_the_folder_is_private(files, tmp_path):
    keep(files, "a@1")
    assert (tmp_path / "pixels").stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in entries(tmp_path / "pixels")] == [0o600]


def test_its_bytes_are_bounded_and_what_was_used_last_stays(files, tmp_path):
    for number in range(9):
        assert keep(files, f"a@{number}", used=100 - number)
    assert files.open("a@0") is not None, "now this one is the last that was used"
    assert keep(files, "a@9")
    assert sum(path.stat().st_size for path in entries(tmp_path / "pixels")) <= 10 * MIB
    assert files.open("a@1") is None
    assert files.open("a@0") is not None
    assert files.open("a@9") is not None


def test_eviction_goes_on_a_little_so_that_the_next_one_has_room(files, tmp_path):
    for number in range(10):
        assert keep(files, f"a@{number}", used=100 - number)
    assert sum(path.stat().st_size for path in entries(tmp_path / "pixels")) <= 9 * MIB


def test_what_is_larger_than_the_whole_cache_evicts_nothing(files):
    assert keep(files, "a@1")
    assert not files.fits(11 * MIB)
    assert not keep(files, "a@2", 11 * MIB)
    assert files.open("a@1") is not None


@pytest.mark.parametrize("most", [0, 10 * MIB])
def test_without_room_or_folder_nothing_is_kept(tmp_path, most):
    none = DecodedFiles(None if most else tmp_path / "pixels", most)
    assert none.keep("a@1", 5, writes(b"12345")) is None
    assert none.open("a@1") is None
    assert none.purge("a@") == 0
    assert not (tmp_path / "pixels").exists()


def _shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _write_over(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"0123456789")


def _change_facts(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(40)
        file.write(b"9")


@pytest.mark.parametrize("damage", [_shorten, _empty, _write_over])
def test_a_damaged_file_is_a_miss_and_goes(files, tmp_path, damage):
    keep(files, "a@1")
    (path,) = entries(tmp_path / "pixels")
    damage(path)
    assert files.open("a@1") is None
    assert entries(tmp_path / "pixels") == []
    assert keep(files, "a@1")


def test_another_key_s_file_is_a_miss(files, tmp_path):
    keep(files, "a@1")
    (first,) = entries(tmp_path / "pixels")
    keep(files, "a@2")
    (second,) = set(entries(tmp_path / "pixels")) - {first}
    first.rename(second)
    assert files.open("a@2") is None


def test_what_another_boot_has_left_is_a_miss(files, tmp_path, monkeypatch):
    keep(files, "a@1")
    boot = tmp_path / "boot"
    boot.write_text("another\n")
    monkeypatch.setattr("image_repo.repository.decoded_cache._BOOT", boot)
    assert DecodedFiles(tmp_path / "pixels", 10 * MIB).open("a@1") is None


def test_a_link_is_not_followed(files, tmp_path):
    keep(files, "a@1")
    (path,) = entries(tmp_path / "pixels")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert files.open("a@1") is None


def test_what_is_looked_at_stays_whole_while_it_is_evicted(files):
    body = os.urandom(MIB)
    held = files.keep("a@0", MIB, writes(body))
    for number in range(1, 20):
        keep(files, f"a@{number}")
    assert files.open("a@0") is None
    assert bytes(held) == body


def test_the_folder_may_be_deleted_while_it_runs(files, tmp_path):
    held = files.keep("a@1", MIB, writes(b"y" * MIB))
    shutil.rmtree(tmp_path / "pixels")
    assert files.open("a@1") is None
    assert bytes(held[:2]) == b"yy"
    assert keep(files, "a@1")
    assert files.open("a@1") is not None


def test_something_else_where_the_folder_should_be_is_a_line_in_the_log(tmp_path, caplog):
    (tmp_path / "pixels").write_text("a file")
    files = DecodedFiles(tmp_path / "pixels", 10 * MIB)
    with caplog.at_level(logging.WARNING):
        assert files.keep("a@1", 5, writes(b"12345")) is None
        assert files.open("a@1") is None
    assert "not kept" in caplog.text


def test_a_write_that_fails_leaves_nothing(files, tmp_path):
    def fails(file: BinaryIO) -> None:
        file.write(b"half")
        raise BrokenPicture("cut off")

    def is_full(_: BinaryIO) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(BrokenPicture):
        files.keep("a@1", MIB, fails)
    assert files.keep("a@1", MIB, is_full) is None
    assert list((tmp_path / "pixels").iterdir()) == []


def test_all_of_an_image_can_be_removed(files):
    for key in ("a/b@1", "a/b@2", "a@1", "a/bc@1"):
        keep(files, key)
    assert files.purge("a/b@") == 2
    assert [key for key in ("a/b@1", "a/b@2", "a@1", "a/bc@1") if files.open(key)] == ["a@1", "a/bc@1"]


WRITER = """
import sys; from pathlib import Path; from image_repo.repository.decoded_cache import DecodedFiles
def write(file):
    file.write(b"half")
    print("writing", flush=True)
    sys.stdin.readline()
DecodedFiles(Path(sys.argv[1]), 10 << 20).keep("a@1", 6 << 20, write)
"""


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of writing six megabytes."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "writing\n"
        try:
            yield process
        finally:
            process.kill()


def test_what_is_being_written_counts_and_is_left_alone(files, tmp_path):
    with writing(tmp_path / "pixels") as process:
        assert not keep(files, "a@2", 6 * MIB), "there is no room beside it"
        assert keep(files, "a@3", 2 * MIB)
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(20) == 0
    assert files.open("a@1") is not None


def test_what_a_killed_process_has_left_is_never_read_and_goes(files, tmp_path):
    with writing(tmp_path / "pixels") as process:
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert len(list((tmp_path / "pixels").iterdir())) == 1
    assert files.open("a@1") is None
    assert keep(files, "a@2", 6 * MIB)
    assert len(list((tmp_path / "pixels").iterdir())) == 1


# -- one decode ------------------------------------------------------------------------

CURRENT = Original(ImageName("a/b"), "a/b.jpg", "v1", 1, 0.0, "image/jpeg")


class Noting(DecodedFiles):
    """Notes each decode in a file that all processes append to."""

    def keep(self, key, size, write):
        with (self._folder.parent / "decodes").open("a") as file:
            file.write(f"{key}\n")
        return super().keep(key, size, write)


def pixels_of(folder: Path, most: int = 64 * MIB) -> DecodedCache:
    return DecodedCache(
        Noting(folder / "pixels", most),
        SingleFlight(folder / "locks"),
        Limiter(limits(renders=2), folder / "locks"),
        LIMITS,
    )


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
from test_decoded_cache import CURRENT, pixels_of, regions
from image_repo import render
from rendered import LIMITS

folder = Path(sys.argv[2])
pixels = pixels_of(folder)

def ask(recipe):
    with ExitStack() as opened:
        found = pixels.find(CURRENT, recipe, lambda: opened.enter_context((folder / "original").open("rb")))
    return render.cut(found, recipe, LIMITS).width

print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(25) as pool:
    print(set(pool.map(ask, regions(25))), flush=True)
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

    def original() -> BinaryIO:
        opened.append(source.open("rb"))
        return opened[-1]

    for recipe in regions(5):
        assert pixels_of(tmp_path).find(CURRENT, recipe, original) is not None
    for file in opened:
        file.close()
    assert len(opened) == 1


def test_of_what_is_not_kept_it_is_remembered(tmp_path):
    source = tmp_path / "original"
    source.write_bytes(pictures.jpeg())
    opened = []

    def original() -> BinaryIO:
        opened.append(source.open("rb"))
        return opened[-1]

    pixels = pixels_of(tmp_path)
    assert [pixels.find(CURRENT, recipe, original) for recipe in regions(5)] == [None] * 5
    for file in opened:
        file.close()
    assert len(opened) == 1


def test_no_render_slot_is_held_while_others_are_waited_for(tmp_path):
    """With a single slot, many regions of two pictures still come to an end."""
    (tmp_path / "original").write_bytes(pictures.jpeg(pictures.photo(1733, 1201)))
    limiter = Limiter(limits(renders=1), tmp_path / "locks")
    pixels = DecodedCache(
        DecodedFiles(tmp_path / "pixels", 64 * MIB), SingleFlight(tmp_path / "locks"), limiter, LIMITS
    )
    wanted = [(replace(CURRENT, version=version), recipe) for recipe in regions(6) for version in ("v1", "v2")]

    def ask(pair):
        with contextlib.ExitStack() as opened:
            found = pixels.find(*pair, lambda: opened.enter_context((tmp_path / "original").open("rb")))
        with limiter.slot(20.0):
            return found is not None

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, wanted))


# -- over HTTP -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original() -> bytes:
    return pictures.png(pictures.photo(1733, 1201), compress_level=1)


def pixel_files(served) -> list[Path]:
    return list(served.folder.glob("shared/*/pixels/*"))


TILES = [f"/images/a?crop={x},{y},256,256&kind=png" for x in (0, 256, 1500) for y in (0, 1000)]


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


def test_damaged_or_deleted_pixels_cost_time_and_nothing_else(tmp_path, original):
    with serving(embedded(tmp_path), tmp_path) as served:
        served.client.put("/images/a", original, Content_Type="image/png")
        expected = [served.client.get(path).body for path in TILES]
        for change in (_shorten, _empty, _write_over, _change_facts, lambda path: shutil.rmtree(path.parent)):
            shutil.rmtree(tmp_path / "cache")
            served.repo.writer.purge(ADMIN, ImageName("a"))
            assert served.client.get(TILES[0]).status == 200
            (path,) = pixel_files(served)
            change(path)
            assert [served.client.get(path).body for path in TILES] == expected


def test_a_page_that_is_not_there_is_told(tmp_path, original):
    with serving(embedded(tmp_path), tmp_path) as served:
        served.client.put("/images/a", original, Content_Type="image/png")
        answer = served.client.get("/images/a?crop=0,0,5,5&page=2")
        assert (answer.status, answer.slug) == (400, "bad-parameter")


def test_readers_and_writers_in_a_crowd(tmp_path):
    """More pictures than there is room for, from many threads: what is found is what was kept."""
    files = DecodedFiles(tmp_path / "pixels", 5 * MIB)
    start = threading.Barrier(8)

    def work(number: int) -> int:
        start.wait(10)
        hits = 0
        for turn in range(30):
            key = f"a@{(number + turn) % 9}"
            body = key.encode() * (MIB // len(key))
            found = files.open(key)
            hits += found is not None
            assert found is None or bytes(found) == body
            files.keep(key, len(body), writes(body))
        return hits

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) > 0
    assert sum(path.stat().st_size for path in entries(tmp_path / "pixels")) <= 5 * MIB
