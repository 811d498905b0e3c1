"""What RFC 9110 and 9112 ask of a server and uWSGI leaves undone: at the running server, through the shipped nginx."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import commands
import pictures
import pytest
import requests
from servers import nginx
from servers.ports import free_port

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[2]
PICTURE = pictures.jpeg(pictures.photo(300, 200))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guard")


@pytest.fixture(scope="module")
def listen(folder: Path) -> Iterator[str]:
    limits = {"socket_timeout": 2, "max_upload": 4 << 20, "max_headers": 16 << 10}
    config = commands.configure(folder, server=limits)
    with commands.serving(config):
        yield commands.listens_on(config)


@pytest.fixture(scope="module")
def proxied(folder: Path, listen: str) -> Iterator[str]:
    """The shipped nginx in front."""
    port = free_port()
    conf = nginx.place(folder / "nginx", ROOT / "docker" / "nginx.conf", port, int(listen.rpartition(":")[2]))
    with nginx.running(conf, port):
        yield f"127.0.0.1:{port}"


def get(*fields: str, line: str = "GET /livez HTTP/1.1") -> bytes:
    return "\r\n".join((line, *fields, "", "")).encode("latin-1")


def ask(listen: str, request: bytes) -> tuple[int, str, bytes]:
    """The status, the head and the body of the answer, which ends the connection."""
    answer = commands.say(listen, request)
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(answer.split(b" ")[1]), head.decode(), body


REFUSED = {
    "two hundred header fields (RFC 6585, 5)": (get("Host: x", *(f"X-{n}: y" for n in range(200))), 431),
    "a target longer than the head may be (RFC 9112, 3)": (get("Host: x", line=f"GET /{'a' * 20_000} HTTP/1.1"), 414),
    "a query longer than the head may be (RFC 9112, 3)": (get("Host: x", line=f"GET /?{'a' * 40_000} HTTP/1.1"), 414),
    "no Host (RFC 9112, 3.2)": (get(), 400),
    "two Hosts (RFC 9112, 3.2)": (get("Host: x", "Host: y"), 400),
    "a Host with a space (RFC 9112, 3.2)": (get("Host: x y"), 400),
    "a space before a colon (RFC 9112, 5.1)": (get("Host: x", "Accept : */*"), 400),
    "a field on two lines (RFC 9112, 5.2)": (get("Host: x", "Accept: a", " b"), 400),
    "a bare LF in a field (RFC 9112, 2.2)": (get("Host: x\nAccept: */*"), 400),
    "a NUL in a field (RFC 9110, 5.5)": (get("Host: x", "Accept: a\0b"), 400),
}


@pytest.mark.parametrize(("request_bytes", "status"), REFUSED.values(), ids=REFUSED)
def test_a_malformed_head_is_refused_at_once_and_ends_the_connection(
    listen: str, request_bytes: bytes, status: int
) -> None:
    began = time.monotonic()
    given, head, body = ask(listen, request_bytes)
    assert time.monotonic() - began < 1.9  # where two seconds are the patience
    assert given == status
    assert "\r\nConnection: close" in head
    assert "\r\nContent-Type: application/problem+json" in head
    assert json.loads(body)["status"] == status


UNREADABLE = {
    "a field without a colon": get("Host: x", "Accept"),
    "a field without a name": get("Host: x", ": y"),
    "a lone CR": get("Host: x", "Accept: a\rb"),
    "lines that end with LF": b"GET /livez HTTP/1.1\nHost: x\n\n",
    "a path of 40 kB": get("Host: x", line=f"GET /{'a' * 40_000} HTTP/1.1"),
    "half a head": b"GET /livez HTTP/1.1\r\nHo",
}


@pytest.mark.parametrize("request_bytes", UNREADABLE.values(), ids=UNREADABLE)
def test_a_head_that_uwsgi_cannot_read_is_answered_with_408_when_its_time_is_over(
    listen: str, request_bytes: bytes
) -> None:
    status, head, body = ask(listen, request_bytes)
    assert status == 408
    assert "\r\nConnection: close" in head
    assert "a colon in each header field" in json.loads(body)["detail"]


def test_a_kept_connection_that_idles_ends_without_an_answer_to_nothing(listen: str) -> None:
    assert commands.say(listen, get("Host: x")).count(b"HTTP/1.1 ") == 1


def test_half_a_head_on_a_kept_connection_is_answered_with_408(listen: str) -> None:
    with commands.connect(listen) as connection:
        connection.sendall(get("Host: x"))
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.05)  # more than the kernel's clock tick
        connection.sendall(b"GET /livez HT")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408 ")


THROUGH_NGINX = {
    **{name: (request, {431: (431,), 414: (414,)}.get(status, (400,))) for name, (request, status) in REFUSED.items()},
    # a recipient may take LF for the end of a line (RFC 9112, 2.2), and a field without a colon is empty to nginx
    "a bare LF in a field (RFC 9112, 2.2)": (get("Host: x\nAccept: */*", "Connection: close"), (200,)),
    "lines that end with LF": (b"GET /livez HTTP/1.1\nHost: x\nConnection: close\n\n", (200,)),
    "a field without a colon": (get("Host: x", "Accept", "Connection: close"), (200,)),
    "a field without a name": (UNREADABLE["a field without a name"], (400,)),
    "a lone CR": (UNREADABLE["a lone CR"], (400,)),
    "a path of 40 kB": (UNREADABLE["a path of 40 kB"], (414,)),
    "a path of 70 kB": (get("Host: x", line=f"GET /{'a' * 70_000} HTTP/1.1"), (414,)),
    "HTTP/1.0 without a Host": (get(line="GET /livez HTTP/1.0"), (200,)),
}


@pytest.mark.parametrize(("request_bytes", "statuses"), THROUGH_NGINX.values(), ids=THROUGH_NGINX)
def test_the_shipped_nginx_answers_what_uwsgi_cannot_read(
    proxied: str, request_bytes: bytes, statuses: tuple[int, ...]
) -> None:
    began = time.monotonic()
    status, _, body = ask(proxied, request_bytes.replace(b"Host: x\r\nX-0", b"Host: x\r\nConnection: close\r\nX-0"))
    assert status in statuses
    assert status == 200 or json.loads(body)["status"] == status
    assert time.monotonic() - began < 1.9


def test_a_hit_in_memory_needs_one_host_too(listen: str) -> None:
    assert requests.put(f"http://{listen}/images/host", data=PICTURE, timeout=30).status_code == 201
    url = f"http://{listen}/images/host?xsize=20"
    commands.until(lambda: "memory" in requests.get(url, timeout=30).headers["Cache-Status"], "it is in memory")
    line = "GET /images/host?xsize=20 HTTP/1.1"
    for _ in range(5):
        assert ask(listen, get(line=line))[0] == ask(listen, get("Host: x", "Host: y", line=line))[0] == 400


def test_a_target_in_absolute_form_is_understood(listen: str) -> None:
    """RFC 9112, section 3.2.2."""
    assert ask(listen, get("Host: x", "Connection: close", line="GET http://x/livez HTTP/1.1"))[0] == 200
    assert ask(listen, get("Host: x", "Connection: close", line="GET http://x/images/none?w=1 HTTP/1.1"))[0] == 404


def test_an_empty_line_before_the_request_is_passed_over(listen: str) -> None:
    """RFC 9112, section 2.2."""
    assert ask(listen, b"\r\n" + get("Host: x", "Connection: close"))[0] == 200


def put(name: str, *fields: str) -> bytes:
    return get("Host: x", "Expect: 100-continue", *fields, line=f"PUT /images/{name} HTTP/1.1")


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    return head


@pytest.mark.parametrize("form", ["a length", "chunks"])
def test_a_client_that_waits_for_100_is_asked_for_its_body_at_once(listen: str, form: str) -> None:
    """RFC 9110, section 10.1.1."""
    length = f"Content-Length: {len(PICTURE)}"
    with commands.connect(listen) as connection:
        connection.sendall(put("expected", length if form == "a length" else "Transfer-Encoding: chunked"))
        assert read_head(connection) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(PICTURE if form == "a length" else b"%x\r\n%s\r\n0\r\n\r\n" % (len(PICTURE), PICTURE))
        assert read_head(connection).split(b" ")[1] in (b"200", b"201")


@pytest.mark.parametrize(
    ("fields", "status"),
    [(("Content-Length: 99999999",), 413), (("Content-Length: x",), 400)],
    ids=["a body that is too large", "a length that is none"],
)
def test_a_client_that_waits_for_100_is_refused_without_it(listen: str, fields: tuple[str, ...], status: int) -> None:
    began = time.monotonic()
    given, head, _ = ask(listen, put("refused", *fields))
    assert given == status
    assert "\r\nConnection: close" in head  # the client may or may not send the body now
    assert time.monotonic() - began < 3


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_does_not_wait_before_it_sends_a_form(listen: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(PICTURE + bytes(2 << 20))
    command = ["curl", "-sSv", "-H", "Expect: 100-continue", "-F", f"file=@{tmp_path / 'a.jpg'}"]
    ended = subprocess.run(
        [*command, f"http://{listen}/images/curled"], check=False, capture_output=True, text=True, timeout=30
    )
    assert "< HTTP/1.1 100 Continue" in ended.stderr
    assert "< HTTP/1.1 201" in ended.stderr
