"""What every tier of the caches keeps to, whatever it is made of."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from image_repo.caches.tiers import Tier
from image_repo.errors import StoreUnavailable
from image_repo.model.rendition import Rendition


def rendition(body: bytes = b"picture", etag: str = "tag") -> Rendition:
    return Rendition(body, "image/jpeg", etag, 1_700_000_000.25)


class TierContract:
    """Inherit, and give a fixture ``tier``."""

    def test_gives_back_what_was_put(self, tier: Tier) -> None:
        tier.put("a/b@1+g(x).jpg", rendition())
        assert tier.get("a/b@1+g(x).jpg") == rendition()

    def test_does_not_have_what_was_not_put(self, tier: Tier) -> None:
        assert tier.get("a/b@1.jpg") is None
        assert tier.delete("a/b@1.jpg") is False
        assert tier.purge("a/b@") == 0

    @pytest.mark.parametrize("body", [b"", b"\0" * 5000], ids=["an empty body", "a body of zeros"])
    def test_keeps_any_body(self, tier: Tier, body: bytes) -> None:
        tier.put("a@1.jpg", rendition(body))
        assert tier.get("a@1.jpg") == rendition(body)

    def test_the_last_one_put_stays(self, tier: Tier) -> None:
        tier.put("a@1.jpg", rendition(b"old"))
        tier.put("a@1.jpg", rendition(b"new", "other"))
        assert tier.get("a@1.jpg") == rendition(b"new", "other")

    def test_a_removed_one_is_gone(self, tier: Tier) -> None:
        tier.put("a@1.jpg", rendition())
        assert tier.delete("a@1.jpg") is True
        assert tier.get("a@1.jpg") is None

    def test_a_purge_takes_one_image_and_no_other(self, tier: Tier) -> None:
        mine = ["a/b@1.jpg", "a/b@1+size(1,2).webp", "a/b@2.jpg"]
        others = ["a/bc@1.jpg", "a@1.jpg", "a/b/c@1.jpg", "xa/b@1.jpg"]
        for key in mine + others:
            tier.put(key, rendition(key.encode()))
        assert tier.purge("a/b@") == len(mine)
        assert [tier.get(key) for key in mine] == [None] * len(mine)
        assert [tier.get(key) for key in others] == [rendition(key.encode()) for key in others]

    @pytest.mark.parametrize(
        ("prefix", "gone"),
        [("a/b@1", 2), ("a/b@1+", 1), ("a/", 3), ("", 4)],
        ids=["of a version", "of a part of a key", "of a folder", "of everything"],
    )
    def test_a_purge_takes_any_prefix(self, tier: Tier, prefix: str, gone: int) -> None:
        for key in ("a/b@1.jpg", "a/b@1+x.jpg", "a/b@2.jpg", "c@1.jpg"):
            tier.put(key, rendition())
        assert tier.purge(prefix) == gone

    def test_takes_odd_keys(self, tier: Tier) -> None:
        for key in ("ü/…@1.jpg", "a b%40@1.jpg", "x" * 700 + "@1+" + "y" * 300 + ".jpg"):
            tier.put(key, rendition(key.encode()))
            assert tier.get(key) == rendition(key.encode())

    def test_threads_never_see_a_mix(self, tier: Tier) -> None:
        bodies = [bytes([number]) * 20_000 for number in range(4)]
        wrong: list[bytes] = []
        barrier = threading.Barrier(len(bodies))

        def work(body: bytes) -> None:
            barrier.wait(10)
            for _ in range(12):
                with contextlib.suppress(StoreUnavailable):  # a real Swift that four threads press; Caches bears it
                    tier.put("a@1.jpg", rendition(body))
                    entry = tier.get("a@1.jpg")
                    if entry and entry.body not in bodies:
                        wrong.append(entry.body)

        threads = [threading.Thread(target=work, args=(body,)) for body in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert wrong == []
        assert tier.get("a@1.jpg") is not None

    def test_can_be_closed_twice(self, tier: Tier) -> None:
        tier.put("a@1.jpg", rendition())
        tier.close()
        tier.close()


class LinkTargetContract(TierContract):
    """Inherit, and give a fixture ``tier`` that is a LinkTarget."""

    def test_keeps_what_is_promised(self, tier, tmp_path) -> None:
        until = float(int(time.time()) + 1000)
        source = tmp_path / "body"
        source.write_bytes(b"..original")
        with source.open("rb") as file:
            file.seek(2)
            tier.pin("a@1+original", file, rendition(b"", "e"), until)
        assert tier.pinned_until("a@1+original") == until
        opened = tier.open("a@1+original")
        with opened.file:
            assert opened.file.read(opened.size) == b"original"
        assert (opened.size, opened.media_type, opened.etag, opened.modified) == (
            8,
            "image/jpeg",
            "e",
            1_700_000_000.25,
        )

    def test_a_promise_is_not_shortened(self, tier) -> None:
        until = float(int(time.time()) + 1000)
        tier.pin("a@1.jpg", b"body", rendition(), until)
        tier.pin("a@1.jpg", b"body", rendition(), until - 500)
        tier.put("a@1.jpg", rendition(b"body"))
        assert tier.pinned_until("a@1.jpg") == until
        tier.pin("a@1.jpg", b"body", rendition(), until + 500)
        assert tier.pinned_until("a@1.jpg") == until + 500

    def test_promises_nothing_for_what_it_does_not_have(self, tier) -> None:
        assert tier.pinned_until("a@1.jpg") is None
        assert tier.open("a@1.jpg") is None

    def test_what_was_only_put_is_not_promised(self, tier) -> None:
        tier.put("a@1.jpg", rendition())
        assert (tier.pinned_until("a@1.jpg") or 0.0) <= time.time()

    def test_a_purge_takes_promised_ones_too(self, tier) -> None:
        tier.pin("a@1.jpg", b"body", rendition(), time.time() + 1000)
        assert tier.purge("a@") == 1
        assert tier.open("a@1.jpg") is None
