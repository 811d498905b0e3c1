"""A cache of files: bounded, private and verified, whatever happens to its files and its processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from image_repo.caches.entry_file import DamagedEntry, EntryWriter
from image_repo.caches.eviction import Bounds
from image_repo.caches.file_cache import FileCache
from image_repo.errors import BrokenPicture

MIB = 1 << 20
BLOCK = 1 << 16


def cache_in(folder: Path, most: int = 10 * MIB) -> FileCache:
    return FileCache(folder, Bounds(most), "test cache", touch_every=5.0)


def create(files: FileCache, key: str, body: bytes) -> bool:
    return files.create(key, {}, len(body), lambda writer: writer.write(body), BLOCK)


def keep(files: FileCache, key: str, size: int = MIB, *, used: int | None = None) -> bool:
    """Create an entry of this size; return whether there was room.

    :param used: how many seconds ago it is to have been used last
    """
    before = set(entries(files._folder))
    created = create(files, key, b"x" * size)
    for path in set(entries(files._folder)) - before if used else ():
        then = path.stat().st_mtime - (used or 0)
        os.utime(path, (then, then))
    return created


def body_of(files: FileCache, key: str) -> bytes | None:
    entry = files.get(key)
    return entry[1] if entry else None


def entries(folder: Path) -> list[Path]:
    return list(folder.glob("??/[!.]*"))


def temporary_files(folder: Path) -> list[Path]:
    return list(folder.glob("??/.*"))


@pytest.fixture
def files(tmp_path) -> FileCache:
    return cache_in(tmp_path / "cache")


def test_an_entry_is_found_again_also_by_another_process(files, tmp_path):
    body = os.urandom(3 * MIB)
    assert create(files, "a/b@1", body)
    assert body_of(files, "a/b@1") == body
    assert files.get("a/b@2") is None
    script = """
