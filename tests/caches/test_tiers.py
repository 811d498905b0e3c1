"""The tiers in memory and on disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tier_contract import LinkTargetContract, TierContract, rendition

from image_repo.caches.disk import DiskTier
from image_repo.caches.memory import MemoryTier
from image_repo.config import LocalCacheConfiguration

UNBOUNDED = LocalCacheConfiguration(max_size=0, max_elements=0)


def quiet(folder: Path, limits: LocalCacheConfiguration, **options) -> DiskTier:
    """A tier that only sweeps when it is told to: its thread has ended before it began."""
    tier = DiskTier(folder, limits, **options)
    tier.close()
    return tier


@pytest.fixture
def disk(tmp_path):
    return quiet(tmp_path / "cache", UNBOUNDED)


def entry_of(folder: Path) -> Path:
    (path,) = folder.glob("??/[!.]*")
    return path


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Threads take turns between any two calls."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class TestMemory(TierContract):
    @pytest.fixture
    def tier(self):
        return MemoryTier(1 << 20)

    def test_the_least_recently_used_goes(self) -> None:
        tier = MemoryTier(16_000)
        for number in range(8):
            tier.put(f"{number}@1", rendition(bytes(1500)))
        tier.get("0@1")
        tier.put("new@1", rendition(bytes(1500)))
        assert tier.get("0@1") is not None
        assert tier.get("1@1") is None

    def test_stays_within_its_bytes(self) -> None:
        tier = MemoryTier(100_000)
        for number in range(1000):
            tier.put(f"{number}@1", rendition(bytes(number)))
        entries = [entry for number in range(1000) if (entry := tier.get(f"{number}@1"))]
        assert entries
        assert sum(len(entry.body) for entry in entries) <= 100_000

    def test_an_evicted_one_is_not_counted_by_a_purge(self) -> None:
        tier = MemoryTier(16_000)
        for number in range(50):
            tier.put(f"a@{number}", rendition(bytes(1500)))
        left = sum(tier.get(f"a@{number}") is not None for number in range(50))
        assert tier.purge("a@") == left < 50

    def test_what_is_too_large_is_declined_and_does_not_leave_the_old_one(self) -> None:
        tier = MemoryTier(8_000)
        tier.put("a@1", rendition(b"small"))
        tier.put("a@1", rendition(bytes(2_000)))
        assert tier.get("a@1") is None

    @pytest.mark.usefixtures("frequent_switches")
    def test_reads_and_evictions_at_once_do_not_disturb_each_other(self) -> None:
        tier = MemoryTier(16_000)
        keys, has_ended = [f"{number}@1" for number in range(12)], threading.Event()

        def read() -> None:
            while not has_ended.is_set():
                for key in keys:
                    entry = tier.get(key)
                    assert entry is None or entry.etag == key

        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read) for _ in range(4)]
            try:
                for key in keys * 3000:
                    tier.put(key, rendition(bytes(1500), key))
            finally:
                has_ended.set()
            for reader in readers:
                reader.result()
        assert tier.purge("") == 8

    def test_a_size_of_zero_keeps_nothing(self) -> None:
        tier = MemoryTier(0)
        tier.put("a@1", rendition(b""))
        assert tier.get("a@1") is None


class TestDisk(LinkTargetContract):
    @pytest.fixture
    def tier(self, disk):
        return disk

    def test_outlives_the_process(self, disk, tmp_path) -> None:
        disk.put("a@1", rendition())
        assert DiskTier(tmp_path / "cache", UNBOUNDED).get("a@1") == rendition()

    @pytest.mark.parametrize("place", [0, 14, 20, 60, 90, -1], ids=lambda place: f"at {place}")
    def test_a_flipped_bit_is_a_miss_and_the_entry_is_removed(self, disk, tmp_path, place: int) -> None:
        disk.put("a@1", rendition(b"body" * 100))
        entry = entry_of(tmp_path / "cache")
        content = bytearray(entry.read_bytes())
        content[place] ^= 0x10
        entry.write_bytes(content)
        assert disk.get("a@1") is None
        assert not entry.exists()

    @pytest.mark.parametrize("length", [0, 5, 60, 100, 480], ids=lambda length: f"to {length} bytes")
    def test_a_truncated_entry_is_a_miss(self, disk, tmp_path, length: int) -> None:
        disk.put("a@1", rendition(b"body" * 100))
        os.truncate(entry_of(tmp_path / "cache"), length)
        assert disk.get("a@1") is None

    def test_the_entry_of_another_key_is_a_miss(self, disk, tmp_path) -> None:
        disk.put("a@1", rendition())
        entry = entry_of(tmp_path / "cache")
        content = entry.read_bytes()
        disk.put("b@1", rendition(b"other"))
        for other in (tmp_path / "cache").glob("??/[!.]*"):
            other.write_bytes(content)
        assert disk.get("b@1") is None
        assert disk.get("a@1") == rendition()

    def test_a_promised_entry_that_is_damaged_is_not_opened(self, disk, tmp_path) -> None:
        disk.pin("a@1", b"body" * 100, rendition(), time.time() + 1000)
        entry = entry_of(tmp_path / "cache")
        content = bytearray(entry.read_bytes())
        content[-1] ^= 1
        entry.chmod(0o600)
        entry.write_bytes(content)
        assert disk.open("a@1") is None

    def test_works_on_when_its_folder_is_deleted(self, disk, tmp_path) -> None:
        disk.put("a@1", rendition())
        shutil.rmtree(tmp_path / "cache")
        assert disk.get("a@1") is None
        assert disk.purge("a@") == 0
        disk.put("a@1", rendition())
        assert disk.get("a@1") == rendition()

    def test_is_private(self, tmp_path) -> None:
        folder = tmp_path / "cache"
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        DiskTier(folder, UNBOUNDED).put("a@1", rendition())
        modes = {path.stat().st_mode & 0o077 for path in [folder, *folder.rglob("*")]}
        assert modes == {0}

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of somebody else")
    def test_a_folder_of_somebody_else_is_refused(self, tmp_path) -> None:
        folder = tmp_path / "cache"
        folder.mkdir()
        os.chown(folder, 12345, -1)
        with pytest.raises(PermissionError, match="belongs to user 12345"):
            DiskTier(folder, UNBOUNDED)

    def test_a_write_that_fails_leaves_nothing_behind(self, disk, tmp_path) -> None:
        class Broken:
            def read(self, _: int) -> bytes:
                raise OSError(5, "Input/output error")

        with pytest.raises(OSError, match="Input/output"):
            disk.pin("a@1", Broken(), rendition(), time.time() + 100)
        assert list((tmp_path / "cache").glob("??/*")) == [] and disk.get("a@1") is None
        assert list((tmp_path / "cache").glob("??/.*")) == []

    def test_a_full_disk_raises_and_leaves_nothing_behind(self, disk, tmp_path) -> None:
        code = """
