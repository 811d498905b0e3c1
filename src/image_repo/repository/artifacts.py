"""Artifacts: files of any kind beside the images, such as models, masks and tables. Each is named by its SHA-256.

In the container ``.artifacts/sha256/HEX`` holds the bytes and ``.artifacts/sha256/HEX.json`` what is said of them.
The bytes are written first: an artifact is there once its record is, so an upload that was cut off has
left nothing that can be seen, and the same again makes it whole. The same bytes are one artifact; of what is
said of them the latest stays, and ``meta`` is merged.
"""

from __future__ import annotations

import builtins
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from image_repo.access.control import Action
from image_repo.access.principal import Principal
from image_repo.catalogue import indexer
from image_repo.catalogue.base import Page, Row
from image_repo.catalogue.grammar import Grammar
from image_repo.catalogue.indexer import Indexer
from image_repo.catalogue.query import Query
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
#: what the keys of all artifacts begin with; no image has a name like it
PREFIX = ".artifacts/sha256/"
#: the kind of what is sent without one
DEFAULT_KIND = "file"
#: bytes of which nobody has said what they are
OCTETS = "application/octet-stream"
#: what a kind looks like: it stands in queries and in logs
KIND = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: how they are asked for
GRAMMAR = Grammar(
    fields=frozenset(("artifact_id", "kind", "bytes", "media_type", "filename", "uploaded", "meta")),
    data="meta",
    name="artifact_id",
    texts=frozenset(("artifact_id", "kind", "media_type", "filename", "uploaded")),
)
_RECORD = ".json"
_HEX = re.compile(r"[0-9a-f]{64}")
_ID = "sha256:"


@dataclass(frozen=True, slots=True)
class Artifact:
    """What is known of an artifact: its record.

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
        """As clients see it, and as it is stored."""
        return asdict(self)

    def dump(self) -> builtins.bytes:
        """As it is stored."""
        return json.dumps(self.public(), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def load(cls, text: builtins.bytes) -> Artifact:
        """Reads what :meth:`dump` wrote; unknown members are passed over, for the sake of newer writers.

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

    :param follower: tells the index over them, from which queries are answered; it is closed with the repository
    """

    def __init__(self, repo: Repository, follower: Indexer) -> None:
        self._repo = repo
        self._origin = repo.origin
        self._authorise = repo.access.authorise
        self.follower = follower
        repo.resources.callback(follower.close)

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
        """Reads every artifact; a line for each whose bytes are not those that were stored."""
        for name, _ in self.stamps():
            try:
                with self._verified(self._get(_sha256(name), name)):
                    pass
            except OriginalDamaged as problem:
                yield f"{name}: {problem.detail}"
            except ArtifactNotFound:  # it was deleted meanwhile, or its record cannot be read
                if self._origin.head(PREFIX + name.removeprefix(_ID)):
                    yield f"{name}: its record cannot be read"

    def is_whole(self, artifact: Artifact) -> bool:
        """Whether its bytes are there, as many as there should be; they are not read."""
        entry = self._origin.head(PREFIX + artifact.sha256)
        return entry is not None and entry.size == artifact.bytes

    def page(self, principal: Principal, query: Query) -> Page:
        """Return a page of records.

        :raises CatalogueDisabled: when the configuration has no catalogue
        """
        visible = self._authorise(principal, Action.LIST, PREFIX).visible
        page = self.follower.index.page(replace(query, filter=query.filter & visible))
        return replace(page, documents=[_untold(document) for document in page.documents])

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
        """Stores bytes, and what is said of them; what is None stays as it was.

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
            # Bytes that are there already are written too: so what has rotted is mended by sending it again.
            stored = self._origin.put(PREFIX + sha256, spool.file, media_type=made.media_type)
            told = self._origin.put(PREFIX + sha256 + _RECORD, made.dump(), media_type=MEDIA_TYPE)
            self.follower.wrote(made.artifact_id, _document(made), _stamp(stored, told))
        return made, before is None

    def delete(self, principal: Principal, artifact_id: str) -> dict[str, int]:
        """Removes an artifact; how many objects went of each sort.

        :raises ArtifactNotFound: when there was none
        :raises StoreUnavailable: when something may be left; the same again removes it
        """
        sha256 = _sha256(artifact_id)
        if sha256 is None:
            raise _not_found(artifact_id)
        self._authorise(principal, Action.DELETE, PREFIX + sha256, lambda _: _not_found(artifact_id))
        with self._repo.metadata.lock(_name(sha256)):
            try:
                artifacts = self._origin.delete(PREFIX + sha256)
                # It goes last: while it is there, a deletion that has failed can be repeated to its end.
                records = self._origin.delete(PREFIX + sha256 + _RECORD)
            except BaseException:
                self.follower.behind.add(artifact_id)
                raise
            self.follower.removed(artifact_id)
        if not records:
            raise _not_found(artifact_id)
        return {"artifact": int(artifacts), "record": int(records)}

    # -- the index -------------------------------------------------------------------

    def stamps(self, after: str = "") -> Iterator[tuple[str, str]]:
        """The artifacts that the container lists, in the order of their names: name and stamp.

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
        """What the index keeps of an artifact; None when it is not whole."""
        sha256 = _sha256(artifact_id)
        if sha256 is None:
            return None
        told, stored = (self._origin.head(PREFIX + sha256 + ending) for ending in (_RECORD, ""))
        found = self._read(sha256) if told and stored else None
        return Row(artifact_id, _document(found), _stamp(stored, told)) if found and stored and told else None


def _document(artifact: Artifact) -> dict[str, Any]:
    """As the index keeps it, where everything has a name."""
    return {"name": artifact.artifact_id, **artifact.public()}


def _untold(document: Mapping[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in document.items() if member != "name"}


def _stamp(stored: Entry, told: Entry) -> str:
    return indexer.stamp(stored.key, stored.etag, told.etag)


def _sha256(artifact_id: str) -> str | None:
    """The digest that a name holds; None when it is no name of an artifact."""
    sha256 = artifact_id.removeprefix(_ID)
    return sha256 if sha256 != artifact_id and _HEX.fullmatch(sha256) else None


def _name(sha256: str) -> ImageName:
    """What is held while an artifact is written: no image has this name."""
    return ImageName(PREFIX + sha256)


def _not_found(artifact_id: str) -> ArtifactNotFound:
    return ArtifactNotFound(f"There is no artifact {artifact_id[:80]!r}.")
