"""A container of the first image_repo is served under the names it had there, from a folder and from Swift."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pictures
import pytest
from conftest import Swift, opened
from following import followed
from webserver import embedded

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.catalogue.query import Filter
from image_repo.cli.checks import check, scan_container
from image_repo.config import Config
from image_repo.errors import BadName, ImageNotFound
from image_repo.model.names import ImageName
from image_repo.repository.collection import Collection
from image_repo.repository.metadata import UNCONDITIONAL
from image_repo.repository.repository import Repository
from image_repo.repository.restore import restore

NAMES = ("a", "a-1", "b c", "site 1/é", "plain/d", "q+r(1)")
#: percent-encoded by hand
ORIGINALS = (
    "a+original(None).jpg", "a-1+original(None).JPG", "b%20c+original(None).jpg", "site%201/%C3%A9+original(None).jpg",
    "plain/d+original(None).jpg", "q%2Br%281%29+original(None).jpg",
)  # fmt: skip
RENDITIONS = (
    "a+size(30,None).jpg", "a+thumbnail(50,50,es).jpg", "a+crop(1,2,3,4).png", "b%20c+size(60,60)+convert().png",
    "site%201/%C3%A9+thumbnail(50,50,).jpg",
)  # fmt: skip


def laid_in_folder(tmp_path: Path) -> Config:
    for key, body in objects():
        path = tmp_path / "data" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return embedded(tmp_path, serve_originals=True)


def laid_in_swift(tmp_path: Path, swift: Swift, container: str) -> Config:
    settings = replace(swift.settings, container=container)
    with opened(swift.settings, container) as origin:
        for key, body in objects():
            origin.put(key, body, media_type="image/jpeg")
    return replace(embedded(tmp_path, serve_originals=True), persistent_store_configuration=settings)


def objects() -> Iterator[tuple[str, bytes]]:
    for number, key in enumerate(ORIGINALS):
        yield key, picture(number)
    for key in RENDITIONS:
        yield key, pictures.jpeg(pictures.photo(30, 20))


def picture(number: int) -> bytes:
    return pictures.jpeg(pictures.photo(60 + number, 40))


@pytest.fixture(params=["folder", pytest.param("swift", marks=pytest.mark.servers)])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    if request.param == "folder":
        config = laid_in_folder(tmp_path)
    else:
        config = laid_in_swift(tmp_path, *map(request.getfixturevalue, ("swift", "container")))
    with closing(wiring.build(config)) as built:
        yield built


def resolve(repo: Repository, name: str) -> bytes:
    original = repo.reader.resolve(ADMIN, ImageName.readings(name))
    with repo.reader.original(ADMIN, original) as (_, spool):
        return bytes(spool.file.read())


@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_originals_are_the_pictures_of_their_names(repo: Repository, ending: str) -> None:
    assert [resolve(repo, name + ending) for name in NAMES] == [picture(number) for number in range(len(NAMES))]


def test_renditions_are_listed_nowhere(repo: Repository) -> None:
    assert sorted(original.name.text for original in repo.reader.images(ADMIN)) == sorted(NAMES)
    assert [original.name.text for original in repo.reader.images(ADMIN, "site 1/")] == ["site 1/é"]
    followed(repo)
    assert sorted(document["name"] for document in Collection(repo).each(ADMIN, Filter())) == sorted(NAMES)
    scan = scan_container(repo)
    assert (sorted(name.text for name in scan.originals), scan.unnamed) == (sorted(NAMES), [])


@pytest.mark.parametrize("key", [*ORIGINALS, *RENDITIONS])
def test_its_keys_are_no_names(key: str) -> None:
    with pytest.raises(BadName, match="first image_repo"):
        ImageName.readings(key)


def test_data_is_added_to_them_one_by_one_and_in_batches(repo: Repository) -> None:
    names = [ImageName(name) for name in NAMES]
    repo.writer.replace_data(ADMIN, names[0], {"n": 0}, UNCONDITIONAL)
    data = {name: {"n": number} for number, name in enumerate(names)}
    for name in data.keys() - repo.writer.replace_many(ADMIN, data).keys():
        repo.writer.replace_data(ADMIN, name, data[name], UNCONDITIONAL)
    followed(repo)
    rows = {document["name"]: document for document in Collection(repo).each(ADMIN, Filter())}
    assert {name: (row["data"], row["width"]) for name, row in rows.items()} == {
        name: ({"n": number}, 60 + number) for number, name in enumerate(NAMES)
    }
    assert list(check(repo, scan_container(repo), lambda _: None)) == []


@pytest.mark.parametrize("name", ["a", "b c"])
def test_a_new_picture_replaces_one(repo: Repository, name: str) -> None:
    with repo.writer.spool() as spool:
        spool.fill([new := picture(100)])
        assert not repo.writer.put(ADMIN, ImageName(name), spool)[1]
    assert resolve(repo, name) == new
    keys = {entry.key for entry in repo.origin.keys(name[0]) if "original" in entry.key}
    assert keys == {key for key in ORIGINALS if key[0] == name[0]} - {ORIGINALS[NAMES.index(name)]}


@pytest.mark.parametrize("name", NAMES)
def test_one_is_deleted_and_comes_back_from_the_bin(repo: Repository, name: str) -> None:
    before = resolve(repo, name)
    assert repo.writer.delete(ADMIN, ImageName(name))["original"] == 1
    with pytest.raises(ImageNotFound):
        resolve(repo, name)
    assert resolve(repo, NAMES[NAMES.index(name) - 1])
    restore(repo, ADMIN, [ImageName(name)])
    assert resolve(repo, name) == before
