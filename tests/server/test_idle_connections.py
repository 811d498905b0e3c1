"""Connections that are kept after a hit, over real sockets: what one thread answers, and what it leaves to uWSGI."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, cast

import commands
import pictures
import pytest
import requests
from PIL import Image

from image_repo.server import address
from image_repo.server.idle_connections import Idle, IdleConnections
from image_repo.server.request_head import length_of_head, read_plain_head

servers = pytest.mark.servers

#: larger than what the kernel takes of a response while its client reads nothing
LARGE = "/images/noise?kind=png"
SMALL = "/images/noise?xsize=40"
#: of the server, for a client that says or takes nothing
PATIENCE_S = 5


@pytest.fixture(scope="module")
def listen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of one process, which has two variants in memory."""
    config = commands.configure(
        tmp_path_factory.mktemp("server"),
        server={"processes": 1, "socket_timeout": PATIENCE_S},
        memory_cache_configuration={"max_size": 128 << 20},
    )
    with commands.serving(config):
        listen = commands.listens_on(config)
        store(listen, (SMALL, LARGE))
        yield listen


def store(listen: str, paths: Sequence[str]) -> None:
    """Store a picture, and have its variants in memory."""
    noise = pictures.jpeg(Image.frombytes("RGB", (1600, 1600), random.Random(1).randbytes(3 * 1600**2)), quality=50)
    assert requests.put(f"http://{listen}/images/noise", data=noise, timeout=60).status_code == 201
    for path in paths:
        commands.until(lambda path=path: is_hit(requests.get(f"http://{listen}{path}", timeout=60)), "it is a hit")


def is_hit(response: requests.Response) -> bool:
    return "detail=memory" in response.headers.get("Cache-Status", "")


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: x", *headers, "", "")).encode()


class Connection:
    """A connection that speaks HTTP byte by byte."""

    def __init__(self, listen: str, *, receive_buffer: int = 0) -> None:
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(20)
        self.sock.connect(address.host_and_port(listen))
        self._data = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def response(self, *, has_body: bool = True) -> tuple[int, bytes, bytes]:
        """Read one response: status, head and body."""
        while b"\r\n\r\n" not in self._data:
            self._read()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        size = int(length[1]) if length and has_body else 0
        while len(self._data) < size:
            self._read()
        body, self._data = self._data[:size], self._data[size:]
        line = re.match(rb"(?:x )?HTTP/1\.[01] (\d+) ", head)  # uWSGI repeats the protocol of the request
        assert line, head
        return int(line[1]), head, body

    def _read(self) -> None:
        part = self.sock.recv(1 << 16)
        assert part, "the server has ended the connection"
        self._data += part

    def is_ended(self) -> bool:
        return not self._data and self.sock.recv(1) == b""


@pytest.fixture
def idle(listen: str) -> Iterator[Connection]:
    """A connection that waits for its next request after some hits."""
    with Connection(listen) as connection:
        for _ in range(3):
            connection.say(get(SMALL))
            assert b"detail=memory" in connection.response()[1]
        yield connection


def undated(head: bytes) -> bytes:
    return re.sub(rb"\r\nDate: [^\r]+", b"", head)


# -- what is answered --------------------------------------------------------------------


@servers
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(get(SMALL), id="a picture"),
        pytest.param(get(SMALL, method="HEAD"), id="a HEAD"),
        pytest.param(get(SMALL, 'If-None-Match: "{etag}"'), id="a picture that has not changed"),
        pytest.param(get(SMALL, "X-Request-ID: abc-1"), id="with an id"),
        pytest.param(get(SMALL, "Connection: keep-alive", "User-Agent: a b", "Accept: */*"), id="with usual headers"),
    ],
)
def test_a_hit_has_the_same_bytes_on_a_new_and_on_a_kept_connection(
    listen: str, idle: Connection, request_: bytes
) -> None:
    etag = requests.head(f"http://{listen}{SMALL}", timeout=30).headers["ETag"].strip('"')
    request_ = request_.replace(b"{etag}", etag.encode())
    has_body = not request_.startswith(b"HEAD")
    with Connection(listen) as new:
        new.say(request_)
        expected, head, body = new.response(has_body=has_body)
    for _ in range(3):
        idle.say(request_)
        status, again, same = idle.response(has_body=has_body)
        assert (status, undated(again), same) == (expected, undated(head), body)


