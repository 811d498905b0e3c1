"""The catalogue is made anew by a command, and by servers: which may be killed, and are several."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pictures
import pytest
from click.testing import CliRunner, Result
from commands import configure, listens_on, serving, until
from following import followed, indexed_records
from webserver import embedded

from image_repo import config, wiring
from image_repo.access.principal import ADMIN
from image_repo.catalogue.indexer import REBUILDING, SWEPT
from image_repo.cli import catalogue
from image_repo.cli import startup as verbs
from image_repo.cli.main import main
from image_repo.config import CatalogueConfiguration, Config
from image_repo.model.names import ImageName
from image_repo.repository.metadata import UNCONDITIONAL
from image_repo.sync import daemon
from image_repo.sync.daemon import FOLLOWER
from image_repo.sync.membership import LIFETIME_S, FolderMembershipBoard, Membership, Node

ONE = pictures.jpeg(pictures.photo(40, 30))
TWO = pictures.jpeg(pictures.photo(20, 10, seed=1))


@pytest.fixture
def run() -> Iterator[Callable[..., Result]]:
    """The command, in this process; its log goes where it says, and no further."""
    root = logging.getLogger()
    before, level, factory = root.handlers[:], root.level, logging.getLogRecordFactory()
    root.handlers[:] = []
    quiet = {name: None for name in os.environ if name.startswith(("IMAGE_REPO_", "OS_", "ST_"))}
    yield lambda *arguments: CliRunner(env=quiet).invoke(main, list(map(str, arguments)))
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.setLogRecordFactory(factory)
    logging.captureWarnings(False)


def fill(folder: Path, *names: str, body: bytes = ONE) -> None:
    for name in names:
        path = folder / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


@pytest.fixture
def path(tmp_path) -> Path:
    """A configuration, and a container with three pictures of another tool, one of which is none."""
    made = configure(tmp_path, catalogue={"reconcile": 3600})
    fill(tmp_path / "originals", "a", "b/c")
    fill(tmp_path / "originals", "broken", body=b"none")
    return made


def documents(path: Path) -> dict[str, dict]:
    with closing(wiring.build(config.load(path, {}))) as repo:
        return indexed_records(repo)


# -- the command -----------------------------------------------------------------------


def test_rebuild_tells_what_it_did_and_does_nothing_twice(path, run):
    first = run("-y", path, "rebuild")
    assert (first.exit_code, first.stdout) == (
        0,
        "3 images, 0 artifacts: 3 written, 0 removed, 3 originals read.\n",
    ), first.stderr
    assert "Images" in first.stderr and "Originals" in first.stderr, "progress"
    before = documents(path)
    assert {name: document["width"] for name, document in before.items()} == {"a": 40, "b/c": 40, "broken": None}
    again = run("-y", path, "rebuild")
    assert again.stdout == "3 images, 0 artifacts: 0 written, 0 removed, 0 originals read.\n"
    (path.parent / "originals" / "a.jpg").unlink()
    assert run("-y", path, "rebuild").stdout == "2 images, 0 artifacts: 0 written, 1 removed, 0 originals read.\n"
    # Of the broken one it is forgotten that it is.
    scratch = run("-y", path, "rebuild", "--from-scratch")
    assert scratch.stdout == "2 images, 0 artifacts: 2 written, 0 removed, 1 originals read.\n"
    assert documents(path) == {name: before[name] for name in ("b/c", "broken")}


def test_a_rebuilt_catalogue_needs_no_server_to_be_complete(path, run):
    run("-y", path, "rebuild")
    with closing(wiring.build(config.load(path, {}))) as repo:
        assert (repo.indexer.index.note(REBUILDING), repo.indexer.index.note(SWEPT) is not None) == (None, True)


def test_without_a_catalogue_there_is_nothing_to_rebuild(tmp_path, run):
    outcome = run("-y", configure(tmp_path, catalogue={"enabled": False}), "rebuild")
    assert outcome.exit_code == 1
    assert "catalogue.enabled" in outcome.stderr


def test_keys_are_kept_in_order_and_no_more(path, run):
    added = run("-y", path, "index", "width", "data.site", "site,uploaded")
    assert (added.exit_code, added.stdout.split()) == (0, ["data.site", "data.site,uploaded", "width"]), added.stderr
    assert run("-y", path, "index", "--list").stdout == added.stdout
    dropped = run("-y", path, "index", "--drop", "site", "exif")
    assert (dropped.exit_code, dropped.stdout.split()) == (1, ["data.site,uploaded", "width"])
    assert dropped.stderr == "exif has no index.\n"
    run("-y", path, "rebuild", "--from-scratch")
    assert run("-y", path, "index", "--list").stdout == dropped.stdout, "they outlive what is thrown away"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["a..b"], 1), ([], 2), (["--list", "a"], 2), (["--drop"], 2), (["a,"], 1), ([","], 1)],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else None,
)
def test_keys_that_are_none(path, arguments, status, run):
    outcome = run("-y", path, "index", *arguments)
    assert (outcome.exit_code, outcome.stdout) == (status, "")
    assert "Traceback" not in outcome.stderr


def test_check_tells_how_far_the_catalogue_is_behind_and_that_is_no_fault(path, tmp_path, run):
    (tmp_path / "originals" / "broken.jpg").unlink()
    outcome = run("-y", path, "check")
    assert "catalogue: 2 images are not in it yet" in outcome.stderr
    assert outcome.exit_code == 0
    run("-y", path, "rebuild")
    fill(tmp_path / "originals", "a", body=TWO)
    (tmp_path / "originals" / "b" / "c.jpg").unlink()
    (tmp_path / "originals" / "b" / "c.json").unlink()
    outcome = run("-y", path, "check")
    assert "catalogue: 1 images have changed since" in outcome.stderr
    assert "catalogue: 1 images are in it but no longer in the container" in outcome.stderr
    run("-y", path, "rebuild")
    assert "catalogue" not in run("-y", path, "check").stderr


def test_check_tells_of_a_catalogue_that_cannot_be_asked(path, tmp_path, run):
    run("-y", path, "rebuild")
    file = next((tmp_path / "files").glob("*/catalogue.sqlite"))
    for each in file.parent.glob("catalogue.sqlite*"):
        each.unlink()
    file.mkdir()
    outcome = run("-y", path, "check")
    assert outcome.exit_code == 1
    assert "catalogue: " in outcome.stdout


# -- -t, and other nodes ---------------------------------------------------------------


def test_the_trial_tells_of_the_catalogue(path, run):
    assert "0% complete" in run("-y", path, "-t").stdout
    run("-y", path, "rebuild")
    outcome = run("-y", path, "-t")
    assert outcome.exit_code == 0
    assert "ok     catalogue: SQLite" in outcome.stdout
    assert "3 images, complete" in outcome.stdout


def node(folder: Path, name: str, **catalogue: object) -> Config:
    """A node of its own, over the container that all of them share."""
    own = embedded(folder / name, catalogue=CatalogueConfiguration(**catalogue))
    return replace(own, persistent_store_configuration=embedded(folder).persistent_store_configuration)


def nodes_of(config: Config) -> Membership:
    (Path(config.local_file_cache_path).parent).mkdir(exist_ok=True)
    nodes = wiring.nodes(config, wiring.build_stores(config))
    assert nodes is not None
    return nodes


@pytest.mark.parametrize(
    ("here", "there", "fine"),
    [
        pytest.param({}, False, False, id="SQLite on both"),
        pytest.param({}, True, False, id="SQLite here, PostgreSQL there"),
        pytest.param({"enabled": False}, False, True, id="none here, SQLite there"),
        pytest.param({}, None, True, id="SQLite here, none there"),
    ],
)
def test_nodes_that_do_not_hear_of_each_other_are_refused(tmp_path, caplog, here, there, fine):
    (tmp_path / "data").mkdir()
    ours, other = node(tmp_path, "one", **here), nodes_of(node(tmp_path, "two"))
    assert all(finding.ok for finding in verbs.trial(ours)), "nobody else is there yet"
    other.tell(shared=there)
    wrong = [finding for finding in verbs.trial(ours) if not finding.ok]
    assert [finding.subject for finding in wrong] == ([] if fine else ["other nodes"])
    assert fine or "postgresql://" in wrong[0].detail
    verbs.prepare(ours)
    assert ("postgresql://" in caplog.text) is not fine
    other.leave()
    assert all(finding.ok for finding in verbs.trial(ours)), "it has left"


def test_a_node_is_known_again_and_is_not_its_own_neighbour(tmp_path):
    (tmp_path / "data").mkdir()
    ours = nodes_of(node(tmp_path, "one"))
    ours.tell(shared=False)
    assert nodes_of(node(tmp_path, "one")).id == ours.id
    assert nodes_of(node(tmp_path, "one")).others() == []
    assert [other.id for other in nodes_of(node(tmp_path, "two")).others()] == [ours.id]


def test_a_node_that_was_killed_is_forgotten_after_a_while(tmp_path):
    board = FolderMembershipBoard(tmp_path / "nodes")
    ours = Membership(board, tmp_path)
    now = time.time()
    for name, until_ in (("late", now - 1), ("long", now - LIFETIME_S - 10), ("there", now + 50)):
        board.write(name, json.dumps({"id": name, "host": "h", "shared": False, "until": until_}).encode(), until_)
    board.write("odd", b"[1]", now + 50)
    assert ours.others() == [Node("there", "h", False, now + 50)]
    assert not (tmp_path / "nodes" / "long").exists()


# -- servers ---------------------------------------------------------------------------


def query_catalogue(path: Path, what: str) -> dict:
    with urllib.request.urlopen(f"http://{listens_on(path)}/{what}", timeout=10) as answer:
        return json.load(answer)


def state(path: Path) -> tuple[str | None, int]:
    with closing(wiring.open_index(config.load(path, {}), wiring.build_stores(config.load(path, {})).origin)) as index:
        assert index is not None
        return index.note(REBUILDING), len(index.names())


def holder(path: Path) -> int:
    """The process that does it (proc(5), locks)."""
    file = next((path.parent / "files").glob("*/reconciling"), None)
    if file is None:
        return 0
    inode = str(file.stat().st_ino)
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return next((int(line[4]) for line in lines if line[1] == "FLOCK" and line[5].endswith(f":{inode}")), 0)


def complete(path: Path, count: int) -> bool:
    answer = query_catalogue(path, "images?width=40&count=exact&limit=1")
    return answer["count"] == count and "catalogue" not in answer


@pytest.mark.servers
def test_a_filled_container_is_served_while_its_catalogue_is_made_also_after_a_kill(tmp_path):
    path = configure(tmp_path, catalogue={"reconcile": 3600})
    names = [f"{number:03}" for number in range(300)]
    fill(tmp_path / "originals", *names)
    with serving(path) as server:
        request = urllib.request.Request(
            f"http://{listens_on(path)}/images/new", ONE, {"Content-Type": "image/jpeg"}, method="PUT"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 201
        until(lambda: (state(path)[0] or "") > "0.05", "it is under way")
        with urllib.request.urlopen(f"http://{listens_on(path)}/images/299?w=20", timeout=10) as answer:
            assert answer.status == 200
        assert query_catalogue(path, "images?limit=1")["catalogue"] == "rebuilding"
        kill_all(server.pid)
        server.wait()
    status, there = state(path)
    assert status is not None and there >= 300, "it was not complete yet"
    with serving(path):
        until(lambda: complete(path, 301), "it is complete")
    assert state(path) == (None, 301)


def kill_all(pid: int) -> None:
    """A process and its children, with no time to do anything."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for each in (pid, *map(int, children)):
        os.kill(each, signal.SIGKILL)