import sys; from pathlib import Path
from image_repo.caches.eviction import Bounds; from image_repo.caches.file_cache import FileCache
sys.stdout.buffer.write(FileCache(Path(sys.argv[1]), Bounds(10 << 20), "test cache").get("a/b@1")[1])"""
    process = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "cache"], check=True, capture_output=True, timeout=60
    )
    assert process.stdout == body


def test_the_folder_is_private(files, tmp_path):
    keep(files, "a@1")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in entries(tmp_path / "cache")] == [0o600]


def test_its_bytes_are_bounded_and_what_was_used_last_stays(files, tmp_path):
    for number in range(9):
        assert keep(files, f"a@{number}", used=100 - number)
    assert body_of(files, "a@0"), "now this one is the last that was used"
    assert keep(files, "a@9")
    assert sum(path.stat().st_size for path in entries(tmp_path / "cache")) <= 10 * MIB
    assert body_of(files, "a@1") is None
    assert body_of(files, "a@0")
    assert body_of(files, "a@9")


def test_eviction_goes_on_a_little_so_that_the_next_one_has_room(files, tmp_path):
    for number in range(10):
        assert keep(files, f"a@{number}", used=100 - number)
    assert sum(path.stat().st_size for path in entries(tmp_path / "cache")) <= 9 * MIB


def test_what_is_larger_than_the_whole_cache_evicts_nothing(files):
    assert keep(files, "a@1")
    assert not files.fits(11 * MIB, BLOCK)
    assert not keep(files, "a@2", 11 * MIB)
    assert body_of(files, "a@1")


def test_a_flipped_byte_of_any_block_is_a_miss_is_logged_and_the_entry_goes(files, tmp_path, caplog):
    body = os.urandom(5 * BLOCK + 77)
    assert create(files, "a@1", body)
    (path,) = entries(tmp_path / "cache")
    whole = path.read_bytes()
    for place in (*range(0, len(whole), 9973), *range(150), *range(len(whole) - 200, len(whole), 7)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        caplog.clear()
        assert files.get("a@1") is None, place
        assert "a@1" in caplog.text
        assert not path.exists()
    assert create(files, "a@1", body)
    assert body_of(files, "a@1") == body


def test_a_reader_verifies_the_blocks_that_it_reads_and_no_other(files, tmp_path):
    body = os.urandom(5 * BLOCK)
    assert create(files, "a@1", body)
    (path,) = entries(tmp_path / "cache")
    with path.open("r+b") as file:
        file.seek(path.read_bytes().index(body) + 2 * BLOCK + 5)
        file.write(bytes([body[2 * BLOCK + 5] ^ 1]))
    with files.open("a@1") as reader:
        assert (reader.block(1), bytes(reader[3 * BLOCK + 5 : 4 * BLOCK + 9])) == (
            body[BLOCK : 2 * BLOCK],
            body[3 * BLOCK + 5 : 4 * BLOCK + 9],
        )
        assert path.exists()
        with pytest.raises(DamagedEntry):
            reader[2 * BLOCK - 1 : 2 * BLOCK + 1]
        assert reader.is_damaged
    assert not path.exists()


def test_a_damaged_entry_that_was_replaced_meanwhile_stays(files, tmp_path):
    assert create(files, "a@1", bytes(BLOCK) * 2)
    reader = files.open("a@1")
    (path,) = entries(tmp_path / "cache")
    with path.open("r+b") as replaced:
        assert create(files, "a@1", b"new")
        replaced.seek(BLOCK * 3 // 2)
        replaced.write(b"damage")
    with reader, pytest.raises(DamagedEntry):
        reader.block(1)
    assert body_of(files, "a@1") == b"new"


def _shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"0")


@pytest.mark.parametrize("damage", [_shorten, _empty, _lengthen])
def test_a_file_of_another_length_is_a_miss_and_goes(files, tmp_path, damage):
    keep(files, "a@1")
    (path,) = entries(tmp_path / "cache")
    damage(path)
    assert files.open("a@1") is None
    assert entries(tmp_path / "cache") == []
    assert keep(files, "a@1")


def test_the_entry_of_another_key_is_a_miss(files, tmp_path):
    keep(files, "a@1")
    (first,) = entries(tmp_path / "cache")
    keep(files, "a@2")
    (second,) = set(entries(tmp_path / "cache")) - {first}
    first.rename(second)
    assert files.open("a@2") is None


def test_entries_of_version_1_are_read_and_verified(files, tmp_path):
    """They have one SHA-256, of facts and body, and no digests of blocks."""
    body, facts = os.urandom(3 * MIB + 5), json.dumps({"key": "a@1"}).encode()
    keep(files, "a@1")
    (path,) = entries(tmp_path / "cache")
    digest = hashlib.sha256(facts + body).digest()
    whole = struct.pack(">13sIQ32s", b"image_repo 1\n", len(facts), len(body), digest) + facts + body
    path.write_bytes(whole)
    assert body_of(files, "a@1") == body
    path.write_bytes(whole[:-9] + b"damaged!!")
    assert files.open("a@1") is None


@pytest.mark.parametrize("sizes", [[], [1], [BLOCK], [BLOCK - 1, 1, 1], [3 * BLOCK, 7], [0, 2 * BLOCK]])
def test_a_body_may_be_written_in_pieces_and_read_as_a_file(files, sizes):
    pieces = [os.urandom(size) for size in sizes]

    def write(writer: EntryWriter) -> None:
        for piece in pieces:
            writer.write(piece)

    body = b"".join(pieces)
    assert files.create("a@1", {"more": "ü"}, len(body), write, BLOCK)
    with files.open("a@1") as reader:
        assert (reader.read(), reader.facts["more"], len(reader)) == (body, "ü", len(body))
        assert bytes(reader[:]) == body
        reader.seek(len(body) // 2)
        assert reader.read(5) == body[len(body) // 2 :][:5]


def test_a_link_is_not_followed(files, tmp_path):
    keep(files, "a@1")
    (path,) = entries(tmp_path / "cache")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        files.open("a@1")


def test_an_open_entry_stays_whole_while_it_is_evicted(files):
    body = os.urandom(MIB)
    assert create(files, "a@0", body)
    with files.open("a@0") as reader:
        for number in range(1, 20):
            keep(files, f"a@{number}")
        assert files.open("a@0") is None
        assert reader.read() == body


def test_the_folder_may_be_deleted_while_it_runs(files, tmp_path):
    keep(files, "a@1")
    shutil.rmtree(tmp_path / "cache")
    assert files.open("a@1") is None
    assert keep(files, "a@1")
    assert body_of(files, "a@1")


def test_what_an_older_version_has_left_in_the_folder_goes(files, tmp_path):
    (tmp_path / "cache" / "0123-4567").write_bytes(b"pixels")
    keep(files, "a@1")
    assert sorted(path.name for path in (tmp_path / "cache").iterdir() if path.is_file()) == [".sweep"]


def test_a_write_that_fails_leaves_nothing(files, tmp_path):
    def fails(writer: EntryWriter) -> None:
        writer.write(b"half")
        raise BrokenPicture("cut off")

    def is_full(_: EntryWriter) -> None:
        raise OSError(28, "No space left on device")

    for write, error in ((fails, BrokenPicture), (is_full, OSError)):
        with pytest.raises(error):
            files.create("a@1", {}, MIB, write, BLOCK)
        assert entries(tmp_path / "cache") + temporary_files(tmp_path / "cache") == []


def test_all_of_an_image_can_be_removed(files):
    for key in ("a/b@1", "a/b@2", "a@1", "a/bc@1"):
        keep(files, key)
    assert files.purge("a/b@") == 2
    assert [key for key in ("a/b@1", "a/b@2", "a@1", "a/bc@1") if body_of(files, key)] == ["a@1", "a/bc@1"]


WRITER = """
import sys; from pathlib import Path
from image_repo.caches.eviction import Bounds; from image_repo.caches.file_cache import FileCache
def write(writer):
    writer.write(b"half")
    print("writing", flush=True)
    sys.stdin.readline()
FileCache(Path(sys.argv[1]), Bounds(10 << 20), "test cache").create("a@1", {}, 6 << 20, write, 1 << 16)
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
    with writing(tmp_path / "cache") as process:
        assert not keep(files, "a@2", 6 * MIB), "there is no room beside it"
        assert keep(files, "a@3", 2 * MIB)
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(20) == 0
    assert body_of(files, "a@1") == b"half"


def test_what_a_killed_process_has_left_is_never_read_and_goes(files, tmp_path):
    with writing(tmp_path / "cache") as process:
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert len(temporary_files(tmp_path / "cache")) == 1
    assert files.open("a@1") is None
    assert keep(files, "a@2", 6 * MIB)
    assert temporary_files(tmp_path / "cache") == []


def test_readers_and_writers_in_a_crowd(tmp_path):
    """More entries than there is room for, from many threads: what is found is what was written."""
    files = cache_in(tmp_path / "cache", 5 * MIB)
    start = threading.Barrier(8)

    def work(number: int) -> int:
        start.wait(10)
        hits = 0
        for turn in range(30):
            key = f"a@{(number + turn) % 9}"
            body = key.encode() * (MIB // len(key))
            read = body_of(files, key)
            hits += read is not None
            assert read in (None, body)
            create(files, key, body)
        return hits

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) > 0
    assert sum(path.stat().st_size for path in entries(tmp_path / "cache")) <= 5 * MIB
