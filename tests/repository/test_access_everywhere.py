"""A rule that refuses one caller is obeyed by each way in, whatever others have put into the caches before."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pictures
import pytest
from webserver import embedded

from image_repo import wiring
from image_repo.access.control import Action, Denial, Grant
from image_repo.access.principal import ADMIN, ANONYMOUS, Principal
from image_repo.catalogue.indexer import SweepState
from image_repo.catalogue.query import Filter, Query
from image_repo.errors import ArtifactNotFound, Forbidden, ImageNotFound, SnapshotNotFound, Unauthenticated
from image_repo.exchange.base import About, Item
from image_repo.exchange.exporter import Export
from image_repo.exchange.exporter import pictures as picture_members
from image_repo.exchange.importer import Importer
from image_repo.exchange.zip_writer import stream_zip
from image_repo.model.names import ImageName
from image_repo.model.recipe import Recipe
from image_repo.repository.artifacts import Artifacts
from image_repo.repository.collection import Collection
from image_repo.repository.metadata import UNCONDITIONAL
from image_repo.repository.repository import Repository
from image_repo.repository.snapshots import Snapshots

MALLORY = Principal("mallory")
OPEN, SECRET, WORDS = ImageName("open/a"), ImageName("secret/a"), ImageName("secret/words")
PICTURE, OTHER = (pictures.jpeg(pictures.photo(48, 32, seed)) for seed in range(2))
RECIPE = Recipe(width=20, background="ffffff", quality=82)
REFUSALS = {Denial.UNAUTHENTICATED: Unauthenticated, Denial.FORBIDDEN: Forbidden, Denial.HIDDEN: ImageNotFound}


class RefuseMallory:
    """Mallory may do nothing in ``secret/``, nor with artifacts and snapshots; lists show what is left."""

    def __init__(self) -> None:
        self.denial = Denial.FORBIDDEN
        self.seen: set[Action] = set()

    def decide(self, principal: Principal, action: Action, target: str) -> Grant | Denial:
        self.seen.add(action)
        if principal is not MALLORY:
            return Grant()
        if target.startswith(("secret/", ".artifacts/", ".snapshots/")):
            return self.denial
        return Grant(is_shared=False, visible=Filter(prefix="open/") if action is Action.LIST else Filter())


@dataclass
class GuardedRepository:
    repo: Repository
    artifacts: Artifacts
    rules: RefuseMallory
    artifact_id: str
    snapshot_id: str


@pytest.fixture
def house(tmp_path: Path) -> Iterator[GuardedRepository]:
    config, rules = embedded(tmp_path, serve_originals=True), RefuseMallory()
    assert wiring.prepare(config, wiring.build_stores(config)) == []
    with closing(wiring.build(config, rules=rules)) as repo:
        for name, body in ((OPEN, PICTURE), (SECRET, OTHER)):
            with repo.writer.spool() as spool:
                repo.writer.put(ADMIN, name, spool.fill([body]), data={"site": name.text})
        repo.writer.replace_data(ADMIN, WORDS, {"site": "words"}, UNCONDITIONAL)
        artifacts = wiring.build_artifacts(config, repo)
        with repo.writer.spool() as spool:
            artifact, _ = artifacts.put(ADMIN, spool.fill([b"weights"]))
        SweepState(0.0, 0.0).save(repo.indexer.index)
        snapshot = Snapshots(repo).freeze(ADMIN, Filter(), "").snapshot
        yield GuardedRepository(repo, artifacts, rules, artifact.artifact_id, snapshot.id)


def original(house: GuardedRepository, name: ImageName = SECRET):
    return house.repo.reader.resolve(ADMIN, [name])


def opened(context) -> None:
    with context:
        pass


def upload(house: GuardedRepository) -> None:
    with house.repo.writer.spool() as spool:
        house.repo.writer.put(MALLORY, SECRET, spool.fill([PICTURE]))


WAYS: dict[str, Callable[[GuardedRepository], object]] = {
    "resolving the name": lambda h: h.repo.reader.resolve(MALLORY, [SECRET]),
    "the key and entity tag of a rendition": lambda h: h.repo.reader.variant(MALLORY, original(h), RECIPE),
    "a rendition that others have put into memory": lambda h: (
        h.repo.reader.fetch(h.repo.reader.variant(ADMIN, original(h), RECIPE)),
        h.repo.reader.fetch(h.repo.reader.variant(MALLORY, original(h), RECIPE)),
    ),
    "the original": lambda h: opened(h.repo.reader.original(MALLORY, original(h))),
    "a temporary URL": lambda h: h.repo.links.create(MALLORY, original(h), RECIPE, None, "a.jpg"),
    "the record": lambda h: h.repo.reader.record(MALLORY, original(h)),
    "a description": lambda h: h.repo.reader.description(MALLORY, [WORDS]),
    "a listing of the folder": lambda h: list(h.repo.reader.images(MALLORY, "secret/")),
    "an upload": upload,
    "new data": lambda h: h.repo.writer.replace_data(MALLORY, SECRET, {}, UNCONDITIONAL),
    "new data of many": lambda h: h.repo.writer.replace_many(MALLORY, {OPEN: {}, SECRET: {}}),
    "a patch": lambda h: h.repo.writer.patch_data(MALLORY, SECRET, {}, UNCONDITIONAL),
    "a deletion": lambda h: h.repo.writer.delete(MALLORY, SECRET),
    "a purge": lambda h: h.repo.writer.purge(MALLORY, SECRET),
}


@pytest.mark.parametrize("denial", Denial, ids=lambda denial: denial.name.lower())
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_refused_caller_gets_the_problem_of_the_denial(house: GuardedRepository, way, denial) -> None:
    house.rules.denial = denial
    with pytest.raises(REFUSALS[denial]):
        way(house)
    assert house.repo.reader.record(ADMIN, original(house)).data == {"site": "secret/a"}, "and nothing has changed"


BESIDE: dict[str, tuple[type[Exception], Callable[[GuardedRepository], object]]] = {
    "an artifact's record": (ArtifactNotFound, lambda h: h.artifacts.get(MALLORY, h.artifact_id)),
    "an artifact's bytes": (
        ArtifactNotFound,
        lambda h: opened(h.artifacts.open(MALLORY, h.artifacts.get(ADMIN, h.artifact_id))),
    ),
    "an artifact's deletion": (ArtifactNotFound, lambda h: h.artifacts.delete(MALLORY, h.artifact_id)),
    "a snapshot": (SnapshotNotFound, lambda h: Snapshots(h.repo).get(MALLORY, h.snapshot_id)),
    "a snapshot's manifest": (
        SnapshotNotFound,
        lambda h: opened(Snapshots(h.repo).open(MALLORY, Snapshots(h.repo).get(ADMIN, h.snapshot_id))),
    ),
    "a snapshot's records": (
        SnapshotNotFound,
        lambda h: next(Snapshots(h.repo).documents(MALLORY, Snapshots(h.repo).get(ADMIN, h.snapshot_id))),
    ),
}


@pytest.mark.parametrize(("hidden", "way"), BESIDE.values(), ids=BESIDE.keys())
def test_artifacts_and_snapshots_are_refused_and_hidden_ones_are_not_there(
    house: GuardedRepository, hidden, way
) -> None:
    with pytest.raises(Forbidden):
        way(house)
    house.rules.denial = Denial.HIDDEN
    with pytest.raises(hidden):
        way(house)
    assert house.artifacts.get(ADMIN, house.artifact_id).bytes == 7


def test_lists_of_artifacts_and_snapshots_and_new_ones_are_refused(house: GuardedRepository) -> None:
    with pytest.raises(Forbidden):
        house.artifacts.page(MALLORY, Query())
    with pytest.raises(Forbidden):
        Snapshots(house.repo).recent(MALLORY, 0, 10)
    with pytest.raises(Forbidden):
        Snapshots(house.repo).freeze(MALLORY, Filter(), "")
    with house.repo.writer.spool() as spool, pytest.raises(Forbidden):
        house.artifacts.put(MALLORY, spool.fill([b"mine"]))


def test_a_hidden_image_and_a_missing_one_are_the_same_answer(house: GuardedRepository) -> None:
    house.rules.denial = Denial.HIDDEN
    answers = []
    for text in ("secret/a", "secret/none"):
        with pytest.raises(ImageNotFound) as raised:
            house.repo.reader.resolve(MALLORY, ImageName.readings(text + ".jpg"))
        answers.append((raised.value.detail.replace(text, "X"), {**raised.value.members, "name": ""}))
    assert answers[0] == answers[1]


def test_a_content_address_does_not_find_what_the_caller_may_not_see(house: GuardedRepository) -> None:
    reader, address = house.repo.reader, [ImageName(f"sha256:{sha256(OTHER).hexdigest()}")]
    assert reader.resolve(ADMIN, address).name == SECRET
    with pytest.raises(ImageNotFound):
        reader.resolve(MALLORY, address)


def test_lists_counts_and_statistics_hold_only_what_the_caller_may_see(house: GuardedRepository) -> None:
    collection, reader = Collection(house.repo), house.repo.reader
    assert [image.name for image in reader.images(MALLORY)] == [OPEN]
    assert {image.name for image in reader.images(ADMIN)} == {OPEN, SECRET}
    page = collection.page(MALLORY, Query(exact=True))
    assert (page.count, [each["name"] for each in page.documents]) == (1, ["open/a"])
    assert [each["name"] for each in collection.each(MALLORY, Filter())] == ["open/a"]
    assert [each["name"] for each in collection.each(MALLORY, Filter(prefix="secret/"))] == []
    assert (collection.count(MALLORY, Filter()), collection.count(ADMIN, Filter())) == (1, 3)
    values = collection.statistics(MALLORY, Filter(), ("data", "site")).values
    assert list(values) == [("open/a", 1)]


def test_bulk_changes_reach_only_what_the_caller_may_see(house: GuardedRepository) -> None:
    collection = Collection(house.repo)
    assert collection.update(MALLORY, Filter(), {"x": 1}).modified == 1
    assert collection.delete(MALLORY, Filter()).matched == 1
    assert collection.count(ADMIN, Filter()) == 2
    assert "x" not in house.repo.reader.record(ADMIN, original(house)).data


def names_in(zipped: Iterator[bytes]) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(b"".join(zipped))) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def test_a_zip_holds_only_what_the_caller_may_read(house: GuardedRepository) -> None:
    everything = house.repo.reader.images(ADMIN)
    members = names_in(stream_zip(picture_members(house.repo, MALLORY, everything, lambda _: RECIPE)))
    assert set(members) == {"open/a.jpg", "_missing.txt"}
    assert members["_missing.txt"].startswith(b"secret/a.jpg: 403")
    seen = house.repo.reader.images(MALLORY)
    assert set(names_in(stream_zip(picture_members(house.repo, MALLORY, seen, lambda _: RECIPE)))) == {"open/a.jpg"}


def test_an_export_holds_only_pictures_that_the_caller_may_read(house: GuardedRepository) -> None:
    export = Export(house.repo, MALLORY, lambda _focus, _media_type: RECIPE, About("all", None, tempfile.TemporaryFile))
    members = names_in(stream_zip(export.members(list(Collection(house.repo).each(ADMIN, Filter())))))
    assert "open/a.jpg" in members
    assert not any(name.startswith("secret/") for name in members)


@pytest.mark.parametrize("name", ["secret/a", "secret/new", "secret/words"])
@pytest.mark.parametrize("is_picture", [True, False], ids=["picture", "data"])
def test_an_import_is_refused_item_by_item(house: GuardedRepository, name: str, is_picture: bool) -> None:
    opener = (lambda: [OTHER]) if is_picture else None
    items = [Item("1", name, opener, {"site": name}), Item("2", "open/b", opener, {})]
    refused, stored = Importer(house.repo, MALLORY).run(items)
    assert (refused.status, refused.problem.status, stored.status) == ("failed", 403, "stored")


def test_other_callers_notice_nothing_and_the_grant_says_whether_the_answer_is_shared(house: GuardedRepository) -> None:
    reader = house.repo.reader
    for principal in (ADMIN, ANONYMOUS):
        assert reader.variant(principal, original(house), RECIPE).grant.is_shared
    variant = reader.variant(MALLORY, original(house, OPEN), RECIPE)
    assert not variant.grant.is_shared
    assert reader.fetch(variant).rendition.etag == variant.etag


def test_a_temporary_url_is_its_own_permission_whoever_made_it(house: GuardedRepository) -> None:
    link = house.repo.links.create(ADMIN, original(house), RECIPE, 60, "a.jpg")
    path, _, query = link.url.partition("?")
    arguments = dict(pair.split("=") for pair in query.split("&") if "=" in pair)
    key = path.removeprefix("/temp/").replace("%40", "@").replace("%2B", "+").replace("%28", "(").replace("%29", ")")
    file = house.repo.links.open(key.replace("%2C", ","), arguments["temp_url_sig"], arguments["temp_url_expires"])
    with file.file:
        assert file.size > 0
    assert {Action.READ, Action.WRITE, Action.LIST, Action.LINK} <= house.rules.seen
