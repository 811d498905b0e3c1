"""Hits before Flask: every answer is the one that the application gives, as long as it would give it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pictures
import pytest
from commands import until
from webserver import embedded
from werkzeug.test import EnvironBuilder

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.concurrency import deadline
from image_repo.concurrency.limiter import Limit, Limiter, Stage
from image_repo.config import Config, MemoryCacheConfiguration
from image_repo.model.names import ImageName
from image_repo.repository.repository import Repository
from image_repo.web import coalescing
from image_repo.web import fast_path as fast_module
from image_repo.web.app import create_app
from image_repo.web.fast_path import FastPath
from image_repo.web.identity import anonymous
from image_repo.web.sessions import SESSION_COOKIE


@dataclass(frozen=True)
class Answer:
    """What came back.

    :param headers: sorted, without Date
    """

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    date: str | None = field(compare=False)

    def __getitem__(self, name: str) -> str:
        return dict(self.headers)[name]


def ask(application: Any, uri: str, method: str = "GET", **request_headers: str) -> Answer:
    """One request, as a server hands it over."""
    path, _, query = uri.partition("?")
    headers = {name.replace("_", "-"): value for name, value in request_headers.items()}
    environ = EnvironBuilder(path=path, query_string=query, method=method, headers=headers).get_environ()
    environ["REQUEST_URI"] = uri
    environ.update({"CONTENT_LENGTH": request_headers["Content_Length"]} if "Content_Length" in request_headers else {})
    started: list[Any] = []
    body = application(environ, lambda status, headers, error=None: started.append((status, list(headers))))
    try:
        status, headers = started[-1]
        without_date = sorted(header for header in headers if header[0] != "Date")
        return Answer(status, without_date, b"".join(body), dict(headers).get("Date"))
    finally:
        getattr(body, "close", lambda: None)()


@dataclass
class Worker:
    """One worker: the application, and the fast path before it; which requests went on from it."""

    repo: Repository
    config: Config
    passed: list[str] = field(default_factory=list)
    flask: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.app = create_app(self.repo, self.config)
        self.plain: Any = self.app.wsgi_app._inner  # behind what removes ignored parameters
        self.slow = self.plain.inner
        self.plain.inner = self._flask
        self.fast = FastPath(self._inner, self.repo, anonymous, self.config.freshness)

    def _inner(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.passed.append(environ["REQUEST_URI"])
        return self.plain(environ, start_response)

    def _flask(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.flask.append(environ["REQUEST_URI"])
        return self.slow(environ, start_response)

    def put(self, name: str, picture: bytes, data: dict[str, Any] | None = None) -> None:
        with self.repo.writer.spool() as spool:
            spool.fill([picture])
            self.repo.writer.put(ADMIN, ImageName(name), spool, data=data)

    def warm(self, uri: str, **conditions: str) -> None:
        """Have the fast path remember it, and the memory hold it."""
        for _ in range(2):
            ask(self.fast, uri, **conditions)
        self.passed.clear()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return embedded(tmp_path, freshness=60.0)


@pytest.fixture
def worker(config: Config) -> Iterator[Worker]:
    assert wiring.prepare(config, wiring.build_stores(config)) == []
    repo = wiring.build(config)
    made = Worker(repo, config)
    made.put("a/b", pictures.jpeg(pictures.photo(300, 200)))
    try:
        yield made
    finally:
        repo.close()


@pytest.fixture
def other(config: Config, worker: Worker) -> Iterator[Worker]:
    """Another worker of the same node."""
    repo = wiring.build(config)
    try:
        yield Worker(repo, config)
    finally:
        repo.close()


URI = "/images/a/b?xsize=40"
TAG, DATE = "TAG", "DATE"


@pytest.mark.parametrize(
    ("uri", "method", "conditions", "passed"),
    [
        pytest.param(URI, "GET", {}, False, id="a picture"),
        pytest.param(URI, "HEAD", {}, False, id="its head"),
        pytest.param("/images/a/b", "GET", {}, False, id="without parameters"),
        pytest.param("/images/a/b.png?xsize=40", "GET", {}, False, id="with an ending"),
        pytest.param("/images/a%2Fb?thumbnail=True", "GET", {}, False, id="with an encoded slash"),
        pytest.param(URI + "&download=x.jpg", "GET", {}, False, id="to be saved"),
        pytest.param(URI + "&fit=cover&ysize=40", "GET", {}, False, id="with the focus of the record"),
        pytest.param(URI, "GET", {"If_None_Match": TAG}, False, id="what the client has"),
        pytest.param(URI, "HEAD", {"If_None_Match": TAG}, False, id="the head of what the client has"),
        pytest.param(URI, "GET", {"If_None_Match": '"other"'}, False, id="another than the client has"),
        pytest.param(URI, "GET", {"If_Modified_Since": DATE}, False, id="since its own time"),
        pytest.param(URI, "GET", {"If_None_Match": '"x"', "If_Modified_Since": DATE}, False, id="the tag counts"),
        pytest.param(URI, "GET", {"If_None_Match": f"W/{TAG}"}, True, id="a weak tag"),
        pytest.param(URI, "GET", {"If_None_Match": f'"x", {TAG}'}, True, id="several tags"),
        pytest.param(URI, "GET", {"If_None_Match": "*"}, True, id="any tag"),
        pytest.param(URI, "GET", {"If_None_Match": ""}, True, id="no tag"),
        pytest.param(URI, "GET", {"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, True, id="since long ago"),
        pytest.param(URI, "GET", {"If_Modified_Since": "rubbish"}, True, id="since nonsense"),
        pytest.param(URI, "GET", {"Range": "bytes=0-9"}, True, id="a part"),
        pytest.param(URI, "GET", {"Range": "bytes=0-9", "If_Range": '"x"'}, True, id="a part if"),
        pytest.param(URI, "GET", {"If_Match": '"x"'}, True, id="only if it is another one"),
        pytest.param(URI, "GET", {"Cookie": "a=b"}, False, id="with a cookie that nothing asks for"),
        pytest.param(URI, "GET", {"Authorization": "Bearer x"}, False, id="with credentials that nothing asks for"),
        pytest.param(URI, "POST", {}, True, id="another method"),
        pytest.param(URI, "OPTIONS", {}, True, id="what may be done"),
        pytest.param(URI, "GET", {"Content_Length": "3"}, True, id="with a body"),
        pytest.param(URI, "GET", {"Transfer_Encoding": "chunked"}, True, id="with a body in chunks"),
        pytest.param(URI + "&v=1", "GET", {}, False, id="of a version that it is not"),
        pytest.param("/images/a/b?xsize=0", "GET", {}, True, id="a mistake"),
        pytest.param("/images/none", "GET", {}, True, id="nothing"),
        pytest.param("/images/a/b?meta=True", "GET", {}, True, id="the record"),
        pytest.param("/images/a/?regex=b", "GET", {}, True, id="the only one of a folder"),
        pytest.param("/images/a/b?kind=original", "GET", {}, True, id="the original"),
        pytest.param("/health", "GET", {}, True, id="no picture"),
    ],
)
def test_the_answer_is_the_application_s(
    worker: Worker, uri: str, method: str, conditions: dict[str, str], passed: bool
) -> None:
    worker.warm(uri)
    known = ask(worker.slow, URI)
    conditions = {
        name: text.replace(TAG, known["ETag"]).replace(DATE, known["Last-Modified"])
        for name, text in conditions.items()
    }
    slow, quick = (ask(application, uri, method, **conditions) for application in (worker.slow, worker.fast))
    assert bool(worker.passed) is passed
    assert quick == slow
    if slow.date:
        assert quick.date
        dates = [parsedate_to_datetime(date) for date in (slow.date, quick.date)]
        assert abs(dates[1] - dates[0]) < timedelta(seconds=3)


@pytest.mark.parametrize(
    ("uri", "method", "conditions", "passed"),
    [
        pytest.param(URI, "GET", {}, False, id="a picture"),
        pytest.param("/images/a/b", "GET", {}, False, id="without parameters"),
        pytest.param("/images/a/b.png?xsize=40&quality=50", "GET", {}, False, id="with an ending"),
        pytest.param("/images/a/b?thumbnail=True&", "GET", {}, False, id="a thumbnail"),
        pytest.param("/images/a/b?xsize=30&ysize=20&download=x.jpg", "GET", {}, False, id="to be saved"),
        pytest.param("/images/a/b?xsize=40&kind=auto", "GET", {"Accept": "image/webp"}, False, id="negotiated"),
        pytest.param(URI + "&v=1", "GET", {}, False, id="of a version that it is not"),
        pytest.param(URI + "&fit=cover&ysize=40&focus=0.1,0.2", "GET", {}, False, id="about a point of its own"),
        pytest.param(URI + "&fit=cover&ysize=40", "GET", {}, False, id="with the focus of the record"),
        pytest.param("/images/a%2Fb?xsize=40", "GET", {}, True, id="with an encoded slash"),
        pytest.param("/images/a/b?download=x%20y.jpg", "GET", {}, False, id="with an encoded space"),
        pytest.param(URI, "HEAD", {}, False, id="its head"),
        pytest.param(URI, "GET", {"If_None_Match": '"x"'}, False, id="on a condition"),
        pytest.param(URI, "GET", {"If_Modified_Since": "rubbish"}, False, id="on another"),
        pytest.param(URI, "GET", {"Range": "bytes=0-9"}, False, id="a part"),
        pytest.param(URI, "GET", {"Authorization": "Bearer x"}, False, id="with credentials"),
        pytest.param(URI, "GET", {"Content_Length": "3"}, False, id="with a body"),
        pytest.param("/images/a/b?xsize=0", "GET", {}, False, id="a mistake"),
        pytest.param("/images/a/b?xsize=40&xsize=40", "GET", {}, False, id="twice"),
        pytest.param("/images/a/.?xsize=40", "GET", {}, False, id="no name"),
        pytest.param("/images//a?xsize=40", "GET", {}, False, id="with an empty part"),
        pytest.param("/images/none", "GET", {}, False, id="nothing"),
        pytest.param("/images/a/b?meta=True", "GET", {}, False, id="the record"),
        pytest.param("/images/a/", "GET", {}, False, id="a folder"),
        pytest.param("/images/a/b?kind=original", "GET", {}, False, id="the original"),
        pytest.param("/images", "GET", {}, True, id="all images"),
        pytest.param("/nothing", "GET", {}, True, id="no path of ours"),
    ],
)
def test_a_plain_request_is_answered_as_by_flask(
    config: Config, worker: Worker, other: Worker, uri: str, method: str, conditions: dict[str, str], passed: bool
) -> None:
    ask(worker.slow, uri, method, **conditions)
    repo = wiring.build(config)
    try:
        slow, quick = (
            ask(application, uri, method, **conditions) for application in (Worker(repo, config).slow, other.fast)
        )
    finally:
        repo.close()
    assert bool(other.flask) is passed
    assert quick == slow
    assert bool(quick.date) is bool(slow.date)
    if not passed and quick.status == "200 OK" and quick["Content-Type"].startswith("image/"):
        assert quick["Cache-Status"] == "image_repo; hit; detail=disk"
        assert ask(other.fast, uri, method, **conditions)["Cache-Status"] == "image_repo; hit; detail=memory"


def test_a_plain_request_is_rendered_as_by_flask(worker: Worker, other: Worker) -> None:
    slow, quick = ask(worker.slow, "/images/a/b?xsize=41"), ask(other.plain, "/images/a/b?xsize=42")
    assert other.flask == []
    for answer in (slow, quick):
        assert answer["Cache-Status"] == "image_repo; fwd=uri-miss; detail=rendered"
    assert {name for name, _ in slow.headers} == {name for name, _ in quick.headers}
    assert [step.partition(";")[0] for step in quick["Server-Timing"].split(", ")] == [
        step.partition(";")[0] for step in slow["Server-Timing"].split(", ")
    ]


def _gets(worker: Worker) -> int:
    """How often the store was asked for an object."""
    lines = worker.repo.counters.text().splitlines()
    return int(next(line for line in lines if line.startswith('image_repo_store_calls_total{verb="get"}')).split()[1])


def test_what_goes_wrong_with_a_plain_request_goes_wrong_once(worker: Worker) -> None:
    path = Path(worker.config.persistent_store_configuration.path) / "broken.jpg"
    whole = pictures.jpeg(pictures.photo(300, 200))
    path.write_bytes(whole[: len(whole) // 2])
    counts, answers = [_gets(worker)], []
    for application, side in ((worker.slow, 40), (worker.slow, 41), (worker.fast, 42)):
        answers.append(ask(application, f"/images/broken?xsize={side}"))
        counts.append(_gets(worker))
    assert (answers[0].status, worker.flask) == ("422 UNPROCESSABLE ENTITY", [])
    assert answers[0] == answers[1] == answers[2]
    assert counts[3] - counts[2] == counts[2] - counts[1] > 0


def test_a_refusal_costs_no_more_than_it_must_and_is_the_same(worker: Worker) -> None:
    with ExitStack() as held:
        for _ in range(-(-worker.config.server.threads // 2)):
            held.enter_context(worker.repo.limiter.admit(Stage.RENDITION))
        slow, quick = ask(worker.slow, URI), ask(worker.fast, URI)
    assert quick == slow
    assert (quick.status, quick["Retry-After"], worker.flask) == ("503 SERVICE UNAVAILABLE", slow["Retry-After"], [])


def test_what_is_sent_again_is_told_as_a_hit_in_memory(worker: Worker) -> None:
    first = ask(worker.fast, URI)
    again = ask(worker.fast, URI)
    assert "Server-Timing" in dict(first.headers)
    assert "Server-Timing" not in dict(again.headers)
    assert again["Cache-Status"] == "image_repo; hit; detail=memory"
    assert (again.body, worker.passed) == (first.body, [URI])


def test_a_304_is_repeated_although_no_200_came_before_it(worker: Worker) -> None:
    whole = ask(worker.slow, URI)
    answers = [ask(worker.fast, URI, If_None_Match=whole["ETag"]) for _ in range(3)]
    assert [answer.status for answer in answers] == ["304 NOT MODIFIED"] * 3
    assert answers[1] == answers[0]
    assert worker.passed == [URI]
    assert ask(worker.fast, URI).body == whole.body  # of whose head the 304 said little: the application answers
    again = ask(worker.fast, URI)
    assert (again.body, again["Content-Length"], again["Content-Type"]) == (
        whole.body, whole["Content-Length"], whole["Content-Type"],
    )  # fmt: skip
    assert worker.passed == [URI, URI]


def test_a_304_of_the_application_leaves_the_200_that_is_known(worker: Worker) -> None:
    worker.warm(URI)
    whole = ask(worker.fast, URI)
    assert ask(worker.fast, URI, If_None_Match=f"W/{whole['ETag']}").status == "304 NOT MODIFIED"
    passed = len(worker.passed)
    assert ask(worker.fast, URI) == whole
    assert len(worker.passed) == passed


def test_a_replaced_picture_is_never_shown_again(worker: Worker) -> None:
    worker.warm(URI)
    before = ask(worker.fast, URI)
    worker.put("a/b", pictures.jpeg(pictures.photo(300, 200, seed=1)))
    after = ask(worker.fast, URI)
    assert (after.body == before.body, after["ETag"] == before["ETag"]) == (False, False)
    assert ask(worker.fast, URI, If_None_Match=before["ETag"]).status == "200 OK"
    assert ask(worker.fast, URI) == ask(worker.slow, URI)


def test_what_another_worker_replaces_is_seen_at_once(worker: Worker, other: Worker) -> None:
    worker.warm(URI)
    before = ask(worker.fast, URI)
    other.put("a/b", pictures.jpeg(pictures.photo(300, 200, seed=2)))
    assert ask(worker.fast, URI, If_None_Match=before["ETag"]).status == "200 OK"
    assert ask(worker.fast, URI).body == ask(other.slow, URI).body != before.body


@pytest.mark.parametrize("mine", [pytest.param(True, id="here"), pytest.param(False, id="in another worker")])
def test_a_deleted_picture_is_gone_at_once(worker: Worker, other: Worker, mine: bool) -> None:
    worker.warm(URI)
    tag = ask(worker.fast, URI)["ETag"]
    (worker if mine else other).repo.writer.delete(ADMIN, ImageName("a/b"))
    for conditions in ({}, {"If_None_Match": tag}):
        assert ask(worker.fast, URI, **conditions).status == "404 NOT FOUND"


def test_a_purged_picture_is_made_anew(worker: Worker) -> None:
    worker.warm(URI)
    worker.repo.writer.purge(ADMIN, ImageName("a/b"))
    assert ask(worker.fast, URI)["Cache-Status"].endswith("detail=rendered")


def test_the_folder_of_the_marks_may_vanish(worker: Worker, other: Worker, config: Config) -> None:
    worker.warm(URI)
    for marks in Path(config.local_file_cache_path).glob("*/marks"):
        marks.unlink()
    time.sleep(1.1)  # the marks look for their file once a second
    other.put("a/b", pictures.jpeg(pictures.photo(300, 200, seed=2)))
    assert ask(worker.fast, URI).body == ask(other.slow, URI).body


def test_the_focus_of_the_record_is_asked_for_as_often_as_the_application_does(worker: Worker) -> None:
    uri = "/images/a/b?xsize=40&ysize=40&fit=cover"
    worker.warm(uri)
    before = ask(worker.fast, uri)
    assert worker.passed == []
    worker.put("a/b", pictures.jpeg(pictures.photo(300, 200)), {"focus": "0,0"})
    assert ask(worker.fast, uri).body == ask(worker.slow, uri).body != before.body


def test_a_negotiated_picture_is_the_one_for_this_client(worker: Worker) -> None:
    uri = "/images/a/b?xsize=40&kind=auto"
    accepts = ["image/avif,*/*", "image/webp", "text/html", ""]
    for accept in accepts:
        worker.warm(uri, Accept=accept)
    for accept in accepts:
        quick, slow = (ask(application, uri, Accept=accept) for application in (worker.fast, worker.slow))
        assert (quick, quick["Vary"]) == (slow, "Accept")
    assert worker.passed == []
    assert {ask(worker.fast, uri, Accept=accept)["Content-Type"] for accept in accepts} == {
        "image/avif", "image/webp", "image/jpeg"
    }  # fmt: skip


def test_what_the_memory_dropped_is_the_application_s_again(worker: Worker) -> None:
    worker.warm(URI)
    answer = ask(worker.fast, URI)
    for number in range(1, 6):
        worker.put(f"noise/{number}", pictures.jpeg(pictures.photo(300, 200, seed=number)))
    assert worker.repo.renditions.caches.tiers[0].purge("a/b@") >= 1
    again = ask(worker.fast, URI)
    assert (again.body, again["Cache-Status"]) == (answer.body, "image_repo; hit; detail=disk")
    assert ask(worker.fast, URI, If_None_Match=answer["ETag"]).status == "304 NOT MODIFIED"


def test_it_remembers_a_bounded_number_of_requests(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_module, "_MAX_ENTRIES", 3)
    uris = [f"/images/a/b?xsize={side}" for side in range(20, 30)]
    for uri in uris:
        ask(worker.fast, uri)
    worker.passed.clear()
    for uri in reversed(uris):
        assert ask(worker.fast, uri).status == "200 OK"
    assert worker.passed == uris[-4::-1]


def test_a_long_request_is_not_remembered(worker: Worker) -> None:
    uri = "/images/" + "%61/" + "b" * 2000
    for _ in range(2):
        assert ask(worker.fast, uri).status == "400 BAD REQUEST"
    assert worker.passed == [uri, uri]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"freshness": 0.0}, id="nothing may be kept"),
        pytest.param({"memory_cache_configuration": MemoryCacheConfiguration(max_size=0)}, id="there is no memory"),
    ],
)
def test_without_what_it_needs_everything_goes_on(worker: Worker, config: Config, changes: dict[str, Any]) -> None:
    config = replace(config, **changes)
    repo = wiring.build(config)
    try:
        bare = Worker(repo, config)
        for _ in range(3):
            assert ask(bare.fast, URI).status == "200 OK"
        assert len(bare.passed) == 3
    finally:
        repo.close()


def test_the_version_is_asked_for_as_often_as_the_application_does(config: Config, worker: Worker) -> None:
    """A picture that another tool replaces is shown for ``freshness`` seconds at the most, however busy it is."""
    freshness = 1.0
    config = replace(config, freshness=freshness)
    repo = wiring.build(config)
    try:
        busy = Worker(repo, config)
        before = ask(busy.fast, URI)
        path = Path(config.persistent_store_configuration.path) / "a" / "b.jpg"
        fresh = path.with_name("new")
        fresh.write_bytes(pictures.jpeg(pictures.photo(300, 200, seed=3)))
        fresh.replace(path)
        replaced = time.monotonic()
        while (answer := ask(busy.fast, URI)).body == before.body:
            assert time.monotonic() - replaced < 2 * freshness
        assert answer == ask(busy.slow, URI) or answer["ETag"] == ask(busy.slow, URI)["ETag"]
        requests_before = len(busy.passed)
        until = time.monotonic() + 2.5 * freshness
        hits = 0
        while time.monotonic() < until:
            assert ask(busy.fast, URI)["ETag"] == answer["ETag"]
            hits += 1
        # In use it is asked for ahead, off the path: no request need go on once a freshness.
        assert len(busy.passed) - requests_before <= 1
        assert hits > 100
    finally:
        repo.close()


def test_many_threads_see_one_truth(worker: Worker) -> None:
    """Readers on the fast path while a writer replaces the picture: never an older one after a newer one."""
    versions: list[str] = []
    seen: list[list[str]] = [[] for _ in range(4)]
    done = threading.Event()

    def read(mine: list[str]) -> None:
        while not done.is_set():
            mine.append(ask(worker.fast, URI)["ETag"])

    readers = [threading.Thread(target=read, args=(mine,)) for mine in seen]
    for reader in readers:
        reader.start()
    for seed in range(8):
        worker.put("a/b", pictures.jpeg(pictures.photo(60, 40, seed=seed)))
        versions.append(ask(worker.fast, URI)["ETag"])
    done.set()
    for reader in readers:
        reader.join()
    assert len(set(versions)) == 8
    for mine in seen:
        order = [versions.index(tag) for tag in mine if tag in versions]
        assert order == sorted(order)


class Held:
    """Stands behind the fast path, and answers nothing before it is opened."""

    def __init__(self, worker: Worker) -> None:
        self._inner = worker.fast._inner
        self.opened = threading.Event()
        self.requested_uris: list[str] = []
        worker.fast._inner = self

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.requested_uris.append(environ["REQUEST_URI"])
        assert self.opened.wait(20)
        return self._inner(environ, start_response)


def _waiting(worker: Worker) -> int:
    """How many wait for an answer to somebody else."""
    return sum(len(queue._places) for queue in worker.fast._coalescer._queues.values())


def _alike(worker: Worker, requests: list[tuple[str, str, dict[str, str]]], waiting: int) -> tuple[list[Answer], int]:
    """What requests get that come while the first of them is answered; how many had to be."""
    held = Held(worker)
    with ThreadPoolExecutor(len(requests)) as pool:
        (uri, method, conditions), *others = requests
        first = pool.submit(ask, worker.fast, uri, method, **conditions)
        until(lambda: len(held.requested_uris) == 1, "the first is asked for")
        rest = [pool.submit(ask, worker.fast, uri, method, **conditions) for uri, method, conditions in others]
        until(lambda: _waiting(worker) == waiting, "the others wait")
        until(lambda: len(held.requested_uris) == len(requests) - waiting, "those who do not wait are through")
        held.opened.set()
        return [answer.result(20) for answer in (first, *rest)], len(held.requested_uris)


def test_requests_that_are_alike_are_answered_with_one(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "WAIT_S", 20.0)
    answers, passed_on = _alike(worker, [(URI, "GET", {}), (URI, "GET", {"Cookie": "a=b"})] * 10, waiting=19)
    assert passed_on == 1
    assert {answer.body for answer in answers} == {ask(worker.slow, URI).body}
    assert [answer["Cache-Status"] for answer in answers[1:]] == ["image_repo; hit; detail=memory"] * 19
    assert worker.fast._coalescer._queues == {}


@pytest.mark.parametrize(
    ("uri", "method", "conditions"),
    [
        pytest.param(URI, "HEAD", {}, id="for the head alone"),
        pytest.param(URI, "GET", {"Range": "bytes=0-9"}, id="for a part"),
        pytest.param(URI, "GET", {"Accept": "image/webp"}, id="with another wish"),
        pytest.param(URI + "1", "GET", {}, id="for another picture"),
        pytest.param("/health", "GET", {}, id="for no picture"),
    ],
)
def test_what_is_not_alike_does_not_wait(worker: Worker, uri: str, method: str, conditions: dict[str, str]) -> None:
    _, passed_on = _alike(worker, [(URI, "GET", {}), (uri, method, conditions)], waiting=0)
    assert passed_on == 2


def test_who_waits_for_an_answer_that_is_of_no_use_asks_himself(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coalescing, "WAIT_S", 20.0)
    answers, passed_on = _alike(worker, [("/images/none", "GET", {})] * 5, waiting=4)
    assert (passed_on, {answer.status for answer in answers}) == (5, {"404 NOT FOUND"})


def test_nobody_waits_long_for_somebody_else(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "WAIT_S", 0.05)
    held = Held(worker)
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(ask, worker.fast, URI) for _ in range(5)]
        until(lambda: len(held.requested_uris) == 5, "all ask by themselves")
        held.opened.set()
        assert {answer.result(20).status for answer in answers} == {"200 OK"}
    assert worker.fast._coalescer._queues == {}


def test_who_finds_no_room_to_wait_asks_himself(worker: Worker) -> None:
    worker.fast._coalescer = coalescing.RequestCoalescer(Limiter({Stage.COALESCED: Limit(1)}))
    with worker.fast._coalescer._limiter.admit(Stage.COALESCED):
        answers, passed_on = _alike(worker, [(URI, "GET", {})] * 3, waiting=0)
    assert (passed_on, {answer.status for answer in answers}) == (3, {"200 OK"})


def test_those_who_wait_take_no_place_of_those_who_wait_for_pictures(worker: Worker, monkeypatch: Any) -> None:
    monkeypatch.setattr(coalescing, "WAIT_S", 20.0)
    with ExitStack() as taken:
        for _ in range(-(-worker.config.server.threads // 2) - 1):  # there is one place left, for the first
            taken.enter_context(worker.repo.limiter.admit(Stage.RENDITION))
        answers, passed_on = _alike(worker, [(URI, "GET", {})] * 4, waiting=3)
    assert (passed_on, {answer.status for answer in answers}) == (1, {"200 OK"})


def test_nobody_waits_for_what_is_known_to_be_of_no_use(worker: Worker) -> None:
    uri = "/images/a/b?meta=True"
    ask(worker.fast, uri)
    _, passed_on = _alike(worker, [(uri, "GET", {})] * 3, waiting=0)
    assert passed_on == 3


def test_a_connection_is_at_work_while_its_request_waits(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "WAIT_S", 20.0)
    marked: list[int] = []

    def at_work() -> Callable[[], None]:
        marked.append(1)
        return lambda: marked.append(-1)

    worker.fast._at_work = at_work
    held = Held(worker)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(ask, worker.fast, URI) for _ in range(3)]
        until(lambda: len(held.requested_uris) == 1 and _waiting(worker) == 2, "two wait")
        assert sum(marked) == 3
        held.opened.set()
        assert {answer.result(20).status for answer in answers} == {"200 OK"}
    assert (sum(marked), len(marked)) == (0, 6)


def test_all_waiting_of_a_request_shares_one_deadline(worker: Worker) -> None:
    left: list[float] = []
    inner = worker.fast._inner

    def note(environ: Any, start_response: Any) -> Iterable[bytes]:
        left.append(deadline.left(1000.0))
        return inner(environ, start_response)

    worker.fast._inner = note
    ask(worker.fast, URI)
    assert 0 < left[0] <= worker.config.render.wait
    assert deadline.left(1000.0) > worker.config.render.wait


@pytest.mark.parametrize(
    ("uri", "headers", "is_answered"),
    [
        pytest.param(URI, {}, True, id="a picture"),
        pytest.param(URI, {"Cookie": "theme=dark"}, True, id="another's cookie"),
        pytest.param(URI, {"Authorization": "Bearer ir_unknown"}, False, id="a key, which the store may be asked for"),
        pytest.param(URI, {"Cookie": f"a=b; {SESSION_COOKIE}=x"}, False, id="a session"),
        pytest.param("/images/large?kind=png", {}, False, id="a large body"),
    ],
)
def test_without_waiting_it_answers_what_needs_none(
    worker: Worker, uri: str, headers: dict[str, str], is_answered: bool
) -> None:
    worker.put("large", pictures.jpeg(pictures.photo(400, 300)))
    worker.warm(uri)
    assert (worker.fast.repeat(environ_of(uri, headers), may_wait=False) is not None) == is_answered
    assert worker.fast.repeat(environ_of(uri, headers)) is not None  # as another thread may
    assert worker.passed == []


def test_without_waiting_it_revalidates_nothing(worker: Worker) -> None:
    worker.fast = FastPath(worker._inner, worker.repo, anonymous, 4 * 60.0)  # so that a lease is due at once
    worker.warm(URI)
    until(lambda: worker.fast.repeat(environ_of(URI, {}), may_wait=False) is None, "it is due")
    assert worker.fast.repeat(environ_of(URI, {})) is not None


def environ_of(uri: str, headers: dict[str, str]) -> dict[str, Any]:
    path, _, query = uri.partition("?")
    environ = EnvironBuilder(path=path, query_string=query, headers=headers).get_environ()
    environ.pop("CONTENT_LENGTH", None)
    return {**environ, "REQUEST_URI": uri}
