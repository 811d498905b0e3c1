"""Snapshots: a query frozen as a manifest in the container, so that a paper can cite the very pictures it used.

``.snapshots/ID.jsonl`` is the manifest (:mod:`.manifest`), ``.snapshots/ID.json`` its description. The description is
written last, and can be made again from the manifest. A snapshot is named by the Merkle root over its entries: the
same images with the same data are the same snapshot, whenever they are frozen. Nothing here changes or removes one.
Where users are kept apart, those of a user lie in ``.snapshots/users/OWNER/``, and are ``OWNER/ID`` to administrators.

Each entry was true at its own moment, as the catalogue had it. Where images change meanwhile, no two entries need
have been true at once.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from heapq import nlargest
from typing import Any, BinaryIO, Literal

from image_repo.access.control import Action
from image_repo.access.principal import Principal
from image_repo.catalogue import indexer
from image_repo.catalogue.grammar import IMAGES
from image_repo.catalogue.query import Filter
from image_repo.catalogue.unknown_keys import refuse_unknown_keys, unknown_keys
from image_repo.concurrency.in_order import map_ahead
from image_repo.errors import (
    CatalogueUnavailable,
    ImageNotFound,
    NameConflict,
    OriginalDamaged,
    PreconditionFailed,
    Problem,
    SnapshotNotFound,
)
from image_repo.model.names import ImageName
from image_repo.model.namespaces import USERS
from image_repo.model.original import Original
from image_repo.model.record import Record, timestamp
from image_repo.repository import manifest
from image_repo.repository.manifest import Header, Tree
from image_repo.repository.repository import Repository
from image_repo.repository.resolver import read_record
from image_repo.repository.spool import Spool
from image_repo.stores.base import CHUNK, Entry, read_small

log = logging.getLogger(__name__)

PREFIX = ".snapshots/"
#: as it is stored; it is served as ``application/jsonl``
MANIFEST_TYPE = "application/vnd.image-repo.snapshot+jsonl"
ABOUT_TYPE = "application/vnd.image-repo.snapshot+json"
#: looks whether another node has stored another manifest meanwhile
_ATTEMPTS = 3
_MANIFEST, _ABOUT = ".jsonl", ".json"
#: the largest manifest, in bytes: Swift takes no larger object in one piece than 5 GiB
MOST_BYTES = 4 << 30
#: the longest line that is read: a record may be no larger
_MOST_LINE = 2 << 20
_ID = re.compile(r"[0-9a-f]{64}")
#: of a snapshot in the container: the folder of its owner, if it has one, and its Merkle root
_NAME = re.compile(rf"(?:[^/.][^/]*/)?{_ID.pattern}")
#: members of a record that a snapshot does not hold
_ABSENT = Record.description("", {}).public()
#: locked while a snapshot is frozen, one at a time on a node; no image has this name
_FREEZING = ImageName(".snapshots")
#: images that are looked at, at a time
_AT_ONCE = 4

#: of an image since it was frozen: it is not there, or has other bytes
Change = Literal["missing", "changed"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The description of a snapshot.

    :param bytes: of the manifest
    :param sha256: of the manifest, in lower-case hex
    :param folder: of its owner, with its ``/``; empty where it has none, and for the owner
    """

    header: Header
    bytes: int
    sha256: str
    folder: str = ""

    @property
    def id(self) -> str:
        """Its name."""
        return self.folder + self.header.id

    @property
    def count(self) -> int:
        """The number of its images."""
        return self.header.count

    @property
    def modified(self) -> float:
        """When it was made, in seconds since the epoch."""
        return datetime.fromisoformat(self.header.created).timestamp()

    def public(self) -> dict[str, Any]:
        """Return it as clients see it; without the folder as it is stored."""
        return {**asdict(self.header), "id": self.id, "bytes": self.bytes, "sha256": self.sha256}


def _load(text: bytes) -> Snapshot:
    """Read what was stored.

    :raises ValueError: when it tells of no snapshot
    """
    header = Header.load(text)
    members = json.loads(text)
    size, sha256 = members.get("bytes"), members.get("sha256")
    if not isinstance(size, int) or not isinstance(sha256, str) or not _ID.fullmatch(sha256):
        raise ValueError("not the description of a snapshot")
    return Snapshot(header, size, sha256)


@dataclass(frozen=True, slots=True)
class Frozen:
    """The outcome of freezing.

    :param new: whether there was none of these images with this data before
    :param left_out: pictures that cannot be read, so that they have no entry
    """

    snapshot: Snapshot
    new: bool
    left_out: int