@servers
def test_requests_that_come_at_once_are_answered_one_after_the_other(idle: Connection) -> None:
    idle.say(get(SMALL) + get(SMALL, method="HEAD") + get(SMALL) * 20)
    statuses = [idle.response(has_body=number != 1)[0] for number in range(22)]
    assert statuses == [200] * 22


@servers
def test_what_comes_at_once_on_a_new_connection_ends_it_and_hangs_nothing(listen: str) -> None:
    # uWSGI has read the second request with the first and drops it, as it says by closing
    with Connection(listen) as connection:
        connection.say(get(SMALL) + get(SMALL))
        assert connection.response()[0] == 200
        began = time.monotonic()
        assert connection.is_ended()
        assert time.monotonic() - began < PATIENCE_S - 1


@servers
def test_a_head_may_come_in_pieces(idle: Connection) -> None:
    head = get(SMALL)
    for byte in (head[:7], head[7:30], head[30:]):
        idle.say(byte)
        time.sleep(0.02)  # so that each piece arrives by itself
    assert idle.response()[0] == 200
    idle.say(get(SMALL))
    assert idle.response()[0] == 200


@servers
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(get("/livez"), id="another path"),
        pytest.param(get("/images/none"), id="no such picture"),
        pytest.param(get(SMALL, "Range: bytes=0-9"), id="a part"),
        pytest.param(get(SMALL, 'If-Match: "x"'), id="a rare condition"),
        pytest.param(get(SMALL, "Content-Length: 0"), id="a body of nothing"),
        pytest.param(get("/images/new", "Content-Length: 3", method="PUT") + b"abc", id="an upload"),
        pytest.param(get(SMALL, "X: " + "y" * 5000), id="a long head"),
        pytest.param(get(SMALL, "Authorization: Basic x"), id="other credentials"),
        pytest.param(get(SMALL, "X:  two"), id="two spaces"),
        pytest.param(get(SMALL, "X:none"), id="no space"),
        pytest.param(get(SMALL, "X: a", "X: b"), id="a header twice"),
        pytest.param(get(SMALL, "X : y"), id="a space before the colon"),
        pytest.param(get(SMALL, method="DELETE").replace(SMALL.encode(), b"/images/none"), id="another method"),
    ],
)
def test_any_other_request_gets_what_it_gets_on_a_new_connection(
    listen: str, idle: Connection, request_: bytes
) -> None:
    with Connection(listen) as new:
        new.say(request_)
        expected = new.response()
    for _ in range(2):
        idle.say(request_)
        status, _, body = idle.response()
        assert (status, body) == (expected[0], expected[2])
        idle.say(get(SMALL))
        assert idle.response()[0] == 200


@servers
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(get(SMALL, "Connection: close"), id="the client says so"),
        pytest.param(get(SMALL).replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(get(SMALL).replace(b"Host: x\r\n", b""), id="no host"),
        pytest.param(get(SMALL, "Host: y"), id="two hosts"),
        pytest.param(get(SMALL).replace(b" HTTP", b" x HTTP"), id="a space in the target"),
        pytest.param(get(SMALL, "Content-Length: 3") + b"abc", id="a body that nobody reads"),
    ],
)
def test_what_ends_a_new_connection_ends_a_kept_one_with_the_same_answer(
    listen: str, idle: Connection, request_: bytes
) -> None:
    with Connection(listen) as new:
        new.say(request_)
        expected = new.response()
        assert new.is_ended()
    idle.say(request_)
    status, _, body = idle.response()
    assert (status, body) == (expected[0], expected[2])
    assert idle.is_ended()


