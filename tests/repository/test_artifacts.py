"""Artifacts in the container: their records, the index over them, and what is left when something fails midway."""

import contextlib
import hashlib
import json
import time
from dataclasses import replace

import pytest
from following import in_background
from hypothesis import given
from hypothesis import strategies as st
from swiftserved import house, until
from webserver import embedded, serving

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.catalogue.query import Query
from image_repo.cli import checks
from image_repo.concurrency.locks import KeyedLock
from image_repo.errors import ArtifactNotFound, StoreUnavailable
from image_repo.repository.artifacts import MEDIA_TYPE, PREFIX, Artifact, Artifacts
from image_repo.repository.metadata import MetadataStore
from image_repo.sync import reconciler
from image_repo.sync.reconciler import Sweep

HEX = "ab" * 32


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def id_of(body: bytes) -> str:
    return f"sha256:{sha256(body)}"


@pytest.fixture
def served(tmp_path):
    with serving(embedded(tmp_path, freshness=0.0), tmp_path) as served:
        yield served


@pytest.fixture
def artifacts(served):
    return wiring.build_artifacts(served.config, served.repo)


def put(artifacts, repo, body, **options):
    with repo.writer.spool() as spool:
        return artifacts.put(ADMIN, spool.fill([body]), **options)


class LostOrder:
    """An order over nodes that is lost after some writes, as a database or a lease is."""

    def __init__(self, writes: int) -> None:
        self.left = writes

    def held(self, key, end, *, to_write=True):
        return contextlib.nullcontext()

    def confirm(self):
        self.left -= 1
        if self.left < 0:
            raise StoreUnavailable("The order is lost.")

    def close(self):
        pass


def ordered(served, writes):
    """The repository, whose writers lose their order after so many writes."""
    repo, location = served.repo, served.config.metadata_location
    locks = KeyedLock(None, LostOrder(writes))
    parts = (repo.origin, None, None, locks, repo.indexer, repo.limits)
    pixels = {"mezzanines": repo.renditions.mezzanines, "limiter": repo.limiter}
    return replace(repo, metadata=MetadataStore(*parts, **pixels, location=location))


# -- who writes ---------------------------------------------------------------------------


@pytest.mark.parametrize("writes", [0, 1])
def test_an_artifact_is_not_written_after_the_lock_is_lost(served, artifacts, writes):
    lost = ordered(served, writes)
    with pytest.raises(StoreUnavailable, match="order is lost"):
        put(Artifacts(lost, artifacts.indexer), lost, b"mask")
    assert len(list(served.repo.origin.keys(PREFIX))) == writes
    with pytest.raises(ArtifactNotFound):
        artifacts.get(ADMIN, id_of(b"mask"))


@pytest.mark.parametrize("writes", [0, 1])
def test_an_artifact_is_not_deleted_after_the_lock_is_lost(served, artifacts, writes):
    put(artifacts, served.repo, b"mask")
    with pytest.raises(StoreUnavailable, match="order is lost"):
        Artifacts(ordered(served, writes), artifacts.indexer).delete(ADMIN, id_of(b"mask"))
    assert len(list(served.repo.origin.keys(PREFIX))) == 2 - writes
    assert artifacts.delete(ADMIN, id_of(b"mask"))["record"] == 1


# -- records ----------------------------------------------------------------------------------

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.integers(0, 1 << 60), _TEXT, st.none() | _TEXT, st.dictionaries(_TEXT, st.integers() | st.lists(_TEXT)))
def test_a_record_is_read_as_it_was_written(size, media_type, filename, meta):
    made = Artifact(f"sha256:{HEX}", "a-kind", size, media_type, filename, "2026-03-01T09:30:00.000Z", meta)
    assert Artifact.load(made.dump()) == made
    assert json.loads(made.dump()) == made.public()


_GOOD = {
    "artifact_id": f"sha256:{HEX}", "kind": "k", "bytes": 1, "media_type": "a/b", "filename": None,
    "uploaded": "2026-03-01T09:30:00Z", "meta": {},
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"[]", b'"a"', b"{}", b"\xff\xfe", b"[" * 100_000,
        *(json.dumps({name: value for name, value in _GOOD.items() if name != left}).encode() for left in _GOOD
          if left != "meta"),
        *(json.dumps({**_GOOD, **wrong}).encode() for wrong in (
            {"artifact_id": HEX}, {"artifact_id": f"sha256:{HEX[1:]}"}, {"artifact_id": 5}, {"kind": "a b"},
            {"kind": ""}, {"kind": 7}, {"bytes": "1"}, {"bytes": None}, {"bytes": True}, {"uploaded": "yesterday"},
            {"uploaded": 5}, {"meta": []}, {"meta": None}, {"media_type": 5}, {"filename": ["a"]},
        )),
    ],
    ids=lambda text: text[:60].decode("latin-1"),
)  # fmt: skip
def test_what_is_no_record_is_none(text):
    with pytest.raises(ValueError):
        Artifact.load(text)


