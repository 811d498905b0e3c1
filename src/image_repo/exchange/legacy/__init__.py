"""What neighbours leave behind, so that nobody has to stay with them for its sake: ``docs/coming-from.md``.

* ``documents``: a ``mongoexport`` with its uploads folder, and dumps of descriptions, over ``jsonstream`` (one value
  after the other) and ``extended`` (MongoDB's JSON to plain JSON)
* ``blobs``: a folder of images and artifacts under their SHA-256
* ``folders``: files below a folder, never outside

Everything is read one by one, nothing of it is trusted, and what is wrong is told entry by entry.
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

__all__ = ["Blob", "Blobs", "Documents", "Leftovers", "detect", "outcomes"]

Leftovers = Documents | Blobs
#: artifacts that are taken in at a time
_AT_ONCE = 4
#: why bytes that somebody takes for a picture are none here
_REFUSALS = (NotAPicture, UnsupportedPicture, BrokenPicture, OverBudget)
#: RFC 6838, section 4.2
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")


class Taker(Protocol):
    """Who takes images in: :class:`image_repo.exchange.importer.Importer`."""

    def run(self, items: Iterable[Item]) -> Iterator[ImportOutcome]:
        """Takes items in, several at a time; outcomes come in the order of the items."""
        ...


def detect(path: Path, uploads: Path | None = None) -> Leftovers | None:
    """What lies at a path; None where it is none of this.

    :param uploads: the folder of the files that documents name
    :returns: to be gone through once; ``description``, ``done`` and ``total`` are for people and progress bars
    :raises OSError: when it cannot be looked at
    """
    if path.is_dir():
        return Blobs(path) if Blobs.is_there(path) else None
    with path.open("rb") as file:
        return Documents(path, uploads) if is_json(file.read(CHUNK)) else None


def outcomes(
    leftovers: Leftovers, importer: Taker, repo: Repository, principal: Principal, artifacts: Artifacts
) -> Iterator[ImportOutcome]:
    """Takes everything in, and says of each what became of it.

    :raises BadParameter: when documents name files and it was not said where they are
    """
    if isinstance(leftovers, Documents):
        yield from importer.run(leftovers.items())
        return
    take = partial(_take, repo=repo, principal=principal, artifacts=artifacts)
    yield from _images(leftovers, importer, take)
    others = leftovers.artifacts()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="import") as pool:
        while batch := list(islice(others, 4 * _AT_ONCE)):
            yield from pool.map(take, batch)


def _images(blobs: Blobs, importer: Taker, take: partial[ImportOutcome]) -> Iterator[ImportOutcome]:
    """What was stored as an image becomes one; where that is refused, an artifact, with the reason: nothing is lost."""
    waiting: dict[str, Blob] = {}

    def items() -> Iterator[Item]:
        for found in blobs.images():
            if isinstance(found, Blob):
                waiting[found.entry] = found
            yield found.item if isinstance(found, Blob) else found

    for outcome in importer.run(items()):
        blob = waiting.pop(outcome.entry, None)
        if blob and isinstance(outcome.problem, _REFUSALS):
            made = take(blob)
            yield made if made.problem else replace(made, problem=outcome.problem)
        else:
            yield outcome


def _take(blob: Blob, repo: Repository, principal: Principal, artifacts: Artifacts) -> ImportOutcome:
    """Takes a blob in as an artifact."""
    try:
        with repo.writer.spool() as spool:
            spool.fill(blob.open())
            if spool.sha256 != blob.sha256:
                raise DigestMismatch(f"These bytes have the SHA-256 {spool.sha256}, not that of their name.")
            made, new = artifacts.put(principal, spool, kind=blob.kind, media_type=_media_type(blob), meta=blob.said)
    except Problem as problem:
        return ImportOutcome(blob.entry, "failed", problem=problem)
    return ImportOutcome(blob.entry, "stored" if new else "unchanged", made.artifact_id)


def _media_type(blob: Blob) -> str | None:
    said = blob.meta.get("mime")
    return said if isinstance(said, str) and _MEDIA_TYPE.fullmatch(said) else None
