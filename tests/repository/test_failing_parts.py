"""What the whole application does when Swift, the network or a cache fails: the rows of failing parts, one by one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pictures
import pytest
from swiftserved import NO_MEMORY, SwiftSite, house, timed, until

from image_repo.model.record import MEDIA_TYPE as RECORD

pytestmark = pytest.mark.servers

ORIGINAL = pictures.jpeg(pictures.photo(320, 240))
OTHER = pictures.jpeg(pictures.photo(320, 240, seed=7))
KNOWN = ("/images/a/one?w=90", "/images/a/one?thumbnail=True", "/images/a/one?w=80&h=80&fit=cover&kind=png")

#: what may happen to every request
FAULTS = {
    "nobody listens": {"mode": "refuse"},
    "connections are reset": {"mode": "reset"},
    "nothing is answered": {"mode": "blackhole"},
    "everything is a 500": {"mode": "status", "status": 500},
    "everything is a 503": {"mode": "status", "status": 503},
    "everything is a 429": {"mode": "status", "status": 429},
    "everything is a 401": {"mode": "status", "status": 401},
    "answers are cut in the middle": {"mode": "cut", "after": 60},
    "answers end in the middle": {"mode": "end", "after": 60},
    "answers stall in the middle": {"mode": "stall", "after": 60},
}


@pytest.fixture
def building(swift, container, tmp_path):
    with house(swift, container, tmp_path) as building:
        yield building


@pytest.fixture
def patient(swift, container, tmp_path):
    """One whose store may take its time."""
    with house(swift, container, tmp_path, timeout=10.0) as building:
        yield building


def learn(building: SwiftSite, client) -> dict[str, bytes]:
    """Uploads a picture and asks for some variants; what they are."""
    assert client.put("/images/a/one", ORIGINAL).status == 201
    return {path: client.get(path).body for path in KNOWN}


def works(client) -> bool:
    """Whether everything does: the store is asked, written to, and listed."""
    return (
        client.get("/images/not-there").status == 404
        and client.put("/images/a/again", ORIGINAL).status in (200, 201)
        and client.get("/images?limit=5").status == 200
    )


def consistent(client, name: str, *allowed: bytes | None) -> bytes | None:
    """The original as it is now: one of those allowed, with a record that describes it."""
    answer = client.get(f"/images/{name}?kind=original")
    assert answer.status in (200, 404), answer.body
    now = answer.body if answer.status == 200 else None
    assert now in allowed
    if now is not None:
        assert client.get(f"/images/{name}?meta=True").json()["sha256"] == hashlib.sha256(now).hexdigest()
    return now


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_while_the_store_fails(building, fault):
    with building.node() as served:
        client = served.client
        known = learn(building, client)
        building.proxy.fail(**fault)
        time.sleep(building.config.freshness)  # what is known of the name is old by now
        with ThreadPoolExecutor(3) as threads:
            for path, answer in zip(KNOWN, threads.map(client.get, KNOWN), strict=True):
                assert (answer.status, answer.body) == (200, known[path])
        calls = [
            ("GET", "/images/unknown"),
            ("GET", "/images/a/one?w=33"),
            ("GET", "/images/a/one?kind=original"),
            ("PUT", "/images/a/one", OTHER),
            ("PUT", "/images/a/two", OTHER),
            ("DELETE", "/images/a/one"),
        ]
        with ThreadPoolExecutor(len(calls)) as threads:
            refused = list(threads.map(lambda call: client(*call, Content_Type="image/jpeg"), calls))
        assert [answer.status for answer in refused] == [503] * len(refused)
        assert {answer.slug for answer in refused} == {"store-unavailable"}
        assert all(1 <= int(answer.headers["Retry-After"]) <= 2 for answer in refused)
        assert [image["name"] for image in client.get("/images?limit=5").json()["images"]] == ["a/one"]
        assert client.get("/livez").status == 200
        building.proxy.heal()
        until(lambda: works(client))
        assert consistent(client, "a/one", ORIGINAL) == ORIGINAL
        assert consistent(client, "a/two", None) is None
        assert client.get("/images/a/one?w=33").image().size == (33, 25)


@pytest.mark.parametrize("fault", ["nobody listens", "nothing is answered", "everything is a 401"])
def test_a_start_while_the_store_fails(building, fault):
    with building.node() as served:
        known = learn(building, served.client)
    building.proxy.fail(**FAULTS[fault])
    with building.node(reachable=False) as served:
        with ThreadPoolExecutor(3) as threads:
            for path, answer in zip(KNOWN, threads.map(served.client.get, KNOWN), strict=True):
                assert (answer.status, answer.body, answer.layer) == (200, known[path], "disk")
        assert served.client.get("/images/unknown").status == 503
        building.proxy.heal()
        until(lambda: works(served.client))


def test_a_known_picture_does_not_wait_for_a_frozen_store(patient):
    """Also where the store may take its time otherwise, and before the breaker knows."""
    with patient.node() as served:
        known = learn(patient, served.client)
        patient.proxy.fail("blackhole")
        time.sleep(patient.config.freshness)
        answers = [(path, *timed(served.client, path)) for path in KNOWN[:2] * 10]
        assert all((answer.status, answer.body) == (200, known[path]) for path, answer, _ in answers)
        took = sorted(took for _, _, took in answers)
        assert took[-1] < 2
        assert took[-5] < 0.1  # the machine of the tests may be busy
        patient.proxy.heal()
        until(lambda: works(served.client))


def test_transfers_that_stall_hold_up_nobody_else(building):
    with building.node() as served:
        client = served.client
        known = learn(building, client)
        building.proxy.fail("stall", after=3000, match=b"/a/one.jpg HTTP/1.1\r\n")
        with ThreadPoolExecutor(12) as threads:
            stalled = [threads.submit(client.get, f"/images/a/one?w={width}") for width in range(20, 32)]
            answers = [(path, *timed(client, path)) for path in KNOWN * 3]
            assert {one.result(20).status for one in stalled} == {503}
        assert all((answer.status, answer.body) == (200, known[path]) for path, answer, _ in answers)
        assert max(took for _, _, took in answers) < 2.5
        building.proxy.heal()
        until(lambda: client.get("/images/a/one?w=20").status == 200)


def test_nothing_piles_up_before_a_frozen_store(building):
    before = threading.active_count()
    with building.node() as served:
        client = served.client
        known = learn(building, client)
        building.proxy.fail("blackhole")
        time.sleep(building.config.freshness)
        with ThreadPoolExecutor(8) as threads:  # the first few find out
            list(threads.map(lambda number: client.get(f"/images/unknown/{number}"), range(8)))
        with ThreadPoolExecutor(8) as threads:
            paths = [path for number in range(30) for path in (f"/images/unknown/{number}", KNOWN[number % 3])]
            answers = list(threads.map(lambda path: (path, *timed(client, path)), paths))
        # Who asks the store waits for its timeout, a second; the others need no more than a busy machine does.
        slow = [took for _, _, took in answers if took > 0.5]
        assert len(slow) <= 4, slow  # those who try whether it is there again
        for path, answer, _ in answers:
            assert answer.status == (200 if path in KNOWN else 503)
            assert path not in KNOWN or answer.body == known[path]
        assert threading.active_count() - before < 40


UPLOADS = {
    "the connection is reset at the upload": {"mode": "reset", "match": b"PUT "},
    "an upload is never answered": {"mode": "blackhole", "match": b"PUT "},
    "an upload is a 503": {"mode": "status", "status": 503, "match": b"PUT "},
    "the disk of the store is full": {"mode": "status", "status": 507, "match": b"PUT "},
    "the store refuses in the middle": {"mode": "refuse-upload", "after": 5000, "status": 503, "match": b"PUT "},
    "the answer to an upload is lost": {"mode": "cut", "after": 0, "match": b"PUT "},
    "the answer to an upload is cut": {"mode": "end", "after": 30, "match": b"PUT "},
    "the record cannot be written": {"mode": "status", "status": 503, "match": b".json HTTP/1.1\r\n"},
    "the answer to a record is lost": {"mode": "cut", "after": 0, "match": b".json HTTP/1.1\r\n"},
}


@pytest.mark.parametrize("fault", UPLOADS.values(), ids=UPLOADS.keys())
def test_an_upload_that_fails_is_whole_or_not_at_all(building, fault):
    with building.node() as served:
        client = served.client
        learn(building, client)
        building.proxy.fail(**fault)
        assert client.put("/images/a/one", OTHER).status == 503
        assert client.put("/images/a/new", OTHER).status == 503
        building.proxy.heal()
        until(lambda: works(client))
        consistent(client, "a/one", ORIGINAL, OTHER)
        consistent(client, "a/new", None, OTHER)
        until(lambda: client.put("/images/a/one", OTHER).status in (200, 201))  # a busy store may not answer in time
        assert consistent(client, "a/one", OTHER) == OTHER


DELETIONS = {
    "the original cannot be removed": {"match": b"/one.jpg HTTP/1.1\r\n"},
    "the record cannot be removed": {"match": b"/one.json HTTP/1.1\r\n"},
    "the cache container cannot be listed": {"match": b"-cache?"},
    "nothing can be removed": {"match": b"DELETE "},
}


@pytest.mark.parametrize("fault", DELETIONS.values(), ids=DELETIONS.keys())
def test_a_deletion_that_fails_can_be_repeated_until_nothing_is_left(building, fault):
    with building.node() as served:
        learn(building, served.client)
        url = served.client.get("/images/a/one?w=90&url=True").json()["url"]
        building.proxy.fail("status", status=503, **fault)
        assert served.client.delete("/images/a/one?permanent=True").status == 503
        building.proxy.heal()
        until(lambda: served.client.delete("/images/a/one?permanent=True").status in (200, 404))
        assert served.client.get(KNOWN[0]).status == 404
        left = [entry.key for store in (building.origin, building.cache) for entry in store.keys("")]
        assert left == [".leases/writer"]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url, timeout=10)


def test_a_flipped_byte_on_the_way_is_not_served(building):
    with building.node() as served:
        client = served.client
        assert client.put("/images/one", ORIGINAL).status == 201
        building.proxy.fail("corrupt", after=4000, match=b"/one.jpg HTTP/1.1\r\n")
        for path in ("/images/one?w=40", "/images/one?kind=original", "/images/one?kind=original&download=x"):
            answer = client.get(path)
            assert answer.status == 500
            assert answer.slug == "original-damaged"
        building.proxy.heal()
        assert client.get("/images/one?w=40").image().size == (40, 30)
        assert client.get("/images/one?kind=original").body == ORIGINAL


def test_a_flipped_byte_on_the_way_in_is_not_acknowledged(building):
    with building.node() as served:
        client = served.client
        answer = client("PUT", "/images/one", ORIGINAL, Content_Type="image/jpeg", Repr_Digest="sha-256=:AAAA:")
        assert answer.status == 400
        assert client.get("/images/one").status == 404


def test_a_rotten_rendition_in_the_cache_container_is_made_anew(patient):
    with patient.node(**NO_MEMORY) as served:
        known = learn(patient, served.client)
    for entry in list(patient.cache.keys(".renditions/")):
        facts = patient.cache.head(entry.key)
        with patient.cache.get(entry.key) as body:
            rotten = bytearray(b"".join(body))
        rotten[len(rotten) // 2] ^= 4
        members = {"media_type": facts.media_type, "metadata": facts.metadata, "expires": facts.expires}
        patient.cache.put(entry.key, bytes(rotten), **members)
    with patient.node("two", **NO_MEMORY) as served:
        for path in KNOWN:
            answer = served.client.get(path)
            assert (answer.body, answer.layer) == (known[path], "rendered")
    with patient.node("three", **NO_MEMORY) as served:
        assert [served.client.get(path).layer for path in KNOWN] == ["cache"] * len(KNOWN)


def test_a_rotten_file_of_the_disk_cache_is_made_anew(building):
    with building.node(**NO_MEMORY) as served:
        known = learn(building, served.client)
        for file in [file for file in (served.folder / "cache").rglob("*") if file.is_file()]:
            content = bytearray(file.read_bytes())
            if content:
                content[len(content) // 2] ^= 4
                file.write_bytes(content)
        answers = [served.client.get(path) for path in KNOWN]
        assert [answer.body for answer in answers] == [known[path] for path in KNOWN]
        assert [answer.layer for answer in answers] == ["cache"] * len(KNOWN)
        assert [served.client.get(path).layer for path in KNOWN] == ["disk"] * len(KNOWN)


def remove_objects(building: SwiftSite, _: object) -> None:
    for entry in list(building.cache.keys(".renditions/")):
        building.cache.delete(entry.key)


def remove_folder(_: SwiftSite, served) -> None:
    shutil.rmtree(served.folder / "cache")


def remove_shared_folder(_: SwiftSite, served) -> None:
    shutil.rmtree(served.folder / "shared")


REMOVALS = {
    "the objects of the cache container": (remove_objects,),
    "the disk cache": (remove_folder,),
    "what the processes of the node share": (remove_shared_folder,),
    "all of them": (remove_objects, remove_folder, remove_shared_folder),
}


@pytest.mark.parametrize("removals", REMOVALS.values(), ids=REMOVALS.keys())
def test_what_is_deleted_while_it_runs_costs_time_and_nothing_else(building, removals):
    with building.node(**NO_MEMORY) as served:
        known = learn(building, served.client)
        for remove in removals:
            remove(building, served)
        for path in KNOWN * 2:
            answer = served.client.get(path)
            assert (answer.status, answer.body) == (200, known[path])
        assert served.client.put("/images/a/one", OTHER).status == 200
        assert served.client.get(KNOWN[0]).body not in known.values()
        assert served.client.delete("/images/a/one?permanent=True").status == 200
        assert served.client.get(KNOWN[0]).status == 404


def test_the_cache_container_itself_may_go(building):
    with building.node(**NO_MEMORY) as served:
        known = learn(building, served.client)
        building.proxy.fail(
            "status", status=404, match=f"/{building.config.swift_cache_configuration.container}".encode()
        )
        shutil.rmtree(served.folder / "cache")
        assert [served.client.get(path).body for path in KNOWN] == list(known.values())
        assert served.client.put("/images/a/one", OTHER).status == 200


def test_a_cache_container_that_is_frozen_costs_no_request(building):
    with building.node(**NO_MEMORY) as served:
        known = learn(building, served.client)
        building.proxy.fail("blackhole", match=f"/{building.config.swift_cache_configuration.container}".encode())
        shutil.rmtree(served.folder / "cache")
        assert [served.client.get(path).body for path in KNOWN] == list(known.values())
        assert served.client.put("/images/a/one", OTHER).status == 200
        answers = [timed(served.client, f"/images/a/one?w={width}") for width in range(20, 40)]
        assert {answer.status for answer, _ in answers} == {200}
        assert sorted(took for _, took in answers)[14] < 0.3


@contextlib.contextmanager
def small_disk(folder, size: str):
    """A file system of its own, which only root can make."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("name", ["cache", "shared"], ids=["the disk cache", "the folder of the node"])