def test_what_a_newer_writer_adds_is_passed_over():
    assert Artifact.load(json.dumps({**_GOOD, "more": 1}).encode()).kind == "k"


# -- the index --------------------------------------------------------------------------------


def test_the_index_is_told_what_a_listing_tells(served, artifacts):
    bodies = [bytes([number]) for number in range(12)]
    for body in bodies:
        put(artifacts, served.repo, body, kind="k", meta={"n": 1})
    put(artifacts, served.repo, bodies[3], meta={"n": 2})
    listed = list(artifacts.stamps())
    names = sorted(map(id_of, bodies))
    assert [name for name, _ in listed] == names
    assert artifacts.indexer.index.stamps(names) == dict(listed)
    for name, stamp in listed:
        row = artifacts.row(name)
        assert (row.name, row.stamp) == (name, stamp)
        assert {**row.document} == {"name": name, **artifacts.get(ADMIN, name).public()}


def test_only_what_is_whole_is_listed(served, artifacts):
    made, _ = put(artifacts, served.repo, b"whole", kind="k")
    origin = served.repo.origin
    strange = (f"{'a' * 64}", f"{'b' * 64}.json", "x", "x.json", f"{'c' * 64}/y", f"{'c' * 64}.json.json", "z" * 64)
    for key in strange:
        origin.put(PREFIX + key, made.dump(), media_type=MEDIA_TYPE)
    assert [name for name, _ in artifacts.stamps()] == [made.artifact_id]
    for key in strange:
        assert artifacts.row(f"sha256:{key}") is None
        with pytest.raises(ArtifactNotFound):
            artifacts.get(ADMIN, f"sha256:{key}")


def test_a_record_of_other_bytes_is_none(served, artifacts):
    made, _ = put(artifacts, served.repo, b"one")
    for text in (made.dump(), b"no record", bytes(2 << 20)):
        served.repo.origin.put(PREFIX + HEX, b"two", media_type="a/b")
        served.repo.origin.put(f"{PREFIX}{HEX}.json", text, media_type=MEDIA_TYPE)
        with pytest.raises(ArtifactNotFound):
            artifacts.get(ADMIN, f"sha256:{HEX}")
        assert artifacts.row(f"sha256:{HEX}") is None


def indexed_ids(artifacts, **options):
    return [document["artifact_id"] for document in artifacts.page(ADMIN, Query(**options)).documents]


def test_an_index_that_is_empty_or_behind_is_made_to_follow(served, artifacts):
    for number in range(5):
        put(artifacts, served.repo, bytes([number]), kind="k")
    index, everything = artifacts.indexer.index, sorted(id_of(bytes([number])) for number in range(5))
    index.clear()
    assert indexed_ids(artifacts) == []
    sweep = Sweep(index, artifacts.row)
    assert reconciler.run_to_end(sweep.run(artifacts.stamps())).written == 5
    assert indexed_ids(artifacts) == everything
    folder = served.folder / "data" / ".artifacts" / "sha256"
    (folder / f"{sha256(bytes([2]))}.json").unlink()  # another tool, or another node
    (folder / f"{sha256(bytes([4]))}%").unlink()
    outcome = reconciler.run_to_end(sweep.run(artifacts.stamps()))
    assert (outcome.written, outcome.removed) == (0, 2)
    assert set(indexed_ids(artifacts)) == set(everything) - {id_of(bytes([2])), id_of(bytes([4]))}


def test_in_the_background_it_follows_by_itself(tmp_path):
    config = embedded(tmp_path, freshness=0.0)
    with serving(config, tmp_path) as served:
        served.client.form("/artifacts?kind=early", ("file", "f", b"early"))
    for path in (tmp_path / "shared").glob("*/catalogue*"):
        path.unlink()
    with serving(config, tmp_path) as served, in_background(served.repo, config):
        until(lambda: served.client.get("/artifacts?kind=early").json()["count"] == 1, 20.0)


def test_artifacts_are_nothing_to_those_who_look_at_images(served, artifacts):
    put(artifacts, served.repo, b"\xff\xd8\xff\xe0 looks like a picture", media_type="image/jpeg")
    put(artifacts, served.repo, b"{}", media_type="application/json")
    assert list(served.repo.reader.images(ADMIN)) == []
    walked = checks.scan_container(served.repo)
    assert (walked.originals, walked.records, walked.others) == ({}, {}, [])
    assert list(checks.check(served.repo, walked, lambda _: None)) == []
    assert list(reconciler.images(served.repo)[0].listing()) == []


