"""The watchdog of connections to a database, on real sockets."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from commands import until

from image_repo.catalogue.watchdog import Watchdog


def test_a_silent_connection_is_cut() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Watchdog(0.1).begin(ours.fileno())
        theirs.settimeout(10)
        assert theirs.recv(1) == b""
        assert ours.recv(1) == b""


def test_an_answer_ends_the_watch_and_a_further_question_begins_anew() -> None:
    watchdog = Watchdog(1.5)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for _ in range(5):
            watchdog.begin(ours.fileno())
            time.sleep(0.4)  # of its patience
        with watchdog.for_one(ours.fileno()):
            pass
        time.sleep(2.0)  # beyond it
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"


def test_what_gets_the_number_of_a_closed_connection_is_left_alone() -> None:
    watchdog = Watchdog(0.1)
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    with theirs, socket.create_server(("127.0.0.1", 0)) as server:
        watchdog.begin(number)
        os.dup2(server.fileno(), ours.detach())  # closes the connection; the next that is opened gets its number
        with socket.socket(fileno=number) as listening:
            time.sleep(1.0)  # until the watch is over
            assert theirs.recv(1) == b""
            with socket.create_connection(listening.getsockname(), timeout=10):
                listening.accept()[0].close()


def test_a_connection_that_is_closed_is_not_watched() -> None:
    watchdog = Watchdog(0.1)
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    ours.close()
    theirs.close()
    for file in (number, -1):
        watchdog.begin(file)
        watchdog.end(file)


def test_nothing_stays_open() -> None:
    watchdog = Watchdog(0.1)
    handles = Path("/proc/self/fd")
    before = len(list(handles.iterdir()))
    pairs = [socket.socketpair() for _ in range(5)]
    for ours, _ in pairs:
        watchdog.begin(ours.fileno())
        watchdog.begin(ours.fileno())
    for pair in pairs:
        for each in pair:
            each.close()
    until(lambda: len(list(handles.iterdir())) <= before, "the watches are over")