@pytest.mark.servers
def test_one_process_of_a_node_does_it_and_another_takes_over(path, tmp_path):
    with serving(path):
        until(lambda: holder(path) > 0, "somebody does it")
        first = holder(path)
        os.kill(first, signal.SIGKILL)
        until(lambda: holder(path) not in (0, first), "somebody else does it")
        fill(tmp_path / "originals", "new")
        assert query_catalogue(path, "images/new?meta=True")["width"] == 40
        until(lambda: complete(path, 3), "it is told of")
        assert len(list((tmp_path / "originals" / ".image_repo" / "nodes").iterdir())) == 1
    assert list((tmp_path / "originals" / ".image_repo" / "nodes").iterdir()) == [], "a server that ends says so"
    assert holder(path) == 0


@pytest.mark.servers
def test_what_other_tools_do_appears_after_one_look(tmp_path):
    path = configure(tmp_path, catalogue={"reconcile": 1})
    fill(tmp_path / "originals", "a", "b")
    with serving(path):
        until(lambda: complete(path, 2), "the first look")
        fill(tmp_path / "originals", "c")
        until(lambda: complete(path, 3), "added")
        fill(tmp_path / "originals", "b", body=TWO)
        until(lambda: complete(path, 2), "replaced")
        (tmp_path / "originals" / "a.jpg").unlink()
        until(lambda: complete(path, 1), "removed")