@servers
def test_http_1_0_is_not_kept_waiting_after_a_hit(listen: str) -> None:
    began = time.monotonic()
    answer = commands.say(listen, get(SMALL).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert b"detail=memory" in answer
    assert time.monotonic() - began < PATIENCE_S - 1


@servers
def test_many_connections_are_answered_beside_each_other(listen: str) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(listen)) for _ in range(100)]
        for _ in range(5):
            for connection in connections:
                connection.say(get(SMALL))
            assert Counter(connection.response()[0] for connection in connections) == {200: 100}


@servers
def test_the_threads_of_connections_that_end_are_free_again(listen: str) -> None:
    # three times as many as there are threads
    for _ in range(9):
        with ExitStack() as stack:
            connections = [stack.enter_context(Connection(listen)) for _ in range(100)]
            for _ in range(3):
                for connection in connections:
                    connection.say(get(SMALL))
                assert {connection.response()[0] for connection in connections} == {200}
    assert requests.get(f"http://{listen}/livez", timeout=10).status_code == 200


# -- slow clients ------------------------------------------------------------------------


@servers
def test_a_client_that_reads_late_gets_everything(listen: str) -> None:
    expected = requests.get(f"http://{listen}{LARGE}", timeout=60).content
    with Connection(listen, receive_buffer=4096) as connection:
        for _ in range(3):
            connection.say(get(LARGE))
            time.sleep(0.2)
            assert connection.response()[2] == expected
        connection.say(get(SMALL))
        assert connection.response()[0] == 200


@servers
def test_a_client_that_reads_nothing_is_cut_off_and_holds_nobody_up(listen: str, idle: Connection) -> None:
    with Connection(listen, receive_buffer=4096) as connection:
        for _ in range(3):
            connection.say(get(SMALL))
            connection.response()
        connection.say(get(SMALL) * 5000)
        began = time.monotonic()
        while time.monotonic() - began < 1:
            idle.say(get(SMALL))
            assert idle.response()[0] == 200
        commands.until(lambda: is_cut_off(connection.sock), "it is cut off")


@servers
def test_clients_that_read_nothing_take_no_memory_for_each(tmp_path: Path) -> None:
    config = commands.configure(tmp_path, server={"processes": 1}, memory_cache_configuration={"max_size": 64 << 20})
    listen = commands.listens_on(config)
    with commands.serving(config) as process, ExitStack() as stack:
        store(listen, (SMALL, LARGE))
        size = len(requests.get(f"http://{listen}{LARGE}", timeout=60).content)
        worker = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        before = resident_bytes(worker)
        for _ in range(40):
            connection = stack.enter_context(Connection(listen, receive_buffer=4096))
            for path in (SMALL, SMALL, SMALL, LARGE):
                connection.say(get(path))
                if path == SMALL:
                    connection.response()
        commands.until(lambda: requests.get(f"http://{listen}/livez", timeout=10).ok, "all are being answered")
        assert resident_bytes(worker) - before < 10 * size  # where each would take one


def resident_bytes(pid: str) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def is_cut_off(sock: socket.socket) -> bool:
    established = 1
    return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != established)


@servers
def test_a_connection_that_says_nothing_more_is_ended(idle: Connection) -> None:
    assert idle.is_ended()


# -- the end of a worker -----------------------------------------------------------------


class Client(threading.Thread):
    """Asks for a hit over one connection as long as it is kept, and over a new one afterwards."""

    def __init__(self, listen: str) -> None:
        super().__init__()
        self._listen = listen
        self._done = threading.Event()
        self.outcomes: Counter[object] = Counter()

    def run(self) -> None:
        while not self._done.is_set():
            with closing(HTTPConnection(*address.host_and_port(self._listen), timeout=30)) as connection:
                self._use(connection)

    def _use(self, connection: HTTPConnection) -> None:
        """Ask until the connection is not kept any more."""
        is_kept, answered, count = True, 0.0, 0
        while is_kept and not self._done.is_set():
            began = time.monotonic()
            try:
                connection.request("GET", SMALL)
                response = connection.getresponse()
                self.outcomes[response.status, len(response.read())] += 1
                is_kept = response.headers["Connection"] != "close"
            except OSError as error:
                is_kept = False
                # one that is idle may be ended, and so may one that uWSGI has not left to the thread of all connections
                if count > _LEAST_ANSWERS and began - answered < _IDLE_S:
                    self.outcomes[repr(error)] += 1
            answered, count = time.monotonic(), count + 1

    def end(self) -> None:
        self._done.set()
        self.join()


