"""The rounds of the reaper; what it does to connections is tested at the running server."""

from __future__ import annotations

import socket
import threading

import commands
import pytest

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
        reaper = SlowClientReaper(listening.getsockname()[1], 10.0, 1.0, lambda: 0, wait)
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
        reaper = SlowClientReaper(listening.getsockname()[1], 10.0, 1.0, lambda: 0, is_to_end.wait)
        reaper.start()
        with socket.create_connection(listening.getsockname(), timeout=10) as client, listening.accept()[0]:
            client.sendall(b"x")
            assert not reaper.ending
            is_to_end.set()
            assert client.recv(1) == b""
            commands.until(lambda: reaper.ending, "it knows")