@pytest.mark.servers
def test_nodes_that_share_a_postgresql_are_one_catalogue_and_one_of_them_follows(tmp_path, postgres):
    (tmp_path / "data").mkdir()
    shared = {"url": postgres, "reconcile": 1}
    one, two = (node(tmp_path, name, **shared) for name in ("one", "two"))
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with closing(wiring.build(one)) as first, closing(wiring.build(two)) as second:
        ends = wiring.start_daemon(one, first), wiring.start_daemon(two, second)
        try:
            until(lambda: second.indexer.index.note(SWEPT) is not None, "one of them has looked")
            until(lambda: second.indexer.index.note(FOLLOWER) is not None, "and says so")
            claimed = json.loads(second.indexer.index.note(FOLLOWER) or "")["node"]
            fill(tmp_path / "data", "a")
            until(lambda: indexed_records(first).get("a", {}).get("width") == 40, "what another tool did is seen")
            assert indexed_records(second) == indexed_records(first)
            second.writer.replace_data(ADMIN, ImageName("b"), {"site": 1}, UNCONDITIONAL)
            assert indexed_records(first)["b"]["data"] == {"site": 1}, "at once"
            assert json.loads(first.indexer.index.note(FOLLOWER) or "")["node"] == claimed
            assert all(finding.ok for finding in verbs.trial(one))
            ends[0]()
            ends[1]()
            assert first.indexer.index.note(FOLLOWER) is None
            ends = (wiring.start_daemon(two, second),)
            fill(tmp_path / "data", "c")
            until(lambda: indexed_records(first).get("c", {}).get("width") == 40, "the other one follows alone")
        finally:
            for end in ends:
                end()


