"""Uploads in parts as the client of tus's authors makes them: cut connections, and processes that are killed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import commands
import pictures
import pytest
import requests
from PIL import Image
from servers.faults import FaultProxy
from servers.launch import HERE, node

from image_repo.server import address

pytestmark = pytest.mark.servers
SIDE = 1500
PICTURE = pictures.jpeg(Image.frombytes("RGB", (SIDE, SIDE), random.Random(1).randbytes(3 * SIDE**2)), quality=90)
PART = "application/offset+octet-stream"


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    listen: str

    def kill_workers(self) -> None:
        pid = self.process.pid
        for worker in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(worker), signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = commands.configure(tmp_path_factory.mktemp("server"))
    with commands.serving(config) as process:
        yield Server(process, commands.listens_on(config))


@pytest.fixture(scope="module")
def listen(server: Server) -> str:
    return server.listen


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "noise.jpg"
    path.write_bytes(PICTURE)
    return path


@contextmanager
def client(folder: Path, port: int, file: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The client, at work in a process of its own."""
    (folder / "node").mkdir()
    endpoint, metadata = f"http://127.0.0.1:{port}/uploads", {"name": file.parent.name, "filename": file.name}
    command = node("tus-js-client", HERE / "tus.mjs", folder / "node")
    command += [endpoint, str(file), json.dumps(metadata), json.dumps(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[list[int], dict[str, Any]]:
    """Return the bytes that were accepted after each part, and how it ended."""
    lines = [json.loads(line) for line in process.communicate(timeout=60)[0].splitlines()]
    return [line["accepted"] for line in lines if "accepted" in line], lines[-1]


def check_stored(listen: str, name: str) -> None:
    record = requests.get(f"http://{listen}/images/{name}?meta=True", timeout=30).json()
    assert record["sha256"] == hashlib.sha256(PICTURE).hexdigest()
    assert record["filename"] == "noise.jpg"


@pytest.mark.parametrize(
    "options",
    [{}, {"chunkSize": 300_000}, {"uploadDataDuringCreation": True, "chunkSize": 500_000}],
    ids=["in one request", "in parts", "with the creation"],
)
def test_the_client_ends_what_it_began(listen: str, tmp_path: Path, file: Path, options: dict[str, Any]) -> None:
    with client(tmp_path, address.host_and_port(listen)[1], file, **options) as process:
        accepted, end = ended(process)
        assert "/uploads/" in end["url"], end
        assert accepted[-1] == len(PICTURE)
        check_stored(listen, tmp_path.name)


def test_the_client_goes_on_where_connections_broke(listen: str, tmp_path: Path, file: Path) -> None:
    with FaultProxy(address.host_and_port(listen)[1]) as proxy:
        proxy.fail("cut-upload", after=len(PICTURE) // 3, match=b"PATCH", times=2)
        with client(tmp_path, proxy.port, file) as process:
            _, end = ended(process)
        assert "/uploads/" in end["url"], end
        assert (proxy.count("POST /uploads"), proxy.count("PATCH")) == (1, 3)
        check_stored(listen, tmp_path.name)


def test_the_client_learns_the_end_when_the_last_answer_is_lost(listen: str, tmp_path: Path, file: Path) -> None:
    with FaultProxy(address.host_and_port(listen)[1]) as proxy:
        proxy.fail("cut", after=0, match=b"PATCH", times=1)
        with client(tmp_path, proxy.port, file) as process:
            _, end = ended(process)
        assert "/uploads/" in end["url"], end
        assert (proxy.count("POST /uploads"), proxy.count("PATCH")) == (1, 1)
        check_stored(listen, tmp_path.name)


def test_the_client_is_told_what_is_refused(listen: str, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_bytes(b"no picture" * 1000)
    with client(tmp_path, address.host_and_port(listen)[1], text) as process:
        _, end = ended(process)
        assert end["status"] == 415
        assert "not-a-picture" in end["message"]


def test_killed_workers_lose_no_byte_that_has_arrived(server: Server, tmp_path: Path) -> None:
    listen, half = server.listen, len(PICTURE) // 2
    tus = {"Tus-Resumable": "1.0.0"}
    metadata = f"name {base64.b64encode(tmp_path.name.encode()).decode()},filename bm9pc2UuanBn"
    named = {**tus, "Upload-Length": str(len(PICTURE)), "Upload-Metadata": metadata}
    path = requests.post(f"http://{listen}/uploads", headers=named, timeout=30).headers["Location"]
    url = f"http://{listen}{path}"

    def offset() -> int:
        return int(requests.head(url, headers=tus, timeout=30).headers["Upload-Offset"])

    head = f"PATCH {path} HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: {PART}\r\n"
    with commands.connect(listen) as connection:
        connection.sendall(f"{head}Content-Length: {len(PICTURE)}\r\n\r\n".encode() + PICTURE[:half])
        commands.until(lambda: offset() > half - (1 << 17), "half of it has arrived")
        arrived = offset()
        server.kill_workers()
    commands.until(lambda: address.answers(listen), "new workers answer")
    assert offset() == arrived
    named = {**tus, "Upload-Offset": str(arrived), "Content-Type": PART}
    done = requests.patch(url, PICTURE[arrived:], headers=named, timeout=30)
    assert (done.status_code, done.headers["Location"]) == (204, f"/images/{tmp_path.name}")
    check_stored(listen, tmp_path.name)


def test_the_client_goes_on_after_the_workers_were_killed(server: Server, tmp_path: Path, file: Path) -> None:
    port = address.host_and_port(server.listen)[1]
    with client(tmp_path, port, file, chunkSize=200_000) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["accepted"] == 200_000
        server.kill_workers()
        _, end = ended(process)
    assert "/uploads/" in end["url"], end
    check_stored(server.listen, tmp_path.name)
