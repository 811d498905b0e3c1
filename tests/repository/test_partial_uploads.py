"""Uploads in parts on the disk: what counts, what excludes what, what is left behind."""

from __future__ import annotations

import errno
import math
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from commands import until
from disks import small_disk

from image_repo.config import UploadsConfiguration
from image_repo.errors import (
    InsufficientStorage,
    OffsetConflict,
    StoreUnavailable,
    TooManyUploads,
    UploadLocked,
    UploadNotFound,
)
from image_repo.repository.partial_uploads import Announcement, PartialUpload, PartialUploads
from image_repo.sync.expiry import UploadSweeper

BOUNDS = UploadsConfiguration(max_size=1 << 20, max_open=3, lifetime=3600)
BODY = bytes(range(256)) * 4


def announced(length: int = len(BODY), creator: str = "a", client: str = "a") -> Announcement:
    return Announcement(length, creator, client, {})


@pytest.fixture
def uploads(tmp_path: Path) -> PartialUploads:
    return PartialUploads(tmp_path / "uploads", BOUNDS, lock_wait=30.0)


def anew(uploads: PartialUploads, tmp_path: Path) -> PartialUploads:
    """Return the same uploads, as another process has them."""
    return PartialUploads(tmp_path / "uploads", BOUNDS)


def test_another_process_goes_on(uploads: PartialUploads, tmp_path: Path) -> None:
    made = uploads.create(announced())
    assert made.append(0, [BODY[:100], BODY[100:200]]) == 200
    again = anew(uploads, tmp_path).find(made.id, "a")
    assert (again.offset, again.announcement) == (200, made.announcement)
    assert again.append(200, [BODY[200:]]) == len(BODY)
    with again.complete() as spool:
        assert spool.read() == BODY


def test_the_last_byte_counts_when_the_whole_is_stored(uploads: PartialUploads) -> None:
    made = uploads.create(announced())
    made.append(0, [BODY])
    assert uploads.find(made.id, "a").offset == len(BODY) - 1
    with pytest.raises(OffsetConflict):
        made.append(len(BODY), [])
    assert made.append(len(BODY) - 1, [BODY[-1:]]) == len(BODY)
    with made.complete() as spool:
        assert spool.read() == BODY
        made.finish({"Location": "/images/a"})
    ended = uploads.find(made.id, "a")
    assert (ended.offset, ended.outcome) == (len(BODY), {"Location": "/images/a"})
    with pytest.raises(OffsetConflict):
        made.append(len(BODY) - 1, [b"x"])


def test_a_request_that_the_client_gave_up_ends_when_another_goes_on(uploads: PartialUploads) -> None:
    made = uploads.create(announced())

    def stale() -> Iterator[bytes]:
        yield BODY[:10]
        uploads.find(made.id, "a").append(10, [BODY[10:30]])
        yield BODY[10:20]

    with pytest.raises(OffsetConflict):
        made.append(0, stale())
    assert made.offset == 30


def test_nothing_is_written_while_it_is_stored(uploads: PartialUploads, tmp_path: Path) -> None:
    made = uploads.create(announced())
    made.append(0, [BODY])
    impatient = PartialUploads(tmp_path / "uploads", BOUNDS, lock_wait=0.01)
    with made.complete(), pytest.raises(UploadLocked):
        impatient.find(made.id, "a").append(len(BODY) - 1, [b"x"])
    assert made.append(len(BODY) - 1, [b"x"]) == len(BODY)


def test_what_is_being_stored_is_not_deleted_until_it_is(uploads: PartialUploads, tmp_path: Path) -> None:
    made = uploads.create(announced())
    made.append(0, [BODY])
    other = PartialUploads(tmp_path / "uploads", BOUNDS, lock_wait=0.01).find(made.id, "a")
    with made.complete():
        with pytest.raises(UploadLocked):
            other.delete()
        made.finish({})
    other.delete()
    with pytest.raises(UploadNotFound):
        uploads.find(made.id, "a")


def test_what_waits_for_the_end_learns_of_it(uploads: PartialUploads) -> None:
    made = uploads.create(announced())
    made.append(0, [BODY])
    other, outcome = uploads.find(made.id, "a"), []

    def wait() -> None:
        try:
            with other.complete():
                outcome.append("twice")
        except OffsetConflict as problem:
            outcome.append(problem.members["offset"])

    waiting = threading.Thread(target=wait)
    with made.complete():
        waiting.start()
        made.finish({})
    waiting.join()
    assert outcome == [len(BODY)]


