"""A line for each request, with an id, and nothing secret in it."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import commands
import pictures
import pytest
import requests

from image_repo.web.access_log import AccessLog, LogEntry, printable_uri, valid_request_id


def line(log: AccessLog, **members: Any) -> LogEntry:
    base = {"at": 1795239661.25, "number": 5, "given": None, "client": "127.0.0.1"}
    options = {
        "method": "GET",
        "uri": "/images/a?w=5",
        "status": "200",
        "sent": 100,
        "seconds": 0.0123,
        "layer": "memory",
    }
    what = log.describe(**{name: members.get(name, value) for name, value in options.items()})
    members = {**base, **members}
    return members["at"], members["number"], members["given"], what, members["client"]


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What goes to where the log goes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def test_a_plain_line(written: io.StringIO) -> None:
    log = AccessLog("plain")
    log.add(line(log))
    log.flush()
    assert written.getvalue() == (
        f"2026-11-21T05:41:01.250Z 200 GET /images/a?w=5 100 12.3ms memory 127.0.0.1 {log.id(5)}\n"
    )


def test_a_line_that_nobody_was_woken_for_is_written_with_later_ones(written: io.StringIO) -> None:
    log = AccessLog("plain")
    log._buffer.append(line(log))  # as by a thread that was interrupted before it looked
    for _ in range(100):
        log.add(line(log))
    commands.until(lambda: written.getvalue().count("\n") == 101, "all are written")


def test_a_log_file_that_is_opened_late_gets_its_first_line(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "log", delay=True)
    logging.getLogger().addHandler(handler)
    try:
        log = AccessLog("plain")
        log.add(line(log))
        log.flush()
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert (tmp_path / "log").read_text().count("\n") == 1


def test_a_line_for_machines(written: io.StringIO) -> None:
    log = AccessLog("json")
    log.add(line(log, given="my-id", uri='/images/"ö\\', layer=""))
    log.flush()
    assert json.loads(written.getvalue()) == {
        "time": "2026-11-21T05:41:01.250Z",
        "status": 200,
        "method": "GET",
        "uri": '/images/"ö\\',
        "bytes": 100,
        "ms": 12.3,
        "layer": "",
        "client": "127.0.0.1",
        "id": "my-id",
    }


def test_many_lines_keep_their_order_and_each_is_written_once(written: io.StringIO) -> None:
    log = AccessLog("json")
    for number in range(1000):
        log.add(line(log, number=number))
        if number % 100 == 0:
            log.flush()
    log.flush()
    ids = [json.loads(text)["id"] for text in written.getvalue().splitlines()]
    assert ids == [log.id(number) for number in range(1000)]


@pytest.mark.parametrize(
    ("uri", "printable"),
    [
        ("/temp/a?temp_url_sig=0123abc&temp_url_expires=5", "/temp/a?temp_url_sig=…&temp_url_expires=5"),
        ("/temp/a?temp%5Furl_sig=0123abc&x=5", "/temp/a?temp%5Furl_sig=…&x=5"),
        ("/temp/a?%74EMP_url%255fsig%3d0123abc", "/temp/a?%74EMP_url%255fsig%3d…"),
        (f"/thumbor/{'A-_0' * 7}/300x0/thumbor/{'b' * 28}/c", f"/thumbor/…/300x0/thumbor/{'b' * 28}/c"),
        ("/thumbor/unsafe/300x0/a?w=1", "/thumbor/unsafe/300x0/a?w=1"),
        (f"/imgproxy/{'A-_0' * 7}/w:3/plain/a", "/imgproxy/…/w:3/plain/a"),
        (f"/images/imgproxy/{'a' * 28}/b", f"/images/imgproxy/{'a' * 28}/b"),
        (
            "/oembed?url=%2Fimages%2Fa%3Fw%3D1%26signature%3D0123abc",
            "/oembed?url=%2Fimages%2Fa%3Fw%3D1%26signature%3D…",
        ),
        ("/login/callback?code=0123abc&state=0123abc", "/login/callback?…"),
        ("/images/a\n2026 200 GET /forged", r"/images/a\x0a2026 200 GET /forged"),
        ("/images/\x1b[2J", r"/images/\x1b[2J"),
        ("/images/" + "x" * 5000, "/images/" + "x" * 2040),
    ],
    ids=[
        *("a signature", "a percent-encoded one", "one encoded twice", "thumbor's", "none of thumbor's", "imgproxy's"),
        *("an image's name", "of an address", "a login", "a line feed", "an escape", "too long"),
    ],
)
def test_what_is_told_of_a_request_line(uri: str, printable: str) -> None:
    assert printable_uri(uri) == printable


@pytest.mark.parametrize(
    ("given", "is_accepted"),
    [
        ("7b1d-4e", True),
        ("Root=1-67891233-abcdef012345678912345678", True),
        ("", False),
        ("with space", False),
        ("line\nfeed", False),
        ('"quoted"', False),
        ("x" * 101, False),
        ("-begins with a dash", False),
        ("ö", False),
    ],
)
def test_an_id_of_the_client_s_is_taken_where_it_is_sane(given: str, is_accepted: bool) -> None:
    assert valid_request_id(given) == (given if is_accepted else None)


@pytest.mark.servers
@pytest.mark.parametrize("into", ["standard error", "a file"])
def test_after_a_restart_the_server_still_tells_of_each_request(tmp_path: Path, into: str) -> None:
    config, log = commands.configure(tmp_path), tmp_path / ("log" if into == "standard error" else "told")
    listen = commands.listens_on(config)
    more = [] if into == "standard error" else ["-l", str(log)]
    command = [*commands.COMMAND, "-y", str(config), "--pid-file", str(tmp_path / "pid"), *more]
    with commands.started(command, listen, tmp_path / "log", cwd=tmp_path):
        for number in range(3):
            for attempt in range(8):  # either process
                headers = {"X-Request-ID": f"restart-{number}-{attempt}", "Connection": "close"}
                assert requests.get(f"http://{listen}/images/none", headers=headers, timeout=30).status_code == 404
            commands.until(lambda number=number: log.read_text().count(f"restart-{number}-") == 8, "all are told of")
            again = commands.run("-y", config, "--pid-file", tmp_path / "pid", "-R")
            assert (again.returncode, again.stderr) == (0, "")
    assert "Logging error" not in (tmp_path / "log").read_text()


@pytest.mark.servers
@pytest.mark.parametrize("form", ["plain", "json", "none"])
def test_the_server_tells_of_each_request(tmp_path: Path, form: str) -> None:
    config = commands.configure(tmp_path, server={"access_log": form, "processes": 1})
    base = f"http://{commands.listens_on(config)}"
    with commands.serving(config):
        picture = pictures.jpeg(pictures.photo(300, 200))
        assert requests.put(f"{base}/images/a", data=picture, timeout=30).status_code == 201
        for number in range(3):
            answer = requests.get(f"{base}/images/a?w=40", headers={"X-Request-ID": f"mine-{number}"}, timeout=30)
            assert answer.headers["X-Request-ID"] == f"mine-{number}"
        assert "X-Request-ID" not in requests.get(f"{base}/images/a?w=40", timeout=30).headers
        missing = requests.get(f"{base}/images/none", headers={"X-Request-ID": "in sane"}, timeout=30)
        made = missing.headers.get("X-Request-ID", "")
        assert bool(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", made)) is (form != "none")
        signed = f"{base}/temp/x?temp_url_sig=0123456789abcdef&temp_url_expires=1"
        assert requests.get(signed, timeout=30).status_code in (401, 404, 410)
    log_text = (tmp_path / "log").read_text()  # also what the last moment before the end had to tell
    picture_lines = [text for text in log_text.splitlines() if "/images/a?w=40" in text or "/images/none" in text]
    assert "0123456789abcdef" not in log_text
    if form == "none":
        assert picture_lines == []
    elif form == "json":
        lines = {one["id"]: one for one in map(json.loads, picture_lines)}
        first, *others = (lines.pop(f"mine-{number}") for number in range(3))
        assert (lines[made]["status"], lines.pop(made)["layer"]) == (404, "")
        others += lines.values()  # the one whose id was made
        assert (first["status"], first["layer"]) == (200, "rendered")
        assert [(one["status"], one["layer"], one["bytes"]) for one in others] == [(200, "memory", first["bytes"])] * 3
        assert first["bytes"] > 0
        assert all(first["ms"] > one["ms"] for one in others)
    else:
        assert sorted(text.split(" ")[1:4] for text in picture_lines) == [
            *[["200", "GET", "/images/a?w=40"]] * 4, ["404", "GET", "/images/none"]
        ]  # fmt: skip
        assert any(text.endswith(made) for text in picture_lines)


@pytest.mark.servers
def test_each_request_of_a_connection_tells_of_its_client(tmp_path: Path) -> None:
    config = commands.configure(tmp_path, server={"access_log": "json"})
    base = f"http://{commands.listens_on(config)}"
    with commands.serving(config):
        assert requests.put(f"{base}/images/a", data=pictures.jpeg(pictures.photo(300, 200)), timeout=30).ok
        with requests.Session() as session:
            for path in ("a?w=40", "a?w=40", "a?w=41", "none"):
                session.get(f"{base}/images/{path}", timeout=30)
    log_text = [json.loads(text) for text in (tmp_path / "log").read_text().splitlines() if text.startswith("{")]
    clients = [one["client"] for one in log_text if one.get("method") == "GET" and "/images/" in one["uri"]]
    assert clients == ["127.0.0.1"] * 4


def test_a_request_does_not_wait_for_whoever_reads_the_log() -> None:
    # more than a pipe takes, to a reader who reads nothing
    script = """
import logging, sys
from image_repo.web.access_log import AccessLog
logging.getLogger().addHandler(logging.StreamHandler())
log = AccessLog("plain")
text = log.describe("GET", "/images/a?" + "x" * 1000, "200", 1, 0.0, "memory")
for number in range(1_000):
    log.add((0.0, number, None, text, "127.0.0.1"))
print("answered", flush=True)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "answered\n"
        finally:
            process.kill()
