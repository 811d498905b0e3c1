"""A new connection wakes one thread, not all that wait; a worker learns that it is to end."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections import Counter
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
    """The handle of an epoll that waits for connections; the caller closes it."""
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


def is_woken(handle: int, listening: socket.socket) -> bool:
    """Whether a connection wakes this epoll."""
    with socket.create_connection(listening.getsockname()), select.epoll.fromfd(os.dup(handle)) as epoll:
        return epoll.poll(10)[0][0] == listening.fileno()


def test_threads_that_wait_are_woken_one_at_a_time(listening: socket.socket) -> None:
    handles = [waiting(listening) for _ in range(3)]
    registrations = ListenerRegistrations(3)
    assert exclusive("self") == [False] * 3
    assert registrations.scan() == 3
    assert exclusive("self") == [True] * 3
    for _ in range(7):
        assert not registrations.wait(0.01)
    assert exclusive("self") == [True] * 3
    assert is_woken(handles[1], listening)


def test_a_thread_that_comes_later_is_registered_by_waiting(listening: socket.socket) -> None:
    handles = [waiting(listening)]
    registrations = ListenerRegistrations(2)
    assert registrations.scan() == 1
    handles.append(waiting(listening))
    assert sorted(exclusive("self")) == [False, True]
    registrations.wait(0.2)
    assert exclusive("self") == [True] * 2
    assert registrations.scan() == 2
    for handle in handles:  # neither is closed
        assert is_woken(handle, listening)
        listening.accept()[0].close()


def test_an_epoll_that_waits_for_something_else_is_left_alone() -> None:
    first, second = socket.socketpair()
    with first, second, select.epoll() as epoll:
        epoll.register(first, select.EPOLLIN)
        assert ListenerRegistrations(1).scan() == 0
        assert exclusive("self") == [False]


def test_a_scan_leaves_nothing_open() -> None:
    reader, writer = os.pipe()
    with select.epoll() as epoll:
        epoll.register(reader, select.EPOLLIN)
        before = sorted(Path("/proc/self/fd").iterdir())
        assert ListenerRegistrations(1).scan() == 0
        assert sorted(Path("/proc/self/fd").iterdir()) == before
    os.close(reader)
    os.close(writer)


def test_a_thread_may_end(listening: socket.socket) -> None:
    handles = [waiting(listening) for _ in range(2)]
    registrations = ListenerRegistrations(2)
    assert registrations.scan() == 2
    file = os.open(os.devnull, os.O_RDONLY)
    os.dup2(file, handles[0])  # its number is another's by now
    os.close(file)
    for _ in range(5):
        registrations.wait(0.2)
    assert exclusive("self") == [True]


def test_waiting_without_threads_ends() -> None:
    assert not ListenerRegistrations(1).wait(0.01)


def test_waiting_ends_at_once_when_the_server_closes_its_pipe(listening: socket.socket) -> None:
    reader, writer = os.pipe()
    with select.epoll.fromfd(waiting(listening)) as epoll:
        epoll.register(reader, select.EPOLLIN)
        registrations = ListenerRegistrations(1)
        assert not registrations.wait(0.1)
        threading.Timer(0.1, os.close, (writer,)).start()
        began = time.monotonic()
        assert registrations.wait(30)
        assert time.monotonic() - began < 10
        os.close(reader)


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


@pytest.mark.servers
def test_connections_are_spread_over_the_processes(tmp_path: Path) -> None:
    config = commands.configure(tmp_path, server={"processes": 2, "threads": 40})
    answered: Counter[str] = Counter()

    def ask() -> bool:
        """Ask over a connection of its own; whether each process has answered fifty times."""
        response = requests.get(url, timeout=10, headers={"Connection": "close"})
        answered[response.headers["X-Request-ID"].partition("-")[0]] += 1
        return len(answered) == 2 and min(answered.values()) >= 50

    with commands.serving(config):
        url = f"http://{commands.listens_on(config)}/images/none"
        commands.until(ask, "each process answers, one connection at a time", 90)


@pytest.mark.servers
def test_each_burst_of_kept_connections_is_spread_over_the_processes(tmp_path: Path) -> None:
    config = commands.configure(tmp_path, server={"processes": 2, "threads": 40})

    def burst() -> list[int]:
        """Hold 24 connections at once; return how many of them each process has."""
        with contextlib.ExitStack() as stack:
            sessions = [stack.enter_context(requests.Session()) for _ in range(24)]
            ids = [session.get(url, timeout=10).headers["X-Request-ID"] for session in sessions]
        return sorted(Counter(request_id.partition("-")[0] for request_id in ids).values())

    def is_spread() -> bool:
        time.sleep(1.2)  # without work
        shares = burst()
        return len(shares) == 2 and shares[0] >= 8

    with commands.serving(config):
        url = f"http://{commands.listens_on(config)}/images/none"
        commands.until(lambda: len(burst()) == 2, "both processes answer")
        # A process that gets no CPU for a second falls behind: then the next four count.
        commands.until(lambda: all(is_spread() for _ in range(4)), "four bursts in a row are spread")
