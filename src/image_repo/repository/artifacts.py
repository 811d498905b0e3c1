"""Artifacts: files of any kind beside the images, such as models, masks and tables. Each is named by its SHA-256.

In the container ``.artifacts/sha256/HEX`` holds the bytes and ``.artifacts/sha256/HEX.json`` their record. The bytes
are written first: an artifact exists once its record does, so an upload that was cut off leaves nothing visible, and
a repeated upload completes it. The same bytes are one artifact; the latest record stays, and ``meta`` is merged.
"""

from __future__ import annotations

import builtins
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
from image_repo.catalogue.query import Path, Query
from image_repo.catalogue.unknown_keys import unknown_keys
from image_repo.errors import ArtifactNotFound, OriginalDamaged
from image_repo.model.names import ImageName
from image_repo.model.record import MAX_RECORD_BYTES, timestamp
from image_repo.repository.metadata import check_data, merge
from image_repo.repository.repository import Repository
from image_repo.repository.spool import Spool
from image_repo.stores.base import Entry

log = logging.getLogger(__name__)

#: marks a JSON object in the container as the record of an artifact
MEDIA_TYPE = "application/vnd.image-repo.artifact+json"
#: of the keys of all artifacts; no image has a name like it
PREFIX = ".artifacts/sha256/"
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