def test_a_deleted_upload_takes_no_bytes(uploads: PartialUploads) -> None:
    made = uploads.create(announced())

    def deleting() -> Iterator[bytes]:
        yield BODY[:10]
        uploads.find(made.id, "a").delete()
        yield BODY[10:20]

    with pytest.raises(UploadNotFound):
        made.append(0, deleting())


def test_another_caller_finds_nothing(uploads: PartialUploads) -> None:
    made = uploads.create(announced())
    for upload_id, creator in (
        (made.id, "b"),
        ("0" * 32, "a"),
        ("../" + made.id, "a"),
        ("", "a"),
        ("." + made.id, "a"),
    ):
        with pytest.raises(UploadNotFound):
            uploads.find(upload_id, creator)


def test_the_id_of_a_proxy_is_taken_once(uploads: PartialUploads) -> None:
    one, two = (uploads.create(announced(), "ab" * 16) for _ in range(2))
    assert one.id == "ab" * 16
    assert two.id != one.id
    assert uploads.create(announced(), "../" + "a" * 29).id.isalnum()


def test_callers_are_bounded_each(uploads: PartialUploads) -> None:
    for _ in range(3):
        uploads.create(announced(client="a"))
    with pytest.raises(TooManyUploads):
        uploads.create(announced(client="a"))
    uploads.create(announced(client="b"))


def test_what_is_announced_takes_no_room(uploads: PartialUploads) -> None:
    for client in "abcdef":
        uploads.create(announced(1 << 20, client=client))
    with pytest.raises(InsufficientStorage):
        uploads.create(announced((1 << 20) + 1, client="g"))


def test_bytes_that_have_arrived_are_bounded(uploads: PartialUploads) -> None:
    one, two = (uploads.create(announced(1 << 20)) for _ in range(2))
    one.append(0, [bytes(1 << 18)])
    two.append(0, [bytes(3 << 18)])
    for refused in (lambda: uploads.create(announced(1)), lambda: one.append(1 << 18, [b"x"])):
        with pytest.raises(InsufficientStorage):
            refused()
    two.delete()
    assert one.append(1 << 18, [bytes(1 << 16)] * 12) == 1 << 20


def test_of_uploads_that_fill_the_room_the_largest_ends_and_then_the_others(tmp_path: Path) -> None:
    uploads = PartialUploads(tmp_path, UploadsConfiguration(max_size=3 << 20))
    quarter = bytes(1 << 18)
    waiting = [uploads.create(announced(1 << 20, client=client)) for client in "abcd"]
    for upload in waiting:
        upload.append(0, [quarter] * 3)
    ended_at_once = []
    while waiting:
        ended = []
        for upload in waiting:
            with suppress(InsufficientStorage):
                upload.append(3 << 18, [quarter])
                ended.append(upload)
        assert ended
        ended_at_once.append(len(ended))
        for upload in ended:
            upload.finish({})
            waiting.remove(upload)
    assert ended_at_once[0] == 1


def test_one_upload_alone_goes_beyond_the_bound(tmp_path: Path) -> None:
    uploads = PartialUploads(tmp_path, UploadsConfiguration(max_size=3 << 20), measure_interval=0.0)
    small, large = (uploads.create(announced(3 << 20, client=client)) for client in "ab")
    small.append(0, [bytes(1 << 20)])
    large.append(0, [bytes(2 << 20)])
    for _ in range(2):
        with pytest.raises(InsufficientStorage):
            small.append(1 << 20, [b"x"])
        large.append(large.size, [bytes(1 << 18)])
    large.delete()
    assert small.append(1 << 20, [bytes(2 << 20)]) == 3 << 20


def test_the_last_byte_of_a_whole_upload_is_sent_again_where_there_is_no_room(uploads: PartialUploads) -> None:
    whole, larger = uploads.create(announced(1 << 18)), uploads.create(announced(1 << 20))
    whole.append(0, [bytes(1 << 18)])
    larger.append(0, [bytes(3 << 18)])
    assert whole.append((1 << 18) - 1, [b"x"]) == 1 << 18


@pytest.mark.parametrize("interval", [0.0, math.inf], ids=["at once", "later"])
def test_what_other_processes_write_counts_after_the_interval(tmp_path: Path, interval: float) -> None:
    uploads = PartialUploads(tmp_path / "uploads", BOUNDS, measure_interval=interval)
    mine = uploads.create(announced(1 << 20))
    other = anew(uploads, tmp_path).create(announced(1 << 20, client="b"))
    mine.append(0, [b"x"])
    other.append(0, [bytes((1 << 20) - 1)])
    with nullcontext() if interval else pytest.raises(InsufficientStorage):
        mine.append(1, [b"x"])


