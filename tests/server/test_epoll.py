"""A new connection wakes one thread, not all that wait."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import commands
import pytest
import requests
import yaml

from image_repo.server.epoll import ListenerRegistrations


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


def waiting(sock: socket.socket) -> int:
    """The handle of an epoll that waits for connections. Whoever takes it closes it."""
    with select.epoll() as epoll:
        epoll.register(sock, select.EPOLLIN)
        return os.dup(epoll.fileno())


def exclusive(process: int | str) -> list[bool]:
    """Of all that the epolls of a process wait for, whether one is woken alone."""
    found = []
    for entry in list(Path(f"/proc/{process}/fdinfo").iterdir()):
        with contextlib.suppress(OSError):  # it is closed by now, as the one of this folder
            lines = [line.split() for line in entry.read_text().splitlines() if line.startswith("tfd:")]
            found += [bool(int(line[3], 16) & select.EPOLLEXCLUSIVE) for line in lines]
    return found


def test_those_who_wait_are_woken_one_at_a_time(listening: socket.socket) -> None:
    handles = [waiting(listening) for _ in range(3)]
    waking = ListenerRegistrations()
    assert exclusive("self") == [False] * 3
    assert waking.begin() == 3
    assert exclusive("self") == [True] * 3
    for _ in range(7):
        waking.rest(0.01)
    assert exclusive("self") == [True] * 3
    with socket.create_connection(listening.getsockname()), select.epoll.fromfd(os.dup(handles[1])) as woken:
        assert woken.poll(10)[0][0] == listening.fileno()


def test_who_comes_later_joins_and_who_is_known_goes_on(listening: socket.socket) -> None:
    handles = [waiting(listening)]
    waking = ListenerRegistrations()
    assert waking.begin() == 1
    handles.append(waiting(listening))
    assert sorted(exclusive("self")) == [False, True]
    assert waking.begin() == waking.begin() == 2
    assert exclusive("self") == [True] * 2
    for handle in handles:  # neither is closed
        with socket.create_connection(listening.getsockname()), select.epoll.fromfd(os.dup(handle)) as woken:
            assert woken.poll(10)[0][0] == listening.fileno()
        listening.accept()[0].close()


def test_what_waits_for_something_else_is_left_alone() -> None:
    first, second = socket.socketpair()
    with first, second, select.epoll() as epoll:
        epoll.register(first, select.EPOLLIN)
        assert ListenerRegistrations().begin() == 0
        assert exclusive("self") == [False]


def test_looking_leaves_nothing_open() -> None:
    ear, mouth = os.pipe()
    with select.epoll() as epoll:
        epoll.register(ear, select.EPOLLIN)
        before = sorted(Path("/proc/self/fd").iterdir())
        assert ListenerRegistrations().begin() == 0
        assert sorted(Path("/proc/self/fd").iterdir()) == before
    os.close(ear)
    os.close(mouth)


def test_a_thread_may_end(listening: socket.socket) -> None:
    handles = [waiting(listening) for _ in range(2)]
    waking = ListenerRegistrations()
    assert waking.begin() == 2
    file = os.open(os.devnull, os.O_RDONLY)
    os.dup2(file, handles[0])  # its number is another's by now
    os.close(file)
    waking.rest(0.01)
    waking.rest(0.01)
    assert exclusive("self") == [True]


def test_nobody_has_to_wait() -> None:
    waking = ListenerRegistrations()
    assert waking.begin() == 0
    waking.rest(0.01)


@pytest.mark.servers
def test_all_threads_of_the_server_are_woken_one_at_a_time(tmp_path: Path) -> None:
    config = commands.configure(tmp_path, server={"processes": 2, "threads": 20})
    listen = yaml.safe_load(config.read_text())["listen"]
    with commands.serving(config) as process:
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(workers) == 2
        commands.until(lambda: all(exclusive(worker).count(True) == 20 for worker in workers), "all are woken alone")
        for _ in range(100):
            assert requests.get(f"http://{listen}/livez", timeout=10).status_code == 200
