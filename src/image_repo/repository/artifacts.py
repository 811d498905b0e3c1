"""Artifacts: files of any kind beside the images, such as models, masks and tables. Each is named by its SHA-256.

In the container ``.artifacts/sha256/HEX`` holds the bytes and ``.artifacts/sha256/HEX.json`` their record; where users
are kept apart, those of a user lie in ``.artifacts/users/OWNER/``, and are ``OWNER/sha256:HEX`` to administrators.

The bytes are written first: an artifact exists once its record does, so an upload that was cut off leaves nothing
visible, and a repeated upload completes it. The same bytes are one artifact; the latest record stays, and ``meta`` is
merged.
"""

from __future__ import annotations

import builtins
import heapq
import json
import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any, BinaryIO

from image_repo.access.control import Action
from image_repo.access.principal import Principal
from image_repo.catalogue import indexer
from image_repo.catalogue.base import Page, Row
from image_repo.catalogue.grammar import Grammar
from image_repo.catalogue.indexer import Indexer
from image_repo.catalogue.query import Filter, Path, Query
from image_repo.catalogue.unknown_keys import unknown_keys
from image_repo.errors import ArtifactNotFound, OriginalDamaged
from image_repo.model.names import ImageName
from image_repo.model.namespaces import USERS
from image_repo.model.record import MAX_RECORD_BYTES, timestamp
from image_repo.repository.metadata import check_data, merge
from image_repo.repository.repository import Repository
from image_repo.repository.spool import Spool
from image_repo.stores.base import Entry, read_small

log = logging.getLogger(__name__)

