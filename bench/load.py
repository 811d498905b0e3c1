"""Load on a server of this machine: wrk for hits, sockets of our own where each answer counts."""

from __future__ import annotations

import re
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
#: seconds that an answer may take
PATIENCE = 60.0


@dataclass(frozen=True)
class Run:
    """What wrk tells.

    :param p50, p99: seconds
    :param errors: answers of 400 and more, and connections that failed
    """

    requests: int
    rate: float
    p50: float
    p99: float
    errors: int


def wrk(
    url: str,
    *,
    connections: int,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    script: Path | None = None,
) -> Run:
    """Asks for one URL over and over, from one thread.

    :param script: in Lua, makes the requests in place of ``headers``
    """
    told = [part for name, value in (headers or {}).items() for part in ("-H", f"{name}: {value}")]
    told += ["-s", str(script)] if script else []
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "--latency", *told, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    text = done.stdout
    failed = re.findall(r"(?:Non-2xx or 3xx responses:|connect|read|write|timeout) (\d+)", text)
    return Run(
        int(_found(r"(\d+) requests in", text)),
        float(_found(r"Requests/sec:\s+([\d.]+)", text)),
        _seconds(_found(r"(?m)^\s+50%\s+(\S+)", text)),
        _seconds(_found(r"(?m)^\s+99%\s+(\S+)", text)),
        sum(map(int, failed)),
    )


def _found(pattern: str, text: str) -> str:
    """
    :raises ValueError: when wrk said something else
    """
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"wrk said: {text}")
    return match[1]