def test_bytes_in_one_request_are_bounded_too(tmp_path: Path) -> None:
    uploads = PartialUploads(tmp_path, UploadsConfiguration(max_size=3 << 20))
    first, second = uploads.create(announced(3 << 20)), uploads.create(announced(3 << 20))
    first.append(0, [bytes(2 << 20)])
    with pytest.raises(InsufficientStorage):
        second.append(0, [bytes(1 << 16)] * 48)
    assert uploads.find(second.id, "a").offset == 1 << 20
    first.delete()
    assert second.append(1 << 20, [bytes(1 << 20)] * 2) == 3 << 20


def age(tmp_path: Path, upload: PartialUpload, seconds: float) -> None:
    """Have the last byte of an upload come so many seconds earlier."""
    path = tmp_path / "uploads" / "open" / upload.id / "bytes"
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_what_is_idle_gives_way_where_there_is_no_room(uploads: PartialUploads, tmp_path: Path) -> None:
    idle = [uploads.create(announced(1 << 20, client=client)) for client in "abc"]
    for number, upload in enumerate(idle):
        upload.append(0, [bytes(1 << 18)])
        age(tmp_path, upload, 900 - number)
    empty = uploads.create(announced(2))
    age(tmp_path, empty, 1800)
    new = uploads.create(announced(1 << 19, client="d"))
    new.append(0, [bytes(1 << 18)])
    assert uploads.find(idle[0].id, "a").offset == 1 << 18
    new.append(1 << 18, [b"x"])
    with pytest.raises(UploadNotFound):
        uploads.find(idle[0].id, "a")
    remaining = [*idle[1:], empty, new]
    assert [uploads.find(upload.id, "a").offset for upload in remaining] == [1 << 18, 1 << 18, 0, (1 << 18) + 1]


def test_an_announcement_without_a_byte_deletes_no_bytes_of_others(tmp_path: Path) -> None:
    bounds = UploadsConfiguration(max_size=3 << 20)
    uploads = PartialUploads(tmp_path / "uploads", bounds, max_open=2, measure_interval=0.0)
    paused = [uploads.create(announced(1 << 20, client=client)) for client in "ab"]
    for upload in paused:
        upload.append(0, [bytes((1 << 20) - 10)])
        age(tmp_path, upload, 601)
    new = uploads.create(announced(3 << 20, client="c"))
    assert [uploads.find(upload.id, "a").offset for upload in paused] == [(1 << 20) - 10] * 2
    new.append(0, [b"x"])  # one too many: the longest idle one goes
    with pytest.raises(UploadNotFound):
        uploads.find(paused[0].id, "a")
    assert uploads.find(paused[1].id, "a").offset == (1 << 20) - 10


def test_all_callers_together_have_so_many_and_idle_ones_give_way(tmp_path: Path) -> None:
    uploads = PartialUploads(tmp_path / "uploads", BOUNDS, max_open=2)
    idle, busy = (uploads.create(announced(client=client)) for client in "ab")
    with pytest.raises(InsufficientStorage):
        uploads.create(announced(client="c"))
    age(tmp_path, idle, 900)
    assert busy.append(0, [BODY[:100]]) == 100
    new = uploads.create(announced(client="c"))
    assert {path.name for path in (tmp_path / "uploads" / "open").iterdir()} == {busy.id, new.id}
    with pytest.raises(InsufficientStorage):
        uploads.create(announced(client="d"))


def test_what_is_idle_does_not_give_way_in_vain(uploads: PartialUploads, tmp_path: Path) -> None:
    idle, busy, small = (uploads.create(announced(1 << 20, client=client)) for client in "abc")
    idle.append(0, [bytes(1 << 18)])
    busy.append(0, [bytes(1 << 19)])
    age(tmp_path, idle, 900)
    for refused in (
        lambda: uploads.create(announced(1 << 20, client="d")),
        lambda: small.append(0, [bytes((1 << 19) + 1)]),
    ):
        with pytest.raises(InsufficientStorage):
            refused()
    assert uploads.find(idle.id, "a").offset == 1 << 18


def test_what_goes_on_does_not_give_way_to_itself(uploads: PartialUploads, tmp_path: Path) -> None:
    made, other = uploads.create(announced(1 << 20)), uploads.create(announced(1 << 20))
    made.append(0, [bytes(1 << 18)])
    other.append(0, [bytes(3 << 18)])
    age(tmp_path, made, 1800)
    with pytest.raises(InsufficientStorage):
        made.append(1 << 18, [b"x"])
    assert uploads.find(made.id, "a").offset == 1 << 18