#: marks a JSON object in the container as the record of an artifact
MEDIA_TYPE = "application/vnd.image-repo.artifact+json"
#: of the keys of artifacts without an owner, and of those with one; no image has a name like them
PREFIX, OWNED_PREFIX = ".artifacts/sha256/", ".artifacts/" + USERS
#: kind of bytes that were sent without one
DEFAULT_KIND = "file"
#: media type of bytes that were sent without one
OCTETS = "application/octet-stream"
#: form of a kind: it stands in queries and in logs
KIND = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: of queries over artifacts
GRAMMAR = Grammar(
    fields={
        "artifact_id": "text", "kind": "text", "media_type": "text", "filename": "text", "uploaded": "time",
        "bytes": "number", "meta": "any",
    },
    data="meta",
    name="artifact_id",
)  # fmt: skip
_RECORD = ".json"
_HEX = re.compile(r"[0-9a-f]{64}")
_ID = "sha256:"
#: of an artifact in the container: the folder of its owner, if it has one, and its digest
_NAME = re.compile(r"((?:[^/.][^/]*/)?)sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Artifact:
    """The record of an artifact.

    :param artifact_id: ``sha256:`` and the lower-case hex of its bytes; behind the folder of its owner, if it has one
    :param media_type: as its sender says; nothing is made of it
    :param filename: what the sender called the file
    :param uploaded: when it was new, RFC 3339, UTC
    :param meta: the user's own, a JSON object as an image's data is
    """

    artifact_id: str
    kind: str
    bytes: int
    media_type: str
    filename: str | None
    uploaded: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of its bytes, in lower-case hex."""
        return self.artifact_id.rpartition(_ID)[2]

    @property
    def modified(self) -> float:
        """When it was new, in seconds since the epoch."""
        return datetime.fromisoformat(self.uploaded).timestamp()

    def public(self) -> dict[str, Any]:
        """Return it as clients see it."""
        return asdict(self)

    def dump(self) -> builtins.bytes:
        """Return it as it is stored: without the folder of its owner, which its place in the container tells."""
        return json.dumps(
            {**self.public(), "artifact_id": _ID + self.sha256},
            ensure_ascii=False,
            separators=(",", ":"),
            allow_nan=False,
        ).encode()

    @classmethod
    def load(cls, text: builtins.bytes) -> Artifact:
        """Read what :meth:`dump` wrote; unknown members are passed over, for the sake of newer writers.

        :raises ValueError: when it is no record of an artifact
        """
        try:
            members = json.loads(text)
            artifact = cls(**{f.name: members[f.name] for f in fields(cls) if f.name in members})
            texts = (artifact.artifact_id, artifact.kind, artifact.media_type, artifact.uploaded)
            whole = all(isinstance(text, str) for text in (*texts, artifact.filename or ""))
            good = whole and type(artifact.bytes) is int and isinstance(artifact.meta, dict)
            good = good and artifact.modified >= 0 and KIND.fullmatch(artifact.kind) is not None
        except (TypeError, RecursionError) as error:
            raise ValueError(f"not a record of an artifact: {error}") from error
        if not good or not _NAME.fullmatch(artifact.artifact_id):
            raise ValueError("not a record of an artifact")
        return artifact


class Artifacts:
    """The artifacts of a repository, under the names that a principal uses.

    :param indexer: of the index over them; closed with the repository
    """

    def __init__(self, repo: Repository, indexer: Indexer) -> None:
        self._repo = repo
        self._origin = repo.origin
        self.indexer = indexer
        repo.resources.callback(indexer.close)

    def _authorise(self, principal: Principal, action: Action, artifact_id: str) -> str:
        """Return the name in the container of an artifact, for an action that is allowed.

        :raises ArtifactNotFound: when no artifact can have this name, or the principal may not know of it
        """
        name = principal.namespace + artifact_id
        if not _NAME.fullmatch(name):
            raise _not_found(artifact_id)
        self._repo.access.authorise(principal, action, _key(name), lambda _: _not_found(artifact_id))
        return name

    # -- reading ---------------------------------------------------------------------

    def get(self, principal: Principal, artifact_id: str) -> Artifact:
        """Return what is known of an artifact.

        :raises ArtifactNotFound: when the container has none of this name
        """
        artifact = self._read(self._authorise(principal, Action.READ, artifact_id))
        if artifact is None:
            raise _not_found(artifact_id)
        return replace(artifact, artifact_id=artifact_id)

    @contextmanager
    def open(self, principal: Principal, artifact: Artifact) -> Iterator[Spool]:
        """Yield its bytes in a temporary file, verified by their name.

        :raises ArtifactNotFound: when they are not there any more
        :raises OriginalDamaged: when they are not those that were stored
        """
        with self._verified(self._authorise(principal, Action.READ, artifact.artifact_id), artifact) as spool:
            yield spool

    @contextmanager
    def _verified(self, name: str, artifact: Artifact) -> Iterator[Spool]:
        body = self._origin.get(_key(name))
        if body is None:
            raise _not_found(artifact.artifact_id)
        with body, Spool(self._repo.policy.spool, body.entry.size) as spool:
            spool.fill(body)
            if spool.sha256 != artifact.sha256:
                log.error("the artifact %s is damaged: its SHA-256 is %s", name, spool.sha256)
                raise OriginalDamaged("The artifact is not what was stored.", artifact_id=artifact.artifact_id)
            yield spool

    def damaged(self) -> Iterator[str]:
        """Read every artifact; yield a line for each whose bytes are not those that were stored."""
        for name, _ in self.stamps():
            try:
                artifact = self._read(name)
                if artifact is None:
                    raise _not_found(name)
                with self._verified(name, artifact):
                    pass
            except OriginalDamaged as problem:
                yield f"{name}: {problem.detail}"
            except ArtifactNotFound:  # it was deleted meanwhile, or its record cannot be read
                if self._origin.head(_key(name)):
                    yield f"{name}: its record cannot be read"

    def is_stored(self, sha256: str) -> bool:
        """Return whether these bytes are an artifact of no owner already, whole by their number."""
        known = self._read(_ID + sha256)
        return known is not None and self._is_whole(_ID + sha256, known)

    def is_whole(self, principal: Principal, artifact: Artifact) -> bool:
        """Return whether its bytes are there, by their number; they are not read."""
        return self._is_whole(principal.namespace + artifact.artifact_id, artifact)

    def _is_whole(self, name: str, artifact: Artifact) -> bool:
        entry = self._origin.head(_key(name))
        return entry is not None and entry.size == artifact.bytes

    def page(self, principal: Principal, query: Query) -> Page:
        """Return a page of records.

        :raises CatalogueDisabled: when the configuration has no catalogue
        """
        select = (*query.select, ("name",)) if query.select else ()
        page = self.indexer.index.page(replace(query, filter=query.filter & self._visible(principal), select=select))
        return replace(page, documents=[_seen_by(principal, document) for document in page.documents])

    def unknown_keys(self, principal: Principal, paths: Iterable[Path]) -> Mapping[str, str | None]:
        """Return those keys that no record has, each with what was probably meant."""
        return unknown_keys(self.indexer.index, GRAMMAR, self._visible(principal), paths)

    def _visible(self, principal: Principal) -> Filter:
        return self._repo.access.authorise(principal, Action.LIST, PREFIX).visible

    def is_shared(self, principal: Principal, artifact: Artifact) -> bool:
        """Return whether every caller gets the same answer to a request for it."""
        key = _key(principal.namespace + artifact.artifact_id)
        return self._repo.access.authorise(principal, Action.READ, key).is_shared

    def _read(self, name: str) -> Artifact | None:
        text = read_small(self._origin, _key(name) + _RECORD, MAX_RECORD_BYTES)
        if text is None:
            return None
        try:
            artifact = Artifact.load(text)
        except ValueError as error:
            log.warning("the record of the artifact %s cannot be read: %s", name, error)
            return None
        return replace(artifact, artifact_id=name) if name.endswith(_ID + artifact.sha256) else None

    # -- writing ---------------------------------------------------------------------

    def put(
        self,
        principal: Principal,
        spool: Spool,
        *,
        kind: str | None = None,
        media_type: str | None = None,
        filename: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> tuple[Artifact, bool]:
        """Store bytes and their record; what is None stays as it was.

        :param kind: as :data:`KIND` has it
        :param meta: merged into what there is of known bytes (RFC 7396)
        :returns: the record, and whether it is new
        :raises BadBody, TooLarge: when there is too much ``meta`` in all
        """
        name = self._authorise(principal, Action.WRITE, _ID + spool.sha256)
        key = _key(name)
        with self._repo.metadata.lock(ImageName(key)):
            before = self._read(name)
            artifact = before or Artifact(name, DEFAULT_KIND, spool.size, OCTETS, None, timestamp(time.time()))
            artifact = replace(
                artifact,
                kind=kind or artifact.kind,
                media_type=media_type or artifact.media_type,
                filename=filename or artifact.filename,
                meta=merge(before.meta, meta or {}) if before else (meta or {}),
            )
            check_data(artifact.meta, "meta")
            # Known bytes are written again: so a repeated upload repairs damaged ones.
            with self._repo.writer.quotas.reserved(principal, 0 if before else spool.size):
                stored = self._store(key, spool.file, artifact.media_type)
            record = self._store(key + _RECORD, artifact.dump(), MEDIA_TYPE)
            self.indexer.wrote(name, _document(artifact), _stamp(stored, record))
        return replace(artifact, artifact_id=principal.relative(name)), before is None

    def _store(self, key: str, data: BinaryIO | builtins.bytes, media_type: str) -> Entry:
        """Store an object, unless another node may hold the lock by now."""
        self._repo.metadata.confirm()
        return self._origin.put(key, data, media_type=media_type)

    def delete(self, principal: Principal, artifact_id: str) -> dict[str, int]:
        """Delete an artifact; return how many objects of each sort were deleted.

        :raises ArtifactNotFound: when there was none
        :raises StoreUnavailable: when something may be left; the same again removes it
        """
        name = self._authorise(principal, Action.DELETE, artifact_id)
        key = _key(name)
        with self._repo.metadata.lock(ImageName(key)):
            try:
                self._repo.metadata.confirm()
                artifacts = self._origin.delete(key)
                # It goes last: while it is there, a deletion that has failed can be repeated to its end.
                self._repo.metadata.confirm()
                records = self._origin.delete(key + _RECORD)
            except BaseException:
                self.indexer.outbox.add(name)
                raise
            self.indexer.removed(name)
        if not records:
            raise _not_found(artifact_id)
        return {"artifact": int(artifacts), "record": int(records)}

    # -- the index -------------------------------------------------------------------

    def stamps(self) -> Iterator[tuple[str, str]]:
        """Yield the artifacts that the container lists, in the order of their names: name and stamp."""
        return heapq.merge(self._stamps(PREFIX), self._stamps(OWNED_PREFIX))

    def _stamps(self, folder: str) -> Iterator[tuple[str, str]]:
        blob: Entry | None = None
        for entry in self._origin.keys(folder):
            owner, slash, leaf = entry.key.removeprefix(folder).rpartition("/")
            if blob and entry.key == blob.key + _RECORD:
                yield f"{owner}{slash}{_ID}{leaf.removesuffix(_RECORD)}", _stamp(blob, entry)
            blob = entry if _HEX.fullmatch(leaf) else None

    def row(self, name: str) -> Row | None:
        """Return the row of an artifact for the index; None when it is not complete.

        :param name: in the container
        """
        if not _NAME.fullmatch(name):
            return None
        key = _key(name)
        record, stored = (self._origin.head(key + ending) for ending in (_RECORD, ""))
        artifact = self._read(name) if record and stored else None
        return Row(name, _document(artifact), _stamp(stored, record)) if artifact and stored and record else None


def _document(artifact: Artifact) -> dict[str, Any]:
    """Return the document of the index: its name begins with the folder of the owner, its id does not."""
    return {"name": artifact.artifact_id, **artifact.public(), "artifact_id": _ID + artifact.sha256}


def _seen_by(principal: Principal, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document as a caller sees it, whose id is the name that it uses."""
    seen = {member: value for member, value in document.items() if member != "name"}
    return {**seen, "artifact_id": principal.relative(document["name"])} if "artifact_id" in seen else seen


def _stamp(stored: Entry, record: Entry) -> str:
    return indexer.stamp(stored.key, stored.etag, record.etag)


def _key(name: str) -> str:
    """Return the key of the bytes of an artifact."""
    folder, _, sha256 = name.rpartition(_ID)
    return f"{OWNED_PREFIX}{folder}{sha256}" if folder else PREFIX + sha256


def _not_found(artifact_id: str) -> ArtifactNotFound:
    return ArtifactNotFound(f"There is no artifact {artifact_id[:80]!r}.")
