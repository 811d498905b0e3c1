"""The budget of renders behind the shipped nginx: each client has its own, and none has another's by claiming it."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import commands
import pictures
import pytest
from servers import nginx
from servers.ports import free_port
from webserver import Client

ROOT = Path(__file__).parents[2]
QUOTA = 3

pytestmark = pytest.mark.servers


@contextmanager
def _running(folder: Path, **settings: Any) -> Iterator[tuple[int, int]]:
    """Start image_repo with nginx in front; returns the ports of nginx and of image_repo."""
    config = commands.configure(
        folder, requests={"renders_per_minute": QUOTA}, access={"anonymous": "write"}, **settings
    )
    origin = int(commands.listens_on(config).rpartition(":")[2])
    port = free_port()
    conf = nginx.place(folder / "nginx", ROOT / "docker" / "nginx.conf", port, origin)
    with commands.serving(config), nginx.running(conf, port):
        assert Client("127.0.0.1", port).put("/images/a", pictures.jpeg(pictures.photo(300, 200))).status == 201
        yield port, origin


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    with _running(tmp_path_factory.mktemp("budget")) as ports:
        yield ports


def _get(port: int, width: int, source: str = "127.0.0.1", **headers: str) -> int:
    """Return the status of a render, for a client at a loopback address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(source, 0))
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", f"/images/a?w={width}", headers=named)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def test_each_client_has_a_budget_of_its_own(server: tuple[int, int]) -> None:
    for number, source in enumerate(("127.0.0.1", "127.0.0.2", "127.0.0.3")):
        widths = range(10 + 10 * number, 10 + 10 * number + QUOTA + 1)
        assert [_get(server[0], width, source) for width in widths] == [200] * QUOTA + [429]
    # What is rendered already costs nobody anything, also where nginx has to ask again.
    assert [_get(server[0], width, "127.0.0.2") for width in (10, 11, 12)] == [200] * 3


@pytest.mark.parametrize(("header", "source"), [("X_Forwarded_For", 4), ("Forwarded", 5), ("X_Real_IP", 6)])
def test_a_client_gets_no_other_budget_by_what_it_claims(server: tuple[int, int], header: str, source: int) -> None:
    value = "for=192.0.2.{}" if header == "Forwarded" else "192.0.2.{}"
    claims = [{header: value.format(number)} for number in range(QUOTA + 2)]
    statuses = [
        _get(server[0], 10 * source + number, f"127.0.0.{source}", **claim) for number, claim in enumerate(claims)
    ]
    assert statuses == [200] * QUOTA + [429] * 2


def test_behind_a_proxy_that_is_not_trusted_all_are_one_client(tmp_path: Path) -> None:
    with _running(tmp_path, server={"trusted_proxies": ["192.0.2.0/24"]}) as (port, _):
        statuses = [_get(port, 10 + number, f"127.0.0.{number + 2}") for number in range(QUOTA + 2)]
    assert statuses == [200] * QUOTA + [429] * 2


def test_the_last_address_that_no_trusted_proxy_has_counts(server: tuple[int, int]) -> None:
    claims = [f"192.0.2.{number}, 198.51.100.7" for number in range(QUOTA + 1)]
    statuses = [_get(server[1], 100 + number, X_Forwarded_For=claim) for number, claim in enumerate(claims)]
    assert statuses == [200] * QUOTA + [429]
    assert _get(server[1], 150, X_Forwarded_For="198.51.100.8") == 200
    # A /64 of IPv6 is one client.
    claims = [f"2001:db8::{number}" for number in range(QUOTA + 1)]
    assert [_get(server[1], 160 + number, X_Forwarded_For=claim) for number, claim in enumerate(claims)] == [
        200
    ] * QUOTA + [429]
