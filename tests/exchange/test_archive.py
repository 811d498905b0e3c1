"""Zips out, held against other programs that read them; zips in, made by hand to do harm."""

import contextlib
import io
import shutil
import struct
import subprocess
import tempfile
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_repo.errors import BrokenArchive, Problem, TooLarge
from image_repo.exchange.zip_reader import Archive, Budget
from image_repo.exchange.zip_writer import stream_zip

MEMBERS = [
    ("plots/a.jpg", 1_700_000_000.0, b"first" * 100),
    ("été/ü.png", 0.0, b""),
    ("metadata.jsonl", 9e12, b"{}\n"),
]


def zipped(*members, folder=None) -> bytes:
    return b"".join(stream_zip(members, folder))


# -- out ----------------------------------------------------------------------------------


def test_other_programs_read_it(tmp_path):
    made = zipped(*MEMBERS, ("file.bin", 1e9, io.BytesIO(bytes(range(256)) * 4096)))
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["plots/a.jpg", "été/ü.png", "metadata.jsonl", "file.bin"]
        assert archive.read("file.bin") == bytes(range(256)) * 4096
        dates = [info.date_time for info in archive.infolist()]
        assert dates[:3] == [(2023, 11, 14, 22, 13, 20), (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)]
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o100644}
    if shutil.which("unzip"):
        (tmp_path / "made.zip").write_bytes(made)
        assert subprocess.run(["unzip", "-tq", tmp_path / "made.zip"], check=False, capture_output=True).returncode == 0


def test_it_can_be_unpacked_while_it_arrives():
    """Sizes and checksums stand ahead: no member needs what follows it."""
    made = zipped(*MEMBERS)
    assert not struct.unpack_from("<H", made, 6)[0] & 1 << 3
    crc, packed, size = struct.unpack_from("<3L", made, 14)
    assert (crc, packed, size) == (zlib.crc32(b"first" * 100), 500, 500)


def test_the_same_members_give_the_same_bytes():
    assert zipped(*MEMBERS) == zipped(*MEMBERS)


def test_a_file_is_taken_from_where_it_stands():
    file = io.BytesIO(b"passed over, taken")
    file.seek(13)
    with zipfile.ZipFile(io.BytesIO(zipped(("a", 0.0, file)))) as archive:
        assert archive.read("a") == b"taken"


def test_more_members_than_16_bits_count():
    made = zipped(*((f"{number}", 0.0, b"") for number in range(70_000)))
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert len(archive.namelist()) == 70_000
    assert len(Archive(io.BytesIO(made), Budget(0), 70_000)) == 70_000


def test_memory_does_not_grow_with_the_members():
    def peak(members: int) -> int:
        tracemalloc.start()
        for _ in stream_zip((f"{number:06}/{'x' * 100}", 0.0, b"") for number in range(members)):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(9_000), peak(20_000)
    assert many < few + (1 << 18), "the directory waits on disk"


def test_who_goes_away_ends_what_makes_the_members():
    ended = []

    def members():
        try:
            while True:
                yield "a", 0.0, b"x"
        finally:
            ended.append(True)

    stream = stream_zip(members())
    next(stream)
    stream.close()
    assert ended == [True]


@pytest.mark.servers
def test_more_bytes_than_32_bits_count(tmp_path):
    """Of zeros, in files with holes: it needs hardly any disk, but some seconds."""
    size = (1 << 32) + 5
    with (tmp_path / "zeros").open("w+b") as zeros, (tmp_path / "big.zip").open("w+b") as file:
        zeros.truncate(size)
        for chunk in stream_zip([("zeros", 0.0, zeros), ("behind", 0.0, b"there")]):
            if chunk == bytes(len(chunk)):
                file.seek(len(chunk), io.SEEK_CUR)
            else:
                file.write(chunk)
        with zipfile.ZipFile(file) as archive:
            assert archive.read("behind") == b"there"
            assert archive.getinfo("zeros").file_size == size
            assert archive.getinfo("behind").header_offset > size
        taken = Archive(file, Budget(2 * size), 10)
        assert [member.size for member in taken] == [size, 5]
        assert b"".join(taken.open(list(taken)[1])) == b"there"


# -- in -----------------------------------------------------------------------------------