def _seconds(text: str) -> float:
    unit = text.lstrip("0123456789.")
    return float(text.removesuffix(unit)) * _UNITS[unit]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    :param headers: by their names in small letters
    :param began, ended: perf_counter
    """

    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def layer(self) -> str:
        """Which layer of image_repo answered."""
        return self.headers.get("cache-status", "").rpartition("detail=")[2]


class Client:
    """One connection, opened again when the server closes it. For one thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def get(self, path: str, **headers: str) -> Answer:
        """
        :raises OSError: when there is no whole answer
        """
        lines = [f"GET {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        began = time.perf_counter()
        if self._socket is not None:
            try:
                return self._ask(self._socket, path, head, began)
            except (OSError, EOFError):  # it was closed meanwhile
                self.close()
        self._socket = connect(self._port)
        return self._ask(self._socket, path, head, began)

    def _ask(self, sock: socket.socket, path: str, head: bytes, began: float) -> Answer:
        sock.sendall(head)
        status, headers, body, keeps = read_answer(sock)
        ended = time.perf_counter()
        if not keeps:
            self.close()
        return Answer(path, status, headers, body, began, ended)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def connect(port: int, timeout: float = PATIENCE) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def read_answer(sock: socket.socket) -> tuple[int, dict[str, str], bytes, bool]:
    """Status, headers, body, and whether the connection may be used again.

    :raises EOFError: when it closes before the answer is whole
    """
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _some(sock)
    first, *lines = data[:end].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(first.split()[1])
    body = data[end + 4 :]
    if "content-length" in headers:
        while len(body) < int(headers["content-length"]):
            body += _some(sock)
    elif headers.get("transfer-encoding") == "chunked":
        while not body.endswith(b"0\r\n\r\n"):
            body += _some(sock)
    elif status not in (204, 304):
        while more := sock.recv(1 << 18):
            body += more
    return status, headers, bytes(body), headers.get("connection", "").lower() != "close"


def _some(sock: socket.socket) -> bytes:
    part = sock.recv(1 << 18)
    if not part:
        raise EOFError("the server closed in the middle of an answer")
    return part


@dataclass
class Answers:
    """What many requests brought."""

    all: list[Answer] = field(default_factory=list)
    wall: float = 0.0
    failed: int = 0

    @property
    def rate(self) -> float:
        return len(self.all) / self.wall

    @property
    def good(self) -> list[Answer]:
        return [answer for answer in self.all if answer.status == 200]


def each(port: int, paths: Iterable[str], connections: int, *, bodies: bool = False) -> Answers:
    """Asks for every path once, over so many connections.

    :param bodies: whether they are kept
    """
    told, lock = Answers(), threading.Lock()
    waiting: Iterator[str] = iter(paths)

    def work() -> None:
        client = Client(port)
        while True:
            with lock:
                path = next(waiting, None)
            if path is None:
                return client.close()
            try:
                answer = client.get(path)
            except (OSError, EOFError):
                with lock:
                    told.failed += 1
                continue
            if not bodies:
                answer = Answer(path, answer.status, answer.headers, b"", answer.began, answer.ended)
            with lock:
                told.all.append(answer)

    threads = [threading.Thread(target=work) for _ in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.wall = time.perf_counter() - began
    return told


def at_once(port: int, paths: Iterable[str]) -> Answers:
    """Asks for all at the same moment, each over a connection of its own that is open already.

    One thread does it: two hundred would measure how they share an interpreter.
    """
    told = Answers()
    with ExitStack() as stack, selectors.DefaultSelector() as waiting:
        asked = [(path, stack.enter_context(connect(port))) for path in paths]
        began = time.perf_counter()
        for path, sock in asked:
            waiting.register(sock, selectors.EVENT_READ, (path, sock, time.perf_counter(), bytearray()))
            sock.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        while waiting.get_map() and (ready := waiting.select(PATIENCE)):
            for key, _ in ready:
                path, sock, sent, data = key.data
                part = _some_or_none(sock)
                data += part
                if not part or _is_whole(data):
                    waiting.unregister(sock)
                    _note(told, path, data, sent)
        told.failed += len(waiting.get_map())
        told.wall = time.perf_counter() - began
    return told


def _some_or_none(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 18)
    except OSError:
        return b""


def _is_whole(data: bytearray) -> bool:
    end = data.find(b"\r\n\r\n")
    length = re.search(rb"\ncontent-length: *(\d+)", data[:end], re.IGNORECASE) if end >= 0 else None
    return length is not None and len(data) >= end + 4 + int(length[1])


def _note(told: Answers, path: str, data: bytearray, sent: float) -> None:
    ended = time.perf_counter()
    if not _is_whole(data):
        told.failed += 1
        return
    first, *lines = data[: data.find(b"\r\n\r\n")].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    told.all.append(Answer(path, int(first.split()[1]), headers, b"", sent, ended))


def _wait_for_answers(asked: Iterable[socket.socket]) -> None:
    """Returns when all have something to read, or have waited for long enough."""
    with selectors.DefaultSelector() as waiting:
        for sock in asked:
            waiting.register(sock, selectors.EVENT_READ)
        until = time.monotonic() + PATIENCE
        while waiting.get_map() and time.monotonic() < until:
            for key, _ in waiting.select(1.0):
                waiting.unregister(key.fileobj)


@contextmanager
def loitering(port: int, count: int, first: bytes = b"", drip: bytes = b"") -> Iterator[list[socket.socket]]:
    """Holds connections open that do next to nothing.

    :param first: what each says at once; a whole request is answered before this begins
    :param drip: what each says after, a byte every half second
    """
    ended = threading.Event()

    def dripping() -> None:
        told = 0
        while not ended.wait(0.5) and told < len(drip):
            for sock in held:
                try:
                    sock.send(drip[told : told + 1])
                except OSError:
                    continue
            told += 1

    with ExitStack() as stack:
        held: list[socket.socket] = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            held.append(sock)
        time.sleep(0.2)
        for sock in held:
            if first:
                try:
                    sock.send(first)
                except OSError:
                    continue
        if first.endswith(b"\r\n\r\n"):
            _wait_for_answers(held)
        thread = threading.Thread(target=dripping, daemon=True)
        thread.start()
        try:
            yield held
        finally:
            ended.set()
            thread.join()
