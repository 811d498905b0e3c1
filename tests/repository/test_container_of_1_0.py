"""A container that 1.0.0 laid down is served as it is: its objects are built here by hand, in a folder and in Swift."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import struct
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pictures
import pytest
import requests
from conftest import Swift, opened
from following import followed
from PIL import Image
from webserver import embedded

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.catalogue.query import Filter
from image_repo.config import Config, SwiftCacheConfiguration
from image_repo.model.names import ImageName
from image_repo.model.recipe import Recipe
from image_repo.repository.collection import Collection
from image_repo.repository.repository import Repository
from image_repo.repository.snapshots import Snapshots
from image_repo.stores.swift import SwiftStore

PICTURE = pictures.jpeg(pictures.photo(60, 40))
LINKED = b"what a temporary URL of 1.0.0 points to"
WEIGHTS = b"weights"
SHA, WEIGHTS_SHA = hashlib.sha256(PICTURE).hexdigest(), hashlib.sha256(WEIGHTS).hexdigest()
NAME, WORDS = ImageName("plot 1/ä"), ImageName("plot 1/words")
SECRET = "a key of more than thirty-two characters"
RECIPE = Recipe(width=20, background="ffffff", quality=82)
RECORD_TYPE, ARTIFACT_TYPE = "application/vnd.image-repo.record+json", "application/vnd.image-repo.artifact+json"
SNAPSHOT_TYPES = "application/vnd.image-repo.snapshot+jsonl", "application/vnd.image-repo.snapshot+json"
LINK_KEY = "plot 1/ä@OLD+size(20,)+q(82)+g(0123abcd).jpg"
#: nanoseconds: the time of change of the original's file, 2025-10-01
MOMENT_NS = 1_759_276_800_123_456_789

ARTIFACT = (
    f'{{"artifact_id":"sha256:{WEIGHTS_SHA}","kind":"model","bytes":7,"media_type":"application/octet-stream",'
    '"filename":"w.bin","uploaded":"2025-10-01T00:00:00.000Z","meta":{"epoch":3}}'
).encode()
ENTRY = (
    f'{{"bytes":{len(PICTURE)},"data":{{"species":"Lynx"}},"height":40,"media_type":"image/jpeg","name":"plot 1/ä",'
    f'"sha256":"{SHA}","width":60}}'
).encode()
ROOT = hashlib.sha256(b"\0" + ENTRY).hexdigest()
HEADER = (
    f'{{"count":1,"created":"2025-10-02T00:00:00.000Z","filter":"","id":"{ROOT}","merkle_root":"{ROOT}","snapshot":1}}'
).encode()
MANIFEST = HEADER + b"\n" + ENTRY + b"\n"
ABOUT = (
    f'{{"id":"{ROOT}","created":"2025-10-02T00:00:00.000Z","filter":"","count":1,"merkle_root":"{ROOT}",'
    f'"bytes":{len(MANIFEST)},"sha256":"{hashlib.sha256(MANIFEST).hexdigest()}"}}'
).encode()
DESCRIPTION = (
    b'{"name":"plot 1/words","key":"","version":"","sha256":"","media_type":"","bytes":0,"width":0,"height":0,'
    b'"filename":null,"uploaded":null,"owner":null,"exif":{},"data":{"todo":true}}'
)


def record(version: str) -> bytes:
    return (
        f'{{"name":"plot 1/ä","key":"plot 1/ä.jpg","version":"{version}","sha256":"{SHA}","media_type":"image/jpeg",'
        f'"bytes":{len(PICTURE)},"width":60,"height":40,"filename":"DSC_1.JPG","uploaded":"2025-10-01T00:00:00.000Z",'
        '"owner":null,"exif":{"camera":"Canon"},"data":{"species":"Lynx"}}'
    ).encode()


def note_of_node(until: float) -> bytes:
    return json.dumps({"id": "0123456789abcdef", "host": "other", "shared": False, "until": until}).encode()


@dataclass
class Laid:
    config: Config
    version: str


# -- in a folder ---------------------------------------------------------------------------


def file(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def sidecar(data: Path, key: str, path: Path, media_type: str) -> None:
    """What was put with an object, where its ending does not imply it."""
    status = path.stat()
    folder = data / ".image_repo" / "meta" / hashlib.sha256(key.encode()).hexdigest()
    facts = {"media_type": media_type, "metadata": {}, "expires": None}
    file(folder / f"{status.st_size:x}-{status.st_mtime_ns:x}", json.dumps(facts).encode())


def promise(data: Path, until: float) -> None:
    """A linked rendition: one file in two halves of hashes, read-only, whose time is that of the promise."""
    facts = json.dumps({"key": LINK_KEY, "media_type": "image/jpeg", "etag": "e", "modified": 1.0}).encode()
    digest = hashlib.sha256(facts + LINKED).digest()
    head = struct.pack(">13sIQ32s", b"image_repo 1\n", len(facts), len(LINKED), digest)
    image, key = (hashlib.sha256(text.encode()).hexdigest()[:32] for text in (LINK_KEY.partition("@")[0], LINK_KEY))
    path = data / ".image_repo" / "renditions" / image[:2] / f"{image}-{key}"
    file(path, head + facts + LINKED)
    for folder in (path.parent, path.parent.parent):
        folder.chmod(0o700)
    path.chmod(0o400)
    os.utime(path, (until, until))


@pytest.fixture
def folder(tmp_path: Path) -> Laid:
    data, until = tmp_path / "data", time.time() + 3600
    original = data / "plot 1" / "ä.jpg"
    file(original, PICTURE)
    os.utime(original, ns=(MOMENT_NS, MOMENT_NS))
    version = f"{len(PICTURE):x}-{MOMENT_NS:x}"
    file(data / "plot 1" / "ä.json", record(version))
    file(data / "plot 1" / "words.json", DESCRIPTION)
    for key, path, body, media_type in (
        (f".artifacts/sha256/{WEIGHTS_SHA}", f"{WEIGHTS_SHA}%", WEIGHTS, "application/octet-stream"),
        (f".artifacts/sha256/{WEIGHTS_SHA}.json", f"{WEIGHTS_SHA}.json", ARTIFACT, ARTIFACT_TYPE),
        (f".snapshots/{ROOT}.jsonl", f"{ROOT}.jsonl%", MANIFEST, SNAPSHOT_TYPES[0]),
        (f".snapshots/{ROOT}.json", f"{ROOT}.json", ABOUT, SNAPSHOT_TYPES[1]),
    ):
        place = data / key.rpartition("/")[0] / path
        file(place, body)
        sidecar(data, key, place, media_type)
    file(data / ".image_repo" / "nodes" / "0123456789abcdef", note_of_node(until))
    os.utime(data / ".image_repo" / "nodes" / "0123456789abcdef", (until, until))
    file(data / ".image_repo" / "url_key", SECRET.encode())
    promise(data, until)
    return Laid(embedded(tmp_path, serve_originals=True), version)


def test_links_of_1_0_go_on_from_the_folder(folder: Laid) -> None:
    expires = int(time.time()) + 600
    text = f"GET\n{expires}\n/temp/{LINK_KEY}".encode()
    signature = hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
    with serving(folder) as repo:
        linked = repo.links.open(LINK_KEY, signature, str(expires))
        with linked.file:
            assert linked.file.read() == LINKED


# -- in Swift ------------------------------------------------------------------------------


@pytest.fixture
def containers(swift: Swift, container: str, tmp_path: Path) -> Iterator[Laid]:
    settings = replace(swift.settings, container=container)
    cache_name = f"{container}-cache"
    config = replace(
        embedded(tmp_path, serve_originals=True),
        persistent_store_configuration=settings,
        swift_cache_configuration=SwiftCacheConfiguration(container=cache_name),
    )
    with opened(swift.settings, container) as origin, opened(swift.settings, cache_name) as cache:
        version = origin.put(f"{NAME}.jpg", PICTURE, media_type="image/jpeg").etag
        for key, body, media_type in (
            (f"{NAME}.json", record(version), RECORD_TYPE),
            (f"{WORDS}.json", DESCRIPTION, RECORD_TYPE),
            (f".artifacts/sha256/{WEIGHTS_SHA}", WEIGHTS, "application/octet-stream"),
            (f".artifacts/sha256/{WEIGHTS_SHA}.json", ARTIFACT, ARTIFACT_TYPE),
            (f".snapshots/{ROOT}.jsonl", MANIFEST, SNAPSHOT_TYPES[0]),
            (f".snapshots/{ROOT}.json", ABOUT, SNAPSHOT_TYPES[1]),
        ):
            origin.put(key, body, media_type=media_type)
        until = time.time() + 3600
        cache.put(".nodes/0123456789abcdef", note_of_node(until), media_type="application/json", expires=until)
        cache.set_link_key(SECRET)
        rendition(cache, LINK_KEY, LINKED)
        yield Laid(config, version)


def rendition(cache: SwiftStore, key: str, body: bytes) -> None:
    facts = {"etag": "e", "modified": "1759276800.0", "sha256": hashlib.sha256(body).hexdigest()}
    cache.put(f".renditions/{key}", body, media_type="image/jpeg", metadata=facts, expires=time.time() + 3600)


@pytest.mark.servers
def test_links_of_1_0_go_on_from_swift_and_its_renditions_are_hits(containers: Laid, swift: Swift) -> None:
    settings = containers.config.swift_cache_configuration
    with opened(swift.settings, settings.container) as cache:
        expires = int(time.time()) + 600
        path = f"/v1/AUTH_test/{settings.container}/.renditions/{LINK_KEY}"
        base = cache.link_base()
        assert base.path + f".renditions/{LINK_KEY}" == path
        signature = hmac.new(SECRET.encode(), f"GET\n{expires}\n{path}".encode(), base.digest).hexdigest()
        query = f"temp_url_sig={signature}&temp_url_expires={expires}"
        answer = requests.get(f"{base.endpoint}{quote(path)}?{query}", timeout=10)
        assert (answer.status_code, answer.content) == (200, LINKED)
        with serving(containers) as repo:
            variant = repo.reader.variant(ADMIN, repo.reader.resolve(ADMIN, [NAME]), RECIPE)
            rendition(cache, variant.key, b"rendered by another node")
            served = repo.reader.fetch(variant)
        assert (served.layer, served.rendition.body) == ("cache", b"rendered by another node")


# -- both ----------------------------------------------------------------------------------


@pytest.fixture(params=["folder", pytest.param("containers", marks=pytest.mark.servers)])
def laid(request: pytest.FixtureRequest) -> Laid:
    return request.getfixturevalue(request.param)


def serving(laid: Laid) -> closing[Repository]:
    assert wiring.prepare(laid.config, wiring.build_stores(laid.config)) == []
    return closing(wiring.build(laid.config))


def test_pictures_and_records_of_1_0_are_served_as_they_are(laid: Laid) -> None:
    with serving(laid) as repo:
        original = repo.reader.resolve(ADMIN, [NAME])
        assert (original.version, original.key) == (laid.version, "plot 1/ä.jpg")
        redacted = repo.reader.record(ADMIN, original)
        assert (redacted.sha256, redacted.filename, redacted.exif, redacted.data) == (
            SHA, "DSC_1.JPG", {"camera": "Canon"}, {"species": "Lynx"},
        )  # fmt: skip
        assert repo.reader.description(ADMIN, [WORDS]).data == {"todo": True}
        with repo.reader.original(ADMIN, original) as (_, spool):
            assert spool.file.read() == PICTURE
        served = repo.reader.fetch(repo.reader.variant(ADMIN, original, RECIPE))
        assert Image.open(io.BytesIO(served.rendition.body)).size == (20, 13)
        body = repo.origin.get(f"{NAME}.json")
        with body:
            assert b"".join(body) == record(laid.version), "and nothing was written anew"


def test_the_catalogue_is_made_of_the_records_of_1_0(laid: Laid) -> None:
    with serving(laid) as repo:
        followed(repo)
        documents = {each["name"]: each for each in Collection(repo).each(ADMIN, Filter())}
    assert set(documents) == {"plot 1/ä", "plot 1/words"}
    assert (documents["plot 1/ä"]["sha256"], documents["plot 1/ä"]["data"]) == (SHA, {"species": "Lynx"})


def test_artifacts_and_snapshots_of_1_0_are_served_as_they_are(laid: Laid) -> None:
    with serving(laid) as repo:
        artifacts = wiring.build_artifacts(laid.config, repo)
        artifact = artifacts.get(ADMIN, f"sha256:{WEIGHTS_SHA}")
        assert (artifact.kind, artifact.filename, artifact.meta) == ("model", "w.bin", {"epoch": 3})
        with artifacts.open(ADMIN, artifact) as spool:
            assert spool.file.read() == WEIGHTS
        assert [name for name, _ in artifacts.stamps()] == [f"sha256:{WEIGHTS_SHA}"]
        snapshots = Snapshots(repo)
        snapshot = snapshots.get(ADMIN, ROOT)
        with snapshots.open(ADMIN, snapshot) as spool:
            assert spool.file.read() == MANIFEST
        assert list(snapshots.changes(ADMIN, snapshot)) == [("plot 1/ä", None)]
        assert [*artifacts.damaged(), *snapshots.damaged()] == []


def test_a_node_of_1_0_is_seen(laid: Laid) -> None:
    stores = wiring.build_stores(laid.config)
    with closing(stores):
        membership = wiring.nodes(laid.config, stores)
        assert membership is not None
        assert [(node.id, node.host, node.shared) for node in membership.others()] == [
            ("0123456789abcdef", "other", False)
        ]