class Snapshots:
    """The snapshots of a repository."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._origin = repo.origin
        self._authorise = repo.access.authorise

    # -- freezing --------------------------------------------------------------------

    def freeze(self, principal: Principal, criteria: Filter, query_string: str, *, exif: bool = False) -> Frozen:
        """Freeze the pictures for which a filter holds; descriptions without a picture are left out.

        :param query_string: the filter as a query string, for the header
        :param exif: whether the EXIF of the records is included
        :raises BadParameter: for a key that no record has
        :raises ImageNotFound: when it holds for none
        :raises TooLarge: when the manifest would have more than :data:`MOST_BYTES`
        :raises Busy: when another one is being frozen for too long
        :raises CatalogueDisabled, CatalogueUnavailable, QueryTooSlow, StoreUnavailable: as they say
        """
        self._authorise(principal, Action.WRITE, PREFIX)
        visible = self._authorise(principal, Action.LIST, "").visible
        index = self._repo.indexer.index
        if indexer.lacking(index) is not None:
            raise CatalogueUnavailable("The catalogue is still being made, and a snapshot would lack what it lacks.")
        refuse_unknown_keys(unknown_keys(index, IMAGES, visible, (part.path for part in criteria.parts())))
        criteria = criteria.below(principal.namespace) & visible
        spool = self._repo.policy.spool
        with self._repo.metadata.lock(_FREEZING), Spool(spool, MOST_BYTES, hashed=False) as entries:
            tree, left_out = self._collect(principal, criteria, entries, exif=exif)
            if not tree.count:
                raise ImageNotFound("No image matches, so there is nothing to be frozen.")
            known = self._about(principal.namespace + tree.root())
            if known and self._is_whole(known):
                return Frozen(_seen_by(principal, known), new=False, left_out=left_out)
            header = known.header if known else _header(tree, query_string)
            with Spool(spool, MOST_BYTES + manifest.MOST_HEADER) as whole:
                whole.write(header.line())
                entries.seek(0)
                whole.fill(iter(lambda: entries.read(CHUNK), b""))
                made = Snapshot(header, whole.size, whole.sha256, principal.namespace)
                made = self._keep(made, whole, fresh=known is None)
        return Frozen(_seen_by(principal, made), new=known is None, left_out=left_out)

    def _collect(self, principal: Principal, criteria: Filter, entries: Spool, *, exif: bool) -> tuple[Tree, int]:
        """Write a line for each image, in the order of their names."""
        catalogue, tree, left_out = self._repo.indexer.index, Tree(), 0
        for document in catalogue.each(criteria):
            if document.get("version") is None:  # a description
                continue
            try:
                line = manifest.canonical(manifest.entry(self._complete(principal, document), exif=exif))
            except ImageNotFound:
                continue  # it has gone meanwhile
            except (Problem, ValueError) as error:
                if isinstance(error, Problem) and error.status >= 503:
                    raise
                log.warning("%s is left out of a snapshot: %s", document["name"], error)
                left_out += 1
                continue
            tree.add(line)
            entries.write(line + b"\n")
        return tree, left_out

    def _complete(self, principal: Principal, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """The record of a picture, made now where the catalogue has only seen it in a listing."""
        if document.get("sha256"):
            return document
        reader = self._repo.reader
        original = reader.resolve(principal, [ImageName(principal.relative(document["name"]))], aliases=False)
        return {**reader.record(principal, original).public(), "name": document["name"]}

    def _keep(self, made: Snapshot, whole: Spool, *, fresh: bool) -> Snapshot:
        """Store the manifest, then its description. Of two nodes that do so at once, one manifest stays."""
        key = _key(made.id) + _MANIFEST
        try:
            etag = self._put(key, whole.file, MANIFEST_TYPE, overwrite=not fresh).etag
        except PreconditionFailed:
            entry, there = self._origin.head(key), self._reread(made.id)
            if entry and there:
                made, etag = there, entry.etag
            else:  # it was damaged before it had a description
                whole.file.seek(0)
                etag = self._put(key, whole.file, MANIFEST_TYPE).etag
        self._describe(made)
        return self._agreed(made, etag)

    def _agreed(self, made: Snapshot, etag: str) -> Snapshot:
        """Return the description, once it fits the manifest that is there.

        Swift may accept two conditional puts at once, and the later manifest stays. So the last to describe looks last.
        """
        for _ in range(_ATTEMPTS):
            entry = self._origin.head(_key(made.id) + _MANIFEST)
            there = self._reread(made.id) if entry and entry.etag != etag else None
            if entry is None or there is None:
                break
            made, etag = there, entry.etag
            self._describe(made)
        return made

    def _describe(self, made: Snapshot) -> None:
        about = json.dumps(replace(made, folder="").public(), ensure_ascii=False, separators=(",", ":")).encode()
        self._put(_key(made.id) + _ABOUT, about, ABOUT_TYPE)

    def _put(self, key: str, data: bytes | BinaryIO, media_type: str, *, overwrite: bool = True) -> Entry:
        """Store an object, unless another node may hold the lock by now."""
        self._repo.metadata.confirm()
        return self._origin.put(key, data, media_type=media_type, overwrite=overwrite)

    def _reread(self, snapshot_id: str) -> Snapshot | None:
        """Return the description of a stored manifest; None when it is not complete."""
        body = self._origin.get(_key(snapshot_id) + _MANIFEST)
        if body is None:
            return None
        try:
            with body, Spool(self._repo.policy.spool, body.entry.size) as spool:
                lines = _lines(spool.fill(body))
                header, tree = Header.load(next(lines, b"")), Tree()
                for line in lines:
                    tree.add(line)
                folder, root = _split(snapshot_id)
                if header.id == header.merkle_root == tree.root() == root and header.count == tree.count:
                    return Snapshot(header, spool.size, spool.sha256, folder)
        except (ValueError, OriginalDamaged) as error:
            log.warning("the manifest of the snapshot %s is damaged: %s", snapshot_id, error)
        return None

    # -- reading ---------------------------------------------------------------------

    def get(self, principal: Principal, snapshot_id: str) -> Snapshot:
        """Return what is known of a snapshot.

        :raises SnapshotNotFound: when the container has none of this name
        """
        return _seen_by(principal, self._get(self._name(principal, snapshot_id), snapshot_id))

    def _name(self, principal: Principal, snapshot_id: str) -> str:
        """Return the name in the container of a snapshot that the principal may read."""
        name = principal.namespace + snapshot_id
        self._authorise(principal, Action.READ, _key(name), lambda _: _not_found(snapshot_id))
        return name

    def _get(self, name: str, requested: str) -> Snapshot:
        snapshot = self._about(name) if _NAME.fullmatch(name) else None
        if snapshot is None:
            raise _not_found(requested)
        return snapshot

    def is_shared(self, principal: Principal, snapshot: Snapshot) -> bool:
        """Return whether every caller gets the same answer to a request for it."""
        return self._authorise(principal, Action.READ, _key(principal.namespace + snapshot.id)).is_shared

    @contextmanager
    def open(self, principal: Principal, snapshot: Snapshot) -> Iterator[Spool]:
        """Yield the manifest in a temporary file, verified by its digest.

        :raises OriginalDamaged: when it is not what was stored, or not there any more
        """
        with self._verified(self._name(principal, snapshot.id), snapshot) as spool:
            yield spool

    @contextmanager
    def _verified(self, name: str, snapshot: Snapshot) -> Iterator[Spool]:
        body = self._origin.get(_key(name) + _MANIFEST)
        if body is None:
            raise OriginalDamaged("The manifest of this snapshot is not there any more.", snapshot=snapshot.id)
        with body, Spool(self._repo.policy.spool, body.entry.size) as spool:
            spool.fill(body)
            if spool.sha256 != snapshot.sha256:
                log.error("the snapshot %s is damaged: the SHA-256 of its manifest is %s", name, spool.sha256)
                raise OriginalDamaged("The manifest of this snapshot is not what was stored.", snapshot=snapshot.id)
            yield spool

    def documents(self, principal: Principal, snapshot: Snapshot) -> Generator[dict[str, Any]]:
        """Yield its entries as public records, by the code points of their names; null what they do not hold.

        Their version is their digest: a snapshot holds in any container, whose entity tags say nothing in another.
        A generator that holds a temporary file: it is to be closed where it is not used up.

        :raises OriginalDamaged: as :meth:`open` does
        """
        with self.open(principal, snapshot) as spool:
            lines = _lines(spool)
            next(lines)
            for line in lines:
                entry = json.loads(line)
                facts = {"version": entry["sha256"], "image_id": f"sha256:{entry['sha256']}", "exif": {}}
                yield {**_ABSENT, **facts, **entry, "name": principal.relative(entry["name"])}

    def damaged(self) -> Iterator[str]:
        """Read every manifest; yield a line for each that is not what was stored."""
        for entry in self._origin.keys(PREFIX):
            if not entry.key.endswith(_ABOUT):
                continue
            try:
                name = _name_of(entry.key)
                with self._verified(name, self._get(name, name)):
                    pass
            except (OriginalDamaged, SnapshotNotFound) as problem:
                yield f"{entry.key}: {problem.detail}"

    def recent(self, principal: Principal, skip: int, limit: int) -> tuple[list[Snapshot], int]:
        """Return the snapshots that were made last, the newest first, and how many the principal may see."""
        self._authorise(principal, Action.LIST, PREFIX)
        allows, count = self._repo.access.allows, 0

        def each() -> Iterator[Entry]:
            nonlocal count
            for entry in self._origin.keys(f"{PREFIX}{USERS}{principal.namespace}" if principal.namespace else PREFIX):
                if entry.key.endswith(_ABOUT) and allows(principal, Action.READ, entry.key.removesuffix(_ABOUT)):
                    count += 1
                    yield entry

        newest = nlargest(skip + limit, each(), key=lambda entry: (entry.modified, entry.key))[skip:]
        snapshots = (self._about(_name_of(entry.key)) for entry in newest)
        return [_seen_by(principal, snapshot) for snapshot in snapshots if snapshot], count

    def _about(self, name: str) -> Snapshot | None:
        text = read_small(self._origin, _key(name) + _ABOUT, manifest.MOST_HEADER)
        if text is None:
            return None
        try:
            snapshot = _load(text)
        except ValueError as error:
            log.warning("the description of the snapshot %s cannot be read: %s", name, error)
            return None
        folder, root = _split(name)
        return replace(snapshot, folder=folder) if snapshot.id == root else None

    def _is_whole(self, snapshot: Snapshot) -> bool:
        """Return whether the manifest is there, with as many bytes as it should have; they are not read."""
        entry = self._origin.head(_key(snapshot.id) + _MANIFEST)
        return entry is not None and entry.size == snapshot.bytes

    # -- what became of it -----------------------------------------------------------

    def standing(self, principal: Principal, document: Mapping[str, Any]) -> Original:
        """Return the original of an entry, when its name has those bytes still.

        :raises ImageNotFound: when nothing has this name any more
        :raises NameConflict: when it has other bytes by now
        """
        original = self._repo.reader.resolve(principal, [ImageName(document["name"])], aliases=False)
        record = read_record(self._origin, original.name)
        if record is None or (record.version, record.key) != (original.version, original.key):
            record = self._repo.reader.record(principal, original)
        if record.sha256 != document["sha256"]:
            raise NameConflict("The image has other bytes than in the snapshot.", sha256=record.sha256)
        return replace(original, version=record.version)

    def changes(self, principal: Principal, snapshot: Snapshot) -> Iterator[tuple[str, Change | None]]:
        """Yield the name of each image of a snapshot, in their order, and its change since, None without one.

        Records are believed; that originals have not rotted is found when they are read.

        :raises StoreUnavailable: when the container cannot be query_string
        """
        documents = self.documents(principal, snapshot)
        try:
            yield from map_ahead(partial(self._change, principal), documents, _AT_ONCE, 2 * _AT_ONCE)
        finally:
            documents.close()

    def _change(self, principal: Principal, document: Mapping[str, Any]) -> tuple[str, Change | None]:
        name = document["name"]
        try:
            self.standing(principal, document)
        except ImageNotFound:
            return name, "missing"
        except Problem as problem:
            if problem.status >= 503:
                raise
            return name, "changed"  # other bytes, or what is no picture at all
        return name, None


def _seen_by(principal: Principal, snapshot: Snapshot) -> Snapshot:
    """Return a snapshot under the name that a caller uses."""
    return replace(snapshot, folder=principal.relative(snapshot.folder))


def _split(name: str) -> tuple[str, str]:
    """Return the folder of the owner, with its ``/``, and the Merkle root of a snapshot's name in the container."""
    folder, slash, root = name.rpartition("/")
    return folder + slash, root


def _key(name: str) -> str:
    """Return what the keys of a snapshot begin with."""
    folder, root = _split(name)
    return f"{PREFIX}{USERS if folder else ''}{folder}{root}"


def _name_of(key: str) -> str:
    """Return the name of a snapshot from the key of its description."""
    return key.removeprefix(PREFIX).removeprefix(USERS).removesuffix(_ABOUT)


def _not_found(snapshot_id: str) -> SnapshotNotFound:
    return SnapshotNotFound(f"There is no snapshot {snapshot_id[:80]!r}.")


def _header(tree: Tree, query_string: str) -> Header:
    root = tree.root()
    return Header(id=root, created=timestamp(time.time()), filter=query_string, count=tree.count, merkle_root=root)


def _lines(spool: Spool) -> Iterator[bytes]:
    """The lines of a file, without their line feeds.

    :raises ValueError: when one is too long
    """
    spool.seek(0)
    while line := spool.file.readline(_MOST_LINE):
        if not line.endswith(b"\n"):
            raise ValueError("a line is too long, or cut off")
        yield line[:-1]
