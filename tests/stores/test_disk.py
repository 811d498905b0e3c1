"""What the store in a folder promises beyond the contract of all stores: plain files, and nothing outside of them."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import until
from hypothesis import example, given
from hypothesis import strategies as st

from image_repo.errors import PreconditionFailed, StoreUnavailable
from image_repo.model import record
from image_repo.model.formats import ENDINGS, split_ending
from image_repo.model.record import Record
from image_repo.stores import disk_listing
from image_repo.stores.disk import DiskStore
from image_repo.stores.disk_paths import decode_file, decode_folder, encode, encode_file, encode_folder, is_part
from image_repo.stores.disk_sync import FolderSyncs
from image_repo.stores.lookup import is_called

RECORD = Record('a/"b"', "a/b.jpg", "1-2", "0" * 64, "image/jpeg", 3, 4, 5, data={"ü": 1}).dump()

#: keys that would get into each other's way in a folder that knew nothing of them
HARD_KEYS = [
    "a", "a/b", "a/b/c", "a.jpg", "a.jpg/b.jpg", "a.jpg/b", "a%", "a%/b", "a%%", "a%-", "a%-/b", "a%+", "a%+/b",
    "a.jpg%", "a.jpg%/b", "a.jpg%-", "a.jpg%-/b", ".json", "x.json", "x.json/y.json", ".renditions/a@1+g(2).jpg",
    ".artifacts/sha256/00", ".image_repo", ".image_repo/tmp/x", "x" * 240, "x" * 240 + ".", "x" * 240 + "./y",
    "x" * 240 + "..", "x" * 240 + "/y", "x" * 240 + "-", "x" * 240 + "0/y", "x" * 700, "x" * 700 + "/y.jpg",
    "é" * 350 + ".jpg", "x" * 238 + "%+", "x" * 238 + "%+/y", "a\\b", "a b\n", "-", "~", "%", "%/%",
]  # fmt: skip


def short(key: str) -> str:
    """A key as the id of a test."""
    return ascii(key if len(key) < 24 else f"{key[:4]}…{key[-8:]} ({len(key)})")


def put(store: DiskStore, key: str, body: bytes = b"body", media_type: str = "image/jpeg", **options):
    return store.put(key, body, media_type=media_type, **options)


def read(store: DiskStore, key: str) -> bytes | None:
    body = store.get(key)
    if body is None:
        return None
    with body:
        return b"".join(body)


def keys(store: DiskStore, *arguments, **options) -> list[str]:
    return [entry.key for entry in store.keys(*arguments, **options)]


def files(folder: Path) -> set[str]:
    """Everything in a folder but what is the store's own."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return {str(path) for path in paths if path.parts[0] != ".image_repo"}


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root) -> DiskStore:
    store = DiskStore(root)
    store.check()
    return store


