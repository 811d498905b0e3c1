"""Imports from other systems (``docs/coming-from.md``).

* ``documents``: a ``mongoexport`` with its uploads folder, and dumps of descriptions, over ``json_stream`` (one value
  after the other) and ``extended_json`` (MongoDB's JSON to plain JSON)
* ``blobs``: a folder of images and artifacts under their SHA-256
* ``folders``: files below a folder, never outside

Entries are untrusted, read one by one, and each problem is reported with its entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

from image_repo.access.principal import Principal
from image_repo.errors import BrokenPicture, DigestMismatch, NotAPicture, OverBudget, Problem, UnsupportedPicture
from image_repo.exchange.base import ImportOutcome, Item
from image_repo.exchange.legacy.blobs import Blob, Blobs
from image_repo.exchange.legacy.documents import Documents
from image_repo.exchange.legacy.json_stream import CHUNK, is_json
from image_repo.repository.artifacts import Artifacts
from image_repo.repository.repository import Repository

__all__ = ["Blob", "Blobs", "Documents", "LegacySource", "detect", "outcomes"]

LegacySource = Documents | Blobs
#: artifacts that are imported at a time
_AT_ONCE = 4
#: problems of images that become artifacts
_REFUSALS = (NotAPicture, UnsupportedPicture, BrokenPicture, OverBudget)
#: RFC 6838, section 4.2
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")


class ItemImporter(Protocol):
    """The part of :class:`image_repo.exchange.importer.Importer` that is used here."""

    def run(self, items: Iterable[Item]) -> Iterator[ImportOutcome]: ...


def detect(path: Path, uploads: Path | None = None) -> LegacySource | None:
    """Return the data of another system at a path; None if there are none.

    :param uploads: the folder of the files that documents name
    :returns: can be iterated once; ``description``, ``done`` and ``total`` are for people and progress bars
    :raises OSError: if it cannot be read
    """
    if path.is_dir():
        return Blobs(path) if Blobs.is_there(path) else None
    with path.open("rb") as file:
        return Documents(path, uploads) if is_json(file.read(CHUNK)) else None


def outcomes(
    source: LegacySource,
    importer: ItemImporter,
    repo: Repository,
    principal: Principal,
    artifacts: Artifacts,
    *,
    dry_run: bool = False,
) -> Iterator[ImportOutcome]:
    """Import everything, and yield the outcome of each entry.

    :param dry_run: whether to store no artifact; outcomes are those of an import. The importer has its own
    :raises BadParameter: if documents name files and the folder of the files is unknown
    """
    if isinstance(source, Documents):
        yield from importer.run(source.items())
        return
    take = partial(_import_artifact, repo=repo, principal=principal, artifacts=artifacts, dry_run=dry_run)
    yield from _images(source, importer, take)
    others = source.artifacts()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="import") as pool:
        while batch := list(islice(others, 4 * _AT_ONCE)):
            yield from pool.map(take, batch)


def _images(blobs: Blobs, importer: ItemImporter, take: partial[ImportOutcome]) -> Iterator[ImportOutcome]:
    """Import images; those that are refused become artifacts, with the reason."""
    pending: dict[str, Blob] = {}

    def items() -> Iterator[Item]:
        for blob in blobs.images():
            if isinstance(blob, Blob):
                pending[blob.entry] = blob
            yield blob.item if isinstance(blob, Blob) else blob

    for outcome in importer.run(items()):
        blob = pending.pop(outcome.entry, None)
        if blob and isinstance(outcome.problem, _REFUSALS):
            artifact = take(blob)
            yield artifact if artifact.problem else replace(artifact, problem=outcome.problem)
        else:
            yield outcome


def _import_artifact(
    blob: Blob, repo: Repository, principal: Principal, artifacts: Artifacts, *, dry_run: bool
) -> ImportOutcome:
    """Import a blob as an artifact."""
    try:
        with repo.writer.spool() as spool:
            spool.fill(blob.open())
            if spool.sha256 != blob.sha256:
                raise DigestMismatch(f"These bytes have the SHA-256 {spool.sha256}, not that of their name.")
            if artifacts.is_stored(spool.sha256):  # what is said of it here stays
                return ImportOutcome(blob.entry, "unchanged", f"sha256:{spool.sha256}")
            if dry_run:
                return ImportOutcome(blob.entry, "stored", f"sha256:{spool.sha256}")
            meta = blob.artifact_meta
            artifact, is_new = artifacts.put(principal, spool, kind=blob.kind, media_type=_media_type(blob), meta=meta)
    except Problem as problem:
        return ImportOutcome(blob.entry, "failed", problem=problem)
    return ImportOutcome(blob.entry, "stored" if is_new else "unchanged", artifact.artifact_id)


def _media_type(blob: Blob) -> str | None:
    media_type = blob.meta.get("mime")
    return media_type if isinstance(media_type, str) and _MEDIA_TYPE.fullmatch(media_type) else None
