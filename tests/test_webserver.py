"""The server of the tests leaves nothing of a request behind, also when the client goes away."""

from __future__ import annotations

import gc
import socket
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from webserver import Client, listening

#: seconds
WAIT = 30.0


class _Body:
    """A file that is sent at once, and not at its end before the client is gone.

    :param fails: whether it fails then
    """

    def __init__(self, file: IO[bytes], gone: threading.Event, fails: bool = False) -> None:
        self._file, self._gone, self._fails = file, gone, fails
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield self._file.read()
        assert self._gone.wait(WAIT)
        assert not self._fails

    def close(self) -> None:
        self.closed += 1
        self._file.close()


def _read(port: int, gone: threading.Event) -> None:
    gone.set()
    assert len(Client("127.0.0.1", port).get("/").body) == 2000


def _read_what_comes(port: int, gone: threading.Event) -> None:
    gone.set()
    with socket.create_connection(("127.0.0.1", port), WAIT) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while client.recv(4096):
            pass


def _reset(port: int, gone: threading.Event) -> None:
    with socket.create_connection(("127.0.0.1", port), WAIT) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.set()


@pytest.mark.parametrize(
    ("client", "fails"),
    [(_read, False), (_read_what_comes, True), (_reset, False), (_reset, True)],
    ids=["read to its end", "that fails", "reset by the client", "that fails after a reset"],
)
def test_a_response_is_closed_exactly_once(
    tmp_path: Path, client: Callable[[int, threading.Event], None], fails: bool
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(bytes(2000))
    gone, bodies = threading.Event(), []

    def app(_: Any, start_response: Any) -> _Body:
        start_response("200 OK", [("Content-Length", "2000")])
        bodies.append(_Body(path.open("rb"), gone, fails))
        return bodies[-1]

    with warnings.catch_warnings(record=True, action="always") as caught:
        with listening(app) as port:
            others = set(threading.enumerate())
            client(port, gone)
            for thread in set(threading.enumerate()) - others:
                thread.join(WAIT)
        assert [body.closed for body in bodies] == [1]
        bodies.clear()
        gc.collect()
    assert [str(each.message) for each in caught if each.category is ResourceWarning] == []