class TestPaths:
    @pytest.mark.parametrize(
        ("key", "path"),
        [
            ("a/b.jpg", "a/b.jpg"),
            ("a/b.JPG", "a/b.JPG"),
            ("a/b.json", "a/b.json"),
            ("a", "a%"),
            ("README.txt", "README.txt%"),
            ("a.jpg/b.jpg", "a.jpg%-/b.jpg"),
            ("a%/b.jpg", "a%%-/b.jpg"),
            ("x" * 250 + ".jpg", "x" * 240 + "%+/" + "x" * 10 + ".jpg"),
            (".image_repo/b.jpg", ".image_repo%-/b.jpg"),
        ],
    )
    def test_a_key_is_a_path_that_a_person_can_read(self, key, path) -> None:
        assert encode(key) == path

    @pytest.mark.parametrize(
        "key",
        ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "../a", "a\0b", "a" * 1025, "a\ud800"],
        ids=short,
    )
    def test_what_is_no_key_is_refused(self, store, key) -> None:
        for call in (store.head, store.get, store.delete, lambda key: put(store, key)):
            with pytest.raises(ValueError, match=r"key|surrogates"):
                call(key)

    segments = st.one_of(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=300),
        st.text("a.%+-jpg", min_size=1, max_size=12),
        st.tuples(st.text("xé", min_size=234, max_size=242), st.text("a.%+-jpg", max_size=8)).map("".join),
    ).filter(lambda text: text not in (".", ".."))

    @given(segments)
    @example("x" * 240 + ".")
    @example("x" * 238 + "%+")
    def test_every_segment_comes_back(self, segment: str) -> None:
        for make, decode in ((encode_file, decode_file), (encode_folder, decode_folder)):
            *parts, last = make(segment).split("/")
            assert all(is_part(part) for part in parts)
            assert not (make is encode_folder and is_part(last))
            assert "".join(part.removesuffix("%+") for part in parts) + decode(last) == segment
            assert all(len(name.encode()) <= 255 and name not in ("", ".", "..") for name in [*parts, last])

    @given(segments, segments)
    def test_no_path_is_a_file_and_a_folder(self, one: str, other: str) -> None:
        file, folder = encode_file(one), encode_folder(other)
        assert file != folder
        assert not file.startswith(".image_repo/")
        assert folder != ".image_repo"

    @given(
        st.lists(segments, min_size=1, max_size=4).map("/".join),
        st.lists(segments, min_size=1, max_size=4).map("/".join),
    )
    def test_distinct_keys_have_distinct_paths(self, one: str, other: str) -> None:
        if one != other and max(len(one.encode()), len(other.encode())) <= 1024:
            first, second = encode(one), encode(other)
            assert first != second
            assert not first.startswith(second + "/")

    def test_hard_keys_live_side_by_side(self, store) -> None:
        for key in HARD_KEYS:
            put(store, key, key.encode())
        assert [read(store, key) for key in HARD_KEYS] == [key.encode() for key in HARD_KEYS]
        assert keys(store) == sorted(HARD_KEYS)
        for key in HARD_KEYS:
            assert store.delete(key) is True
        assert keys(store) == []


class TestFilesOfOtherTools:
    @pytest.mark.parametrize(
        "key",
        ["a/b.jpg", "README", "a.jpg/b.jpg", "a.jpg/notes", "deep/a.png/b.json/c.gif", "odd%/x.jpg", "%", "a/.hidden"],
    )
    def test_a_file_that_was_put_there_is_found(self, store, root, key) -> None:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(b"theirs")
        assert read(store, key) == b"theirs"
        assert keys(store) == [key]

    @pytest.mark.parametrize("key", ["README", "a.jpg/b.jpg", "a.jpg/notes"])
    def test_it_can_be_replaced_and_removed(self, store, root, key) -> None:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(b"theirs")
        put(store, key, b"ours")
        assert read(store, key) == b"ours"
        assert keys(store) == [key]
        assert store.delete(key) is True
        assert (read(store, key), keys(store), files(root)) == (None, [], set())

    def test_it_stands_in_nobodys_way(self, store, root) -> None:
        (root / "a").write_bytes(b"a file where a folder belongs")
        put(store, "a/b.jpg")
        (root / "x.jpg").mkdir()
        (root / "x.jpg" / "y.jpg").write_bytes(b"a folder where a file belongs")
        put(store, "x.jpg")
        assert keys(store) == ["a", "a/b.jpg", "x.jpg", "x.jpg/y.jpg"]
        assert read(store, "a") == b"a file where a folder belongs"
        assert read(store, "x.jpg/y.jpg") == b"a folder where a file belongs"

    def test_it_is_not_overwritten_when_that_is_refused(self, store, root) -> None:
        (root / "README").write_bytes(b"theirs")
        with pytest.raises(PreconditionFailed):
            put(store, "README", b"ours", overwrite=False)
        assert read(store, "README") == b"theirs"

    def test_a_change_by_another_tool_changes_the_entity_tag(self, store, root) -> None:
        before = put(store, "a.jpg", b"ours")
        (root / "a.jpg").write_bytes(b"edit")
        after = store.head("a.jpg")
        assert after.etag != before.etag
        assert next(store.keys()).etag == after.etag

    def test_what_is_no_object_is_not_shown(self, store, root) -> None:
        os.mkfifo(root / "pipe.jpg")
        (root / "empty").mkdir()
        (root / "broken.jpg").symlink_to("nowhere")
        (root / os.fsdecode(b"latin\xe9.jpg")).write_bytes(b"not UTF-8")
        assert keys(store) == []
        assert [store.head(key) for key in ("pipe.jpg", "empty", "broken.jpg")] == [None] * 3

    def test_a_file_that_is_written_while_it_is_read_is_an_error(self, store, root) -> None:
        put(store, "a.jpg", bytes(600_000))
        with store.get("a.jpg") as body:
            chunks = iter(body)
            next(chunks)
            with (root / "a.jpg").open("r+b") as file:
                file.truncate(10)
            with pytest.raises(StoreUnavailable):
                list(chunks)


