"""The container images and nginx in front, as far as both can be tried without a container engine.

What the Dockerfile runs and copies is run and copied into a clean folder; the shipped nginx configuration runs in a
real nginx, first before an origin that does exactly as it is told, then, started by the image's own entry point,
before image_repo.
"""

from __future__ import annotations

import fnmatch
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from servers import nginx
from servers.ports import free_port
from webserver import Answer, Client

from image_repo.config import load

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
ENTRYPOINT, SWIFT_SH, CONF = DOCKER / "entrypoint.sh", DOCKER / "swift.sh", DOCKER / "nginx.conf"
DOCKERFILES = sorted(file.relative_to(ROOT).as_posix() for file in [ROOT / "Dockerfile", *DOCKER.rglob("Dockerfile*")])


# -- Dockerfiles ------------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for given, rest in self.instructions if given == word]


def read_dockerfile(path: Path) -> dict[str, Stage]:
    """The stages of a Dockerfile, by name."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    stages: dict[str, Stage] = {}
    current = Stage("", "")
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = stages[name or f"{len(stages)}"] = Stage(name, base)
        elif word:
            current.instructions.append((word, rest))
    return stages


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file out of the build."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.removeprefix("!").removeprefix("**/")
        parts = [path, *(str(parent) for parent in Path(path).parents)]
        names = parts if not line.startswith("**/") else Path(path).parts
        if line and not line.startswith("#") and any(fnmatch.fnmatch(part, rule) for part in names if part != "."):
            out = not line.startswith("!")
    return out


STAGES = read_dockerfile(ROOT / "Dockerfile")


def inherited(name: str) -> list[tuple[str, str]]:
    """The instructions of a stage and of those that it is built on."""
    stage = STAGES.get(name)
    return [*inherited(stage.base), *stage.instructions] if stage else []


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_what_is_copied_exists_and_is_not_ignored(dockerfile: str) -> None:
    context = ROOT if dockerfile == "Dockerfile" else (ROOT / dockerfile).parent
    copied = [
        source
        for stage in read_dockerfile(ROOT / dockerfile).values()
        for rest in stage.all("COPY")
        if not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert copied
    assert [source for source in copied if not (context / source).exists()] == []
    assert context != ROOT or not any(ignored(source) for source in copied)


def test_nothing_private_enters_the_build() -> None:
    for path in (".git/config", "config.yml", "swift.sh", "image_repo_data/a.jpg", "src/image_repo/__pycache__/a.pyc"):
        assert ignored(path), path
    assert not ignored("src/image_repo/repo.py")


@pytest.mark.parametrize("name", ["bare", "nginx"])
def test_image_runs_without_rights_and_is_watched(name: str) -> None:
    instructions = inherited(name)
    last = dict(instructions)
    assert last["USER"] == "image_repo"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(last["VOLUME"]) == ["/data", "/cache"]
    assert json.loads(last["ENTRYPOINT"])
    port = last["EXPOSE"]
    check = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])
    assert f"127.0.0.1:{port}/health" in check[2]
    compile(check[2], "HEALTHCHECK", "exec")
    assert not re.search(
        r"(?i)(password|secret|url_key)\S*=", " ".join(rest for word, rest in instructions if word == "ENV")
    )


def test_the_image_that_is_built_by_default_has_nginx_on_port_80() -> None:
    assert list(STAGES)[-1] == "nginx"
    assert dict(inherited("nginx"))["EXPOSE"] == "80"


def test_the_bare_image_has_port_5000() -> None:
    bare = dict(inherited("bare"))
    assert (json.loads(bare["ENTRYPOINT"]), bare["EXPOSE"]) == (["tini", "--", "image_repo"], "5000")
    assert "IMAGE_REPO_LISTEN=0.0.0.0:5000" in " ".join(STAGES["base"].all("ENV"))


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_commands_parse(dockerfile: str) -> None:
    for stage in read_dockerfile(ROOT / dockerfile).values():
        for command in stage.all("RUN"):
            subprocess.run(["sh", "-n", "-c", command], check=True)


@pytest.mark.parametrize(("shell", "script"), [("bash", ENTRYPOINT), ("sh", SWIFT_SH)], ids=["entrypoint", "swift.sh"])
def test_script_parses(shell: str, script: Path) -> None:
    subprocess.run([shell, "-n", str(script)], check=True)
    assert "\r" not in script.read_text()


COMPOSE = yaml.safe_load((DOCKER / "compose.yml").read_text())


def test_compose_builds_and_mounts_what_exists() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        if "build" in service:
            context = (DOCKER / service["build"]["context"]).resolve()
            stages = read_dockerfile(context / service["build"].get("dockerfile", "Dockerfile"))
            assert service["build"].get("target", next(reversed(stages))) in stages
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (DOCKER / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"]
    waited_for = {name for service in services.values() for name in service.get("depends_on", ())}
    assert waited_for == {"swift", "postgres", "node_1", "node_2"}


def test_compose_gives_both_nodes_one_store_and_one_catalogue_and_caches_of_their_own() -> None:
    nodes = [service for name, service in COMPOSE["services"].items() if name.startswith("node_")]
    assert len(nodes) == 2
    assert nodes[0]["volumes"] != nodes[1]["volumes"]
    for node in nodes:
        config = load(None, node["environment"])
        store = config.persistent_store_configuration
        assert (store.resolved_kind, store.container) == ("swift", "pictures")
        assert str(store.credentials.authurl).startswith("http://swift:8080/")
        assert "@postgres/" in str(config.catalogue.url)
        assert node["build"]["args"]["EXTRAS"] == "[postgres]"
        assert config.server.trusted_proxies == (COMPOSE["networks"]["default"]["ipam"]["config"][0]["subnet"],)
    upstream = (DOCKER / "nodes" / "nodes.conf").read_text()
    assert set(re.findall(r"server (\w+):5000", upstream)) == {"node_1", "node_2"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build stage, as the Dockerfile says, in a clean folder: its /opt/image_repo."""
    folder = tmp_path_factory.mktemp("build")
    source, prefix = folder / "src", folder / "opt"
    source.mkdir()
    for rest in STAGES["build"].all("COPY"):
        *names, target = rest.split()
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, source / target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
                )
            else:
                shutil.copy(ROOT / name, source / target)
    for command in STAGES["build"].all("RUN"):
        here = command.replace("/opt/image_repo", str(prefix)).replace("python -m venv", "python3 -m venv")
        done = subprocess.run(
            ["sh", "-c", here], cwd=source, env={**clean(), "EXTRAS": ""}, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return prefix


def clean() -> dict[str, str]:
    """The environment, without what would configure an image_repo."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "ST_", "IMAGE_REPO_"))}


@pytest.mark.servers
def test_build_stage_gives_a_command_with_all_it_needs(built: Path) -> None:
    code = "import pyuwsgi, swiftclient, keystoneclient, flask, image_repo.wiring"
    subprocess.run([built / "bin" / "python", "-c", code], check=True, cwd=built)
    outcome = subprocess.run(
        [built / "bin" / "image_repo", "-Y"], cwd=built, env=clean(), capture_output=True, check=True
    )
    assert yaml.safe_load(outcome.stdout)["listen"] == "127.0.0.1:5000"


# -- the entry point --------------------------------------------------------------------------------------------------


def enter(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the entry point with an `image_repo` and an `nginx` that only tell how they were called.

    Neither ends before both have told it: the entry point ends the other.
    """
    tools = folder / "tools"
    tools.mkdir()
    for name, other in (("image_repo", "nginx"), ("nginx", "image_repo")):
        tool = tools / name
        tool.write_text(
            f'#!/bin/sh\necho {name} "$@"\nenv | grep -E "^(OS_|IMAGE_REPO_)"\n: > {folder}/{name}.told\n'
            f"until [ -e {folder}/{other}.told ]; do sleep 0.01; done\nexit 7\n"
        )
        tool.chmod(0o755)
    given = {
        **clean(),
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SWIFT_SH": str(SWIFT_SH),
        "NGINX_CONF": str(CONF),
        "NGINX_FOLDER": str(folder / "nginx"),
        **environment,
    }
    return subprocess.run([ENTRYPOINT, *arguments], env=given, check=False, capture_output=True, text=True, timeout=20)


def test_without_a_word_on_the_store_it_says_what_to_do(tmp_path: Path) -> None:
    done = enter(tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    for word in ("OS_AUTH_URL OS_USERNAME OS_PASSWORD OS_TENANT_NAME OS_TENANT_ID", "SWIFT_P", "SWIFT_C", "docker run"):
        assert word in done.stderr


def test_a_script_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    done = enter(tmp_path, SWIFT_SH=str(tmp_path / "absent"))
    assert done.returncode == 1
    assert "cannot be read" in done.stderr


def test_mounted_script_names_cluster_and_containers(tmp_path: Path) -> None:
    mounted = tmp_path / "swift.sh"
    mounted.write_text("export OS_AUTH_URL=http://swift.test/auth/v1.0\nexport SWIFT_P='my pictures' SWIFT_C=kept\n")
    done = enter(tmp_path, "-v", SWIFT_SH=str(mounted))
    assert "image_repo -v" in done.stdout
    assert "OS_AUTH_URL=http://swift.test/auth/v1.0" in done.stdout
    assert "IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__CONTAINER=my pictures" in done.stdout
    assert "IMAGE_REPO_SWIFT_CACHE_CONFIGURATION__CONTAINER=kept" in done.stdout
    assert done.returncode == 7, "it ends as what died first did"


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        ((), {"OS_AUTH_URL": "http://swift.test/auth/v1.0"}),
        ((), {"IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__KIND": "disk"}),
        (("-y", "config.yml"), {}),
    ],
    ids=["credentials in the environment", "a volume", "a configuration file"],
)
def test_nothing_needs_to_be_mounted_with(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    assert "image_repo" in enter(tmp_path, *arguments, **environment).stdout


# -- nginx, before an origin that does as it is told ------------------------------------------------------------------


class Origin(BaseHTTPRequestHandler):
    """Answers with what stands for the path's first word, and remembers what it was asked."""

    protocol_version = "HTTP/1.1"
    answers: dict[str, Callable[[Origin], None]]
    requests: list[tuple[str, str, dict[str, str], bytes]]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        answer = self.answers.get(self.path.split("?")[0].split("/")[1], lambda origin: origin.say(b"plain"))
        answer(self)

    do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_GET

    def say(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@dataclass
class Front:
    """nginx, and what is behind it."""

    client: Client
    origin: type[Origin]
    server: ThreadingHTTPServer
    nginx: nginx.Nginx

    def log(self, mark: str) -> dict[str, Any]:
        """The line of the access log that holds a word."""
        found: list[str] = []

        def written() -> bool:
            found[:] = [
                line for line in self.nginx.log_file.read_text().splitlines() if mark in line and line[0] == "{"
            ]
            return bool(found)

        until(written)
        return json.loads(found[-1])


def until(done: Callable[[], bool], seconds: float = 30) -> None:
    """Polls an outside server."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    kind = type("RecordingOrigin", (Origin,), {"answers": {}, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    port = free_port()
    conf = nginx.place(tmp_path / "nginx", CONF, port, server.server_port, "proxy_read_timeout 1s;")
    try:
        with nginx.running(conf, port) as up:
            yield Front(Client("127.0.0.1", port), kind, server, up)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.servers
def test_the_shipped_files_pass_nginx_t(tmp_path: Path) -> None:
    (tmp_path / "temp").mkdir()
    for file in (CONF, DOCKER / "place.conf"):
        shutil.copy(file, tmp_path)
    done = subprocess.run(nginx.command(tmp_path / "nginx.conf", "-t"), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


@pytest.mark.servers
@pytest.mark.parametrize(
    "path",
    ["/images/a%2Fb", "/images//a/../b/./c", "/images/%C3%A9%20+@(1)", "/images/a%252Fb?x=%2F&y=a%26b", "/images/%e4"],
)
def test_a_path_goes_on_byte_by_byte(front: Front, path: str) -> None:
    assert front.client.get(path).status == 200
    assert front.origin.requests[-1][1] == path


@pytest.mark.servers
def test_what_the_client_called_us_goes_on_and_its_claims_do_not(front: Front) -> None:
    claims = {"Host": "pictures.test:8080", "X_Forwarded_Proto": "https", "X_Forwarded_Host": "evil.test"}
    front.client.get("/images/a", **claims, X_Forwarded_For="10.9.9.9", Forwarded="host=evil.test")
    headers = front.origin.requests[-1][2]
    assert headers["host"] == "pictures.test:8080"
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["connection"] == "close"
    assert headers["x-forwarded-host"] == headers["host"]
    assert "forwarded" not in headers


@pytest.mark.servers
@pytest.mark.parametrize(
    ("path", "headers", "requests"),
    [
        ("/images/a", {"Cache_Control": "public, max-age=60"}, 1),
        ("/images/a", {"Cache_Control": "private, max-age=60"}, 2),
        ("/images/a", {"Cache_Control": "no-store"}, 2),
        ("/images/a", {"Cache_Control": "public, no-cache"}, 2),
        ("/images/a", {}, 2),
        ("/images/a?kind=original", {"Cache_Control": "public, max-age=60"}, 2),
        ("/temp/a", {"Cache_Control": "public, max-age=60"}, 2),
    ],
    ids=["public", "private", "no-store", "no-cache", "silent", "an original", "a temporary URL"],
)
def test_is_kept_only_when_image_repo_says_so(front: Front, path: str, headers: dict[str, str], requests: int) -> None:
    front.origin.answers["images"] = front.origin.answers["temp"] = lambda origin: origin.say(b"picture", **headers)
    assert [front.client.get(path, Host=host).body for host in ("one.test", "two.test")] == [b"picture"] * 2
    assert len(front.origin.requests) == requests


@pytest.mark.servers
def test_a_signed_in_caller_and_large_pictures_are_not_kept(front: Front) -> None:
    front.origin.answers["images"] = lambda origin: origin.say(b"mine", Cache_Control="public, max-age=60")
    front.origin.answers["large"] = lambda origin: origin.say(bytes(10_000_000), Cache_Control="public, max-age=60")
    for _ in range(2):
        assert front.client.get("/images/a", Authorization="Bearer x").body == b"mine"
        assert front.client.get("/images/a", Cookie="a=b; image_repo_session=x").body == b"mine"
        assert len(front.client.get("/large").body) == 10_000_000
    assert len(front.origin.requests) == 6


@dataclass
class Nodes:
    """nginx before two nodes."""

    client: Client
    origins: list[type[Origin]]
    servers: list[ThreadingHTTPServer]

    def requested_numbers(self, node: int) -> set[str]:
        """The number, of three digits, in each path that a node was asked for."""
        return {number for _, path, _, _ in self.origins[node].requests for number in re.findall(r"1[0-9]{2}", path)}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    kinds = [type(f"Node{number}", (Origin,), {"answers": {}, "requests": []}) for number in range(2)]
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in kinds]
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.daemon_threads = True
        thread.start()
    port = free_port()
    conf = nginx.place_nodes(tmp_path / "nginx", DOCKER, port, [server.server_port for server in servers])
    try:
        with nginx.running(conf, port):
            yield Nodes(Client("127.0.0.1", port), kinds, servers)
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


#: of one image
ALIKE = (
    *("/images/a/x{}", "/images/a/x{}?xsize=30", "/images/a/x{}.png", "/images/a%2Fx{}", "/iiif/3/a%2Fx{}/info.json"),
    *("/iiif/3/a%2Fx{}/full/max/0/default.jpg", "/iiif/2/a%2Fx{}/0,0,9,9/9,/0/color.png"),
)


@pytest.mark.servers
def test_all_requests_for_an_image_go_to_one_node_and_images_to_both(nodes: Nodes) -> None:
    for number in range(100, 140):
        for path in ALIKE:
            assert nodes.client.get(path.format(number)).status == 200
        assert nodes.client.put(f"/images/a/x{number}", b"x").status == 200
    first, second = nodes.requested_numbers(0), nodes.requested_numbers(1)
    assert not first & second
    assert min(len(first), len(second)) >= 8


@pytest.mark.servers
def test_the_images_of_a_node_that_is_gone_are_the_other_s_and_the_others_stay_where_they_are(nodes: Nodes) -> None:
    for number in range(100, 140):
        nodes.client.get(f"/images/{number}")
    before = nodes.requested_numbers(1)
    nodes.servers[0].shutdown()
    nodes.servers[0].server_close()
    for method in ("GET", "PUT", "POST", "DELETE"):
        for number in range(100, 140):
            body = b"x" if method in ("PUT", "POST") else None
            assert nodes.client(method, f"/images/{number}?{method}", body).status == 200
    assert 8 <= len(before) <= 32
    assert len(nodes.requested_numbers(1)) == 40


@pytest.mark.servers
def test_the_parts_of_an_upload_go_to_the_node_that_created_it(nodes: Nodes) -> None:
    for _ in range(40):
        assert nodes.client("POST", "/uploads", X_Upload_Id="0" * 32).status == 200
    ids = [{headers["x-upload-id"] for _, _, headers, _ in origin.requests} for origin in nodes.origins]
    assert min(len(ids[0]), len(ids[1])) >= 8
    assert len(ids[0] | ids[1]) == 40
    for upload_id in ids[0] | ids[1]:
        for method in ("HEAD", "PATCH", "DELETE"):
            body = b"x" if method == "PATCH" else None
            assert nodes.client(method, f"/uploads/{upload_id}", body).status == 200
    for node, origin in enumerate(nodes.origins):
        parts = [path.rpartition("/")[2] for _, path, _, _ in origin.requests if path != "/uploads"]
        assert set(parts) == ids[node]
    assert not any("x-upload-id" in headers for _, path, headers, _ in nodes.origins[0].requests if path != "/uploads")


@pytest.mark.servers
def test_a_part_of_an_upload_is_passed_on_before_it_is_whole(front: Front) -> None:
    arrived, ended = threading.Event(), threading.Event()

    def take(origin: Origin) -> None:
        arrived.set()
        ended.wait(10)
        origin.say(b"")

    class Unread(front.origin):
        def do_PATCH(self) -> None:
            take(self)

    front.server.RequestHandlerClass = Unread
    with socket.create_connection(("127.0.0.1", front.client.port), 10) as connection:
        connection.sendall(b"PATCH /uploads/" + b"0" * 32 + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
        assert arrived.wait(10)
        ended.set()


@pytest.mark.servers
def test_no_worker_holds_on_to_a_picture_that_was_replaced(front: Front) -> None:
    versions = {"now": 0}

    def answer(origin: Origin) -> None:
        origin.say(b"%09d" % versions["now"], Cache_Control="public, max-age=1")

    front.origin.answers["images"] = answer
    for number in range(3):
        versions["now"] = number
        until(lambda: int(front.client.get("/images/a").body) == versions["now"])
        # each over a connection of its own, so that every worker has its open file asked for
        assert {int(front.client.get("/images/a").body) for _ in range(40)} == {number}


@pytest.mark.servers
def test_what_is_past_freshness_is_asked_for_by_its_tag_and_old_only_without_an_origin(front: Front) -> None:
    tag = {"now": '"1"'}

    def answer(origin: Origin) -> None:
        fresh = {"ETag": tag["now"], "Cache_Control": "public, max-age=1, must-revalidate"}
        same = origin.headers.get("If-None-Match") == tag["now"]
        origin.say(b"" if same else tag["now"].encode(), 304 if same else 200, **fresh)

    def until_status(wanted: str) -> Answer:
        answers: list[Answer] = []

        def seen() -> bool:
            answers.append(front.client.get("/images/a"))
            return any(wanted in line for line in answers[-1].headers.get_all("Cache-Status", []))

        until(seen)
        return answers[-1]

    front.origin.answers["images"] = answer
    assert until_status("nginx; fwd=uri-miss").body == b'"1"'
    assert until_status("nginx; hit").body == b'"1"'
    assert until_status("fwd-status=304").body == b'"1"'
    tag["now"] = '"2"'
    assert until_status("nginx; fwd=stale").body in (b'"1"', b'"2"')
    until(lambda: front.client.get("/images/a").body == b'"2"')
    front.origin.answers["images"] = lambda handler: handler.say(b"{}", 503)
    until(lambda: front.client.get("/images/a").status == 503)
    front.server.socket.close()
    assert until_status("detail=stale").body == b'"2"'


@pytest.mark.servers
def test_problems_of_its_own_are_problems(front: Front) -> None:
    forever = threading.Event()
    front.origin.answers["slow"] = lambda _: forever.wait(20) and None
    front.origin.answers["gone"] = lambda origin: origin.connection.close()
    try:
        assert problem(front.client.get("/slow/a?x=1"), 504) == "/slow/a"
        assert problem(front.client.get("/gone/a"), 502) == "/gone/a"
    finally:
        forever.set()
    announced = {"Content_Length": str(1 << 40)}
    assert problem(front.client("PUT", "/images/a", b"", **announced), 413) == "/images/a"
    assert problem(front.client.get("/images/" + "a" * 9000), 414)
    assert problem(front.client.get("/images/a", Accept="a" * 60_000), 431) == "/images/a"
    assert problem(front.client.get("/images/%00"), 400)
    front.origin.answers["images"] = lambda origin: origin.say(
        b'{"own":1}', 503, Content_Type="application/problem+json"
    )
    assert front.client.get("/images/a").json() == {"own": 1}


def problem(answer: Answer, status: int) -> str:
    """Checks that an answer is a problem with a status; its instance."""
    document = answer.json()
    assert (answer.status, document["status"]) == (status, status)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert ("Retry-After" in answer.headers) == (status in (502, 503, 504))
    return document["instance"]


@pytest.mark.servers
@pytest.mark.parametrize("path", ["/temp/a", "/%74emp/a", "//temp/a", "/temp/../temp/a"])
def test_a_signature_is_never_logged(front: Front, path: str) -> None:
    front.origin.answers.update({word: lambda origin: origin.connection.close() for word in ("temp", "%74emp", "")})
    front.client.get(f"{path}?temp_url_sig=5ec2e7&temp_url_expires=1")
    front.client.get("/images/last?w=7")
    assert front.log("/images/last")["uri"] == "/images/last?w=7"
    assert "5ec2e7" not in front.nginx.log_file.read_text()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/images/a?w=1&share=1.5ec2e7", "/images/a"),
        ("/images/a?signature=5ec2e7&w=1", "/images/a"),
        ("/oembed?url=%2Fimages%2Fa%3Fsignature%3D5ec2e7", "/oembed"),
        ("/login/callback?code=5ec2e7&state=5ec2e7", "/login/callback"),
        (f"/thumbor/{'5ec2e7' * 5}=/30x0/a?b=1", "/thumbor/.../30x0/a?b=1"),
        (f"/imgproxy/{'5ec2e7' * 8}/w:30/plain/a", "/imgproxy/.../w:30/plain/a"),
    ],
)
def test_no_other_signature_is_logged(front: Front, path: str, uri: str) -> None:
    front.client.get(path)
    assert front.log(uri.rpartition("/")[0])["uri"] == uri
    assert "5ec2e7" not in front.nginx.log_file.read_text()


@pytest.mark.servers
def test_a_chunked_upload_arrives_whole_and_conditions_with_it(front: Front) -> None:
    chunks = (b"x" * 70_000 for _ in range(3))
    answer = front.client("PUT", "/images/a", chunks, Transfer_Encoding="chunked", If_None_Match="*")
    assert answer.status == 200
    method, _, headers, body = front.origin.requests[-1]
    assert (method, len(body), headers["content-length"], headers["if-none-match"]) == ("PUT", 210_000, "210000", "*")
    assert "transfer-encoding" not in headers


# -- nginx and image_repo, started by the entry point -----------------------------------------------------------------


@dataclass
class Container:
    """What runs in the image: the entry point, nginx and image_repo."""

    client: Client
    process: subprocess.Popen[bytes]
    log_file: Path
    folder: Path


@contextmanager
def started(folder: Path, bin_folder: Path) -> Iterator[Container]:
    """Runs the entry point with the environment of the image, its folders moved."""
    port, inner = free_port(), free_port()
    log_file = folder / "said.log"
    tools = folder / "tools"
    tools.mkdir()
    # `nginx` as the image's user would run it, also where the tests are run by root
    real = nginx.command(nginx.place(folder / "conf", CONF, port, inner))[0]
    (tools / "nginx").write_text(
        f'#!/bin/sh\n[ "$(id -u)" = 0 ] && set -- "$@" -g "daemon off; user root;"\nexec {real} "$@"\n'
    )
    (tools / "nginx").chmod(0o755)
    environment = {
        **clean(),
        "PATH": f"{tools}:{bin_folder}:{os.environ['PATH']}",
        "SWIFT_SH": str(SWIFT_SH),
        "NGINX_CONF": str(folder / "conf" / "nginx.conf"),
        "NGINX_FOLDER": str(folder / "cache" / "nginx"),
        "IMAGE_REPO_LISTEN": f"127.0.0.1:{inner}",
        "IMAGE_REPO_PID_FILE": str(folder / "pid"),
        "IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__KIND": "disk",
        "IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__PATH": str(folder / "data"),
        "IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__URL_KEY": "a key of the tests, long enough 0123",
        "IMAGE_REPO_LOCAL_CACHE_CONFIGURATION__CACHE_PATH": str(folder / "cache" / "image_server"),
        "IMAGE_REPO_LOCAL_FILE_CACHE_PATH": str(folder / "cache" / "image_repo"),
        "IMAGE_REPO_FRESHNESS": "1",
    }
    with log_file.open("wb") as out:
        process = subprocess.Popen(
            [ENTRYPOINT], env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        for expected in (inner, port):
            nginx.until_listening(expected, process, log_file)
        until(lambda: Client("127.0.0.1", port).get("/health").status == 200)
        yield Container(Client("127.0.0.1", port), process, log_file, folder)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory, built: Path) -> Iterator[Container]:
    with started(tmp_path_factory.mktemp("container"), built / "bin") as up:
        yield up


def picture(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (400, 300), colour).save(out, "JPEG", quality=90)
    return out.getvalue()


def ways(answer: Answer) -> str:
    return ", ".join(answer.headers.get_all("Cache-Status", []))


@pytest.mark.servers
def test_a_picture_is_served_kept_and_seen_anew_when_it_is_replaced(container: Container) -> None:
    client = container.client
    assert client.put("/images/one", picture("red")).status == 201
    path = "/images/one?xsize=100"
    first, second = client.get(path), client.get(path)
    assert first.image().size == (100, 75)
    assert "nginx; fwd=uri-miss" in ways(first)
    assert "nginx; hit" in ways(second)
    assert second.body == first.body
    unchanged = client.get(path, If_None_Match=first.headers["ETag"])
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert client("HEAD", path).headers["Content-Length"] == str(len(first.body))
    part = client.get(path, Range="bytes=0-9")
    assert (part.status, part.body) == (206, first.body[:10])
    assert client.put("/images/one", picture("blue")).status == 200
    until(lambda: client.get(path).body != first.body)
    assert client.get(path).image().getpixel((50, 40))[2] > 200


@pytest.mark.servers
def test_names_and_uploads_survive_the_way(container: Container) -> None:
    client = container.client
    chunks = iter([picture("green")[:500], picture("green")[500:]])
    answer = client("PUT", "/images/a/b%20%C3%A9", chunks, Transfer_Encoding="chunked", Content_Type="image/jpeg")
    assert answer.status == 201, answer.body
    assert client.get("/images/a%2Fb%20%C3%A9").status == 200
    assert client.get("/images/a//b").slug == "bad-name"
    assert client.get("/images/a/%2e%2e/b").slug == "bad-name"
    assert client.put("/images/a/b%20%C3%A9", picture("red"), If_None_Match="*").status == 412


@pytest.mark.servers
def test_a_zip_streams_and_its_head_makes_none(container: Container) -> None:
    for colour in ("red", "lime"):
        assert container.client.put(f"/images/zip/{colour}", picture(colour)).status in (200, 201)
    answer = container.client.get("/images/zip/?xsize=20")
    assert sorted(zipfile.ZipFile(io.BytesIO(answer.body)).namelist()) == ["zip/lime.jpg", "zip/red.jpg"]
    head = container.client("HEAD", "/images/zip/")
    assert (head.status, head.headers["Content-Type"], head.body) == (200, "application/zip", b"")


@pytest.mark.servers
def test_a_link_begins_as_the_client_called_us_and_its_signature_stays_out_of_the_log(container: Container) -> None:
    assert container.client.put("/images/linked", picture("red")).status in (200, 201)
    url = container.client.get("/images/linked?xsize=30&url=True", Host="pictures.test:81").json()["url"]
    assert url.startswith("http://pictures.test:81/temp/")
    given = container.client.get(url.removeprefix("http://pictures.test:81"))
    assert given.image().size[0] == 30
    signature = re.search(r"temp_url_sig=([0-9a-zA-Z]+)", url)
    assert signature
    until(lambda: '"uri":"/temp/' in container.log_file.read_text())
    assert signature[1] not in container.log_file.read_text()


@pytest.mark.servers
def test_it_is_healthy_as_its_health_check_sees_it(container: Container) -> None:
    check = json.loads(dict(inherited("nginx"))["HEALTHCHECK"].partition("CMD ")[2])
    code = check[2].replace(":80/", f":{container.client.port}/")
    subprocess.run(["python3", "-c", code], check=True)
    assert (
        subprocess.run(
            ["python3", "-c", code.replace("/health", "/nothing")], check=False, capture_output=True
        ).returncode
        != 0
    )


@pytest.mark.servers
def test_it_ends_when_told_to_and_when_either_part_dies(tmp_path: Path, built: Path) -> None:
    (tmp_path / "told").mkdir()
    with started(tmp_path / "told", built / "bin") as container:
        container.process.terminate()
        assert container.process.wait(40) == 0, container.log_file.read_text()
    (tmp_path / "dies").mkdir()
    with started(tmp_path / "dies", built / "bin") as dies:
        master = int((tmp_path / "dies" / "cache" / "nginx" / "nginx.pid").read_text())
        os.kill(master, signal.SIGKILL)
        assert dies.process.wait(40) != 0, dies.log_file.read_text()


def test_the_readme_names_what_the_image_takes() -> None:
    text = (DOCKER / "README.md").read_text()
    for word in ("OS_AUTH_URL", "SWIFT_P", "SWIFT_C", "--target bare", "-v", "place.conf", "stop"):
        assert word in text
