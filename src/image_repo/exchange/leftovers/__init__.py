"""What neighbours leave behind, so that nobody has to stay with them for its sake: ``docs/coming-from.md``.

* ``documents``: a ``mongoexport`` with its uploads folder, and dumps of descriptions, over ``jsonstream`` (one value
  after the other) and ``extended`` (MongoDB's JSON to plain JSON)
* ``blobs``: a folder of images and artifacts under their SHA-256
* ``folders``: files below a folder, never outside

Everything is read one by one, nothing of it is trusted, and what is wrong is told entry by entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from image_repo.artifacts import Artifacts
from image_repo.errors import DigestMismatch, NotAPicture, Problem
from image_repo.exchange import Item, Outcome
from image_repo.exchange.leftovers.blobs import Blob, Blobs
from image_repo.exchange.leftovers.documents import Documents
from image_repo.exchange.leftovers.jsonstream import CHUNK, is_json
from image_repo.repo import Repo

__all__ = ["Blob", "Leftovers", "detect", "outcomes"]


class Leftovers(Protocol):
    """What somebody has left behind, to be gone through once."""

    #: for people: what it is
    description: str
    #: how far it is, and how far it goes; in a measure of its own
    done: int
    total: int

    def __iter__(self) -> Iterator[Item | Blob]:
        """Everything that is there, one by one."""
        ...


class Taker(Protocol):
    """Who takes images in: :class:`image_repo.exchange.importing.Importer`."""

    def take(self, item: Item) -> Outcome:
        """Takes one."""
        ...


def detect(path: Path, uploads: Path | None = None) -> Leftovers | None:
    """What lies at a path; None where it is none of this.

    :param uploads: the folder of the files that documents name
    :raises OSError: when it cannot be looked at
    """
    if path.is_dir():
        return Blobs(path) if Blobs.is_there(path) else None
    with path.open("rb") as file:
        return Documents(path, uploads) if is_json(file.read(CHUNK)) else None


def outcomes(leftovers: Iterable[Item | Blob], importer: Taker, repo: Repo, artifacts: Artifacts) -> Iterator[Outcome]:
    """Takes everything in, and says of each what became of it."""
    for left in leftovers:
        yield importer.take(left) if isinstance(left, Item) else take_blob(left, importer, repo, artifacts)


def take_blob(blob: Blob, importer: Taker, repo: Repo, artifacts: Artifacts) -> Outcome:
    """Takes a blob in: what was stored as an image as one, unless it is no picture; everything else as an artifact."""
    if blob.is_image:
        outcome = importer.take(blob.item)
        if not isinstance(outcome.problem, NotAPicture):
            return outcome
    try:
        return _as_artifact(blob, repo, artifacts)
    except Problem as problem:
        return Outcome(blob.entry, "failed", problem=problem)


def _as_artifact(blob: Blob, repo: Repo, artifacts: Artifacts) -> Outcome:
    with repo.spool() as spool:
        spool.fill(blob.open())
        if spool.sha256 != blob.sha256:
            raise DigestMismatch(f"These bytes have the SHA-256 {spool.sha256}, not that of their name.")
        made, new = artifacts.put(spool, kind=blob.kind, media_type=_media_type(blob), meta=blob.said)
    return Outcome(blob.entry, "stored" if new else "unchanged", made.artifact_id)


def _media_type(blob: Blob) -> str | None:
    said = blob.meta.get("mime")
    return said if isinstance(said, str) and len(said) <= 100 and said.isascii() and said.isprintable() else None