class TestLinks:
    @pytest.fixture
    def outside(self, tmp_path) -> Path:
        folder = tmp_path / "outside"
        folder.mkdir()
        (folder / "secret.jpg").write_bytes(b"secret")
        return folder

    def test_a_link_that_leads_out_is_not_followed(self, store, root, outside) -> None:
        (root / "file.jpg").symlink_to(outside / "secret.jpg")
        (root / "folder").symlink_to(outside)
        (root / "up").symlink_to("..")
        assert keys(store) == []
        for key in ("file.jpg", "folder/secret.jpg", "up/outside/secret.jpg"):
            assert store.head(key) is None
        assert store.delete("folder/secret.jpg") is False
        with pytest.raises(StoreUnavailable):
            put(store, "folder/new.jpg")
        assert files(outside) == {"secret.jpg"}

    def test_a_link_in_place_of_a_file_is_replaced_and_not_written_through(self, store, root, outside) -> None:
        (root / "file.jpg").symlink_to(outside / "secret.jpg")
        put(store, "file.jpg", b"ours")
        assert (outside / "secret.jpg").read_bytes() == b"secret"
        assert read(store, "file.jpg") == b"ours"

    def test_our_own_folder_is_not_reached_by_a_link(self, store, root) -> None:
        store.link_base()
        (root / "own").symlink_to(".image_repo")
        assert store.head("own/url_key") is None
        assert keys(store) == []

    def test_a_link_inside_is_followed_but_not_for_ever(self, store, root) -> None:
        put(store, "a/b.jpg", b"body")
        (root / "c").symlink_to("a")
        (root / "d.jpg").symlink_to("a/b.jpg")
        (root / "a" / "round").symlink_to("..")
        assert read(store, "c/b.jpg") == read(store, "d.jpg") == read(store, "a/round/a/b.jpg") == b"body"
        assert keys(store) == ["a/b.jpg", "c/b.jpg", "d.jpg"]

    def test_the_root_may_be_a_link(self, tmp_path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        store = DiskStore(tmp_path / "link")
        store.check()
        put(store, "a.jpg")
        assert keys(store) == ["a.jpg"]
        assert store.identity == DiskStore(tmp_path / "real").identity


class TestMediaTypes:
    @pytest.mark.parametrize(
        ("key", "body", "media_type"),
        [
            ("a.jpg", b"", "image/jpeg"),
            ("a.TIFF", b"", "image/tiff"),
            ("a", b"", "application/octet-stream"),
            ("a", b"\xff\xd8\xff\xe0", "image/jpeg"),
            ("v1.2", b"\xff\xd8\xff\xe0", "image/jpeg"),
            ("a", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "image/heic"),
            ("a", b"BMs and other machines", "application/octet-stream"),
            ("a.txt", b"\xff\xd8\xff\xe0", "application/octet-stream"),
            ("a.json", RECORD, record.MEDIA_TYPE),
            ("a.json", b'{"name":"app","key":"x"}', "application/json"),
            ("a.json", b'{"name":"a manifest","icons":[]}', "application/json"),
            ("a.json", b"[]", "application/json"),
            ("a.json", b"", "application/json"),
        ],
        ids=[
            "by ending",
            "in capitals",
            "unknown",
            "a picture without an ending",
            "a number behind a dot",
            "by its brand",
            "a text",
            "another ending",
            "a record",
            "other JSON",
            "a manifest",
            "a list",
            "empty",
        ],
    )
    def test_a_plain_file_says_it_by_its_ending_and_beginning(self, store, root, key, body, media_type) -> None:
        (root / key).write_bytes(body)
        assert store.head(key).media_type == media_type
        assert next(store.keys()).media_type == media_type

    def test_what_the_ending_says_needs_nothing_beside_the_file(self, store, root) -> None:
        put(store, "a.jpg")
        put(store, "a.json", RECORD, record.MEDIA_TYPE)
        assert not (root / ".image_repo" / "meta").exists()

    def test_what_was_said_is_of_that_write_only(self, store, root) -> None:
        put(store, "a", b"text", "text/plain", metadata={"Kind": "note"})
        assert (store.head("a").media_type, store.head("a").metadata) == ("text/plain", {"kind": "note"})
        (root / "a%").write_bytes(b"another length")
        assert (store.head("a").media_type, store.head("a").metadata) == ("application/octet-stream", {})

    def test_it_survives_a_copy_that_loses_the_times(self, store, root, tmp_path) -> None:
        put(store, ".artifacts/x", b"text", "text/plain", metadata={"kind": "note"}, expires=time.time() + 1000)
        shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
        entry = DiskStore(tmp_path / "copy").head(".artifacts/x")
        assert (entry.media_type, entry.metadata, entry.expires) == ("text/plain", {"kind": "note"}, None)

    def test_nothing_of_it_stays_after_a_removal(self, store, root) -> None:
        put(store, "a", b"text", "text/plain")
        store.delete("a")
        assert list((root / ".image_repo" / "meta").iterdir()) == []

    def test_what_has_expired_is_not_there(self, store) -> None:
        put(store, "a", expires=time.time() - 1)
        assert store.head("a") is None
        assert keys(store) == []


class TestWriting:
    def test_two_writes_never_share_an_entity_tag(self, store) -> None:
        tags = [put(store, "a.jpg", b"same").etag for _ in range(50)]
        assert len(set(tags)) == 50

    def test_the_answer_is_what_head_tells(self, store) -> None:
        entry = put(store, "a/b", b"body", "text/plain", metadata={"x": "y"}, expires=float(int(time.time()) + 100))
        assert store.head("a/b") == entry

    def test_an_open_body_stays_what_it_was(self, store) -> None:
        first = put(store, "a.jpg", b"first")
        with store.get("a.jpg") as body:
            put(store, "a.jpg", b"second")
            assert (body.entry, b"".join(body)) == (first, b"first")

    def test_of_many_who_must_not_overwrite_one_wins(self, store, root) -> None:
        barrier = threading.Barrier(8)

        def work(number: int) -> bool:
            barrier.wait(10)
            try:
                put(store, "new/a.jpg", b"%d" % number, overwrite=False)
            except PreconditionFailed:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(work, range(8)))
        assert won.count(True) == 1
        assert read(store, "new/a.jpg") == b"%d" % won.index(True)
        assert list((root / ".image_repo" / "tmp").iterdir()) == []

    def test_writers_and_removers_of_one_folder_do_not_trip_over_each_other(self, store) -> None:
        def work(number: int) -> None:
            for _ in range(25):
                put(store, f"deep/er/{number}.jpg")
                assert store.delete(f"deep/er/{number}.jpg") is True

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert keys(store) == []

    def test_removing_the_last_file_removes_the_folder(self, store, root) -> None:
        put(store, "a/b/c.jpg")
        put(store, "a/d.jpg")
        store.delete("a/b/c.jpg")
        assert (files(root), (root / "a" / "b").exists()) == ({"a/d.jpg"}, False)

    def test_a_folder_that_disappears_is_made_again(self, store, root) -> None:
        put(store, "a.jpg")
        shutil.rmtree(root)
        with pytest.raises(StoreUnavailable):
            store.head("a.jpg")  # it could not look
        put(store, "a.jpg", b"again")
        assert read(store, "a.jpg") == b"again"

    def test_a_source_that_fails_leaves_nothing_behind(self, store, root) -> None:
        class Broken(io.RawIOBase):
            def read(self, _: int = -1) -> bytes:
                raise OSError(errno.EIO, "Input/output error")

        with pytest.raises(StoreUnavailable):
            store.put("a.jpg", Broken(), media_type="image/jpeg")
        assert files(root) == set()
        assert list((root / ".image_repo" / "tmp").iterdir()) == []

    def test_a_full_disk_is_said_and_leaves_nothing_behind(self, store, root) -> None:
        code = """
import resource, signal, sys
from pathlib import Path
from image_repo.errors import StoreUnavailable
from image_repo.stores.disk import DiskStore
from image_repo.stores.disk_sync import FolderSyncs
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    DiskStore(Path(sys.argv[1])).put("a.jpg", bytes(100_000), media_type="image/jpeg")
except StoreUnavailable as error:
    print(type(error.__cause__).__name__)
"""
        put(store, "a.jpg", b"old")
        done = subprocess.run(
            [sys.executable, "-c", code, root], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout == "OSError\n"
        assert read(store, "a.jpg") == b"old"
        assert list((root / ".image_repo" / "tmp").iterdir()) == []

    def test_what_an_interrupted_write_left_is_removed_a_day_later(self, store, root) -> None:
        left = root / ".image_repo" / "tmp" / "left"
        left.write_bytes(b"half")
        store.check()
        assert left.exists()


EDGES = ["", "a", "a/", "a.", "a.jpg", "a.jpg/", "a%", "x", "x" * 240, "x" * 240 + "/", "x" * 500, ".", "é", "zz"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> DiskStore:
    """A store that holds all of the hard keys, to be read only."""
    store = DiskStore(tmp_path_factory.mktemp("filled"))
    for key in HARD_KEYS:
        put(store, key)
    return store


class TestListing:
    @pytest.mark.parametrize("prefix", EDGES, ids=short)
    def test_shows_what_begins_with_the_prefix(self, filled, prefix) -> None:
        assert keys(filled, prefix) == sorted(key for key in HARD_KEYS if key.startswith(prefix))

    @pytest.mark.parametrize("edge", EDGES + HARD_KEYS, ids=short)
    def test_begins_behind_and_ends_ahead(self, filled, edge) -> None:
        assert keys(filled, after=edge) == sorted(key for key in HARD_KEYS if key > edge)
        assert keys(filled, "a", after=edge) == sorted(key for key in HARD_KEYS if key > edge and key.startswith("a"))
        if edge:
            assert keys(filled, before=edge) == sorted(key for key in HARD_KEYS if key < edge)


def called(store: DiskStore, *names: str, endings: frozenset[str] = ENDINGS) -> list[str]:
    return sorted(entry.key for entry in store.find(names, endings))


def replace_os(monkeypatch: pytest.MonkeyPatch, **instead: Callable[..., Any]) -> None:
    """Has folders looked at in another way; all else is as it was."""
    monkeypatch.setattr(disk_listing, "os", SimpleNamespace(**{**vars(os), **instead}))


@pytest.fixture(params=[0, 1 << 40], ids=["files are looked for", "folders are read"])
def either_way(request, monkeypatch) -> None:
    """Whatever the size of a folder."""
    monkeypatch.setattr(disk_listing, "_BYTES_A_LOOK", request.param)


class TestWhatIsCalledSo:
    @pytest.mark.usefixtures("either_way")
    @pytest.mark.parametrize("name", [*HARD_KEYS, "x" * 239, "nothing", "a/b.jpg/c"], ids=short)
    def test_is_what_a_listing_shows(self, filled, root, name) -> None:
        theirs = ["a.JPG", "a.json", "a.jpg%", "a/b.Json", "x.png/y", "%.tif", "~", "a b\n.avif"]
        for key in theirs:
            (root / key).parent.mkdir(exist_ok=True)
            (root / key).write_bytes(b"theirs")
        endings = frozenset({*ENDINGS, ".json", ""})
        wanted = [key for key in keys(filled) if is_called(key, {name}, endings)]
        assert called(filled, name, endings=endings) == wanted
        assert called(filled, name) == [key for key in wanted if split_ending(key)[1] and key != name]

    @pytest.mark.usefixtures("either_way")
    def test_is_found_for_many_names_in_many_folders(self, filled) -> None:
        endings = frozenset({*ENDINGS, ".json", ""})
        assert called(filled, *HARD_KEYS, endings=endings) == sorted(HARD_KEYS)

    @pytest.mark.usefixtures("either_way")
    def test_is_a_file_inside(self, store, root, tmp_path) -> None:
        (tmp_path / "outside.jpg").touch()
        put(store, "inside.jpg")
        (root / "inside.jpg").touch()
        (root / "a.jpg").symlink_to(tmp_path / "outside.jpg")
        (root / "a.png").symlink_to(root / "inside.jpg")
        (root / "a.gif").symlink_to(root / "nowhere")
        (root / "a.tif").mkdir()
        os.mkfifo(root / "a.bmp")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "a.jpg").touch()
        (root / "b").symlink_to(tmp_path / "folder")
        assert called(store, "a", "b/a", ".image_repo/a") == ["a.png"]

    @pytest.mark.usefixtures("either_way")
    def test_links_that_lead_up_are_not_followed(self, store, root) -> None:
        put(store, "a/b/c.jpg")
        (root / "loop").symlink_to(root)
        (root / "a" / "b" / "up").symlink_to(root / "a")
        (root / "other").symlink_to(root / "a" / "b")
        (root / "itself").symlink_to(root / "itself")
        assert keys(store, "other/") == ["other/c.jpg"]
        names = ["a/b/c", "loop/a/b/c", "a/b/up/b/c", "other/c", "other/up/b/c", "itself/c"]
        assert called(store, *names) == [key for name in names for key in keys(store, name + ".")]

    @pytest.mark.usefixtures("either_way")
    @pytest.mark.parametrize("gone", ["stat", "scandir"])
    def test_in_a_folder_that_is_removed_meanwhile_there_is_nothing(self, store, root, monkeypatch, gone) -> None:
        put(store, "a/b.jpg")

        def removed(path: str) -> object:
            if str(path) == str(root / "a"):
                raise FileNotFoundError(errno.ENOENT, "gone")
            return getattr(os, gone)(path)

        replace_os(monkeypatch, **{gone: removed})
        assert called(store, "a/c") == []

    def test_a_part_that_is_removed_meanwhile_is_missed_alone(self, store, root, monkeypatch) -> None:
        put(store, "a.jpg")
        put(store, "x" * 300 + ".jpg")

        def removed(path: str) -> object:
            if str(path).endswith("%+"):
                raise FileNotFoundError(errno.ENOENT, "gone")
            return os.scandir(path)

        replace_os(monkeypatch, scandir=removed)
        assert keys(store) == ["a.jpg"]

    @pytest.mark.usefixtures("either_way")
    def test_may_end_with_anything(self, store, root) -> None:
        put(store, "a.txt", media_type="text/plain")
        (root / "b.TXT").touch()
        assert called(store, "a", "b", endings=frozenset({".txt"})) == ["a.txt", "b.TXT"]
        assert called(store, "a", "b", endings=frozenset()) == []

    def test_of_two_spellings_that_are_one_file_there_is_one(self, store, root, monkeypatch) -> None:
        monkeypatch.setattr(disk_listing, "_BYTES_A_LOOK", 0)
        put(store, "a.jpg")
        put(store, "c.jpg")
        (root / "b.JPG").touch()
        (root / "c.JPG").hardlink_to(root / "c.jpg")
        replace_os(monkeypatch, lstat=lambda path: os.lstat(path.replace("a.JPG", "a.jpg")))
        assert [called(store, name) for name in "abc"] == [["a.jpg"], ["b.JPG"], ["c.JPG", "c.jpg"]]

    def test_trouble_with_a_file_is_told(self, store, root, monkeypatch) -> None:
        monkeypatch.setattr(disk_listing, "_BYTES_A_LOOK", 0)
        put(store, "a.jpg")

        def fail(path: str) -> None:
            raise OSError(errno.EIO, "broken")

        replace_os(monkeypatch, lstat=fail)
        with pytest.raises(StoreUnavailable, match="broken"):
            store.find(["a"], ENDINGS)

    def test_a_folder_of_which_nobody_tells_that_it_is_large_is_known_once_it_was_read(
        self, store, root, monkeypatch
    ) -> None:
        put(store, "a.jpg")
        for number in range(600):
            (root / f"{number}.jpg").touch()
        monkeypatch.setattr(disk_listing, "_BYTES_A_NAME", 1 << 40)
        size = store._folders._size
        assert size(str(root), os.stat_result([0] * 10)) == 0
        assert called(store, "a") == ["a.jpg"]
        monkeypatch.setattr(disk_listing, "_BYTES_A_LOOK", 1 << 20)
        assert keys(store, "a.") == ["a.jpg"]
        assert size(str(root), os.stat_result([0] * 10)) == 602 << 40
        assert called(store, "a") == ["a.jpg"]

    @pytest.mark.usefixtures("either_way")
    def test_trouble_is_told(self, store, root, tmp_path) -> None:
        put(store, "a/b.jpg")
        root.rename(tmp_path / "elsewhere")
        with pytest.raises(StoreUnavailable, match="not there any more"):
            store.find(["a/b"], ENDINGS)

    def test_a_large_folder_is_read_for_its_spellings_alone(self, store, root, monkeypatch) -> None:
        monkeypatch.setattr(disk_listing, "_BYTES_A_LOOK", 0)
        read: list[str] = []
        replace_os(monkeypatch, scandir=lambda folder: read.append(folder) or os.scandir(folder))
        for name in ("a.jpg", "b.JPG", "c.Png"):
            (root / name).touch()
        long_ago = time.time() - 100
        os.utime(root, (long_ago, long_ago))
        assert [called(store, name) for name in "abc"] == [["a.jpg"], ["b.JPG"], ["c.Png"]]
        (root / "b.jpg").touch()
        (root / "c.JPG").touch()
        (root / "a.jpg").unlink()
        assert [called(store, name) for name in "abc"] == [[], ["b.JPG", "b.jpg"], ["c.JPG", "c.Png"]]
        assert read == [str(root)]

    def test_an_ending_that_is_spelled_as_never_before_is_seen_in_time(self, store, root, monkeypatch) -> None:
        monkeypatch.setattr(disk_listing, "_BYTES_A_LOOK", 0)
        put(store, "a.jpg")
        clock = [100.0]
        monkeypatch.setattr(disk_listing, "time", SimpleNamespace(time_ns=time.time_ns, monotonic=lambda: clock[0]))
        assert called(store, "b") == []
        (root / "b.JPG").touch()
        clock[0] += 1.9
        assert called(store, "b") == []
        clock[0] += 0.2
        assert called(store, "b") == ["b.JPG"]


class TestLinkKeys:
    def test_is_made_once_and_kept_private(self, store, root) -> None:
        with ThreadPoolExecutor(8) as pool:
            made = set(pool.map(lambda _: DiskStore(root).link_base().secret, range(8)))
        assert made == {store.link_base().secret}
        assert len(made.pop()) >= 43
        assert (root / ".image_repo" / "url_key").stat().st_mode & 0o777 == 0o600
        assert list((root / ".image_repo" / "tmp").iterdir()) == []

    def test_can_be_changed_while_the_old_one_is_still_accepted(self, store) -> None:
        old = store.link_base().secret
        store.set_link_key(old, second=True)
        store.set_link_key("new secret")
        assert store.link_base().secret == "new secret"
        assert store.link_secrets() == ("new secret", old)

    def test_configured_keys_win(self, root) -> None:
        store = DiskStore(root, secrets=("one", "two"), public_endpoint="https://pictures.example.org")
        base = store.link_base()
        assert (base.endpoint, base.path, base.secret, base.digest) == (
            "https://pictures.example.org", "/temp/", "one", "sha256",
        )  # fmt: skip
        assert store.link_secrets() == ("one", "two")
        assert not root.exists()


class TestCheck:
    def test_makes_the_folder_beside_what_is_there(self, tmp_path) -> None:
        DiskStore(tmp_path / "new").check()
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700

    def test_makes_parents_only_when_asked(self, tmp_path) -> None:
        store = DiskStore(tmp_path / "not" / "there")
        with pytest.raises(StoreUnavailable, match="not there"):
            store.check()
        store.check(create=True)
        assert (tmp_path / "not" / "there").is_dir()

    def test_says_when_it_is_no_folder(self, tmp_path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreUnavailable, match="is not a folder"):
            DiskStore(tmp_path / "file").check()

    def test_nothing_is_there_before_it_is_made(self, root) -> None:
        store = DiskStore(root)
        assert (store.head("a"), store.get("a"), store.delete("a"), keys(store)) == (None, None, False, [])
        assert not root.exists()

    def test_has_a_description_and_an_identity(self, tmp_path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        store = DiskStore(Path("./data"))
        assert store.description == "folder data"
        assert store.identity == DiskStore(tmp_path / "data").identity != DiskStore(tmp_path / "other").identity


# -- names on their way to the disk -------------------------------------------------------


def test_a_folder_is_brought_to_the_disk_once_for_all_who_wait():
    begun, go_on, done = threading.Semaphore(0), threading.Semaphore(0), []

    def sync(folder):
        begun.release()
        assert go_on.acquire(timeout=10)
        done.append(folder)

    syncs, folder = FolderSyncs(sync), Path("folder")
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(syncs, folder)
        assert begun.acquire(timeout=10)
        late = [pool.submit(syncs, folder) for _ in range(6)]  # what they have put there, the first may have missed
        until(lambda: syncs._folders[folder].waiting == 7, "all wait")
        go_on.release()
        first.result(10)
        assert not any(each.done() for each in late)
        go_on.release()
        for each in late:
            each.result(10)
    assert done == [folder, folder]
    assert syncs._folders == {}


def test_a_folder_that_cannot_be_brought_to_the_disk_is_everybodys_trouble():
    begun, go_on, calls = threading.Semaphore(0), threading.Semaphore(0), []

    def sync(folder):
        calls.append(folder)
        begun.release()
        assert go_on.acquire(timeout=10)
        if len(calls) == 2:
            raise OSError(errno.EIO, "lost")

    syncs, folder = FolderSyncs(sync), Path("folder")
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(syncs, folder)
        assert begun.acquire(timeout=10)
        late = [pool.submit(syncs, folder) for _ in range(4)]
        until(lambda: syncs._folders[folder].waiting == 5, "all wait")
        go_on.release(2)
        assert first.exception(10) is None
        assert [each.exception(10).errno for each in late] == [errno.EIO] * 4, (
            "nobody is told that it was brought there"
        )
        go_on.release()
        syncs(folder)
    assert len(calls) == 3


def test_what_is_put_together_brings_each_folder_to_the_disk_once_at_the_end(store, root):
    folders = []
    store._syncs = FolderSyncs(folders.append)
    with store.batch():
        for number in range(5):
            store.put(f"a/b/{number}.jpg", b"1", media_type="image/jpeg")
        assert folders == []
    assert folders == [root / "a/b", root / "a", root]
    store.put("a/b/5.jpg", b"1", media_type="image/jpeg")
    assert len(folders) == 6, "afterwards each write waits for the disk again"


def test_who_puts_together_is_told_that_a_folder_could_not_be_brought_to_the_disk(store, root):
    def sync(folder):
        if folder == root:
            raise OSError(errno.EIO, "lost")

    store._syncs = FolderSyncs(sync)
    with pytest.raises(StoreUnavailable, match="lost"), store.batch():
        store.put("a.jpg", b"1", media_type="image/jpeg")
