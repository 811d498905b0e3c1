"""Two nodes that write to one container: no acknowledged change is lost, and conditions hold across both."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import commands
import pictures
import pytest
from shared_stores import settings_of_shared, swift_settings
from webserver import Answer, Client

from image_repo.errors import CatalogueUnavailable, NotTheWriter
from image_repo.server import address
from image_repo.sync.lease import KEY, WriteLease

#: seconds of each race; `make soak` has more
RACE_S = float(os.environ.get("IMAGE_REPO_SOAK_S", "4"))
#: records that take one change after the other, and how many each: the data of a record is bounded
PLAIN, PLAIN_KEYS = [f"plain-{number}" for number in range(6)], 2_000
PICTURES = [pictures.jpeg(pictures.photo(48, 32, seed)) for seed in range(3)]


@dataclass(frozen=True)
class Nodes:
    """Servers in processes of their own, with folders of their own, over one container."""

    clients: list[Client]

    def each(self, work: Callable[[int, Client], int], threads: int = 3) -> int:
        """Run the work in threads for each node, and return the sum of what it returns."""
        count = threads * len(self.clients)
        with ThreadPoolExecutor(count) as pool:
            return sum(pool.map(work, range(count), [*self.clients] * threads))


@contextlib.contextmanager
def nodes(folder: Path, **settings: Any) -> Iterator[Nodes]:
    with contextlib.ExitStack() as stack:
        clients = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            config = commands.configure(folder / name, **settings)
            stack.enter_context(commands.serving(config))
            clients.append(Client(*address.host_and_port(commands.listens_on(config))))
        yield Nodes(clients)


@pytest.fixture(
    scope="module", params=["disk", *(pytest.param(kind, marks=pytest.mark.servers) for kind in ("swift", "s3"))]
)
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two nodes on one folder; or on one Swift container or S3 bucket, with one PostgreSQL. Each test has own names."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "disk":
        settings: dict[str, Any] = {"persistent_store_configuration": {"kind": "disk", "path": str(folder / "data")}}
    else:
        settings = settings_of_shared(request, request.param, "write-order")
    with nodes(folder, **settings) as running:
        yield running


def patch(client: Client, path: str, data: Any, **headers: str) -> Answer:
    return client("PATCH", path, json.dumps(data).encode(), Content_Type="application/merge-patch+json", **headers)


def data_of(client: Client, name: str) -> dict[str, Any]:
    answer = client.get(f"/images/{name}?meta=True")
    assert answer.status == 200, answer.body
    data: dict[str, Any] = answer.json()["data"]
    return data


def test_no_acknowledged_change_is_lost_and_if_match_holds_over_two_nodes(two: Nodes) -> None:
    for name in (*PLAIN, "counter"):
        assert two.clients[0].put(f"/images/{name}", PICTURES[0]).status == 201
    assert patch(two.clients[0], "/images/counter", {"count": 0}).status == 200
    end, acknowledged = time.monotonic() + RACE_S, set[tuple[str, str]]()

    def write(number: int, client: Client) -> int:
        counted = 0
        while time.monotonic() < end:
            key = f"{number}-{counted}-{time.monotonic_ns()}"
            plain = PLAIN[len(acknowledged) // PLAIN_KEYS % len(PLAIN)]
            if patch(client, f"/images/{plain}", {key[-12:]: 1}).status == 200:
                acknowledged.add((plain, key[-12:]))
            current = client.get("/images/counter?meta=True")
            assert current.status == 200, current.body
            more = {"count": current.json()["data"]["count"] + 1}
            answer = patch(client, "/images/counter", more, If_Match=current.headers["ETag"])
            assert answer.status in (200, 412, 503), answer.body
            counted += answer.status == 200
        return counted

    counted = two.each(write)
    assert acknowledged
    assert counted
    print(f"{len(acknowledged)} changes and {counted} compare-and-set changes were acknowledged")
    for client in two.clients:
        assert {(plain, key) for plain in PLAIN for key in data_of(client, plain)} == acknowledged
        assert data_of(client, "counter") == {"count": counted}


def test_of_uploads_that_must_be_the_first_one_wins_over_two_nodes(two: Nodes) -> None:
    barrier = threading.Barrier(4)

    def first(number: int, client: Client) -> int:
        won = 0
        for each in range(6):
            barrier.wait(60)
            answer = client.put(f"/images/first-{each}", PICTURES[number % 3], If_None_Match="*")
            assert answer.status in (201, 412), answer.body
            won += answer.status == 201
        return won

    assert two.each(first, threads=2) == 6


def test_uploads_and_deletions_over_two_nodes_leave_a_picture_with_its_data_or_none(two: Nodes) -> None:
    end = time.monotonic() + RACE_S / 2

    def write(number: int, client: Client) -> int:
        turn = 0
        while time.monotonic() < end:
            turn += 1
            if number % 2:
                assert client.delete("/images/a").status in (200, 404)
            else:
                body = PICTURES[turn % 3]
                data = json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode()
                assert client.form("/images/a", ("file", "a.jpg", body), ("data", None, data)).status in (200, 201)
        return 0

    two.each(write, threads=2)
    states = [client.get("/images/a?meta=True") for client in two.clients]
    assert len({(state.status, state.body) for state in states if state.status == 200}) <= 1
    assert len({state.status for state in states}) == 1
    if states[0].status == 200:
        assert states[0].json()["data"] == {"sha256": states[0].json()["sha256"]}


@pytest.mark.servers
def test_without_the_database_that_orders_them_writers_are_refused_and_readers_go_on(swift, container, tmp_path):
    from servers import launch  # noqa: PLC0415

    with contextlib.ExitStack() as database:
        url = database.enter_context(launch.running("pg_up.py"))["url"]
        settings = {
            "create_new": True,
            "persistent_store_configuration": swift_settings(swift, container),
            "swift_cache_configuration": {"enabled": False},
            "catalogue": {"url": url},
        }
        with nodes(tmp_path, **settings) as running:
            one = running.clients[0]
            assert one.put("/images/a", PICTURES[0]).status == 201
            database.close()
            began = time.monotonic()
            refused = one.put("/images/a", PICTURES[1])
            assert (refused.status, refused.slug) == (503, CatalogueUnavailable.slug)
            assert refused.headers["Retry-After"]
            assert time.monotonic() - began < 5
            assert one.get("/images/a").status == 200
            assert one.get("/images/a?meta=True").json()["sha256"] == hashlib.sha256(PICTURES[0]).hexdigest()


# -- the lease -------------------------------------------------------------------------


def lease_of(store: Any, folder: Path, name: str) -> WriteLease:
    own = folder / name
    own.mkdir(exist_ok=True)
    return WriteLease(store, lambda: name, own, interval=0.1, lifetime=1.5)


def hold(lease: WriteLease) -> bool:
    try:
        with lease.held("a", time.monotonic() + 5):
            lease.confirm()
    except NotTheWriter:
        return False
    return True


@pytest.mark.servers
def test_of_nodes_without_an_order_one_writes_and_the_other_when_it_has_ended(swift_store, tmp_path):
    with (
        contextlib.closing(lease_of(swift_store, tmp_path, "one")) as one,
        contextlib.closing(lease_of(swift_store, tmp_path, "two")) as two,
    ):
        assert hold(one)
        end = time.monotonic() + 3
        while time.monotonic() < end:  # for twice its lifetime: the holder renews it
            assert (hold(one), hold(two)) == (True, False)
            threading.Event().wait(0.1)
        one.close()
        assert swift_store.head(KEY) is None
        assert hold(two)


@pytest.mark.servers
def test_the_lease_of_a_silent_node_is_taken_over_after_that_node_stops_to_write(swift_store, tmp_path):
    one, two = lease_of(swift_store, tmp_path, "one"), lease_of(swift_store, tmp_path, "two")
    with contextlib.closing(two):
        assert hold(one)
        one._ended.set()  # as a process that stands still: it renews no more, and gives nothing back
        assert not hold(two)
        commands.until(lambda: hold(two), "the other node writes")
        with pytest.raises(NotTheWriter):
            one.confirm()


@pytest.mark.servers
def test_of_two_claims_at_the_same_moment_one_wins(swift_store, tmp_path):
    barrier = threading.Barrier(4)
    leases = [lease_of(swift_store, tmp_path, f"node-{number}") for number in range(4)]

    def claim(lease: WriteLease) -> bool:
        barrier.wait(30)
        return hold(lease)

    with contextlib.ExitStack() as stack:
        for lease in leases:
            stack.enter_context(contextlib.closing(lease))
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(claim, leases)) == 1


@pytest.mark.servers
def test_a_second_node_on_swift_without_a_shared_catalogue_is_told_why_it_does_not_write(swift, container, tmp_path):
    settings = {
        "create_new": True,
        "persistent_store_configuration": swift_settings(swift, container),
        "swift_cache_configuration": {"enabled": False},
    }
    with nodes(tmp_path, **settings) as running:
        one, two = running.clients
        assert one.put("/images/a", PICTURES[0]).status == 201
        refused = two.put("/images/b", PICTURES[0])
        assert (refused.status, refused.slug) == (503, NotTheWriter.slug)
        assert "catalogue.url" in refused.json()["detail"]
        assert refused.headers["Retry-After"]
        assert two.get("/images/a").status == 200
        tested = commands.run("-y", tmp_path / "two" / "config.yml", "-t")
        assert tested.returncode != 0
        assert "this one will refuse to" in tested.stdout
