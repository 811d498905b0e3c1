"""What one node replaces, deletes or purges, the other nodes of the database know at once."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import commands
import pictures
import pytest
from servers.ports import free_port
from webserver import Client

from image_repo.server import address

pytestmark = pytest.mark.servers
PICTURES = [pictures.jpeg(pictures.photo(400, 300, seed)) for seed in range(2)]
#: seconds, much longer than a notice takes
FRESHNESS_S = 60.0
NAME = "/images/sites/%C3%A4%20b"


@contextlib.contextmanager
def two_nodes(folder: Path, url: str, container: str, database: str, **changes: Any) -> Iterator[list[Client]]:
    credentials = {"authurl": f"{url}/auth/v1.0", "username": "test:tester", "password": "testing"}
    settings = {
        "create_new": True,
        "freshness": FRESHNESS_S,
        "persistent_store_configuration": {"kind": "swift", "container": container, "credentials": credentials},
        "swift_cache_configuration": {"enabled": False},
        "catalogue": {"url": database},
        **changes,
    }
    with contextlib.ExitStack() as stack:
        clients = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            config = commands.configure(folder / name, **settings)
            stack.enter_context(commands.serving(config))
            clients.append(Client(*address.host_and_port(commands.listens_on(config))))
        yield clients


@pytest.fixture(scope="module")
def two(swift: Any, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Client]]:
    with two_nodes(tmp_path_factory.mktemp("two"), swift.url, "notices", postgres) as clients:
        yield clients


def layer(client: Client, name: str) -> str:
    """Return where a picture came from; requests come to both processes of the node."""
    return client.get(f"{name}?w=100").headers["Cache-Status"]


def until_hit(client: Client, name: str) -> bytes:
    for _ in range(12):
        answer = client.get(f"{name}?w=100")
        assert answer.status == 200
    assert "hit" in answer.headers["Cache-Status"]
    body: bytes = answer.body
    return body


def test_a_purge_reaches_the_other_node(two: list[Client]) -> None:
    name = f"{NAME}/purged"
    assert two[0].put(name, PICTURES[0]).status == 201
    until_hit(two[1], name)
    assert two[0].delete(f"{name}?derived=True").status == 200
    commands.until(lambda: "detail=rendered" in layer(two[1], name), "the other node renders it anew", FRESHNESS_S / 4)


def test_a_replaced_picture_is_seen_on_the_other_node_at_once(two: list[Client]) -> None:
    name = f"{NAME}/replaced"
    assert two[0].put(name, PICTURES[0]).status == 201
    before = until_hit(two[1], name)
    assert two[0].put(name, PICTURES[1]).status == 200
    commands.until(
        lambda: two[1].get(f"{name}?w=100").body != before, "the other node has the new picture", FRESHNESS_S / 4
    )


def test_so_is_a_deletion_and_a_name_that_was_not_there(two: list[Client]) -> None:
    name = f"{NAME}/deleted"
    assert two[0].put(name, PICTURES[0]).status == 201
    until_hit(two[1], name)
    assert two[0].delete(name).status == 200
    commands.until(lambda: two[1].get(f"{name}?w=100").status == 404, "it is gone on the other node", FRESHNESS_S / 4)
    assert two[1].put(name, PICTURES[1]).status == 201
    commands.until(lambda: two[0].get(f"{name}?w=100").status == 200, "it is back on the first node", FRESHNESS_S / 4)


def test_without_the_database_nodes_go_on_serving_what_they_know_and_with_it_again_they_hear_of_changes(
    swift: Any, container: str, tmp_path: Path
) -> None:
    from servers import launch  # noqa: PLC0415

    program = ("pg_up.py", "--port", str(free_port()))
    with contextlib.ExitStack() as database:
        url = database.enter_context(launch.running(*program))["url"]
        with two_nodes(tmp_path, swift.url, container, url) as clients:
            assert clients[0].put(NAME, PICTURES[0]).status == 201
            until_hit(clients[1], NAME)
            database.close()
            began = time.monotonic()
            until_hit(clients[1], NAME)
            assert time.monotonic() - began < 10
            database.enter_context(launch.running(*program))
            turns = itertools.count(1)

            def is_heard() -> bool:
                """Whether a change reaches the other node, which connects again after a pause that grows."""
                if clients[0].put(NAME, PICTURES[next(turns) % 2]).status != 200:
                    return False
                now = clients[0].get(f"{NAME}?w=100").body
                threading.Event().wait(1)
                return clients[1].get(f"{NAME}?w=100").body == now

            commands.until(is_heard, "the other node hears of changes", FRESHNESS_S)
            assert time.monotonic() - began < FRESHNESS_S
