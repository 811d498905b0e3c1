"""The real server under attack: raw requests, killed workers, links and keys, floods; what is in its log afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import quote, unquote

import commands
import pictures
import pytest
import requests
import threats
from threats import is_clean_problem, is_guarded
from webserver import Answer

from image_repo.config.settings import ServerConfiguration

pytestmark = pytest.mark.servers

PICTURE = pictures.jpeg(pictures.photo(96, 64))
ALL_OF_MEMORY = 1 << 30


@dataclass(frozen=True)
class Running:
    """A server of two workers that logs everything it can."""

    listen: str
    folder: Path
    pid: int

    @property
    def log(self) -> str:
        return (self.folder / "talk.log").read_text() + (self.folder / "log").read_text(errors="backslashreplace")

    def raw(self, *pieces: bytes, method: str = "GET", timeout: float = 10) -> Answer:
        """Sends bytes as they are; the first answer."""
        with commands.connect(self.listen, timeout) as connection:
            for piece in pieces:
                connection.sendall(piece)
            with contextlib.closing(HTTPResponse(connection, method=method)) as answer:
                answer.begin()
                return Answer(answer.status, answer.headers, answer.read())

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request whose path goes out as it stands."""
        members = {
            "Host": "x",
            "Connection": "close",
            **{name.replace("_", "-"): text for name, text in headers.items()},
        }
        if body:
            members["Content-Length"] = str(len(body))
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {text}\r\n" for name, text in members.items())
        return self.raw(head.encode("latin-1") + b"\r\n" + body, method=method)

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def put(self, name: str, body: bytes = PICTURE) -> Answer:
        return self.ask("PUT", f"/images/{name}", body)

    def files(self, part: str = "originals") -> set[str]:
        """All but the note of a serving node, which comes when it comes."""
        folder = self.folder / part
        paths = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        return {name for name in paths if not name.startswith(".image_repo/nodes/")}

    def workers(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def is_whole(self) -> bool:
        """Whether all workers are there."""
        return len(self.workers()) == ServerConfiguration.processes

    def memory(self) -> int:
        """Bytes that the whole server holds, what is shared counted once."""
        held = 0
        for pid in (self.pid, *self.workers()):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            held += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
        return held


def running(folder: Path, **settings: object) -> Iterator[Running]:
    config = commands.configure(folder, **settings)
    listen = commands.listens_on(config)
    command = [*commands.COMMAND, "-y", str(config), "-V", "-l", str(folder / "talk.log")]
    with commands.started(command, listen, folder / "log", cwd=folder) as process:
        yield Running(listen, folder, process.pid)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    for it in running(tmp_path_factory.mktemp("threats"), server={"max_upload": "4 MiB", "socket_timeout": 5}):
        assert it.put("a").status == 201
        workers = it.workers()
        yield it
        assert it.workers() == workers, "a worker died"
        assert it.memory() < ALL_OF_MEMORY
        assert not re.search(r"temp_url_sig=[0-9a-f]", it.log)
        assert "Traceback" not in it.log
        assert not [line for line in it.log.splitlines() if line.startswith(("Set-Cookie", "forged"))]


# -- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", threats.NO_NAMES.values(), ids=list(threats.NO_NAMES))
def test_what_is_no_name_is_refused(server: Running, path: str) -> None:
    before = server.files()
    for method in ("GET", "PUT", "DELETE"):
        answer = server.ask(method, f"/images/{path}", PICTURE if method == "PUT" else b"")
        # Steps over the base are walked by the server itself: then it is no path of an image any more.
        assert answer.status in ((400, 404) if path.startswith("../") else (400,))
        is_clean_problem(answer, str(server.folder))
    assert server.files() == before


@pytest.mark.parametrize("name", threats.ODD_NAMES.values(), ids=list(threats.ODD_NAMES))
def test_a_name_that_only_looks_like_an_attack_comes_back_as_it_is(server: Running, name: str) -> None:
    path = quote("odd/" + name, safe="/") if len(name) < 690 else name
    text = threats.composed(unquote(path))
    assert server.put(path).json()["name"] == text
    first, second = (server.get(f"/images/{path}?w=20") for _ in range(2))
    assert (first.status, first.image().size) == (200, (20, 13))
    assert (second.status, second.body, second.headers["ETag"]) == (200, first.body, first.headers["ETag"])
    is_guarded(first)
    is_guarded(second)
    assert server.get(f"/images/{path}?meta=1").json()["name"] == text
    assert server.ask("DELETE", f"/images/{path}").json()["name"] == text
    assert server.get(f"/images/{path}?w=20").status == 404


QUERIED = (
    *("/", "/images", "/images/a", "/search", "/keys", "/stats/width", "/grid", "/export", "/trash", "/artifacts"),
    *("/snapshots", "/oembed", "/iiif/3/a/info.json", "/iiif/3/a/full/9,/0/default.jpg", "/iiif/3/query/manifest.json"),
    *(
        "/iiif/discovery/1/changes.json",
        "/temp/a",
        "/me",
        "/logout",
        "/access/keys",
        "/docs",
        "/openapi.json",
    ),
    *("/livez", "/readyz", "/metrics"),
)
TARGETS = {
    "a whole URL": "http://evil.example/images/a",
    "another scheme": "file:///etc/passwd",
    "no slash ahead": "images/a",
    "a star": "*",
    "steps from the root": "/../../../../etc/passwd",
    "steps over the base": "/images/../livez",
    "an encoded base": "/%69mages/a",
    "two slashes ahead": "//images/a",
    "a fragment": "/images/a#x",
    "a space": "/images/a b",
    "a tab": "/images/a\tb",
    "raw bytes": "/images/\xff\xfe",
    "NUL": "/images/a\0b",
    "no UTF-8": "/images/%ff%fe",
    "half an escape": "/images/a%",
    "no escape": "/images/%zz",
    "a question only": "?",
    "20,000 slashes": "/" * 20_000,
    "20,000 parameters": "/images/a?" + "&" * 20_000,
    **{f"raw bytes in the query of {path}": f"{path}?url=\xff" for path in QUERIED},
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_no_target_does_harm(server: Running, target: str) -> None:
    for method in ("GET", "HEAD"):
        try:
            answer = server.ask(method, target)
        except (OSError, HTTPException):
            continue  # the connection was closed
        assert answer.status < 500
        assert b"root:" not in answer.body
        assert b"Traceback" not in answer.body
    assert server.get("/images/a").status == 200


# -- the same request by another one's headers, also where the answer is known already ---------


CONFUSING = [
    {"Host": "evil.example"},
    {"X_Forwarded_Host": "evil.example", "X_Forwarded_Proto": "https", "Forwarded": "host=evil.example"},
    {"X_Original_URL": "/images/odd", "X_Rewrite_URL": "/images/odd", "X_HTTP_Method_Override": "DELETE"},
    {"X_Forwarded_Prefix": "/evil", "X_Script_Name": "/evil"},
    {"Accept": "image/avif", "Cookie": "a=b", "Authorization": "Bearer x"},
]


@pytest.mark.parametrize("headers", CONFUSING, ids=", ".join)
def test_what_else_a_request_says_changes_nothing(server: Running, headers: dict[str, str]) -> None:
    plain = [server.get("/images/a?w=30") for _ in range(3)]
    for other in (server.get("/images/a?w=30", **headers) for _ in range(3)):
        assert (other.status, other.body, other.headers["ETag"]) == (200, plain[0].body, plain[0].headers["ETag"])
        assert not [text for text in other.headers.values() if "evil" in text]
        is_guarded(other)
    negotiated = [server.get("/images/a?w=30&kind=auto", Accept=accept) for accept in ("image/webp", "*/*") * 2]
    assert [answer.headers["Content-Type"] for answer in negotiated] == ["image/webp", "image/jpeg"] * 2
    assert {answer.headers["Vary"] for answer in negotiated} == {"Accept"}


@pytest.mark.parametrize("length", [3, 3000])
def test_conditions_and_ranges_hold_where_the_answer_is_known(server: Running, length: int) -> None:
    known = [server.get("/images/a?w=40") for _ in range(3)][-1]
    tags = ", ".join([*(f'"{number:x}"' for number in range(length // 3)), known.headers["ETag"]])
    for _ in range(3):
        assert server.get("/images/a?w=40", If_None_Match=tags).status == 304
        part = server.get("/images/a?w=40", Range="bytes=1-3")
        assert (part.status, part.body) == (206, known.body[1:4])
        many = server.get("/images/a?w=40", Range="bytes=" + ",".join(["0-"] * length))
        assert len(many.body) <= len(known.body) + 500
        assert server.ask("HEAD", "/images/a?w=40").headers["Content-Length"] == str(len(known.body))


# -- heavy requests ------------------------------------------------------------------------------


def parts(count: int) -> bytes:
    return (
        b"".join(b'--b\r\nContent-Disposition: form-data; name="p%d"\r\n\r\n\r\n' % n for n in range(count))
        + b"--b--\r\n"
    )


HEAVY = {
    "20,000 parts": ("multipart/form-data; boundary=b", parts(20_000)),
    "a part with a head of a megabyte": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="' + b"x" * (1 << 20) + b'"\r\n\r\n\r\n--b--\r\n',
    ),
    "a field of three megabytes": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + b"x" * (3 << 20) + b"\r\n--b--\r\n",
    ),
    "only line ends": ("multipart/form-data; boundary=b", b"\r\n" * (1 << 20)),
    "only dashes": ("multipart/form-data; boundary=" + "-" * 70, b"-" * (3 << 20)),
    "a form of a million fields": ("application/x-www-form-urlencoded", b"a&" * (1 << 20)),
    "JSON a megabyte deep": ("application/json", b"[" * (1 << 20)),
    "a hundred files": (
        "multipart/form-data; boundary=b",
        b"".join(
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + b"\0" * 30_000 + b"\r\n"
            for _ in range(100)
        ) + b"--b--\r\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "body"), HEAVY.values(), ids=list(HEAVY))
def test_a_heavy_body_is_refused_soon_and_leaves_nothing(server: Running, kind: str, body: bytes) -> None:
    held, before, began = server.memory(), server.files("files"), time.monotonic()
    answer = server.ask("POST", "/images/heavy", body, Content_Type=kind)
    assert 400 <= answer.status < 500
    is_clean_problem(answer, str(server.folder))
    assert time.monotonic() - began < 5
    assert server.memory() - held < 64 << 20
    assert server.files("files") == before
    assert server.get("/images/heavy").status == 404


HELD = """
import ctypes
from pathlib import Path
from image_repo.server import memory

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

memory.limit_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
"""

GIVEN_BACK = """
libc.free(libc.malloc(ctypes.c_size_t(30 << 20)))  # from here on glibc would keep blocks of up to this size
before = held()
blocks, between = [], []
for _ in range(8):
    blocks.append(libc.malloc(ctypes.c_size_t(16 << 20)))
    ctypes.memset(ctypes.c_void_p(blocks[-1]), 1, 16 << 20)
    between.append(libc.malloc(ctypes.c_size_t(1 << 18)))
assert held() - before > 100 << 20
for block in blocks:
    libc.free(block)
print((held() - before) >> 20)
"""


def test_what_a_large_picture_took_is_given_back() -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", HELD + GIVEN_BACK], check=True, capture_output=True, text=True, timeout=60
    )
    assert int(outcome.stdout) < 10


LEFT_OVER = """
import time
before = held()
blocks, between = [], []
for _ in range(60):
    blocks.append(libc.malloc(ctypes.c_size_t(1 << 20)))
    ctypes.memset(ctypes.c_void_p(blocks[-1]), 1, 1 << 20)
    between.append(libc.malloc(ctypes.c_size_t(1 << 18)))
for block in blocks:
    libc.free(block)
assert held() - before > 50 << 20
memory.start_trimming(0.2)
until = time.monotonic() + 30
while held() - before > 10 << 20 and time.monotonic() < until:
    sum(range(100_000))  # it is looked for by those who work
print((held() - before) >> 20)
"""


def test_what_lies_between_is_given_back_in_time() -> None:
    """What renders have left between renditions in memory."""
    outcome = subprocess.run(
        [sys.executable, "-c", HELD + LEFT_OVER], check=True, capture_output=True, text=True, timeout=60
    )
    assert int(outcome.stdout) <= 10


# -- links ----------------------------------------------------------------------------------------


def link(server: Running, query: str = "w=20") -> str:
    document = server.get(f"/images/a?url=True&{query}").json()
    return "/" + str(document["url"]).split("/", 3)[3]


def test_a_link_opens_one_picture_and_nothing_else(server: Running) -> None:
    path = link(server)
    answer = server.get(path)
    assert (answer.status, answer.image().size) == (200, (20, 13))
    is_guarded(answer)
    other = link(server, "w=21")
    key, _, query = path.partition("?")
    signed = re.sub(r"&filename=.*", "", query)
    altered = {
        other.partition("?")[0] + "?" + query: 401,
        key.replace("/temp/", "/temp/../temp/") + "?" + query: 400,
        key + "/../" + key.rpartition("/")[2] + "?" + query: 400,
        key + "%00?" + query: 401,
        quote(key) + "x?" + query: 401,
        key + "?" + signed.replace("temp_url_expires=", "temp_url_expires=1"): 401,
        key + "?" + signed + "&temp_url_sig=" + "0" * 64: 200,  # the first one counts, and it is right
        key + "?temp_url_sig=" + "0" * 64 + "&" + signed: 401,
        key + "?" + signed.replace("temp_url_sig=", "temp_url_sig=%EF%BC%90"): 401,
        key + "?" + re.sub("temp_url_sig=([0-9a-f]+)", "temp_url_sig=", signed): 401,
        key + "?" + signed + "&temp_url_prefix=/": 200,
    }
    for target, status in altered.items():
        refused = server.get(target)
        assert refused.status == status, target
        if status != 200:
            is_clean_problem(refused)
            assert b"temp_url" not in json.dumps({**refused.json(), "detail": ""}).encode()
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        assert server.ask(method, path, b"x" if method != "DELETE" else b"").status == 405
    injected = server.get(key + "?" + signed + "&filename=" + quote("x\r\nSet-Cookie: a=b"))
    assert (injected.status, injected.headers.get("Set-Cookie")) == (400, None)


def test_signatures_are_in_no_log(server: Running) -> None:
    path = link(server, "w=22")
    secret = re.search(r"temp_url_sig=([0-9a-f]+)", path)
    assert secret
    doubled = path.replace("temp_url_sig=", "temp%5Furl%5Fsig=")
    refused = path.replace("temp_url_expires=", "temp_url_expires=1")
    for target in (path, refused, doubled, "/" + path, path.replace("/temp/", "/images/"), path + "\0"):
        server.raw(f"GET {target} HTTP/1.1\r\nHost: x\r\nReferer: http://x{path}\r\nConnection: close\r\n\r\n".encode())
    assert server.get("/images/%0Aforged?x=1%0Aforged").status == 400
    assert secret[1] not in server.log


def test_two_keys_are_accepted_while_one_is_changed(tmp_path: Path) -> None:
    old, new, third = "an old key of enough length", "a new key of enough length", "a third key of enough length"
    store = {"path": str(tmp_path / "originals"), "kind": "disk"}

    def links(ask: list[str], **keys: str) -> tuple[list[int], str]:
        for it in running(tmp_path, persistent_store_configuration={**store, **keys}):
            it.put("a")
            made = link(it)
            assert it.get(made).status == 200
            assert not [key for key in keys.values() if key in it.log]
            return [it.get(path).status for path in ask], made
        raise AssertionError

    _, first = links([], url_key=old)
    statuses, second = links([first], url_key=new, url_key_2=old)
    assert (statuses, first == second) == ([200], False)
    assert links([first, second], url_key=third, url_key_2=new)[0] == [401, 200]


@pytest.mark.parametrize("name", ["url_key", "url_key_2"])
@pytest.mark.parametrize("key", ["123456789", "short", "changeme"])
def test_a_key_that_everybody_knows_is_refused_with_its_place(tmp_path: Path, name: str, key: str) -> None:
    config = commands.configure(tmp_path)
    config.write_text(f"freshnes: 1\npersistent_store_configuration:\n  kind: disk\n  {name}: '{key}'\n")
    ended = commands.run("-y", config, "-t")
    assert ended.returncode != 0
    assert f"{config}:4" in ended.stderr or "config.yml:4" in ended.stderr
    assert "freshness" in ended.stderr  # all mistakes at once, with what was meant
    assert key not in ended.stderr
    assert "Traceback" not in ended.stderr


# -- floods and ends --------------------------------------------------------------------------------


def test_a_flood_of_variants_leaves_the_caches_within_their_bounds(tmp_path: Path) -> None:
    bounds = {"cache_path": str(tmp_path / "cache"), "max_elements": 50, "max_size": "200 KiB"}
    for it in running(tmp_path, local_cache_configuration=bounds, memory_cache_configuration={"max_size": "64 KiB"}):
        it.put("a")
        hot = it.get("/images/a?w=11").body
        with requests.Session() as session:
            for size in range(20, 95):
                for quality in range(1, 9):
                    query = {"w": size, "q": quality}
                    assert session.get(f"http://{it.listen}/images/a", params=query, timeout=30).status_code == 200
                assert session.get(f"http://{it.listen}/images/a?w=11", timeout=30).content == hot
        files = [tmp_path / "cache" / name for name in it.files("cache") if "renditions" in name]
        assert len(files) <= 50 + 10
        assert sum(path.stat().st_size for path in files) <= 300 << 10


def test_what_a_killed_worker_has_acknowledged_is_there_and_nothing_else(tmp_path: Path) -> None:
    bodies = [pictures.jpeg(pictures.photo(200, 150, seed), quality=95) for seed in range(5)]
    acknowledged: dict[str, str] = {}
    begun: set[str] = set()
    outcomes: Counter[str] = Counter()
    done = threading.Event()

    def upload(number: int, listen: str) -> None:
        for count in range(10_000):
            if done.is_set():
                return
            name, body = f"w{number}/n{count}", bodies[count % 5]
            begun.add(name)
            try:
                answer = requests.put(f"http://{listen}/images/{name}", data=body, timeout=30)
            except requests.RequestException:
                outcomes["broken"] += 1
                continue
            outcomes[str(answer.status_code)] += 1
            if answer.status_code in (200, 201):
                acknowledged[name] = hashlib.sha256(body).hexdigest()

    for it in running(tmp_path):
        threads = [threading.Thread(target=upload, args=(number, it.listen)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(6):
                so_far = len(acknowledged)
                commands.until(lambda so_far=so_far: len(acknowledged) > so_far + 15, "uploads go on")
                os.kill(it.workers()[0], signal.SIGKILL)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert set(outcomes) <= {"201", "broken"}, outcomes
        for name, digest in acknowledged.items():
            assert hashlib.sha256((tmp_path / "originals" / f"{name}.jpg").read_bytes()).hexdigest() == digest
            assert json.loads((tmp_path / "originals" / f"{name}.json").read_text())["sha256"] == digest
        whole = {hashlib.sha256(body).hexdigest() for body in bodies}
        for name in begun - acknowledged.keys():
            original = tmp_path / "originals" / f"{name}.jpg"
            status = requests.get(f"http://{it.listen}/images/{name}?w=20", timeout=30).status_code
            assert status == (200 if original.exists() else 404)
            assert not original.exists() or hashlib.sha256(original.read_bytes()).hexdigest() in whole
            assert original.exists() or not original.with_suffix(".json").exists()
        count = requests.get(f"http://{it.listen}/images", timeout=30).json()["count"]
        assert len(acknowledged) <= count <= len(begun)
        commands.until(lambda it=it: it.is_whole(), "all workers are back")


NONSENSE = (
    b"\0" * 1000,
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"\r\n" * 500,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)


def test_a_connection_that_talks_nonsense_is_closed(server: Running) -> None:
    for nonsense in NONSENSE:
        with commands.connect(server.listen) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(HTTPException), contextlib.closing(HTTPResponse(connection)) as response:
                response.begin()
                assert response.status < 500
    assert server.get("/images/a").status == 200
