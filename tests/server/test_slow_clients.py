"""The rounds of the reaper; what it does to connections is tested at the running server."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from pathlib import Path

import commands
import pytest
import requests

from image_repo.server import address
from image_repo.server.slow_clients import SlowClientReaper


class Ended(BaseException):
    """The test is over."""


def test_it_looks_seldom_while_there_is_no_connection() -> None:
    intervals: list[float] = []

    def wait(seconds: float) -> bool:
        intervals.append(seconds)
        if len(intervals) == 3:
            raise Ended
        return False

    with socket.create_server(("127.0.0.1", 0)) as listening:
        reaper = SlowClientReaper(listening.getsockname()[1], 10.0, 1.0, lambda: 0, wait, 100)
        with pytest.raises(Ended):
            reaper._run()
        assert intervals == [1.0, 5.0, 5.0]
        intervals.clear()
        with socket.create_connection(listening.getsockname()), listening.accept()[0], pytest.raises(Ended):
            reaper._run()
        assert intervals == [1.0, 1.0, 1.0]


def test_a_worker_that_is_to_end_closes_idle_connections_and_keeps_none() -> None:
    is_to_end = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        reaper = SlowClientReaper(listening.getsockname()[1], 10.0, 1.0, lambda: 0, is_to_end.wait, 100)
        reaper.start()
        with socket.create_connection(listening.getsockname(), timeout=10) as client, listening.accept()[0]:
            client.sendall(b"x")
            assert not reaper.ending
            is_to_end.set()
            assert client.recv(1) == b""
            commands.until(lambda: reaper.ending, "it knows")


PART_OF_A_HEAD = b"GET /livez HTTP/1.1\r\nHo"


@pytest.mark.servers
def test_many_slow_connections_from_one_address_starve_nobody(tmp_path: Path) -> None:
    config = commands.configure(tmp_path, server={"trusted_proxies": []})
    listen = address.host_and_port(commands.listens_on(config))
    with commands.serving(config), contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(listen, timeout=10)) for _ in range(800)]
        for connection in slow:
            connection.sendall(PART_OF_A_HEAD)
        commands.until(lambda: sum(map(is_open, slow)) <= 200, "as many are left as two workers allow")
        for _ in range(20):
            began = time.monotonic()
            honest = stack.enter_context(socket.create_connection(listen, 10, source_address=("127.0.0.2", 0)))
            honest.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert honest.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
            assert time.monotonic() - began < 2


def is_open(connection: socket.socket) -> bool:
    """Whether the server has neither answered nor ended a connection."""
    return not select.select([connection], [], [], 0)[0]


def upload(listen: str, client: str) -> socket.socket:
    """Begin an upload for a client behind a proxy, and send no more of it."""
    connection = commands.connect(listen)
    head = f"PUT /images/slow HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {client}\r\nContent-Length: 100000\r\n\r\n"
    connection.sendall(head.encode() + b"x")
    return connection


@pytest.mark.servers
def test_the_connections_of_a_trusted_proxy_count_for_each_of_its_clients(tmp_path: Path) -> None:
    limits = {"processes": 1, "slow_connections_per_address": 5, "socket_timeout": 30}
    config = commands.configure(tmp_path, server=limits)
    listen = commands.listens_on(config)
    with commands.serving(config), contextlib.ExitStack() as stack:
        few = [stack.enter_context(upload(listen, "198.51.100.1")) for _ in range(5)]
        many = [stack.enter_context(upload(listen, "198.51.100.2")) for _ in range(12)]
        commands.until(lambda: sum(map(is_open, many)) == 5, "five are left of the client that has too many")
        assert all(map(is_open, many[-5:])), "those that wait for longest end first"
        assert all(map(is_open, few))
        assert requests.get(f"http://{listen}/livez", headers={"X-Forwarded-For": "198.51.100.3"}, timeout=10).ok
    assert " 198.51.100.3 " in (tmp_path / "log").read_text()


@pytest.mark.servers
def test_what_anybody_says_of_its_address_is_ignored(tmp_path: Path) -> None:
    limits = {"processes": 1, "slow_connections_per_address": 5, "socket_timeout": 30, "trusted_proxies": ["192.0.2.1"]}
    config = commands.configure(tmp_path, server=limits)
    listen = commands.listens_on(config)
    with commands.serving(config), contextlib.ExitStack() as stack:
        many = [stack.enter_context(upload(listen, f"198.51.100.{number}")) for number in range(12)]
        commands.until(lambda: sum(map(is_open, many)) == 5, "five are left of the one client that there is")
        assert requests.get(f"http://{listen}/livez", headers={"X-Forwarded-For": "198.51.100.3"}, timeout=10).ok
    assert "198.51.100" not in (tmp_path / "log").read_text()
