"""Lets the catalogue of a repository follow its container, to the end, as a server does in the background."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from image_repo import wiring
from image_repo.catalogue.query import Filter
from image_repo.config import Config
from image_repo.repository.repository import Repository
from image_repo.sync import reconciler
from image_repo.sync.reconciler import SweepOutcome


def swept(repo: Repository) -> SweepOutcome:
    """One look at everything that the container lists; nothing is read of originals."""
    images, sweep = reconciler.images(repo)
    return reconciler.run_to_end(sweep.run(images.listing()))


def followed(repo: Repository) -> SweepOutcome:
    """The same, and all originals are read of which the index has only what a listing tells."""
    outcome = swept(repo)
    read_all(repo)
    return outcome


def read_all(repo: Repository) -> None:
    """All originals are read of which the index has only what a listing tells."""
    for _ in reconciler.complete(repo, at_once=2, rows=3):
        pass


def indexed_records(repo: Repository) -> dict[str, dict[str, Any]]:
    """Every record that the index holds, by name."""
    return {document["name"]: document for document in repo.indexer.index.each(Filter())}


@contextmanager
def in_background(repo: Repository, config: Config) -> Iterator[None]:
    """Lets it follow by itself meanwhile."""
    end = wiring.start_daemon(config, repo)
    try:
        yield
    finally:
        end()