@dataclass(frozen=True, slots=True)
class Artifact:
    """The record of an artifact.

    :param artifact_id: ``sha256:`` and the lower-case hex of its bytes
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
        return self.artifact_id.removeprefix(_ID)

    @property
    def modified(self) -> float:
        """When it was new, in seconds since the epoch."""
        return datetime.fromisoformat(self.uploaded).timestamp()

    def public(self) -> dict[str, Any]:
        """Return it as clients see it, and as it is stored."""
        return asdict(self)

    def dump(self) -> builtins.bytes:
        """Return it as it is stored."""
        return json.dumps(self.public(), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def load(cls, text: builtins.bytes) -> Artifact:
        """Read what :meth:`dump` wrote; unknown members are passed over, for the sake of newer writers.

        :raises ValueError: when it is no record of an artifact
        """
        try:
            members = json.loads(text)
            made = cls(**{f.name: members[f.name] for f in fields(cls) if f.name in members})
            texts = (made.artifact_id, made.kind, made.media_type, made.uploaded, made.filename or "")
            whole = all(isinstance(value, str) for value in texts) and type(made.bytes) is int
            good = whole and isinstance(made.meta, dict) and made.modified >= 0 and KIND.fullmatch(made.kind)
        except (TypeError, RecursionError) as error:
            raise ValueError(f"not a record of an artifact: {error}") from error
        if not good or not _sha256(made.artifact_id):
            raise ValueError("not a record of an artifact")
        return made


class Artifacts:
    """The artifacts of a repository.

    :param indexer: of the index over them; closed with the repository
    """

    def __init__(self, repo: Repository, indexer: Indexer) -> None:
        self._repo = repo
        self._origin = repo.origin
        self._authorise = repo.access.authorise
        self.indexer = indexer
        repo.resources.callback(indexer.close)

    # -- reading ---------------------------------------------------------------------

    def get(self, principal: Principal, artifact_id: str) -> Artifact:
        """Return what is known of an artifact.

        :raises ArtifactNotFound: when the container has none of this name
        """
        sha256 = _sha256(artifact_id)
        if sha256:
            self._authorise(principal, Action.READ, PREFIX + sha256, lambda _: _not_found(artifact_id))
        return self._get(sha256, artifact_id)

    def _get(self, sha256: str | None, artifact_id: str) -> Artifact:
        found = self._read(sha256) if sha256 else None
        if found is None:
            raise _not_found(artifact_id)
        return found

    @contextmanager
    def open(self, principal: Principal, artifact: Artifact) -> Iterator[Spool]:
        """Yield its bytes in a temporary file, verified by their name.

        :raises ArtifactNotFound: when they are not there any more
        :raises OriginalDamaged: when they are not those that were stored
        """
        key = PREFIX + artifact.sha256
        self._authorise(principal, Action.READ, key, lambda _: _not_found(artifact.artifact_id))
        with self._verified(artifact) as spool:
            yield spool

    @contextmanager
    def _verified(self, artifact: Artifact) -> Iterator[Spool]:
        body = self._origin.get(PREFIX + artifact.sha256)
        if body is None:
            raise _not_found(artifact.artifact_id)
        with body, Spool(self._repo.policy.spool, body.entry.size) as spool:
            spool.fill(body)
            if spool.sha256 != artifact.sha256:
                log.error("the artifact %s is damaged: its SHA-256 is %s", artifact.artifact_id, spool.sha256)
                raise OriginalDamaged("The artifact is not what was stored.", artifact_id=artifact.artifact_id)
            yield spool

    def damaged(self) -> Iterator[str]:
        """Read every artifact; yield a line for each whose bytes are not those that were stored."""
        for name, _ in self.stamps():
            try:
                with self._verified(self._get(_sha256(name), name)):
                    pass
            except OriginalDamaged as problem:
                yield f"{name}: {problem.detail}"
            except ArtifactNotFound:  # it was deleted meanwhile, or its record cannot be read
                if self._origin.head(PREFIX + name.removeprefix(_ID)):
                    yield f"{name}: its record cannot be read"

    def is_stored(self, sha256: str) -> bool:
        """Return whether these bytes are an artifact already, whole by their number."""
        known = self._read(sha256)
        return known is not None and self.is_whole(known)

    def is_whole(self, artifact: Artifact) -> bool:
        """Return whether its bytes are there, by their number; they are not read."""
        entry = self._origin.head(PREFIX + artifact.sha256)
        return entry is not None and entry.size == artifact.bytes

    def page(self, principal: Principal, query: Query) -> Page:
        """Return a page of records.

        :raises CatalogueDisabled: when the configuration has no catalogue
        """
        visible = self._authorise(principal, Action.LIST, PREFIX).visible
        page = self.indexer.index.page(replace(query, filter=query.filter & visible))
        return replace(page, documents=[_without_name(document) for document in page.documents])

    def unknown_keys(self, principal: Principal, paths: Iterable[Path]) -> Mapping[str, str | None]:
        """Return those keys that no record has, each with what was probably meant."""
        visible = self._authorise(principal, Action.LIST, PREFIX).visible
        return unknown_keys(self.indexer.index, GRAMMAR, visible, paths)

    def _read(self, sha256: str) -> Artifact | None:
        body = self._origin.get(PREFIX + sha256 + _RECORD)
        if body is None:
            return None
        with body:
            if body.entry.size > MAX_RECORD_BYTES:
                return None
            text = b"".join(body)
        try:
            found = Artifact.load(text)
        except ValueError as error:
            log.warning("the record of the artifact %s cannot be read: %s", sha256, error)
            return None
        return found if found.sha256 == sha256 else None

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
        sha256 = spool.sha256
        self._authorise(principal, Action.WRITE, PREFIX + sha256)
        with self._repo.metadata.lock(_name(sha256)):
            before = self._read(sha256)
            made = before or Artifact(_ID + sha256, DEFAULT_KIND, spool.size, OCTETS, None, timestamp(time.time()))
            made = replace(
                made,
                kind=kind or made.kind,
                media_type=media_type or made.media_type,
                filename=filename or made.filename,
                meta=merge(before.meta, meta or {}) if before else (meta or {}),
            )
            check_data(made.meta, "meta")
            # Known bytes are written again: so a repeated upload repairs damaged ones.
            stored = self._store(PREFIX + sha256, spool.file, made.media_type)
            record = self._store(PREFIX + sha256 + _RECORD, made.dump(), MEDIA_TYPE)
            self.indexer.wrote(made.artifact_id, _document(made), _stamp(stored, record))
        return made, before is None

    def _store(self, key: str, data: BinaryIO | builtins.bytes, media_type: str) -> Entry:
        """Store an object, unless another node may hold the lock by now."""
        self._repo.metadata.confirm()
        return self._origin.put(key, data, media_type=media_type)

    def delete(self, principal: Principal, artifact_id: str) -> dict[str, int]:
        """Delete an artifact; return how many objects of each sort were deleted.

        :raises ArtifactNotFound: when there was none
        :raises StoreUnavailable: when something may be left; the same again removes it
        """
        sha256 = _sha256(artifact_id)
        if sha256 is None:
            raise _not_found(artifact_id)
        self._authorise(principal, Action.DELETE, PREFIX + sha256, lambda _: _not_found(artifact_id))
        with self._repo.metadata.lock(_name(sha256)):
            try:
                self._repo.metadata.confirm()
                artifacts = self._origin.delete(PREFIX + sha256)
                # It goes last: while it is there, a deletion that has failed can be repeated to its end.
                self._repo.metadata.confirm()
                records = self._origin.delete(PREFIX + sha256 + _RECORD)
            except BaseException:
                self.indexer.outbox.add(artifact_id)
                raise
            self.indexer.removed(artifact_id)
        if not records:
            raise _not_found(artifact_id)
        return {"artifact": int(artifacts), "record": int(records)}

    # -- the index -------------------------------------------------------------------

    def stamps(self, after: str = "") -> Iterator[tuple[str, str]]:
        """Yield the artifacts that the container lists, in the order of their names: name and stamp.

        :param after: only names behind this one
        """
        marker = PREFIX + after.removeprefix(_ID) + _RECORD if after else ""
        blob: Entry | None = None
        for entry in self._origin.keys(PREFIX, after=marker):
            name = entry.key.removeprefix(PREFIX)
            if blob and entry.key == blob.key + _RECORD:
                yield _ID + name.removesuffix(_RECORD), _stamp(blob, entry)
            blob = entry if _HEX.fullmatch(name) else None

    def row(self, artifact_id: str) -> Row | None:
        """Return the row of an artifact for the index; None when it is not complete."""
        sha256 = _sha256(artifact_id)
        if sha256 is None:
            return None
        record, stored = (self._origin.head(PREFIX + sha256 + ending) for ending in (_RECORD, ""))
        found = self._read(sha256) if record and stored else None
        return Row(artifact_id, _document(found), _stamp(stored, record)) if found and stored and record else None


def _document(artifact: Artifact) -> dict[str, Any]:
    """Return the document of the index, where everything has a name."""
    return {"name": artifact.artifact_id, **artifact.public()}


def _without_name(document: Mapping[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in document.items() if member != "name"}


def _stamp(stored: Entry, record: Entry) -> str:
    return indexer.stamp(stored.key, stored.etag, record.etag)


def _sha256(artifact_id: str) -> str | None:
    """Return the digest in an artifact's name; None when it is none."""
    sha256 = artifact_id.removeprefix(_ID)
    return sha256 if sha256 != artifact_id and _HEX.fullmatch(sha256) else None


def _name(sha256: str) -> ImageName:
    """Return the name that is locked while an artifact is written: no image has it."""
    return ImageName(PREFIX + sha256)


def _not_found(artifact_id: str) -> ArtifactNotFound:
    return ArtifactNotFound(f"There is no artifact {artifact_id[:80]!r}.")
