"""What the verbs of the command line do with the catalogue. Nothing here knows how a command is spelled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass

from image_repo import wiring
from image_repo.catalogue.base import Index, Indexed
from image_repo.catalogue.grammar import IMAGES
from image_repo.catalogue.indexer import SweepState, lacking
from image_repo.catalogue.query import Filter
from image_repo.config import Config
from image_repo.errors import BadParameter, CatalogueDisabled, Problem
from image_repo.repository.artifacts import Artifacts
from image_repo.repository.repository import Repository
from image_repo.sync import reconciler
from image_repo.sync.daemon import Lock, Progress
from image_repo.sync.reconciler import Sweep, SweepOutcome

#: shows how far something is: what, and of how many → is told how many more
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]
#: originals and records that are read at a time
_AT_ONCE = 4


# -- rebuild ---------------------------------------------------------------------------


@dataclass
class RebuildReport:
    """What came of it.

    :param images: that the container holds, descriptions too
    :param read: originals that were read
    :param failed: what the index does not tell of, and why
    """

    images: SweepOutcome
    artifacts: SweepOutcome
    read: int = 0

    @property
    def failed(self) -> list[tuple[str, str]]:
        return [*self.images.failed, *self.artifacts.failed]


def rebuild(config: Config, repo: Repository, bar: Bar, *, from_scratch: bool = False) -> RebuildReport:
    """Makes the index tell what the container holds; what it tells already is not loaded again.

    :param from_scratch: throw away what there is first
    :raises CatalogueDisabled, CatalogueUnavailable, StoreUnavailable: as their names say; what was done stays
    """
    index, artifacts = repo.indexer.index, Artifacts(repo, wiring.artifacts_follower(config, repo.origin))
    images, sweep = reconciler.images(repo, at_once=_AT_ONCE)
    index.check()
    with _alone(config, repo):
        if from_scratch:
            index.clear()
            artifacts.follower.index.clear()
        began, progress = time.time(), Progress(index)
        total = sum(1 for _ in images.listing())
        progress.begin(total)
        report = RebuildReport(_run(sweep, images.listing(), bar, "Images", total, progress), SweepOutcome())
        others = artifacts.stamps
        report.artifacts = _run(
            Sweep(artifacts.follower.index, artifacts.row), others(), bar, "Artifacts", sum(1 for _ in others())
        )
        SweepState(time.time(), time.time() - began).keep(index)
        with bar("Originals", report.images.unread) as step:
            for read in reconciler.complete(repo, at_once=_AT_ONCE):
                report.read += read
                progress.add(read)
                step(read)
        progress.end()
    return report


@contextmanager
def _alone(config: Config, repo: Repository) -> Iterator[None]:
    """Lets servers of this node wait with the same; where one is at it already, both are, and share the work."""
    own = wiring.own_folder(config, repo.origin)
    lock = Lock(own / "sweeping") if own else None
    try:
        if lock:
            lock.taken()
        yield
    finally:
        if lock:
            lock.release()


def _run(
    sweep: Sweep, listing: reconciler.Listing, bar: Bar, what: str, total: int, progress: Progress | None = None
) -> SweepOutcome:
    outcome, shown = SweepOutcome(), 0
    if not total and progress is None:
        return reconciler.run_to_end(sweep.run(listing))
    with bar(what, total) as step:
        for outcome in sweep.run(listing):
            step(outcome.seen - shown)
            shown = outcome.seen
            if progress:
                progress.show(outcome.whole)
    return outcome


# -- index -----------------------------------------------------------------------------


def read_key(text: str) -> Indexed:
    """``KEY`` or ``KEY,SORTKEY``, as in filters.

    :raises BadParameter: for anything else
    """
    key, comma, sort = text.partition(",")
    if "," in sort:
        raise BadParameter.expected("KEY or KEY,SORTKEY", "KEY", text)
    return Indexed(IMAGES.path("KEY", key), IMAGES.path("SORTKEY", sort) if comma else None)


def show_key(key: Indexed) -> str:
    """The inverse of :func:`read_key`."""
    return ",".join(".".join(path) for path in (key.path, key.sort) if path)


def keep_in_order(index: Index, keys: list[Indexed]) -> None:
    """Keeps keys in order from now on."""
    for key in keys:
        index.add_index(key)


def forget_order(index: Index, keys: list[Indexed]) -> list[Indexed]:
    """No more; those that were not kept in order."""
    return [key for key in keys if not index.drop_index(key)]


# -- check and trial -------------------------------------------------------------------


def differences(repo: Repository) -> tuple[list[str], list[str]]:
    """Holds the index against the container.

    :returns: what is wrong with the index, and how it differs; nothing where there is none by configuration
    """
    try:
        index = repo.indexer.index
        index.check()
        found = reconciler.compare(index, reconciler.Images(repo).listing())
    except CatalogueDisabled:
        return [], []
    except Problem as problem:
        return [f"catalogue: {problem.detail or problem.title}"], []
    told = {
        "are not in it yet": found.missing,
        "have changed since": found.stale,
        "are in it and are no more": found.gone,
        "have still to be read": found.unread,
    }
    lines = [f"catalogue: {number} images {what}" for what, number in told.items() if number]
    return [], lines and [*lines, "catalogue: a server follows by itself; image_repo rebuild does it now"]


@dataclass(frozen=True)
class State:
    """How the catalogue is."""

    ok: bool
    what: str


def state(config: Config, stores: wiring.Stores) -> State | None:
    """Reaches the engine; None where the configuration has no catalogue."""
    try:
        index = wiring.open_index(config, stores.origin)
        if index is None:
            return None
        with closing(index):
            index.check()
            images, left, (engine, size) = index.count(Filter()), lacking(index), index.engine()
    except Problem as problem:
        return State(False, problem.detail or problem.title)
    told = "complete" if left is None else f"{float(left):.0%} complete; a server makes the rest"
    return State(True, f"{index.description}, {engine}, {size / 1e6:.1f} MB, {images} images, {told}")


def lonely(config: Config, stores: wiring.Stores) -> str | None:
    """Why the nodes that serve this container cannot have the indices they have; None where they can.

    :raises StoreUnavailable, OSError: when that cannot be told
    """
    index, nodes = wiring.open_index(config, stores.origin), wiring.nodes(config, stores)
    if index is None or nodes is None:
        return None
    others = [node for node in nodes.others() if node.shared is not None]
    if not others or (index.shared and all(node.shared for node in others)):
        return None
    hosts = ", ".join(sorted({node.host for node in others}))
    return (
        f"{len(others)} other nodes ({hosts}) serve this container, and SQLite is the index of one node alone: it "
        "does not hear of what others write. Set catalogue.url to the same postgresql://… on all of them."
    )