import resource, signal, sys
from pathlib import Path
from image_repo.caches.disk import DiskTier
from image_repo.config import LocalCacheConfiguration
from image_repo.model.rendition import Rendition
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
tier = DiskTier(Path(sys.argv[1]), LocalCacheConfiguration())
try:
    tier.put("a@1", Rendition(bytes(100_000), "image/jpeg", "e", 0.0))
except OSError:
    print("raised")
"""
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "cache"], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout == "raised\n"
        assert list((tmp_path / "cache").glob("??/*")) + list((tmp_path / "cache").glob("??/.*")) == []

    def test_a_use_is_noted_at_most_once_an_hour(self, disk, tmp_path) -> None:
        disk.put("a@1", rendition())
        entry = entry_of(tmp_path / "cache")
        recently, long_ago = time.time() - 1800, time.time() - 7200
        os.utime(entry, (recently, recently))
        disk.get("a@1")
        assert entry.stat().st_mtime == pytest.approx(recently)
        os.utime(entry, (long_ago, long_ago))
        disk.get("a@1")
        assert entry.stat().st_mtime == pytest.approx(time.time(), abs=60)


def size_of(folder: Path) -> int:
    """The bytes of all entries, some of which may be removed meanwhile."""
    size = 0
    for path in folder.glob("??/*"):
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def test_what_an_entry_cost_outlives_its_uses(tmp_path) -> None:
    tier = quiet(tmp_path / "c", UNBOUNDED)
    tier.put("a@1", rendition(), cost=0.125)
    entry = entry_of(tmp_path / "c")
    assert entry.stat().st_mtime_ns % 10**9 == 125_000_000
    long_ago = int(time.time() - 7200) * 10**9 + 125_000_000
    os.utime(entry, ns=(long_ago, long_ago))
    tier.get("a@1")
    assert entry.stat().st_mtime_ns % 10**9 == 125_000_000
    assert entry.stat().st_mtime == pytest.approx(time.time(), abs=60)


class TestSweep:
    def put_many(self, tier: DiskTier, folder: Path, count: int, size: int = 100) -> None:
        """Entries whose last use is one hour apart, ``n0`` the oldest."""
        for number in range(count):
            before = set(folder.glob("??/[!.]*"))
            tier.put(f"n{number}@1", rendition(bytes(size)))
            (new,) = set(folder.glob("??/[!.]*")) - before
            used = time.time() - 3600 * (count - number)
            os.utime(new, (used, used))

    def left(self, tier: DiskTier, count: int) -> list[int]:
        return [number for number in range(count) if tier.get(f"n{number}@1")]

    def test_evicts_the_least_recently_used_until_enough_is_free(self, tmp_path) -> None:
        filler = quiet(tmp_path / "c", UNBOUNDED)
        self.put_many(filler, tmp_path / "c", 10)
        tier = quiet(tmp_path / "c", LocalCacheConfiguration(max_elements=10))
        assert tier.sweep() == 4
        assert self.left(tier, 10) == [4, 5, 6, 7, 8, 9]

    def test_does_nothing_while_enough_is_free(self, tmp_path) -> None:
        tier = quiet(tmp_path / "c", LocalCacheConfiguration(max_elements=20, max_size=1 << 20))
        self.put_many(tier, tmp_path / "c", 10)
        assert tier.sweep() == 0

    def test_spares_what_is_promised(self, tmp_path) -> None:
        filler = quiet(tmp_path / "c", UNBOUNDED)
        self.put_many(filler, tmp_path / "c", 10)
        filler.pin("n0@1", b"body", rendition(), time.time() + 1000)
        tier = quiet(tmp_path / "c", LocalCacheConfiguration(max_elements=1))
        tier.sweep()
        assert self.left(tier, 10) == [0]

    def test_drops_what_was_not_used_for_its_lifetime(self, tmp_path) -> None:
        tier = quiet(tmp_path / "c", UNBOUNDED, name="cache", lifetime=3600 * 5 + 60)
        self.put_many(tier, tmp_path / "c", 10)
        tier.pin("n0@1", b"body", rendition(), time.time() + 1000)
        assert tier.sweep() == 4
        assert self.left(tier, 10) == [0, 5, 6, 7, 8, 9]

    def test_a_promise_that_is_over_can_go(self, tmp_path) -> None:
        tier = quiet(tmp_path / "c", LocalCacheConfiguration(max_elements=1))
        tier.pin("a@1", b"body", rendition(), time.time() + 1000)
        entry = entry_of(tmp_path / "c")
        os.utime(entry, (time.time() - 10, time.time() - 10))
        assert tier.sweep() == 1

    def test_a_clock_that_was_ahead_makes_nothing_eternal(self, tmp_path) -> None:
        tier = quiet(tmp_path / "c", LocalCacheConfiguration(max_elements=1))
        tier.put("a@1", rendition())
        os.utime(entry_of(tmp_path / "c"), (time.time() + 1e8, time.time() + 1e8))
        assert tier.sweep() == 1

    def test_removes_what_interrupted_writes_left_behind(self, tmp_path) -> None:
        tier = quiet(tmp_path / "c", UNBOUNDED)
        tier.put("a@1", rendition())
        shard = entry_of(tmp_path / "c").parent
        old, young = shard / ".0123", shard / ".4567"
        old.touch()
        young.touch()
        os.utime(old, (1, 1))
        tier.sweep()
        assert (old.exists(), young.exists()) == (False, True)
        assert tier.get("a@1") is not None

    def test_many_writes_stay_within_the_bound(self, tmp_path) -> None:
        limit = 1 << 20
        tier = DiskTier(tmp_path / "c", LocalCacheConfiguration(max_size=limit))
        most = 0
        for number in range(600):
            tier.put(f"n{number}@1", rendition(bytes(5_000)))
            if number % 20 == 0:
                most = max(most, size_of(tmp_path / "c"))
        tier.close()
        assert 0 < most <= limit

    def test_what_would_push_out_too_much_is_declined(self, tmp_path) -> None:
        tier = DiskTier(tmp_path / "c", LocalCacheConfiguration(max_size=1 << 20))
        tier.put("a@1", rendition(bytes(200_000)))
        assert tier.get("a@1") is None
        tier.close()