def by_zipfile(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, body in members:
            archive.writestr(name, body)
    return bytearray(file.getvalue())


def central(made: bytes, number: int = 0) -> int:
    """Where an entry of the directory is."""
    at = made.find(b"PK\1\2")
    for _ in range(number):
        at = made.find(b"PK\1\2", at + 1)
    return at


def patched(made: bytes, at: int, form: str, value: int) -> bytearray:
    changed = bytearray(made)
    struct.pack_into(form, changed, at, value)
    return changed


def read(made: bytes, *, budget: int = 1 << 20, most: int = 100) -> dict[str, bytes | str]:
    """Member → its bytes, or why it was refused."""
    archive = Archive(io.BytesIO(made), Budget(budget), most)
    bodies: dict[str, bytes | str] = {}
    for member in archive:
        try:
            bodies[member.name] = b"".join(archive.open(member))
        except (BrokenArchive, TooLarge) as problem:
            bodies[member.name] = problem.detail
    return bodies


TEXT = b"some text that can be compressed, compressed, compressed, compressed"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_what_others_made_is_read(method):
    bodies = {"a.txt": TEXT, "empty": b"", "long": bytes(300_000) + b"end", "ordner/ü.txt": b"x"}
    assert read(by_zipfile(*bodies.items(), method=method)) == bodies


def test_what_was_streamed_by_others_is_read():
    class OneWay(io.RawIOBase):
        """Makes zipfile write sizes behind the bytes."""

        def __init__(self):
            self.got = bytearray()

        def writable(self):
            return True

        def write(self, data):
            self.got += data
            return len(data)

    sink = OneWay()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", TEXT)
        with archive.open("wide", "w", force_zip64=True) as member:
            member.write(TEXT)
    assert read(sink.got) == {"a": TEXT, "wide": TEXT}


def test_something_may_stand_ahead_and_a_comment_behind():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", TEXT)
        archive.comment = b"PK\5\6 is what ends an archive"
    assert read(b"#!/bin/sh\n" + file.getvalue()) == {"a": TEXT}


def test_a_folder_is_no_file():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.mkdir("folder")
    (member,) = Archive(file, Budget(0), 1)
    assert (member.is_folder, member.name) == (True, "folder/")


def test_an_archive_without_members():
    assert read(by_zipfile()) == {}


@pytest.mark.parametrize(
    ("flag", "raw", "name"),
    [
        pytest.param(True, "ü".encode(), "ü", id="UTF-8 that says so"),
        pytest.param(False, "ü".encode(), "ü", id="UTF-8 that does not, as macOS writes it"),
        pytest.param(False, "ü".encode("cp437"), "ü", id="code page 437"),
        pytest.param(True, b"\xff\xfe", "\ufffd\ufffd", id="no UTF-8 at all"),
    ],
)
def test_names_are_text(flag, raw, name):
    made = bytearray(zipped(("x" * len(raw), 0.0, b"")))
    for at in (30, central(made) + 46):
        made[at : at + len(raw)] = raw
    for at in (6, central(made) + 8):
        struct.pack_into("<H", made, at, 1 << 11 if flag else 0)
    assert [member.name for member in Archive(io.BytesIO(made), Budget(0), 1)] == [name]


def lie(field: int, form: str, value: int, *, local: int | None = None):
    """Changes a number in the directory, and where it stands in the member's own head too."""

    def change(made: bytes) -> bytes:
        made = patched(made, central(made) + field, form, value)
        return patched(made, local, form, value) if local is not None else made

    return change


def shared(made: bytes) -> bytes:
    """Two entries of the directory for the same bytes, as in the overlap bomb."""
    second = central(made, 1)
    return patched(patched(made, second + 42, "<L", 0), second + 46, "<c", b"a")


def quoted(made: bytes) -> bytes:
    """The first member's bytes hold the second member whole (CVE-2024-0450)."""
    second = struct.unpack_from("<L", made, central(made, 1) + 42)[0]
    size = central(made) - 31
    made = patched(patched(made, central(made) + 20, "<L", size), central(made) + 24, "<L", size)
    assert second < 31 + size
    return made


HARM = [
    pytest.param(lie(8, "<H", 1), "encrypted", id="encrypted"),
    pytest.param(lie(6 - 6 + 8, "<H", 1 << 13), "encrypted", id="a masked directory"),
    pytest.param(lie(38, "<L", 0o120777 << 16), "link", id="a symbolic link"),
    pytest.param(lie(38, "<L", 0o020666 << 16), "link", id="a device"),
    pytest.param(lie(10, "<H", 12, local=8), "Method 12", id="another compression"),
    pytest.param(lie(16, "<L", 1), "checksum", id="another checksum"),
    pytest.param(lie(24, "<L", 5), "checksum|more than", id="smaller than it is"),
    pytest.param(lie(24, "<L", 500), "checksum", id="larger than it is"),
    pytest.param(lie(20, "<L", 3), "checksum|too early", id="packed into less than it is"),
    pytest.param(lie(20, "<L", 1 << 30), "shares bytes", id="packed into more than there is"),
    pytest.param(lie(42, "<L", 7), "not where", id="somewhere else"),
    pytest.param(lie(42, "<L", 0xFFFFFFFE), "not where", id="beyond the end"),
    pytest.param(lie(46, "<c", b"z"), "called otherwise", id="two names"),
    pytest.param(quoted, "shares bytes", id="the bytes of another"),
    pytest.param(shared, "shares bytes|two members", id="two members in one place"),
]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize(("harm", "reason"), HARM)
def test_a_member_is_refused_and_the_other_is_not(harm, reason, method):
    made = by_zipfile(("a", TEXT), ("b", TEXT), method=method)
    archive = Archive(io.BytesIO(harm(made)), Budget(1 << 20), 10)
    first, second = archive
    with pytest.raises(BrokenArchive, match=reason):
        b"".join(archive.open(first))
    if harm is shared:
        with pytest.raises(BrokenArchive):
            b"".join(archive.open(second))
    else:
        assert b"".join(archive.open(second)) == TEXT


def test_two_members_of_one_name_are_both_refused():
    made = zipped(("a", 0.0, b"one"), ("a", 0.0, b"two"), ("b", 0.0, b"three"))
    assert read(made) == {"a": "The archive has two members of this name.", "b": b"three"}


def test_a_damaged_deflation_is_told():
    made = by_zipfile(("a", TEXT))
    made[31:41] = bytes(10)
    assert "damaged" in read(made)["a"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda made: b"", "no zip", id="nothing"),
        pytest.param(lambda made: b"x" * 1000, "no zip", id="something else"),
        pytest.param(lambda made: made[:-1], "cut off", id="cut off"),
        pytest.param(lambda made: made + b"x", "cut off", id="something behind it"),
        pytest.param(
            lambda made: patched(made, len(made) - 10, "<L", 1 << 20), "not where", id="a directory too large"
        ),
        pytest.param(lambda made: patched(made, len(made) - 6, "<L", 1 << 20), "not where", id="a directory too far"),
        pytest.param(lambda made: patched(made, len(made) - 18, "<H", 3), "several parts", id="one of several disks"),
        pytest.param(lambda made: patched(made, central(made), "<L", 0), "damaged", id="no entry in the directory"),
        pytest.param(lambda made: patched(made, central(made) + 28, "<H", 9999), "damaged", id="a name too long"),
    ],
)
def test_what_is_no_archive_is_refused(change, reason):
    with pytest.raises(BrokenArchive, match=reason):
        Archive(io.BytesIO(change(by_zipfile(("a", TEXT)))), Budget(100), 10)