def test_what_is_damaged_is_told(served, artifacts):
    bodies = [bytes([number]) * 9 for number in range(4)]
    for body in bodies:
        put(artifacts, served.repo, body)
    assert list(checks.check_artifacts_and_snapshots(served.config, served.repo)) == []
    folder = served.folder / "data" / ".artifacts" / "sha256"
    (folder / f"{sha256(bodies[1])}%").write_bytes(b"rotten")
    (folder / f"{sha256(bodies[2])}.json").write_bytes(b"rotten")
    assert sorted(checks.check_artifacts_and_snapshots(served.config, served.repo)) == sorted(
        (
            f"{id_of(bodies[1])}: The artifact is not what was stored.",
            f"{id_of(bodies[2])}: its record cannot be read",
        )
    )


def test_when_it_was_new_stays(served, artifacts):
    first, _ = put(artifacts, served.repo, b"old")
    while time.time() < first.modified + 0.002:
        pass
    again, new = put(artifacts, served.repo, b"old", kind="other")
    assert (new, again.uploaded, again.kind) == (False, first.uploaded, "other")


# -- a store that fails midway ----------------------------------------------------------------


@pytest.fixture
def swifts(swift, container, tmp_path):
    with house(swift, container, tmp_path) as swifts:
        yield swifts


def keys(swifts):
    return [entry.key.removeprefix(PREFIX) for entry in swifts.origin.keys(PREFIX)]


def request(method, swifts, key):
    """How a request for an object begins."""
    return f"{method} /v1/AUTH_test/{swifts.config.persistent_store_configuration.container}/{PREFIX}{key} ".encode()


@pytest.mark.servers
@pytest.mark.parametrize("mode", ["status", "reset", "cut", "refuse-upload"])
def test_an_upload_that_fails_is_not_there_and_repeated_it_is(swifts, mode):
    body = b"bytes, then their record"
    with swifts.node() as node:
        for key in (sha256(body), f"{sha256(body)}.json"):
            swifts.proxy.fail(mode, match=request("PUT", swifts, key))
            answer = node.client.form("/artifacts?kind=k", ("file", "f", body))
            assert (answer.status, answer.slug) == (503, "store-unavailable")
            swifts.proxy.heal()
            until(lambda: node.client.get(f"/artifacts/{id_of(body)}").status in (200, 404))
        if f"{sha256(body)}.json" not in keys(swifts):  # what was cut off behind the write has taken effect
            assert node.client.get(f"/artifacts/{id_of(body)}").status == 404
        assert node.client.form("/artifacts?kind=k", ("file", "f", body)).status in (200, 201)
        assert node.client.get(f"/artifacts/{id_of(body)}").body == body
        assert node.client.get("/artifacts").json()["count"] == 1


@pytest.mark.servers
def test_a_deletion_that_fails_can_be_repeated_to_its_end(swifts):
    body = b"to go in two steps"
    with swifts.node() as node:
        node.client.form("/artifacts", ("file", "f", body))
        swifts.proxy.fail(
            "status", match=f"DELETE /v1/AUTH_test/{swifts.origin._container}/{PREFIX}{sha256(body)}.json".encode()
        )
        answer = node.client.delete(f"/artifacts/{id_of(body)}")
        assert (answer.status, keys(swifts)) == (503, [f"{sha256(body)}.json"])
        swifts.proxy.heal()
        assert until(lambda: node.client.get(f"/artifacts/{id_of(body)}").status == 404) < 5
        assert node.client.delete(f"/artifacts/{id_of(body)}").json()["deleted"] == {"artifact": 0, "record": 1}
        assert keys(swifts) == []
        assert node.client.delete(f"/artifacts/{id_of(body)}").status == 404


@pytest.mark.servers
@pytest.mark.parametrize(
    ("mode", "options"), [("corrupt", {"after": 1500}), ("cut", {"after": 1500}), ("end", {"after": 1500})]
)
def test_bytes_that_are_damaged_on_their_way_are_never_served(swifts, mode, options):
    body = bytes(range(256)) * 40
    with swifts.node() as node:
        node.client.form("/artifacts", ("file", "f", body))
        swifts.proxy.fail(
            mode, match=f"GET /v1/AUTH_test/{swifts.origin._container}/{PREFIX}{sha256(body)} ".encode(), **options
        )
        answer = node.client.get(f"/artifacts/{id_of(body)}")
        assert answer.status in (500, 503)
        swifts.proxy.heal()
        until(lambda: node.client.get(f"/artifacts/{id_of(body)}").body == body)
