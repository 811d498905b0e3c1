"""The catalogue follows every write, finds pictures by their digest, and stops nothing when it fails."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pictures
import pytest
from commands import until
from following import followed, in_background, indexed_records, read_all
from webserver import Client, Served, embedded, serving

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.catalogue.indexer import REBUILDING, SWEPT
from image_repo.catalogue.outbox import Outbox
from image_repo.config import CatalogueConfiguration
from image_repo.errors import ImageNotFound, StoreUnavailable
from image_repo.model.names import ImageName
from image_repo.repository.metadata import UNCONDITIONAL
from image_repo.repository.repository import Repository
from image_repo.stores.disk import DiskStore

ONE = pictures.jpeg(pictures.photo(40, 30))
TWO = pictures.jpeg(pictures.photo(20, 10, seed=1))
ADDRESS = f"sha256:{hashlib.sha256(ONE).hexdigest()}"
#: nobody waits long for an index
IMPATIENT = CatalogueConfiguration(timeout=1.0, reconcile=3600)


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    with serving(embedded(tmp_path, catalogue=IMPATIENT, freshness=0.2), tmp_path) as served:
        yield served


@pytest.fixture
def client(served) -> Client:
    return served.client


def data(client: Client, method: str, path: str, value: object) -> int:
    return client(method, path, json.dumps(value), Content_Type="application/json").status


def record(client: Client, name: str) -> dict:
    return client.get(f"/images/{name}?meta=True").json()


def file_of(served: Served) -> Path:
    """The file of the index."""
    return next(Path(served.config.local_file_cache_path).glob("*/catalogue.sqlite"))


# -- every write -----------------------------------------------------------------------


def test_what_is_written_is_told_of_when_it_is_acknowledged(served, client):
    client.put("/images/a", ONE)
    assert indexed_records(served.repo) == {"a": record(client, "a")}
    data(client, "PUT", "/images/a", {"site": 1})
    assert indexed_records(served.repo) == {"a": record(client, "a")}
    data(client, "PATCH", "/images/a", {"more": [1]})
    assert indexed_records(served.repo)["a"]["data"] == {"site": 1, "more": [1]}
    client.put("/images/a", TWO)
    assert indexed_records(served.repo) == {"a": record(client, "a")}
    data(client, "PUT", "/images/b", {"later": True})
    assert indexed_records(served.repo) == {"a": record(client, "a"), "b": record(client, "b")}
    client.delete("/images/a")
    assert indexed_records(served.repo).keys() == {"b"}
    client.delete("/images/b")
    assert indexed_records(served.repo) == {}


def test_the_same_bytes_again_merge_their_data(served, client):
    for data in (b'{"a": 1}', b'{"b": 2}'):
        client.form("/images", ("file", "x.jpg", ONE), ("data", None, data))
    assert indexed_records(served.repo)[ADDRESS]["data"] == {"a": 1, "b": 2}


def test_a_record_that_a_read_makes_anew_is_told_of(served, client):
    (served.folder / "data" / "x.jpg").write_bytes(ONE)
    assert indexed_records(served.repo) == {}
    assert record(client, "x") == indexed_records(served.repo)["x"]


def test_what_is_refused_is_not_told_of(served, client):
    client.put("/images/a", ONE)
    before = indexed_records(served.repo)
    assert client.put("/images/a", b"no picture").status == 415
    assert client.put("/images/a", TWO, If_Match='"other"').status == 412
    assert client.put("/images/b", ONE[:100]).status == 422
    assert indexed_records(served.repo) == before


def test_many_writers_of_one_name_leave_the_row_of_the_last(served, client):
    client.put("/images/a", ONE)

    def write(number: int) -> int:
        return data(client, "PATCH", "/images/a", {f"n{number}": number})

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(24))) == {200}
    assert indexed_records(served.repo)["a"] == record(client, "a")
    assert len(record(client, "a")["data"]) == 24


def test_without_a_catalogue_everything_else_goes_on(tmp_path):
    config = embedded(tmp_path, catalogue=CatalogueConfiguration(enabled=False))
    with serving(config, tmp_path) as served, in_background(served.repo, config):
        assert served.client.put("/images/a", ONE).status == 201
        assert data(served.client, "PATCH", "/images/a", {"site": 1}) == 200
        assert served.client.get("/images/a?w=20").status == 200
        assert served.client.get(f"/images/{ADDRESS}").status == 404
        assert served.client.get("/images?width__gt=1").slug == "catalogue-disabled"
        assert served.client.delete("/images/a").status == 200
    assert not list(tmp_path.rglob("*.sqlite"))


# -- asked for by name -----------------------------------------------------------------


def test_a_picture_of_another_tool_is_known_as_soon_as_somebody_asks_for_it(served, client):
    with in_background(served.repo, served.config):
        until(lambda: served.repo.indexer.index.note(SWEPT) is not None, "the first look")
        (served.folder / "data" / "x.jpg").write_bytes(ONE)
        assert client.get("/images/x?w=20").status == 200
        until(lambda: indexed_records(served.repo).get("x", {}).get("width") == 40, "it is known, and read")
        (served.folder / "data" / "x.jpg").write_bytes(TWO)
        until(lambda: client.get("/images/x").image().size == (20, 10), "it is seen", 5)
        until(lambda: indexed_records(served.repo)["x"]["width"] == 20, "it is known, and read")


def test_a_hit_notes_nothing(served, client):
    client.put("/images/a", ONE)
    for _ in range(3):
        client.get("/images/a?w=20")
        client.get("/images/a?meta=True")
    assert served.repo.indexer.outbox.is_empty()


# -- content addresses -----------------------------------------------------------------


def test_a_digest_finds_any_image_that_has_it(client):
    client.put("/images/a/b", ONE)
    client.put("/images/c", TWO)
    assert client.get(f"/images/{ADDRESS}").body == client.get("/images/a/b").body
    assert client.get(f"/images/{ADDRESS}?w=20&kind=png").body == client.get("/images/a/b?w=20&kind=png").body
    assert client.get(f"/images/{ADDRESS}.jpg").status == 200
    assert client("HEAD", f"/images/{ADDRESS}").status == 200
    assert record(client, ADDRESS)["name"] == "a/b"
    assert client.get(f"/images/{ADDRESS}?url=True").json()["name"] == "a/b"
    etag = client.get(f"/images/{ADDRESS}").headers["ETag"]
    assert client.get(f"/images/{ADDRESS}", If_None_Match=etag).status == 304
    assert client.get("/images/sha256:" + 64 * "0").status == 404


def test_an_original_under_two_names_is_two_names_for_one_digest(served, client):
    client.put("/images/a", ONE)
    answer = client("POST", "/images", ONE, Content_Type="image/jpeg")
    assert (answer.status, answer.json()["name"]) == (201, ADDRESS)
    page = client.get(f"/images?sha256={ADDRESS.removeprefix('sha256:')}").json()
    assert [each["name"] for each in page["images"]] == ["a", ADDRESS]
    data(client, "PATCH", "/images/a", {"of": "a"})
    data(client, "PATCH", f"/images/{ADDRESS}", {"of": "itself"})
    assert record(client, "a")["data"] == {"of": "a"}
    assert record(client, ADDRESS)["data"] == {"of": "itself"}


def test_deleting_an_address_deletes_that_name_only(client):
    client.put("/images/a", ONE)
    assert client.delete(f"/images/{ADDRESS}").status == 404
    client("POST", "/images", ONE, Content_Type="image/jpeg")
    assert client.delete(f"/images/{ADDRESS}").status == 200
    assert client.get(f"/images/{ADDRESS}").status == 200, "of the other name"
    assert record(client, ADDRESS)["name"] == "a"
    assert client.delete(f"/images/{ADDRESS}").status == 404
    client.delete("/images/a")
    assert client.get(f"/images/{ADDRESS}").status == 404


def test_changes_go_to_no_other_name(client):
    client.put("/images/a", ONE)
    assert data(client, "PATCH", f"/images/{ADDRESS}", {"site": 1}) == 404
    assert record(client, "a")["data"] == {}
    assert client.put(f"/images/{ADDRESS}", TWO).status == 409
    assert client.put(f"/images/{ADDRESS}", ONE).status == 201


def test_what_was_replaced_is_not_found_by_its_old_digest(client):
    client.put("/images/a", ONE)
    assert client.get(f"/images/{ADDRESS}").status == 200
    client.put("/images/a", TWO)
    assert client.get(f"/images/{ADDRESS}").status == 404


def test_what_another_tool_replaced_is_not_found_by_its_old_digest(served, client):
    client.put("/images/a", ONE)
    assert client.get(f"/images/{ADDRESS}?w=10").status == 200
    path = served.folder / "data" / "a.jpg"
    path.write_bytes(TWO)
    until(lambda: client.get(f"/images/{ADDRESS}?w=10").status == 404, "the row is passed over", 5)
    assert indexed_records(served.repo)["a"]["sha256"] == ADDRESS.removeprefix("sha256:"), "the index does not know yet"


def test_of_several_names_one_that_still_has_it_is_found(served, client):
    for name in "abc":
        client.put(f"/images/{name}", ONE)
    for name in "ab":
        (served.folder / "data" / f"{name}.jpg").write_bytes(TWO)
    until(lambda: record(client, ADDRESS)["name"] == "c", "the last one")


def test_a_new_picture_of_its_own_name_is_preferred_at_once(client):
    client.put("/images/a", ONE)
    assert record(client, ADDRESS)["name"] == "a"
    client("POST", "/images", ONE, Content_Type="image/jpeg")
    assert record(client, ADDRESS)["name"] == ADDRESS


# -- names that are noted --------------------------------------------------------------


def test_names_are_noted_once_and_kept_until_they_are_done(tmp_path):
    behind = Outbox(tmp_path / "behind")
    assert behind.is_empty() and behind.take() == []
    for name in ("a", "b\n", "a", "ü"):
        behind.add(name)
    assert [name for name, _ in behind.take()] == ["a", "b\n", "ü"]
    behind.add("c")
    again = Outbox(tmp_path / "behind")
    assert [name for name, _ in again.take()] == ["a", "b\n", "ü"], "whoever took them has been killed"
    again.done()
    assert [name for name, _ in again.take()] == ["c"]
    again.done()
    assert again.is_empty()


def test_no_name_is_lost_between_who_notes_and_who_takes(tmp_path):
    behind = Outbox(tmp_path / "behind")
    seen: set[str] = set()

    def note(number: int) -> None:
        behind.add(f"n{number}")

    with ThreadPoolExecutor(4) as pool:
        adding = [pool.submit(note, number) for number in range(2_000)]
        while not all(each.done() for each in adding) or not behind.is_empty():
            seen |= {name for name, _ in behind.take()}
            behind.done()
    assert seen == {f"n{number}" for number in range(2_000)}


def test_what_is_noted_is_bounded(tmp_path):
    behind = Outbox(tmp_path / "behind", max_bytes=200)
    for number in range(100):
        behind.add(f"name-{number}")
    assert (tmp_path / "behind").stat().st_size < 250
    assert len(behind.take()) > 5


# -- failing parts ---------------------------------------------------------------------


#: holds a database until its input ends
_HOLDER = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


def lock(file: Path) -> Callable[[], None]:
    # Another process: SQLite's locks are the process's own, and ours may be another SQLite.
    command = [sys.executable, "-c", _HOLDER, str(file)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    return lambda: holder.communicate() and None


def damage(file: Path) -> Callable[[], None]:
    size = file.stat().st_size
    with file.open("r+b") as open_file:
        open_file.write(os.urandom(size))
    for ending in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{file}{ending}").unlink()
    return lambda: None


def delete(file: Path) -> Callable[[], None]:
    for path in file.parent.glob("catalogue.sqlite*"):
        path.unlink()
    return lambda: None


def replace_by_a_folder(file: Path) -> Callable[[], None]:
    delete(file)
    file.mkdir()
    return file.rmdir


FAULTS = {
    "locked": (lock, {200}),
    "damaged": (damage, {200, 503}),
    "deleted": (delete, {200}),
    "a folder": (replace_by_a_folder, {503}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_catalogue_stops_no_picture_and_no_upload_and_catches_up(served, client, fault):
    break_it, queries = FAULTS[fault]
    client.put("/images/a", ONE)
    client.put("/images/gone", ONE)
    first = client.get("/images/a?w=20").body
    mend = break_it(file_of(served))
    try:
        assert client.get("/images/a?w=20").body == first
        assert client.get("/images/a?w=25").status == 200
        assert client.get("/images/a?meta=True").status == 200
        assert client.put("/images/a", TWO).status == 200
        assert client.put("/images/b", TWO).status == 201
        assert data(client, "PATCH", "/images/b", {"site": 1}) == 200
        assert client.delete("/images/gone").status == 200
        answer = client.get("/images?width__gt=1")
        assert answer.status in queries
        assert answer.status == 200 or answer.slug == "catalogue-unavailable"
    finally:
        mend()
    with in_background(served.repo, served.config):
        until(lambda: counted(client) == {"a": 20, "b": 20}, "it has caught up")
        assert indexed_records(served.repo)["b"]["data"] == {"site": 1}
    assert indexed_records(served.repo) == {name: record(client, name) for name in "ab"}


def counted(client: Client) -> dict[str, int]:
    answer = client.get("/images?width__gt=1")
    return {image["name"]: image["width"] for image in answer.json()["images"]} if answer.status == 200 else {}


def test_a_catalogue_that_is_deleted_under_a_running_server_is_made_again(served, client):
    with in_background(served.repo, served.config):
        client.put("/images/a", ONE)
        until(lambda: served.repo.indexer.index.note(SWEPT) is not None, "the first look")
        delete(file_of(served))
        until(lambda: counted(client) == {"a": 40}, "it is there again")
        until(lambda: served.repo.indexer.index.note(REBUILDING) is None, "it is complete")


def test_a_full_disk_stops_nothing(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "none", str(shared)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    config = embedded(tmp_path, catalogue=IMPATIENT, freshness=0.2)
    try:
        with serving(config, tmp_path) as served:
            client = served.client
            client.put("/images/a", ONE)
            filler = shared / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            large_data = {"text": "word " * 8_000}
            assert client.get("/images/a?w=20").status == 200
            # The folder of uploads on their way is full as well: what needs no room there goes on.
            assert data(client, "PATCH", "/images/a", large_data) == 200
            assert record(client, "a")["data"] == large_data
            filler.unlink()
            with in_background(served.repo, config):
                until(
                    lambda: indexed_records(served.repo).get("a", {}).get("data") == large_data, "it has caught up", 20
                )
    finally:
        subprocess.run(["umount", "-l", str(shared)], check=True)


def test_a_folder_that_belongs_to_nobody_here_is_no_place_for_it(tmp_path):
    (tmp_path / "shared").write_bytes(b"")
    config = embedded(tmp_path)
    with serving(config, tmp_path) as served, in_background(served.repo, config):
        assert served.client.put("/images/a", ONE).status == 201
        assert served.client.get("/images/a?w=20").status == 200
        assert served.client.get("/images?width__gt=1").slug == "catalogue-unavailable"


def test_an_index_that_missed_everything_is_complete_after_one_look(served, client):
    for name in "abc":
        client.put(f"/images/{name}", ONE)
    before = indexed_records(served.repo)
    served.repo.indexer.index.clear()
    followed(served.repo)
    assert indexed_records(served.repo) == before


class Ailing(DiskStore):
    """Fails at one call, counted from the last :meth:`fail`; a write may have taken effect all the same."""

    left = -1
    late = False

    @classmethod
    def fail(cls, call: int, *, late: bool = False) -> None:
        cls.left, cls.late = call, late

    def _count(self) -> bool:
        Ailing.left -= 1
        return Ailing.left == 0

    def head(self, key):
        if self._count():
            raise StoreUnavailable("The store has failed.")
        return super().head(key)

    def get(self, key):
        if self._count():
            raise StoreUnavailable("The store has failed.")
        return super().get(key)

    def put(self, key, data, **options):
        fails = self._count()
        entry = super().put(key, data, **options) if self.late or not fails else None
        if fails:
            raise StoreUnavailable("The store has failed.")
        return entry

    def delete(self, key):
        fails = self._count()
        gone = super().delete(key) if self.late or not fails else False
        if fails:
            raise StoreUnavailable("The store has failed.")
        return gone

    def keys(self, prefix="", **options):
        if self._count():
            raise StoreUnavailable("The store has failed.")
        return super().keys(prefix, **options)

    def find(self, names, endings):
        if self._count():
            raise StoreUnavailable("The store has failed.")
        return super().find(names, endings)


def put(repo: Repository, name: str, body: bytes) -> None:
    with repo.writer.spool() as spool:
        spool.fill([body])
        repo.writer.put(ADMIN, ImageName(name), spool, data={"site": 2})


WRITES: dict[str, Callable[[Repository], object]] = {
    "a new picture": lambda repo: put(repo, "new", TWO),
    "a replaced picture": lambda repo: put(repo, "old", TWO),
    "changed data": lambda repo: repo.writer.patch_data(ADMIN, ImageName("old"), {"site": 2}, UNCONDITIONAL),
    "a new description": lambda repo: repo.writer.replace_data(ADMIN, ImageName("new"), {"site": 2}, UNCONDITIONAL),
    "a deletion": lambda repo: repo.writer.delete(ADMIN, ImageName("old")),
}


@pytest.mark.parametrize("late", [False, True], ids=["without effect", "after it has taken effect"])
@pytest.mark.parametrize("write", WRITES)
def test_whichever_call_of_the_store_fails_the_catalogue_catches_up(tmp_path, write, late):
    Ailing.fail(-1)
    config = embedded(tmp_path, catalogue=IMPATIENT)
    stores = wiring.Stores(Ailing(Path(config.persistent_store_configuration.path)))
    covered = 0
    with closing(wiring.build(config, stores=stores)) as repo:
        for call in range(1, 60):
            put(repo, "old", ONE)
            Ailing.fail(call, late=late)
            try:
                WRITES[write](repo)
                acknowledged = True
            except StoreUnavailable:
                acknowledged = False
            reached = Ailing.left <= 0
            Ailing.fail(-1)
            catch_up(repo)
            assert indexed_records(repo) == whole(repo), f"{write}: call {call}"
            if acknowledged and not reached:
                break
            covered += 1
            for name in ("new", "old"):
                with contextlib.suppress(ImageNotFound):
                    repo.writer.delete(ADMIN, ImageName(name))
        else:
            pytest.fail("it never went well")
    assert covered >= (3 if write == "changed data" else 4)  # a listing, the record, the record anew


def catch_up(repo: Repository) -> None:
    """What a server does with names that are noted."""
    for name, _ in repo.indexer.outbox.take():
        repo.metadata.reindex(ImageName(name))
    read_all(repo)
    repo.indexer.outbox.done()


def whole(repo: Repository) -> dict[str, dict]:
    """What the container tells."""
    rows = {name: repo.metadata.row(ImageName(name)) for name in ("new", "old")}
    return {name: dict(row.document) for name, row in rows.items() if row}