def test_a_server_that_looks_for_nothing_by_itself_is_complete_all_the_same(tmp_path):
    (tmp_path / "data").mkdir()
    fill(tmp_path / "data", "a")
    settings = embedded(tmp_path, catalogue=CatalogueConfiguration(reconcile=0))
    with closing(wiring.build(settings)) as repo:
        end = wiring.start_daemon(settings, repo)
        try:
            until(lambda: repo.indexer.index.note(SWEPT) is not None, "the first look")
        finally:
            end()
        followed(repo)
        assert indexed_records(repo)["a"]["width"] == 40


def test_an_index_that_is_made_anew_while_it_follows_is_not_taken_for_complete(tmp_path):
    settings = embedded(tmp_path, catalogue=CatalogueConfiguration(reconcile=3600))
    fill(tmp_path / "data", "a", "b/c")
    with closing(wiring.build(settings)) as repo:
        own = wiring.own_folder(settings, repo.origin)
        works = daemon.CatalogueDaemon(repo, own, every=3600)
        listing = works._images.listing

        def interrupted():
            yield from listing()
            repo.indexer.index.clear()
            works._images.listing = listing

        works._images.listing = interrupted
        works._look_through()
        assert repo.indexer.index.note(SWEPT) is None
        works._look_through()
        assert sorted(indexed_records(repo)) == ["a", "b/c"]
        assert repo.indexer.index.note(SWEPT)
        works.close()


def test_a_key_is_read_and_shown_as_in_filters():
    for text in ("width", "data.site", "data.site,uploaded", "exif.camera_model,data.a.b"):
        assert catalogue.format_key(catalogue.read_key(text)) == text
    assert catalogue.format_key(catalogue.read_key("site,stars")) == "data.site,data.stars"
