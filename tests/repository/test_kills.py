"""Writers that are killed at any moment: a picture and its data take effect together, or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import commands
import killed
import pictures
import pytest

from image_repo import wiring
from image_repo.access.principal import ANONYMOUS
from image_repo.config import Config
from image_repo.errors import ImageNotFound
from image_repo.model.names import ImageName
from image_repo.model.record import record_key
from image_repo.repository.repository import Repository
from image_repo.repository.resolver import read_record
from image_repo.stores.disk import DiskStore

#: seconds of killing, and kills at most; `make soak` has more of the first
KILLING_S, KILLS = float(os.environ.get("IMAGE_REPO_SOAK_S", "8")), 200
BODIES = [pictures.jpeg(pictures.photo(60, 40, seed)) for seed in range(5)]


def state_of(repo: Repository, name: str) -> tuple[str, dict] | None:
    """The digest of the original itself, and the data of its record; None where there is no such image."""
    try:
        original = repo.reader.resolve(ANONYMOUS, [ImageName(name)])
    except ImageNotFound:
        return None
    with repo.reader.original(ANONYMOUS, original) as (_, spool):
        body = spool.file.read()
    record = repo.reader.record(ANONYMOUS, original)
    digest = hashlib.sha256(body).hexdigest()
    assert (record.sha256, record.filename) == (digest, f"{digest}.jpg")
    return digest, dict(record.data)


def kill(config: Config, work: killed.Work, first: int, dice: random.Random) -> list[tuple[str, int]]:
    """Let a writer write for a moment, kill it, and return what it has acknowledged."""
    process, pipe = killed.begin(config, work, BODIES, first)
    acknowledged = [pipe.recv()]
    threading.Event().wait(dice.random() * 0.05)
    process.kill()
    process.join()
    try:
        while True:
            acknowledged.append(pipe.recv())
    except EOFError:
        return acknowledged


def test_an_upload_that_is_killed_takes_effect_whole_or_not_at_all(tmp_path: Path) -> None:
    config = killed.embedded(tmp_path, freshness=0.0)
    dice, turn, kills, latest = random.Random(11), 0, 0, {}
    end = time.monotonic() + KILLING_S
    with closing(wiring.build(config)) as repo:
        while kills < 2 or (time.monotonic() < end and kills < KILLS):
            acknowledged = kill(config, killed.upload, turn, dice)
            kills += 1
            latest.update(acknowledged)
            turn = acknowledged[-1][1] + 1
            for name, last in latest.items():
                state = state_of(repo, name)
                assert state is not None, f"{name} was acknowledged, and is gone"
                digest, data = state
                assert data["sha256"] == digest, f"{name} has the data of another picture"
                assert data["turn"] >= last, f"{name} is older than what was acknowledged"
                latest[name] = data["turn"]
            turn = max([turn, *(last + 1 for last in latest.values())])
    print(f"{kills} kills, {turn} uploads")


def test_an_import_that_is_killed_leaves_each_picture_with_its_data(tmp_path: Path) -> None:
    config = killed.embedded(tmp_path, freshness=0.0)
    dice, turn, kills = random.Random(7), 0, 0
    end = time.monotonic() + KILLING_S / 2
    with closing(wiring.build(config)) as repo:
        while kills < 2 or (time.monotonic() < end and kills < KILLS):
            acknowledged = kill(config, killed.take_in, turn, dice)
            kills += 1
            states = [state_of(repo, name) for name in killed.IMPORTED]
            for digest, data in (state or ("", {}) for state in states):
                assert data["sha256"] == digest, "a picture has the data of another, or is gone"
                assert data["turn"] >= acknowledged[-1][1], "it is older than what was acknowledged"
            turn = max(data["turn"] for _, data in filter(None, states)) + 1
    print(f"{kills} kills, {turn} imports")


def test_a_bulk_change_that_is_killed_leaves_each_record_whole_and_the_catalogue_follows(tmp_path: Path) -> None:
    config = killed.embedded(tmp_path, freshness=0.0)
    dice, turn, kills = random.Random(3), 0, 0
    names = [ImageName(f"bulk-{number}") for number in range(4)]
    end = time.monotonic() + KILLING_S / 2
    while kills < 3 or (time.monotonic() < end and kills < KILLS):
        kills += 1
        acknowledged = kill(config, killed.change, turn, dice)
        turn = acknowledged[-1][1] + 1
        with closing(wiring.build(config)) as repo:
            stop = wiring.start_daemon(config, repo)
            try:
                turns = [repo.reader.description(ANONYMOUS, [name]).data["turn"] for name in names]
                assert min(turns) >= acknowledged[-1][1]

                commands.until(partial(agrees, repo, names), "the catalogue has what the records have")
            finally:
                stop()
    print(f"{kills} kills, {turn} bulk changes")


def agrees(repo: Repository, names: list[ImageName]) -> bool:
    """Whether the index has what the container has."""
    stamps = repo.indexer.index.stamps([name.text for name in names])
    rows = [repo.metadata.row(name) for name in names]
    return [row.stamp for row in rows if row] == [stamps.get(name.text) for name in names]


def test_an_intent_of_other_bytes_is_forgotten(tmp_path: Path) -> None:
    config = killed.embedded(tmp_path, freshness=0.0)
    with closing(wiring.build(config)) as repo:
        killed.upload(repo, BODIES, 0)
        name = ImageName("picture-0")
        before = repo.reader.record(ANONYMOUS, repo.reader.resolve(ANONYMOUS, [name]))
        upload = {"sha256": "0" * 64, "filename": "x.jpg", "uploaded": "2000-01-01T00:00:00.000Z", "data": {"n": 1}}
        with repo.metadata.lock(name):
            assert repo.metadata.announce(name, before, upload)
        after = repo.reader.record(ANONYMOUS, repo.reader.resolve(ANONYMOUS, [name]))
        assert (after.public(), after.etag) == (before.public(), before.etag)
        changed = repo.writer.patch_data(ANONYMOUS, name, {"more": 1}, killed.UNCONDITIONAL)
        assert changed.data == {**before.data, "more": 1}
        assert read_record(repo.origin, name).intent is None


class InterruptedStore(DiskStore):
    """Another process writes just after an object was looked for and not found."""

    def __init__(self, root: Path, key: str, write: Callable[[], object]) -> None:
        super().__init__(root)
        self._key, self._write = key, write

    def get(self, key: str) -> Any:
        body = super().get(key)
        if key == self._key and body is None:
            self._key = ""
            self._write()
        return body


@pytest.mark.parametrize("is_whole", [True, False], ids=["an upload", "an upload that is cut off"])
@pytest.mark.parametrize("number", [0, 1], ids=["of the same bytes", "of other bytes"])
def test_a_read_between_a_deletion_and_an_upload_shows_the_data_of_the_upload(
    tmp_path: Path, number: int, is_whole: bool
) -> None:
    config = killed.embedded(tmp_path, freshness=60.0)
    name, body = ImageName("a"), BODIES[number]
    intent = {"sha256": hashlib.sha256(body).hexdigest(), "filename": None, "uploaded": None, "data": {"n": 2}}
    with closing(wiring.build(config)) as other:

        def put(data: dict[str, int], body: bytes) -> None:
            with other.writer.spool() as spool:
                other.writer.put(ANONYMOUS, name, spool.fill([body]), data=data)

        def write() -> None:
            if is_whole:
                put({"n": 2}, body)
            else:
                other.metadata.announce(name, None, intent)
                other.origin.put("a.jpeg", io.BytesIO(body), media_type="image/jpeg")

        put({"n": 1}, BODIES[0])
        original = other.reader.resolve(ANONYMOUS, [name])
        other.writer.delete(ANONYMOUS, name, disposal="erase")
        store = InterruptedStore(tmp_path / "data", record_key("a"), write)
        with closing(wiring.build(config, stores=wiring.Stores(store))) as repo:
            assert repo.reader.record(ANONYMOUS, original).data == {"n": 2}


def test_an_intent_without_a_picture_is_no_image(tmp_path: Path) -> None:
    config = killed.embedded(tmp_path, freshness=0.0)
    with closing(wiring.build(config)) as repo:
        name, upload = ImageName("a"), {"sha256": "0" * 64, "filename": None, "uploaded": None, "data": {"n": 1}}
        for _ in range(2):  # the first upload is killed, and the next one too
            with repo.metadata.lock(name):
                assert repo.metadata.announce(name, read_record(repo.origin, name), upload)
            with pytest.raises(ImageNotFound):
                repo.reader.description(ANONYMOUS, [name])
        assert repo.metadata.row(name) is None
        assert repo.writer.replace_data(ANONYMOUS, name, {"n": 2}, killed.UNCONDITIONAL)[1]
        assert repo.reader.description(ANONYMOUS, [name]).data == {"n": 2}
