"""A rule that refuses a caller holds on every way in, and what one caller was served never answers another."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pictures
import pytest
from webserver import Answer, Client, embedded, listening

from image_repo import wiring
from image_repo.access.control import Action, Denial, Grant
from image_repo.access.principal import ANONYMOUS, Principal
from image_repo.catalogue.indexer import SweepState
from image_repo.web.app import create_app
from image_repo.web.fast_path import FastPath

#: the header by which callers of these tests are told apart
CALLER = "X_Caller"
FRIEND, STRANGER = Principal("friend"), Principal("stranger")
HIDDEN = "closed/"


@dataclass
class ClosedFolder:
    """Rules: the stranger gets nothing of a folder, of artifacts and of snapshots; answers are shared elsewhere."""

    denial: Denial = Denial.FORBIDDEN
    #: whom the rules refuse
    refused: frozenset[Principal] = frozenset({STRANGER})

    def decide(self, principal: Principal, action: Action, target: str) -> Grant | Denial:
        is_closed = target.startswith((HIDDEN, ".artifacts", ".snapshots"))
        if is_closed and principal in self.refused:
            return self.denial
        if action is Action.LIST and principal in self.refused:
            return self.denial
        return Grant(is_shared=not is_closed)


def identify(environ: Mapping[str, Any]) -> Principal:
    return {"friend": FRIEND, "stranger": STRANGER}.get(environ.get("HTTP_X_CALLER", ""), ANONYMOUS)


@dataclass
class Site:
    """A server with the fast path on a real socket."""

    client: Client
    rules: ClosedFolder
    fast: FastPath
    #: requests that passed the fast path
    passed: list[str]

    def get(self, path: str, caller: str = "friend", method: str = "GET", **headers: str) -> Answer:
        body = b"{}" if method == "PATCH" else None
        return self.client(method, path, body, X_Caller=caller, **headers)


@contextmanager
def serving(folder: Path, rules: ClosedFolder) -> Iterator[Site]:
    config = embedded(folder, freshness=3600.0, serve_originals=True)
    assert wiring.prepare(config, wiring.build_stores(config)) == []
    repo = wiring.build(config, rules=rules)
    SweepState(0.0, 0.0).save(repo.indexer.index)  # the catalogue is complete
    app = create_app(repo, config, identify)
    passed: list[str] = []

    def application(environ: Any, start_response: Any) -> Any:
        passed.append(environ["REQUEST_URI"])
        return app.wsgi_app(environ, start_response)

    fast = FastPath(application, repo, identify, config.freshness)
    with closing(repo), listening(fast) as port:
        yield Site(Client("127.0.0.1", port), rules, fast, passed)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, dict[str, str]]]:
    """A site with a picture in the open and one in the closed folder; the paths of an artifact and a snapshot."""
    with serving(tmp_path_factory.mktemp("access"), ClosedFolder()) as site:
        for number, name in enumerate(("open/a", "closed/a", "closed/b")):
            body = pictures.jpeg(pictures.photo(60, 40, seed=number))
            made = site.client.put(f"/images/{name}", body, X_Caller="friend")
            assert made.status == 201, made.body
        artifact = site.client("POST", "/artifacts", b"bytes", X_Caller="friend", Content_Type="text/x-bytes")
        snapshot = site.client("POST", "/snapshots", X_Caller="friend")
        assert (artifact.status, snapshot.status) == (201, 201), (artifact.body, snapshot.body)
        yield site, {"ARTIFACT": artifact.json()["artifact_id"], "SNAPSHOT": snapshot.json()["id"]}


PICTURE = "/images/closed/a?xsize=30"


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        pytest.param("GET", PICTURE, {}, id="a picture"),
        pytest.param("GET", "/images/closed%2Fa?xsize=30", {}, id="an encoded path"),
        pytest.param("HEAD", PICTURE, {}, id="its head"),
        pytest.param("GET", PICTURE, {"If_None_Match": "ETAG"}, id="a 304"),
        pytest.param("GET", PICTURE, {"If_None_Match": "*"}, id="a 304 of any"),
        pytest.param("GET", PICTURE, {"If_Match": '"other"'}, id="a failed condition"),
        pytest.param("GET", PICTURE, {"Range": "bytes=0-9"}, id="a range"),
        pytest.param("GET", PICTURE, {"Range": "bytes=99999-"}, id="a range outside"),
        pytest.param("GET", "/images/closed/a?kind=original", {}, id="the original"),
        pytest.param("GET", "/images/closed/a?meta=True", {}, id="the record"),
        pytest.param("GET", "/images/closed/a?url=True", {}, id="a temporary link"),
        pytest.param("GET", "/images/closed/none", {}, id="a name that is not there"),
        pytest.param("GET", "/images/closed/", {}, id="the folder"),
        pytest.param("GET", "/images/closed/?meta=True", {}, id="the records of the folder"),
        pytest.param("GET", "/images/closed/?url=True", {}, id="links to the folder"),
        pytest.param("GET", "/images?name__regex=closed", {}, id="a page of records"),
        pytest.param("GET", "/search?name__regex=closed", {}, id="a search"),
        pytest.param("GET", "/stats/width", {}, id="statistics"),
        pytest.param("GET", "/export", {}, id="an export"),
        pytest.param("GET", "/export?snapshot=SNAPSHOT", {}, id="an export of a snapshot"),
        pytest.param("GET", "/artifacts/ARTIFACT", {}, id="an artifact"),
        pytest.param("HEAD", "/artifacts/ARTIFACT", {}, id="the head of an artifact"),
        pytest.param("GET", "/artifacts/ARTIFACT?meta=True", {}, id="the record of an artifact"),
        pytest.param("GET", "/artifacts", {}, id="a page of artifacts"),
        pytest.param("GET", "/snapshots/SNAPSHOT", {}, id="a snapshot"),
        pytest.param("GET", "/snapshots/SNAPSHOT?check=True", {}, id="the check of a snapshot"),
        pytest.param("GET", "/snapshots", {}, id="the list of snapshots"),
        pytest.param("DELETE", "/images/closed/a", {}, id="a deletion"),
        pytest.param("PATCH", "/images/closed/a", {"Content_Type": "application/json"}, id="a change"),
    ],
)
def test_a_refused_caller_gets_403_after_another_was_served(
    filled: tuple[Site, dict[str, str]], method: str, path: str, headers: dict[str, str]
) -> None:
    site, names = filled
    for name, value in names.items():
        path = path.replace(name, value)
    if method in ("GET", "HEAD"):
        for _ in range(3):  # learn, fill the memory, answer from it
            served = site.get(path, method=method)
        assert served.status in (200, 404), served.body
    etag = site.get(PICTURE).headers["ETag"]
    headers = {name: value.replace("ETAG", etag) for name, value in headers.items()}
    refused = site.get(path, "stranger", method, **headers)
    assert refused.status == 403, refused.body
    assert method == "HEAD" or refused.slug == "forbidden"
    assert site.get(PICTURE).status == 200


def test_a_hidden_image_is_answered_as_a_missing_one(tmp_path: Path) -> None:
    with serving(tmp_path, ClosedFolder(Denial.HIDDEN)) as site:
        site.client.put("/images/closed/a", pictures.jpeg(), X_Caller="friend")
        for query in ("", "?meta=True", "?kind=original", "?xsize=10"):
            assert site.get(f"/images/closed/a{query}").status == 200
            hidden, missing = (site.get(f"/images/closed/{name}{query}", "stranger") for name in ("a", "none"))
            assert (hidden.status, missing.status) == (404, 404)
            assert hidden.body.replace(b"closed/a", b"NAME") == missing.body.replace(b"closed/none", b"NAME")


def test_missing_credentials_are_answered_with_a_challenge(tmp_path: Path) -> None:
    with serving(tmp_path, ClosedFolder(Denial.UNAUTHENTICATED, frozenset({ANONYMOUS}))) as site:
        site.client.put("/images/closed/a", pictures.jpeg(), X_Caller="friend")
        for _ in range(3):
            assert site.get("/images/closed/a").status == 200
        refused = site.get("/images/closed/a", "nobody")
        assert (refused.status, refused.slug) == (401, "unauthenticated")
        assert refused.headers["WWW-Authenticate"] == "Bearer"


def test_each_caller_learns_hits_of_its_own(filled: tuple[Site, dict[str, str]]) -> None:
    site, _ = filled
    path = "/images/open/a?xsize=21"
    for caller in ("friend", "stranger", "nobody"):
        site.passed.clear()
        first, second = site.get(path, caller), site.get(path, caller)
        assert (first.status, second.status, second.layer) == (200, 200, "memory")
        assert site.passed == [path], "the first passes, whatever others were served"


def test_a_rule_that_changes_holds_for_the_next_hit(tmp_path: Path) -> None:
    with serving(tmp_path, ClosedFolder()) as site:
        site.client.put("/images/closed/a", pictures.jpeg(), X_Caller="friend")
        for _ in range(3):
            etag = site.get("/images/closed/a").headers["ETag"]
        site.rules.refused = frozenset({FRIEND})
        assert site.get("/images/closed/a").status == 403
        assert site.get("/images/closed/a", If_None_Match=etag).status == 403


def test_only_what_every_caller_gets_may_be_stored_by_shared_caches(filled: tuple[Site, dict[str, str]]) -> None:
    site, _ = filled
    for _ in range(2):  # from the application, then from memory
        assert site.get("/images/open/a?xsize=22").headers["Cache-Control"] == "public, max-age=3600"
        assert site.get("/images/closed/a?xsize=22").headers["Cache-Control"] == "private, max-age=3600"
    version = site.get("/images/closed/a?meta=True").json()["version"]
    cache_control = site.get(f"/images/closed/a?v={version}").headers["Cache-Control"]
    assert cache_control == "private, max-age=31536000, immutable"
    assert site.get("/images/closed/a?meta=True").headers["Cache-Control"] == "private, no-cache"


def test_a_zip_leaves_out_what_its_caller_may_not_see(tmp_path: Path) -> None:
    @dataclass
    class HidesOne(ClosedFolder):
        def decide(self, principal: Principal, action: Action, target: str) -> Grant | Denial:
            return Denial.HIDDEN if principal == STRANGER and target == "closed/b" else Grant(is_shared=False)

    with serving(tmp_path, HidesOne()) as site:
        for name in ("closed/a", "closed/b", "closed/c"):
            site.client.put(f"/images/{name}", pictures.jpeg(), X_Caller="friend")
        seen = {
            caller: set(ZipFile(BytesIO(site.get("/images/closed/", caller).body)).namelist())
            for caller in ("friend", "stranger")
        }
        assert seen["friend"] - seen["stranger"] == {"closed/b.jpg"}


def test_equal_requests_of_different_callers_are_not_coalesced(tmp_path: Path) -> None:
    with serving(tmp_path, ClosedFolder()) as site:
        site.client.put("/images/closed/a", pictures.jpeg(), X_Caller="friend")
        reached, opened = threading.Barrier(2), threading.Event()
        inner = site.fast._inner

        def held(environ: Any, start_response: Any) -> Any:
            reached.wait(20)  # both have to come this far, or it breaks
            opened.wait(20)
            return inner(environ, start_response)

        site.fast._inner = held
        answers: dict[str, Answer] = {}
        threads = [
            threading.Thread(target=lambda caller=caller: answers.update({caller: site.get(PICTURE, caller)}))
            for caller in ("friend", "stranger")
        ]
        for thread in threads:
            thread.start()
        opened.set()
        for thread in threads:
            thread.join(30)
        assert {caller: answer.status for caller, answer in answers.items()} == {"friend": 200, "stranger": 403}