#: of silence, after which a server that ends takes a connection for idle
_IDLE_S = 0.4
#: of a connection that is surely left to the thread of all connections
_LEAST_ANSWERS = 20


@servers
def test_a_restart_loses_no_hit_of_a_kept_connection(tmp_path: Path) -> None:
    config = commands.configure(
        tmp_path, freshness=600
    )  # a hit that is revalidated leaves the thread of all connections
    listen = commands.listens_on(config)
    with commands.serving(config), ExitStack() as stack:
        picture = pictures.jpeg(pictures.photo(640, 480))
        assert requests.put(f"http://{listen}/images/noise", data=picture, timeout=60).status_code == 201
        clients = [Client(listen) for _ in range(4)]
        for client in clients:
            client.start()
            stack.callback(client.end)
        for _ in range(2):
            least = [client.outcomes.total() + 100 for client in clients]
            commands.until(
                lambda least=least: all(client.outcomes.total() > n for client, n in zip(clients, least, strict=True)),
                "each has had many answers",
            )
            assert commands.run("-y", config, "-R").returncode == 0
    outcomes = sum((client.outcomes for client in clients), Counter())
    assert [outcome[0] for outcome in outcomes] == [200], outcomes


class Stub:
    """An application that repeats nothing, a worker that ends, and the two ends of one connection."""

    ending = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.client = socket.create_connection(listening.getsockname(), timeout=10)
            self.server, _ = listening.accept()
        self.server.setblocking(False)
        stub = cast("Any", self)
        self.connections = IdleConnections(stub, stub, lambda: 0, 5, b"HTTP/1.1 503 ending\r\n\r\n")
        self.idle = Idle("9.9.9.9", {"HTTP_COOKIE": "of the request before", "SERVER_NAME": "x"})

    def __call__(self, environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        self.asked.append((environ["REQUEST_METHOD"], environ["REQUEST_URI"]))
        assert "HTTP_COOKIE" not in environ
        assert environ["SERVER_NAME"] == "x"
        start("200 OK", [("Content-Length", "6")])
        yield b"abc"
        yield b"def"

    def answer(self) -> bool:
        return self.connections.answer(self.server.fileno(), self.idle)

    def finish(self) -> bytes:
        """Do what the thread of the connection does when it is released; return what the client gets."""
        self.server.settimeout(5)
        self.idle.rest(self.server)
        self.server.close()
        return b"".join(iter(lambda: self.client.recv(1 << 16), b""))


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    with stub.client, stub.server:
        yield stub


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "DELETE"])
def test_a_worker_that_ends_answers_the_last_request_by_the_application(stub: Stub, method: str) -> None:
    stub.client.sendall(get("/images/a", method=method))
    assert not stub.answer()
    assert stub.finish() == b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef"
    assert stub.asked == [(method, "/images/a")]


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(get("/images/a", "Content-Length: 100000", method="PUT") + bytes(100_000), id="with a body"),
        pytest.param(get("/images/a", "X:y"), id="in another form"),
    ],
)
def test_a_worker_that_ends_refuses_what_only_the_server_reads(stub: Stub, request_: bytes) -> None:
    stub.client.sendall(request_)
    stub.client.shutdown(socket.SHUT_WR)
    assert not stub.answer()
    assert stub.finish().startswith(b"HTTP/1.1 503 ")
    assert stub.asked == []