def test_a_full_disk_stops_nothing(building, name):
    with small_disk(building.folder / "one" / name, "1m") as disk:
        filler = disk / "filler"
        with building.node(**NO_MEMORY) as served:
            known = learn(building, served.client)
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            for path in (*KNOWN, "/images/a/one?w=200&kind=png"):
                answer = served.client.get(path)
                assert answer.status == 200
                assert answer.body == known.get(path, answer.body)
            assert served.client.put("/images/a/one", OTHER).status == 200
            assert served.client.get(KNOWN[0]).body not in known.values()
            assert consistent(served.client, "a/one", OTHER) == OTHER
        partial = [file for file in disk.rglob("*") if file.name.startswith(".tmp")]
        assert partial == []


@pytest.mark.parametrize("name", ["cache", "shared"], ids=["the disk cache", "the folder of the node"])
def test_a_disk_that_turns_read_only_stops_nothing(building, name):
    with small_disk(building.folder / "one" / name, "4m") as disk, building.node(**NO_MEMORY) as served:
        known = learn(building, served.client)
        again = ["mount", "-o", "remount,ro", str(disk)]
        subprocess.run(again, check=False, capture_output=True)  # refused while a file is open for writing
        for path in (*KNOWN, "/images/a/one?w=200&kind=png"):
            answer = served.client.get(path)
            assert answer.status == 200
            assert answer.body == known.get(path, answer.body)
        assert served.client.put("/images/a/one", OTHER).status == 200
        time.sleep(building.config.freshness)
        assert served.client.get(KNOWN[0]).body not in known.values()


