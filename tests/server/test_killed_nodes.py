"""Two nodes behind the shipped nginx, over one Swift container or S3 bucket and one PostgreSQL, killed in turn.

Each image has one writer, which numbers its writes: the picture is of a grey that tells the number, the data names it.
What was acknowledged is never lost, nothing older is answered once ``freshness`` is over, and all nodes agree at last.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import commands
import pytest
from PIL import Image
from servers import nginx
from servers.ports import free_port
from shared_stores import settings_of_shared
from webserver import Answer, Client

from image_repo.server import address

pytestmark = pytest.mark.servers

DOCKER = Path(__file__).parents[2] / "docker"
#: seconds of the race; `make soak` has more
RACE_S = float(os.environ.get("IMAGE_REPO_SOAK_S", "10"))
#: `freshness` of the nodes; nginx and a node may each keep a picture for that long
FRESHNESS_S = 1.0
#: between the return of a node and the end of the next: more than nginx's fail_timeout. Without any node that it takes
#: for alive, nginx answers what it has, however old (nginx.conf).
PAUSE_S = 6.0
WRITERS = 6
#: greys of pictures, four apart: what a JPEG of one grey keeps
GREYS = 60


@dataclass
class Node:
    """A server in a group of processes of its own."""

    config: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> Client:
        return Client(*address.host_and_port(self.listen))

    @property
    def listen(self) -> str:
        return commands.listens_on(self.config)

    def start(self) -> None:
        with (self.config.parent / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*commands.COMMAND, "-y", str(self.config)],
                cwd=self.config.parent,
                env=commands.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        commands.until(lambda: address.answers(self.listen), f"{self.listen} answers")

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Writes:
    """The writes of one image: by number, whether there is a picture after it."""

    name: str
    attempted: list[bool] = field(default_factory=lambda: [False])
    #: moment → the number of the write acknowledged then
    acknowledged: list[tuple[float, int]] = field(default_factory=list)

    def last_acknowledged(self, moment: float) -> int:
        return max((number for when, number in list(self.acknowledged) if when <= moment), default=0)


@contextmanager
def running(folder: Path, settings: dict[str, Any]) -> Iterator[tuple[Client, list[Node]]]:
    """nginx, and two nodes behind it."""
    nodes = []
    for name in ("one", "two"):
        (folder / name).mkdir()
        nodes.append(Node(commands.configure(folder / name, freshness=FRESHNESS_S, **settings)))
    ports = [address.host_and_port(node.listen)[1] for node in nodes]
    port = free_port()
    with ExitStack() as stack:
        for node in nodes:
            node.start()
            stack.callback(node.kill)
        stack.enter_context(nginx.running(nginx.place_nodes(folder / "nginx", DOCKER, port, ports), port))
        yield Client("127.0.0.1", port), nodes


def attempt(request: Callable[[], Answer]) -> Answer | None:
    """What was answered; None where a node was killed meanwhile, or nobody listens."""
    try:
        return request()
    except (OSError, http.client.HTTPException):
        threading.Event().wait(0.1)
        return None


def write(client: Client, writes: Writes, outcomes: Counter[str]) -> None:
    """Replace or delete the picture."""
    number = len(writes.attempted)
    is_put = number % 5 != 0
    writes.attempted.append(is_put)
    if is_put:
        data = json.dumps({"number": number}).encode()
        parts = ("file", "a.jpg", picture(number)), ("data", None, data)
        answer = attempt(lambda: client.form(f"/images/{writes.name}", *parts))
    else:
        answer = attempt(lambda: client.delete(f"/images/{writes.name}"))
    outcomes[str(answer.status if answer else "broken")] += 1
    if answer and answer.status in ((200, 201) if is_put else (200, 204, 404)):
        writes.acknowledged.append((time.monotonic(), number))
    elif answer:
        # The store or another writer did not answer in time, or a request that nginx repeated is done already.
        assert answer.status in (502, 503, 504), (answer.status, answer.body)


def picture(number: int) -> bytes:
    file = BytesIO()
    Image.new("L", (32, 32), number % GREYS * 4).save(file, "JPEG", quality=95)
    return file.getvalue()


def check(client: Client, writes: Writes, patience: float, outcomes: Counter[str]) -> None:
    """Ask for the picture and its record: neither is older than what was acknowledged ``patience`` seconds ago."""
    for query in ("w=16", "meta=True"):
        since = writes.last_acknowledged(time.monotonic() - patience)
        answer = attempt(lambda query=query: client.get(f"/images/{writes.name}?{query}"))
        possible = range(since, len(writes.attempted))
        outcomes[str(answer.status if answer else "broken")] += 1
        if not answer or answer.status in (502, 503, 504):
            continue
        ways = answer.headers.get_all("Cache-Status", [])
        if any("nginx; hit; detail=stale" in way for way in ways):
            outcomes["no node is alive to nginx"] += 1
            continue
        reading = (answer.status, *shown_by(answer, query)) if answer.status == 200 else (404,)
        assert reading in {expected(writes, number, query) for number in possible}, (
            writes.name,
            query,
            reading,
            possible,
            ways,
        )


def shown_by(answer: Answer, query: str) -> tuple[int]:
    if query == "meta=True":
        return (answer.json()["data"]["number"],)
    return (round(answer.image().convert("L").getpixel((8, 8)) / 4),)


def expected(writes: Writes, number: int, query: str) -> tuple[int, ...]:
    if not writes.attempted[number]:
        return (404,)
    return (200, number if query == "meta=True" else number % GREYS)


def states_of(writes: Writes, clients: list[Client]) -> set[tuple[int, ...]]:
    """What they show of an image: the number of its record, and its grey where that is of another number."""
    states: set[tuple[int, ...]] = set()
    for client in clients:
        record, rendition = (client.get(f"/images/{writes.name}?{query}") for query in ("meta=True", "w=16"))
        if record.status == 200 == rendition.status:
            number, grey = *shown_by(record, "meta=True"), *shown_by(rendition, "w=16")
            states.add((200, number) if grey == number % GREYS else (200, number, grey))
        else:
            states.add((record.status, rendition.status))
    return states


def agree_at_last(writes: Writes, clients: list[Client]) -> tuple[int, ...]:
    """Wait until all show the same, which is the last write acknowledged or one after it, and return it."""
    commands.until(lambda: len(states_of(writes, clients)) == 1, f"all show the same of {writes.name}")
    (state,) = states_of(writes, clients)
    last = range(writes.last_acknowledged(time.monotonic()), len(writes.attempted))
    assert state in {(200, number) if writes.attempted[number] else (404, 404) for number in last}, writes
    return state


def numbers_in_catalogue(node: Node) -> dict[str, int]:
    answer = node.client.get("/images?number__gte=0&limit=1000")
    assert answer.status == 200, answer.body
    return {image["name"]: image["data"]["number"] for image in answer.json()["images"]}


@pytest.mark.parametrize("kind", ["swift", "s3"])
@pytest.mark.timeout(RACE_S * 2 + 120)
def test_killed_nodes_lose_nothing_that_was_acknowledged_and_show_nothing_stale(
    request: pytest.FixtureRequest, tmp_path: Path, container: str, kind: str
) -> None:
    ended = threading.Event()
    written, read, kills = Counter[str](), Counter[str](), 0
    images = [Writes(f"raced/{number}") for number in range(WRITERS)]
    with running(tmp_path, settings_of_shared(request, kind, container)) as (front, nodes):
        end = time.monotonic() + RACE_S

        def keep_writing(writes: Writes) -> None:
            dice = random.Random(writes.name)
            while not ended.is_set():
                write(dice.choice([front, front, *(node.client for node in nodes)]), writes, written)

        def keep_reading(client: Client, patience: float) -> None:
            dice = random.Random(patience)
            while not ended.is_set():
                check(client, dice.choice(images), patience, read)

        readers = [(front, 2 * FRESHNESS_S + 0.5), *((node.client, FRESHNESS_S + 0.5) for node in nodes)]
        with ThreadPoolExecutor(WRITERS + len(readers)) as pool:
            work = [pool.submit(keep_writing, writes) for writes in images]
            work += [pool.submit(keep_reading, *each) for each in readers]
            try:
                while kills < 2 or time.monotonic() < end:
                    threading.Event().wait(PAUSE_S)
                    node = nodes[kills % 2]
                    node.kill()
                    kills += 1
                    node.start()
            finally:
                ended.set()
            for each in work:
                each.result()
        print(f"{kind}: {kills} kills, writes {dict(written)}, reads {dict(read)}")
        assert all(writes.acknowledged for writes in images)
        clients = [front, *(node.client for node in nodes)]
        states = {writes.name: agree_at_last(writes, clients) for writes in images}
        records = {name: state[1] for name, state in states.items() if state[0] == 200}
        for node in nodes:
            commands.until(
                lambda node=node: numbers_in_catalogue(node) == records, "the catalogue has what the records have"
            )