def test_a_worker_that_ends_waits_for_the_rest_of_a_head(stub: Stub) -> None:
    request_ = get("/images/a")
    stub.client.sendall(request_[:20])
    assert stub.answer()
    stub.client.sendall(request_[20:])
    assert not stub.answer()
    assert stub.finish().endswith(b"abcdef")


def test_a_response_that_does_not_fit_at_all_is_sent_later(stub: Stub) -> None:
    filler = 0
    for _ in range(20):  # until it stays full
        for size in (1 << 16, 1):
            with contextlib.suppress(BlockingIOError):
                while True:
                    filler += stub.server.send(bytes(size))
        time.sleep(0.01)
    stub.client.sendall(get("/images/a"))
    commands.until(lambda: len(stub.server.recv(99, socket.MSG_PEEK)) > 0, "the request is there")
    assert not stub.connections.send(stub.server.fileno(), stub.idle, len(get("/images/a")), b"response")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.extend(iter(lambda: stub.client.recv(1 << 16), b"")))
    reader.start()
    stub.server.settimeout(5)
    stub.idle.rest(stub.server)
    stub.server.close()
    reader.join()
    assert b"".join(received) == bytes(filler) + b"response"


# -- heads -------------------------------------------------------------------------------


def test_a_plain_head_is_read() -> None:
    data = get("/images/a%20b?x=%31&y", "X-Forwarded-For: 1.2.3.4", "Accept: caf\xe9")
    plain = read_plain_head(data.replace(b"\xc3\xa9", b"\xe9") + b"GET", "9.9.9.9")
    assert plain is not None
    assert plain.environ == {
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/images/a%20b?x=%31&y",
        "PATH_INFO": "/images/a b",
        "QUERY_STRING": "x=%31&y",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "9.9.9.9",
        "HTTP_HOST": "x",
        "HTTP_X_FORWARDED_FOR": "1.2.3.4",
        "HTTP_ACCEPT": "caf\xe9",
    }
    assert plain.length == length_of_head(plain.environ)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        get("/")[:-1],
        get("/", method="get"),
        get("/", *(f"X-{number}: y" for number in range(50))),
        get("http://x/"),
        get("*"),
        get("/a b"),
        get("/").replace(b"HTTP/1.1", b"HTTP/1.0"),
        get("/").replace(b"HTTP/1.1", b"HTTP/1.1 "),
        b"\r\n" + get("/"),
        get("/", "A : b"),
        get("/", "A_B: b"),
        get("/", "A:b"),
        get("/", "A:  b"),
        get("/", "A:"),
        get("/", " folded: b"),
        get("/", ": b"),
        get("/", "A: b", "a: c"),
        get("/", "A: \0"),
        get("/", "A: b\nC: d"),
        get("/", "A: b\rC: d"),
        get("/", "A: b\tc"),
        get("/", "Content-Length: 0"),
        get("/", "content-type: a/b"),
        get("/", "A"),
        get("/", method="G\xc9T"),
    ],
)
def test_an_unusual_head_is_left_to_the_server(data: bytes) -> None:
    assert read_plain_head(data, "9.9.9.9") is None


@servers
def test_no_thread_and_no_handle_is_left(tmp_path: Path) -> None:
    config = commands.configure(tmp_path, server={"processes": 1})
    listen = commands.listens_on(config)
    with commands.serving(config) as process:
        picture = pictures.jpeg(pictures.photo(640, 480))
        assert requests.put(f"http://{listen}/images/noise", data=picture, timeout=60).status_code == 201
        worker = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]

        def count() -> int:
            return len(os.listdir(f"/proc/{worker}/fd"))  # noqa: PTH208

        def use() -> None:
            with ExitStack() as stack:
                connections = [stack.enter_context(Connection(listen)) for _ in range(50)]
                for _ in range(3):
                    for connection in connections:
                        connection.say(get(SMALL))
                    assert {connection.response()[0] for connection in connections} == {200}

        use()
        before = count()
        for _ in range(3):
            use()
        commands.until(lambda: count() <= before + 2, "the handles of the connections are closed")