def test_what_a_killed_process_left_is_tidied(uploads: PartialUploads, tmp_path: Path) -> None:
    folder = tmp_path / "uploads" / "open"
    (folder / ".half-made").mkdir()
    expired, young = uploads.create(announced()), uploads.create(announced())
    for path in (folder / ".half-made", folder / expired.id / "bytes"):
        os.utime(path, (0, 0))
    anew(uploads, tmp_path)
    assert [path.name for path in folder.iterdir()] == [young.id]


def test_a_serving_node_tidies_without_being_asked_anything(uploads: PartialUploads, tmp_path: Path) -> None:
    made = uploads.create(announced())
    os.utime(tmp_path / "uploads" / "open" / made.id / "bytes", (0, 0))
    sweeper = UploadSweeper(uploads, every=0.01)
    sweeper.start()
    try:
        until(lambda: not list((tmp_path / "uploads" / "open").iterdir()), "the expired upload is deleted")
    finally:
        sweeper.close()


def test_how_it_ended_is_forgotten_after_an_hour(uploads: PartialUploads, tmp_path: Path) -> None:
    made = uploads.create(announced())
    made.finish({})
    (finished,) = (tmp_path / "uploads" / "finished").iterdir()
    os.utime(finished, (0, 0))
    uploads.tidy()
    with pytest.raises(UploadNotFound):
        uploads.find(made.id, "a")


def test_so_many_ends_are_remembered_at_most(tmp_path: Path) -> None:
    uploads = PartialUploads(tmp_path / "uploads", BOUNDS, max_finished=2)
    made = [uploads.create(announced(client=str(number))) for number in range(4)]
    for age, upload in enumerate(reversed(made)):
        upload.finish({})
        finished = tmp_path / "uploads" / "finished" / upload.id
        os.utime(finished, (finished.stat().st_mtime - age,) * 2)
    uploads.create(announced(client="another"))
    assert all(uploads.is_finished(upload.id) for upload in made)  # each creation would look at all of them
    uploads.tidy()
    assert [uploads.is_finished(upload.id) for upload in made] == [False, False, True, True]


def test_its_folder_is_made_again_where_it_was_deleted(uploads: PartialUploads, tmp_path: Path) -> None:
    uploads.create(announced()).append(0, [BODY[:10]])
    shutil.rmtree(tmp_path / "uploads")
    made = uploads.create(announced())
    assert made.append(0, [BODY]) == len(BODY)
    made.finish({})
    assert uploads.find(made.id, "a").outcome == {}


def test_a_folder_that_cannot_be_made_refuses_uploads_alone(tmp_path: Path) -> None:
    (tmp_path / "uploads").write_bytes(b"")
    with pytest.raises(StoreUnavailable):
        PartialUploads(tmp_path / "uploads", BOUNDS).create(announced())


def test_what_the_disk_refuses_is_a_problem_and_ends_no_sweeper(uploads: PartialUploads, tmp_path: Path) -> None:
    made = uploads.create(announced())
    for path in (tmp_path / "uploads" / "open" / made.id / "bytes", tmp_path / "uploads" / "finished" / made.id):
        path.unlink(missing_ok=True)
        path.mkdir()
        os.utime(path, (0, 0))
    with pytest.raises(StoreUnavailable):
        made.append(0, [BODY])
    with pytest.raises(StoreUnavailable), made.complete():
        pass
    with pytest.raises(StoreUnavailable):
        made.delete()
    uploads.tidy()


def test_without_a_folder_there_is_no_room() -> None:
    with pytest.raises(InsufficientStorage):
        PartialUploads(None, BOUNDS).create(announced())


def test_a_full_disk_is_told_and_the_upload_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk, body = tmp_path / "disk", os.urandom(400_000)
    with small_disk(disk, "1m"):
        uploads = PartialUploads(disk / "uploads", BOUNDS)
        made = uploads.create(announced(len(body)))
        with (disk / "filler").open("wb", 0) as filler, pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            while True:
                filler.write(bytes(4096))
        with pytest.raises(InsufficientStorage):
            made.append(0, [body[:200_000], body[200_000:]])
        with pytest.raises(InsufficientStorage):
            uploads.create(announced(1))
        (disk / "filler").unlink()
        with pytest.raises(InsufficientStorage):
            uploads.create(announced(BOUNDS.max_size - made.size))
        offset = made.offset
        assert made.append(offset, [body[offset:]]) == len(body)
        with made.complete() as spool:
            assert spool.read() == body
