"""The purge hook: what it sends, when, and what becomes of purges that a cache does not take."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from commands import until
from pictures import jpeg, photo
from webserver import embedded, serving

from image_repo.config import PurgeConfiguration
from image_repo.model.names import ImageName
from image_repo.repository.purge_hook import PurgeHook, PurgeRequest

KEY = hashlib.sha256(b"a/\xc3\xa4 b").hexdigest()[:16]


class Front:
    """A cache that takes down what it is sent.

    :param status: that it answers with
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.status = 200
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []


@contextmanager
def _running() -> Iterator[Front]:
    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            front.requests.append((self.command, self.path, dict(self.headers), body))
            self.send_response(front.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PURGE = do_POST = do_BAN = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    front = Front(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def front() -> Iterator[Front]:
    with _running() as front:
        yield front


def test_key_and_name_stand_where_the_templates_say(front: Front) -> None:
    PurgeRequest(
        front.url + "/zone/{key}?at={name}", "POST", ["X-Key: {key}", "Content-Type: application/json"], '["{key}"]'
    ).send("a/ä b")
    ((method, path, headers, body),) = front.requests
    assert (method, path) == ("POST", f"/zone/{KEY}?at=a/%C3%A4%20b")
    assert (headers["X-Key"], headers["Content-Type"], body) == (KEY, "application/json", f'["{KEY}"]'.encode())


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there_is_purged(front: Front, status: int) -> None:
    front.status = status
    PurgeRequest(front.url).send("a")


@pytest.mark.parametrize("status", [301, 401, 405, 429, 500, 503])
def test_a_refusal_is_an_error(front: Front, status: int) -> None:
    front.status = status
    with pytest.raises(OSError, match=str(status)):
        PurgeRequest(front.url).send("a")


def test_an_image_is_purged_at_once_and_again_after_a_while() -> None:
    sent: list[tuple[str, float]] = []
    hook = PurgeHook(lambda name: sent.append((name, time.monotonic())), 0.2)
    hook.noted(ImageName("a"))
    until(lambda: len(sent) == 2, "it is purged twice")
    assert [name for name, _ in sent] == ["a", "a"]
    assert sent[1][1] - sent[0][1] >= 0.2
    hook.close()
    assert len(sent) == 2


def test_writes_in_a_row_are_few_purges() -> None:
    sent, first, go_on = [], threading.Event(), threading.Event()

    def send(name: str) -> None:
        sent.append(name)
        first.set()
        assert go_on.wait(20)

    hook = PurgeHook(send, 3600.0)
    hook.noted(ImageName("a"))
    assert first.wait(20)
    for _ in range(100):
        hook.noted(ImageName("a"))
        hook.noted(ImageName("b"))
    go_on.set()
    until(lambda: len(sent) == 3, "the later writes are purged too")
    hook.close()
    assert sent == ["a", "a", "b", *sent[3:]]
    assert sorted(sent[3:]) == ["a", "b"]


def test_what_a_cache_does_not_take_is_repeated_until_it_does(front: Front) -> None:
    front.status = 503
    outcomes: list[bool] = []
    hook = PurgeHook(PurgeRequest(front.url).send, 3600.0, sent=outcomes.append)
    hook.noted(ImageName("a"))
    until(lambda: len(outcomes) >= 2, "it is repeated")
    front.status = 200
    until(lambda: outcomes[-1], "it is taken")
    hook.close()
    assert outcomes[:2] == [False, False]


def test_the_end_waits_for_what_is_under_way_but_not_for_a_cache_that_is_gone(front: Front) -> None:
    hook = PurgeHook(PurgeRequest(front.url + "/{name}").send, 3600.0)
    for number in range(20):
        hook.noted(ImageName(f"a{number}"))
    hook.close()
    assert {path for _, path, _, _ in front.requests} == {f"/a{number}" for number in range(20)}
    gone = PurgeHook(PurgeRequest("http://127.0.0.1:9").send, 3600.0)
    for number in range(1000):
        gone.noted(ImageName(f"a{number}"))
    began = time.monotonic()
    gone.close()
    assert time.monotonic() - began < 5


def test_only_so_many_wait(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[str] = []
    first, go_on = threading.Event(), threading.Event()

    def send(name: str) -> None:
        sent.append(name)
        first.set()
        assert go_on.wait(20)

    hook = PurgeHook(send, 3600.0, most=3)
    hook.noted(ImageName("first"))
    assert first.wait(20)
    for number in range(5):
        hook.noted(ImageName(str(number)))
    go_on.set()
    hook.close()
    assert sent[:4] == ["first", "2", "3", "4"]
    assert "that of 0 is dropped" in caplog.text


def test_a_credential_is_in_no_log(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    front.status = 401
    outcomes: list[bool] = []
    hook = PurgeHook(PurgeRequest(front.url, headers=["Fastly-Key: secret"]).send, 3600.0, sent=outcomes.append)
    hook.noted(ImageName("a"))
    until(lambda: bool(outcomes), "it is refused")
    hook.close()
    assert front.requests[0][2]["Fastly-Key"] == "secret"
    assert "401" in caplog.text
    assert "secret" not in caplog.text


def test_each_change_of_an_image_is_purged_and_counted(front: Front, tmp_path: Path) -> None:
    purge = PurgeConfiguration(url=front.url + "/{name}")
    with serving(replace(embedded(tmp_path), purge=purge), tmp_path) as served:

        def purges(change: str) -> None:
            until(lambda: f"/{change}" in [path for _, path, _, _ in front.requests], change)
            front.requests.clear()

        assert served.client.put("/images/a/b", jpeg()).status == 201
        purges("a/b")
        assert served.client("PATCH", "/images/a/b", b'{"x": 1}', Content_Type="application/json").status == 200
        purges("a/b")
        assert served.client.delete("/images/a/b?derived=True").status == 200
        purges("a/b")
        assert served.client("POST", "/images/a/b?rename=c").status == 201
        purges("c")
        assert served.client.delete("/images/c").status == 200
        purges("c")
        assert 'image_repo_purges_total{outcome="accepted"}' in served.client.get("/metrics").body.decode()


def test_a_change_by_another_tool_is_purged_when_it_is_seen(front: Front, tmp_path: Path) -> None:
    purge = PurgeConfiguration(url=front.url + "/{name}")
    config = replace(embedded(tmp_path), purge=purge, freshness=0.05)
    with serving(config, tmp_path) as served:
        (tmp_path / "data" / "a.jpg").write_bytes(jpeg())
        assert served.client.get("/images/a").status == 200
        assert front.requests == []
        (tmp_path / "data" / "a.jpg").write_bytes(jpeg(photo(20, 30)))
        until(lambda: served.client.get("/images/a").image().size == (20, 30), "it is seen")
        until(lambda: bool(front.requests), "it is purged")
