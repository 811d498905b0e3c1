"""What every store keeps to, whatever it is made of."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest

from image_repo.errors import LinkExpired, LinkRefused, PreconditionFailed
from image_repo.stores.base import CHUNK, Store

JPEG = "image/jpeg"
ODD_KEYS = {
    "a space": "a b/c d.jpg",
    "percent signs": "100%/a%41%2F%.jpg",
    "a question mark": "what?/is=it&so.jpg",
    "a number sign": "#1/a#b.jpg",
    "plus and at": "a+b@2x.jpg",
    "quotes": 'it\'s "so".jpg',
    "a semicolon and a colon": "a;b:c,d.jpg",
    "umlauts": "Möhre/ä.jpg",
    "other scripts": "写真/фото/صورة.jpg",
    "beyond the first plane": "\U0001f4f7/\U0001d4d0.jpg",
    "a dot in a folder": "a.b/c.d/e",
    "a leading folder with a dot": ".renditions/a@1+size(2,3).jpg",
    "segments of 250 bytes": f"{'x' * 250}/{'ü' * 125}/{'y' * 250}",
    "700 bytes": "z" * 696 + ".jpg",
}


def read(store: Store, key: str) -> bytes | None:
    body = store.get(key)
    if body is None:
        return None
    with body:
        return b"".join(body)


def names(store: Store, prefix: str = "", **bounds: str) -> list[str]:
    return [entry.key for entry in store.keys(prefix, **bounds)]


class StoreContract:
    """Inherit, and give a fixture ``store``: empty, reachable, and one whose listings come in small pages if it can."""

    def test_gives_back_what_was_put(self, store: Store) -> None:
        before = time.time()
        put = store.put("a/b.jpg", b"picture", media_type=JPEG)
        entry = store.head("a/b.jpg")
        assert entry is not None
        assert (entry.key, entry.size, entry.etag, entry.media_type) == ("a/b.jpg", 7, put.etag, JPEG)
        assert (put.key, put.size, put.media_type) == ("a/b.jpg", 7, JPEG)
        assert abs(entry.modified - before) < 5
        with store.get("a/b.jpg") as body:
            assert body.entry == entry
            assert b"".join(body) == b"picture"

    def test_none_and_false_mean_that_it_looked(self, store: Store) -> None:
        assert store.head("a.jpg") is None
        assert store.get("a.jpg") is None
        assert store.delete("a.jpg") is False
        assert names(store) == []

    def test_what_is_put_together_is_there_as_ever(self, store: Store) -> None:
        with store.batch():
            store.put("a/b.jpg", b"1", media_type=JPEG)
            with store.batch():
                store.put("a/c/d.jpg", b"2", media_type=JPEG)
            assert names(store) == ["a/b.jpg", "a/c/d.jpg"]
            with pytest.raises(PreconditionFailed):
                store.put("a/b.jpg", b"3", media_type=JPEG, overwrite=False)
        assert names(store) == ["a/b.jpg", "a/c/d.jpg"]

    def test_a_deleted_object_is_gone(self, store: Store) -> None:
        store.put("a/b.jpg", b"1", media_type=JPEG)
        assert store.delete("a/b.jpg") is True
        assert store.head("a/b.jpg") is None
        assert names(store) == []
        assert store.delete("a/b.jpg") is False

    def test_a_folder_of_keys_is_no_object(self, store: Store) -> None:
        store.put("a/b/c.jpg", b"1", media_type=JPEG)
        assert store.head("a/b") is None
        assert store.get("a") is None
        assert store.delete("a/b") is False
        assert read(store, "a/b/c.jpg") == b"1"

    @pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS.keys())
    def test_takes_any_key(self, store: Store, key: str) -> None:
        store.put(key, key.encode(), media_type=JPEG)
        assert store.head(key).key == key
        assert read(store, key) == key.encode()
        assert names(store) == [key]
        assert store.delete(key) is True

    def test_keys_may_begin_like_others(self, store: Store) -> None:
        keys = ["a", "a/b", "a.jpg", "a.jpg/b.jpg", "a.jpg/b.jpg/c", "a b", "a%2Fb"]
        for key in keys:
            store.put(key, key.encode(), media_type=JPEG)
        assert [read(store, key) for key in keys] == [key.encode() for key in keys]
        assert names(store) == sorted(keys)
        store.delete("a.jpg")
        assert read(store, "a.jpg/b.jpg") == b"a.jpg/b.jpg"

    def test_other_spellings_of_unicode_are_other_keys(self, store: Store) -> None:
        composed, apart = (unicodedata.normalize(form, "ä.jpg") for form in ("NFC", "NFD"))
        store.put(composed, b"one", media_type=JPEG)
        store.put(apart, b"two", media_type=JPEG)
        assert (read(store, composed), read(store, apart)) == (b"one", b"two")
        assert names(store) == sorted([composed, apart])

    @pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5_000_000], ids=lambda size: f"{size} bytes")
    def test_any_size(self, store: Store, size: int) -> None:
        data = os.urandom(size)
        assert store.put("a.jpg", data, media_type=JPEG).size == size
        with store.get("a.jpg") as body:
            chunks = list(body)
        assert body.entry.size == size
        assert b"".join(chunks) == data
        assert all(0 < len(chunk) <= CHUNK for chunk in chunks)

    def test_a_file_is_read_from_its_present_position(self, store: Store) -> None:
        file = io.BytesIO(b"not this, but this")
        file.seek(10)
        assert store.put("a.jpg", file, media_type=JPEG).size == 8
        assert read(store, "a.jpg") == b"but this"

    def test_what_is_not_read_to_its_end_does_no_harm(self, store: Store) -> None:
        store.put("a.jpg", bytes(3_000_000), media_type=JPEG)
        for _ in range(12):
            with store.get("a.jpg") as body:
                next(iter(body))
        with store.get("a.jpg"):
            pass
        assert read(store, "a.jpg") == bytes(3_000_000)

    def test_overwriting_changes_the_entity_tag(self, store: Store) -> None:
        first = store.put("a.jpg", b"one", media_type=JPEG)
        second = store.put("a.jpg", b"two", media_type="image/png")
        assert first.etag != second.etag
        assert store.head("a.jpg").etag == second.etag
        assert store.head("a.jpg").media_type == "image/png"
        assert read(store, "a.jpg") == b"two"

    def test_overwriting_can_be_forbidden(self, store: Store) -> None:
        store.put("a.jpg", b"one", media_type=JPEG, overwrite=False)
        with pytest.raises(PreconditionFailed):
            store.put("a.jpg", b"two", media_type=JPEG, overwrite=False)
        assert read(store, "a.jpg") == b"one"

    def test_one_of_many_writers_is_the_first(self, store: Store) -> None:
        barrier = threading.Barrier(4)

        def write(number: int) -> int | None:
            barrier.wait(10)
            try:
                store.put("a.jpg", bytes([number]) * 1000, media_type=JPEG, overwrite=False)
            except PreconditionFailed:
                return None
            return number

        with ThreadPoolExecutor(4) as threads:
            won = [number for number in threads.map(write, range(4)) if number is not None]
        assert len(won) >= 1
        assert read(store, "a.jpg")[0] in won

    def test_keeps_metadata_and_expiry(self, store: Store) -> None:
        metadata = {"etag": "W/x", "modified": repr(1_700_000_000.25), "text": 'ü 100%41 "q"; a,b=c'}
        expires = float(int(time.time()) + 1000)
        put = store.put("a.jpg", b"1", media_type=JPEG, metadata=metadata, expires=expires)
        entry = store.head("a.jpg")
        assert (put.metadata, put.expires) == (metadata, expires)
        assert (entry.metadata, entry.expires) == (metadata, expires)
        with store.get("a.jpg") as body:
            assert body.entry == entry
        store.put("a.jpg", b"2", media_type=JPEG)
        assert (store.head("a.jpg").metadata, store.head("a.jpg").expires) == ({}, None)

    # -- listing ---------------------------------------------------------------------

    def test_lists_by_code_points(self, store: Store) -> None:
        keys = ["b", "a/b", "a", "a b", "a/ä", "a/z", "B", "\uffff", "\U00010000", "a-b", "a.b", "ab/c"]
        for key in keys:
            store.put(key, b"1", media_type=JPEG)
        assert names(store) == sorted(keys)

    def test_a_listing_says_what_head_says(self, store: Store) -> None:
        store.put("a/ü.jpg", b"1", media_type=JPEG)
        store.put("b.png", b"22", media_type="image/png")
        for entry in store.keys(""):
            head = store.head(entry.key)
            assert (entry.size, entry.etag, entry.media_type) == (head.size, head.etag, head.media_type)
            assert entry.modified == pytest.approx(head.modified, abs=1e-5)
            assert (dict(entry.metadata), entry.expires) == ({}, None)

    @pytest.mark.parametrize(
        ("prefix", "after", "before", "expected"),
        [
            ("", "", "", ["a", "a/b", "a/b/c", "a/ü", "ab", "b/a"]),
            ("a", "", "", ["a", "a/b", "a/b/c", "a/ü", "ab"]),
            ("a/", "", "", ["a/b", "a/b/c", "a/ü"]),
            ("a/b", "", "", ["a/b", "a/b/c"]),
            ("a/ü", "", "", ["a/ü"]),
            ("c", "", "", []),
            ("", "a/b", "", ["a/b/c", "a/ü", "ab", "b/a"]),
            ("", "a/bb", "", ["a/ü", "ab", "b/a"]),
            ("", "", "ab", ["a", "a/b", "a/b/c", "a/ü"]),
            ("a/", "a/b", "a/ü", ["a/b/c"]),
            ("a/", "", "a/", []),
            ("a/", "b", "", []),
        ],
        ids=[
            "everything", "what begins so", "a folder", "a part of a name", "unicode", "nothing", "behind a key",
            "behind where no key is", "ahead of a key", "between", "ahead of all", "behind all",
        ],
    )  # fmt: skip
    def test_lists_a_part(self, store: Store, prefix: str, after: str, before: str, expected: list[str]) -> None:
        for key in ("b/a", "a/b", "a", "ab", "a/ü", "a/b/c"):
            store.put(key, b"1", media_type=JPEG)
        assert names(store, prefix, after=after, before=before) == expected

    def test_lists_page_after_page(self, store: Store) -> None:
        keys = [f"{folder}/{number:03}.jpg" for folder in ("a", "b") for number in range(23)]
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda key: store.put(key, b"1", media_type=JPEG), keys))
        assert names(store) == keys
        assert names(store, "b/", after="b/003.jpg") == keys[27:]

    def test_finds_what_is_called_so(self, store: Store) -> None:
        endings = frozenset({".jpg", ".png"})
        keys = ["a/b.jpg", "a/b.PNG", "a/b.gif", "a/b", "a/b.c.jpg", "a/b-c.jpg", "a/bc.jpg", "a/b.jpg/c.jpg", "b.png"]
        for key in keys:
            store.put(key, key.encode(), media_type=JPEG)

        def called(*names: str, endings: frozenset[str] = endings) -> list[str]:
            return sorted(entry.key for entry in store.find(names, endings))

        assert called("a/b") == ["a/b.PNG", "a/b.jpg"]
        assert called("a/b", endings=endings | {""}) == ["a/b", "a/b.PNG", "a/b.jpg"]
        assert called("a/b.c", "b", "a", "a/x") == ["a/b.c.jpg", "b.png"]
        assert called("a/b", "a/bc", "a/b.jpg/c", "b") == ["a/b.PNG", "a/b.jpg", "a/b.jpg/c.jpg", "a/bc.jpg", "b.png"]
        assert called() == []
        (entry,) = store.find(["b"], endings)
        assert entry == next(entry for entry in store.keys("b."))

    def test_finds_what_is_called_like_names_that_begin_alike(self, store: Store) -> None:
        names = ["a/b", "a/b 3", "a/b-2", "a/b.c", "a/b,", "a/ba"]
        keys = [f"{name}.{ending}" for name in names for ending in ("jpg", "webp")]
        for key in keys:
            store.put(key, b"1", media_type=JPEG)
        for wanted in (names, names[:2], names[:3], names[2:], ["a/b", "a/b.c"]):
            entries = store.find(wanted, frozenset({".jpg", ".webp", ""}))
            assert sorted(entry.key for entry in entries) == sorted(
                f"{name}.{ending}" for name in wanted for ending in ("jpg", "webp")
            )

    def test_finds_what_is_called_so_among_many(self, store: Store) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: store.put(f"p{number:03}.jpg", b"1", media_type=JPEG), range(120)))
        entries = store.find(["p000", "p119", "p200"], frozenset({".jpg", ""}))
        assert sorted(entry.key for entry in entries) == ["p000.jpg", "p119.jpg"]

    def test_an_object_may_go_while_it_is_listed(self, store: Store) -> None:
        for number in range(30):
            store.put(f"{number:02}", b"1", media_type=JPEG)
        seen = []
        for entry in store.keys(""):
            seen.append(entry.key)
            store.delete(entry.key)
        assert seen == [f"{number:02}" for number in range(30)]

    # -- at the same time ------------------------------------------------------------

    def test_readers_see_the_old_or_the_new(self, store: Store) -> None:
        bodies = [bytes([letter]) * 600_000 for letter in b"abc"]
        store.put("a.jpg", bodies[0], media_type=JPEG)
        done = threading.Event()

        def look() -> list[bytes | None]:
            seen = []
            while not done.is_set():
                seen.append(read(store, "a.jpg"))
            return seen

        with ThreadPoolExecutor(3) as threads:
            looking = [threads.submit(look) for _ in range(3)]
            try:
                for turn in range(12):
                    store.put("a.jpg", bodies[turn % 3], media_type=JPEG)
            finally:
                done.set()
            seen = [body for future in looking for body in future.result()]
        assert seen
        assert all(body in bodies for body in seen)

    def test_threads_do_not_mix_their_objects(self, store: Store) -> None:
        def work(number: int) -> bool:
            data = bytes([number]) * (200_000 + number)
            store.put(f"{number}.jpg", data, media_type=JPEG)
            return all(read(store, f"{number}.jpg") == data for _ in range(3))

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(work, range(16)))

    def test_says_what_it_is(self, store: Store) -> None:
        assert store.description
        assert store.identity
        store.check()

    def test_what_it_presigns_it_verifies_until_it_expires(self, store: Store) -> None:
        store.set_link_key("a key of more than thirty-two characters")
        expires = int(time.time()) + 60
        query = parse_qs(urlsplit(store.presign("a/b c.jpg", expires, "x.jpg")).query)
        signature = query["temp_url_sig"][0]
        assert query["temp_url_expires"] == [str(expires)]
        store.verify_presigned("a/b c.jpg", signature, str(expires))
        for key, seconds in (("a/b.jpg", expires), ("a/b c.jpg", expires + 1)):
            with pytest.raises(LinkRefused):
                store.verify_presigned(key, signature, str(seconds))
        past = int(time.time()) - 1
        signature = parse_qs(urlsplit(store.presign("a.jpg", past, "x.jpg")).query)["temp_url_sig"][0]
        with pytest.raises(LinkExpired):
            store.verify_presigned("a.jpg", signature, str(past))

    def test_a_finished_write_is_listed_where_that_is_a_capability(self, store: Store) -> None:
        store.put("a.jpg", b"1", media_type=JPEG)
        if store.capabilities.immediate_listing:
            assert names(store) == ["a.jpg"]
            store.delete("a.jpg")
            assert names(store) == []

    def test_a_damaged_body_is_recognised_where_digests_are_verified(self, store: Store) -> None:
        """What is verified has its MD5 as its entity tag; what is not, the repository verifies by the record."""
        entry = store.put("a.jpg", b"picture", media_type=JPEG)
        is_digest = entry.etag == hashlib.md5(b"picture", usedforsecurity=False).hexdigest()
        assert is_digest is store.capabilities.verifies_digests