@pytest.mark.parametrize("name", ["cache", "shared"], ids=["the disk cache", "the folder of the node"])
def test_something_else_where_a_folder_should_be_stops_nothing(building, name):
    (building.folder / "one").mkdir()
    (building.folder / "one" / name).write_bytes(b"")
    with building.node() as served:
        known = learn(building, served.client)
        assert [served.client.get(path).body for path in KNOWN] == list(known.values())
        assert served.client.put("/images/a/one", OTHER).status == 200
        assert consistent(served.client, "a/one", OTHER) == OTHER


def test_tokens_that_end_are_renewed_without_an_error(start_swift, container, tmp_path):
    life = 2
    with (
        start_swift("--token-life", str(life)) as swift,
        house(swift, container, tmp_path) as building,
        building.node(**NO_MEMORY) as served,
    ):
        learn(building, served.client)
        end = time.monotonic() + 2.2 * life

        def work(number: int) -> set[int]:
            seen, turn = set(), 0
            while time.monotonic() < end:
                turn += 1
                seen.add(served.client.get(f"/images/not-there/{number}/{turn}").status)
                seen.add(served.client.get("/images/a/one?kind=original").status)
                seen.add(served.client.put(f"/images/b/{number}", ORIGINAL).status)
            return seen

        before = building.proxy.count("/auth/v1.0")
        with ThreadPoolExecutor(3) as threads:
            seen = set().union(*threads.map(work, range(3)))
        assert seen <= {200, 201, 404}
        assert 2 <= building.proxy.count("/auth/v1.0") - before <= 8


def test_records_are_read_when_they_come_from_a_newer_program(building):
    """A record that cannot be read costs what it says, and not the picture."""
    with building.node() as served:
        learn(building, served.client)
        building.origin.put("a/one.json", b"\xff\x00 not json", media_type=RECORD)
        time.sleep(building.config.freshness)
        assert served.client.get(KNOWN[2]).status == 200
        assert consistent(served.client, "a/one", ORIGINAL) == ORIGINAL