def test_the_number_of_members_is_bounded():
    made = zipped(*((str(number), 0.0, b"") for number in range(11)))
    assert len(Archive(io.BytesIO(made), Budget(0), 11)) == 11
    with pytest.raises(BrokenArchive, match="At most 10 members"):
        Archive(io.BytesIO(made), Budget(0), 10)


def test_a_bomb_ends_where_the_budget_does():
    bomb = by_zipfile(("a", bytes(50 << 20)))
    assert len(bomb) < 60_000
    archive = Archive(io.BytesIO(bomb), Budget(1 << 20), 1)
    got = 0
    with pytest.raises(TooLarge, match="more than 1048576 bytes"):
        for chunk in archive.open(next(iter(archive))):
            got += len(chunk)
    assert got <= 1 << 20


def test_the_budget_is_that_of_all_members_together():
    made = by_zipfile(*((str(number), bytes(1000)) for number in range(5)))
    members = read(made, budget=3_500)
    assert [isinstance(body, bytes) for body in members.values()] == [True, True, True, False, False]


def test_members_are_read_from_several_threads():
    bodies = {str(number): bytes([number]) * 700_000 for number in range(12)}
    archive = Archive(io.BytesIO(by_zipfile(*bodies.items())), Budget(1 << 30), 12)
    with ThreadPoolExecutor(4) as pool:
        members = dict(pool.map(lambda member: (member.name, b"".join(archive.open(member))), archive))
    assert members == bodies


GOOD = bytes(by_zipfile(("a.jpg", TEXT), ("b/c.png", bytes(2000)), ("metadata.jsonl", b"{}")))


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6), st.integers(0, 40))
def test_whatever_is_changed_ends_as_bytes_or_as_a_problem(changes, cut):
    made = bytearray(GOOD)
    for at, value in changes:
        made[at] = value
    with contextlib.suppress(Problem):
        archive = Archive(io.BytesIO(made[: len(made) - cut]), Budget(1 << 20), 100)
        for member in archive:
            with contextlib.suppress(Problem):
                assert len(b"".join(archive.open(member))) == member.size


def test_a_file_on_a_disk_too(tmp_path: Path):
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        file.write(GOOD)
        archive = Archive(file, Budget(1 << 20), 10)
        assert [member.name for member in archive] == ["a.jpg", "b/c.png", "metadata.jsonl"]
