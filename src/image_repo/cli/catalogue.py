"""The verbs ``rebuild`` and ``index``, and what other verbs report about the catalogue."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice

import click

from image_repo import wiring
from image_repo.catalogue.base import Indexed
from image_repo.catalogue.grammar import FILTER_WORDS, IMAGES, ParsedQuery
from image_repo.catalogue.indexer import SweepState, lacking
from image_repo.catalogue.query import Condition, Filter
from image_repo.cli.options import Options, fail, verb
from image_repo.cli.progress import Bar
from image_repo.config import Config
from image_repo.errors import BadParameter, CatalogueDisabled, Problem
from image_repo.model.names import parse_prefix
from image_repo.repository.repository import Repository
from image_repo.sync import reconciler
from image_repo.sync.daemon import Lock, Progress
from image_repo.sync.reconciler import Sweep, SweepOutcome

log = logging.getLogger(__name__)

#: originals and records that are read at a time
_AT_ONCE = 4
#: those whose rows share a transaction of the catalogue. Measured: one row alone takes 0.9 ms, 16 take 0.2 each
_ROWS = 16
#: images of no user that are looked through for folders, and folders that are named
_MAX_UNOWNED, _MAX_FOLDERS = 10_000, 10


# -- rebuild ---------------------------------------------------------------------------


@click.command("rebuild")
@click.option("--from-scratch", is_flag=True, help="Delete the catalogue first.")
@verb
def rebuild_command(options: Options, /, from_scratch: bool) -> None:
    """Update the catalogue to the content of the container.

    A server does this in the background; this is faster. It may be interrupted: what is indexed is not read again.
    """
    with closing(options.repo()) as repo:
        report = rebuild(options.load(), repo, options.progress, from_scratch=from_scratch)
    for name, reason in report.failed:
        click.echo(f"{name}: {reason}", err=True)
    images, artifacts = report.images, report.artifacts
    options.say(
        f"{images.there} images, {artifacts.there} artifacts: {images.written + artifacts.written} written, "
        f"{images.removed + artifacts.removed} removed, {report.read} originals read."
    )
    if report.failed:
        raise SystemExit(1)


@dataclass
class RebuildReport:
    """The outcome of a rebuild.

    :param images: in the container, with descriptions
    :param read: originals that were read
    """

    images: SweepOutcome
    artifacts: SweepOutcome
    read: int = 0

    @property
    def failed(self) -> list[tuple[str, str]]:
        """Return what is not in the index, with reasons."""
        return [*self.images.failed, *self.artifacts.failed]


def rebuild(config: Config, repo: Repository, bar: Bar, *, from_scratch: bool = False) -> RebuildReport:
    """Update the index to the content of the container; what is indexed is not read again.

    :param from_scratch: delete the index first
    :raises CatalogueDisabled, CatalogueUnavailable, StoreUnavailable: what is done so far stays
    """
    index, artifacts = repo.indexer.index, wiring.build_artifacts(config, repo)
    images, sweep = reconciler.images(repo, at_once=_AT_ONCE)
    index.check()
    with _exclusive(config, repo):
        if from_scratch:
            index.clear()
            artifacts.indexer.index.clear()
        began, state = time.time(), Progress(index)
        total = sum(1 for _ in images.listing())
        state.begin(total)
        report = RebuildReport(_run(sweep, images.listing(), bar, "Images", total, state), SweepOutcome())
        report.artifacts = _run(
            Sweep(artifacts.indexer.index, artifacts.row),
            artifacts.stamps(),
            bar,
            "Artifacts",
            sum(1 for _ in artifacts.stamps()),
        )
        SweepState(time.time(), time.time() - began).save(index)
        with bar("Originals", report.images.unread) as step:
            for read in reconciler.complete(repo, at_once=_AT_ONCE, rows=_ROWS):
                report.read += read
                state.add(read)
                step(read)
        state.end()
    return report


@contextmanager
def _exclusive(config: Config, repo: Repository) -> Iterator[None]:
    """Keep servers of this node from the same work; one that has begun shares it."""
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
    sweep: Sweep, listing: reconciler.Listing, bar: Bar, label: str, total: int, state: Progress | None = None
) -> SweepOutcome:
    outcome, reported = SweepOutcome(), 0
    if not total and state is None:
        return reconciler.run_to_end(sweep.run(listing))
    with bar(label, total) as step:
        for outcome in sweep.run(listing):
            step(outcome.seen - reported)
            reported = outcome.seen
            if state:
                state.show(outcome.whole)
    return outcome


# -- index -----------------------------------------------------------------------------


@click.command("index")
@click.argument("keys", nargs=-1, metavar="[KEY | KEY,SORTKEY]...")
@click.option("--drop", is_flag=True, help="Drop their indices.")
@click.option("--list", "is_list", is_flag=True, help="List the keys with an index.")
@verb
def index_command(options: Options, /, keys: tuple[str, ...], drop: bool, is_list: bool) -> None:
    """Index keys in the catalogue, so that queries for them are fast.

    \b
    image_repo index width data.site        filter by width; by a member of data
    image_repo index data.site,uploaded     filter by the site, sorted by time
    """
    if is_list == bool(keys) or (drop and not keys):
        raise click.UsageError("Expected keys, or --list.")
    parsed = [read_key(key) for key in keys]
    with closing(options.repo()) as repo:
        index = repo.indexer.index
        unknown = [key for key in parsed if drop and not index.drop_index(key)]
        if not drop:
            for key in parsed:
                index.add_index(key)
        indexed = sorted(map(format_key, index.indexed()))
    for text in indexed:
        click.echo(text)
    if unknown:
        fail(*(f"{format_key(key)} has no index." for key in unknown))


def read_key(text: str) -> Indexed:
    """Parse ``KEY`` or ``KEY,SORTKEY``, as in filters.

    :raises BadParameter: for anything else
    """
    key, comma, sort = text.partition(",")
    if "," in sort:
        raise BadParameter.expected("KEY or KEY,SORTKEY", "KEY", text)
    return Indexed(IMAGES.path("KEY", key), IMAGES.path("SORTKEY", sort) if comma else None)


def format_key(key: Indexed) -> str:
    """Return the text that :func:`read_key` parses."""
    return ",".join(".".join(path) for path in (key.path, key.sort) if path)


# -- used by other verbs -------------------------------------------------------------


def parse_selection(
    arguments: Sequence[str], hash_near: Callable[[str], str], words: Sequence[str] = (), others: Sequence[str] = ()
) -> ParsedQuery:
    """Parse ``PATH/`` and filters, as over HTTP.

    :param hash_near: ``NAME`` or ``NAME,BITS`` of ``near=`` → the condition by the hash of that image
    :param words: of the query grammar that are allowed beside filters
    :param others: parameters of the caller
    :raises BadParameter: for invalid arguments
    """
    folders = [text for text in arguments if "=" not in text]
    if len(folders) > 1:
        raise BadParameter.expected("one PATH/, and FILTER", "the second", folders[1])
    pairs = [(name, value) for name, _, value in (text.partition("=") for text in arguments if "=" in text)]
    pairs = [(name, hash_near(value) if name == "near" else value) for name, value in pairs]
    parsed = IMAGES.read(pairs, (*FILTER_WORDS, *words), others)
    selection = replace(parsed.query.filter, prefix=parse_prefix(folders[0]) if folders else "")
    return replace(parsed, query=replace(parsed.query, filter=selection))


def complete_catalogue(config: Config, repo: Repository, bar: Bar) -> None:
    """Rebuild a catalogue that was never complete, so that a verb misses nothing."""
    if SweepState.read(repo.indexer.index) is None:
        for name, reason in rebuild(config, repo, bar).failed:
            log.warning("%s is not in the catalogue: %s", name, reason)


# -- check and trial -------------------------------------------------------------------


def differences(repo: Repository) -> tuple[list[str], list[str]]:
    """Compare the index with the container.

    :returns: lines about faults of the index, and about its lag; none if the catalogue is disabled
    """
    try:
        index = repo.indexer.index
        index.check()
        difference = reconciler.compare(index, reconciler.Images(repo).listing())
    except CatalogueDisabled:
        return [], []
    except Problem as problem:
        return [f"catalogue: {problem}"], []
    numbers = {
        "are not in it yet": difference.missing,
        "have changed since": difference.stale,
        "are in it but no longer in the container": difference.gone,
        "have still to be read": difference.unread,
    }
    lines = [f"catalogue: {number} images {text}" for text, number in numbers.items() if number]
    return [], lines and [*lines, "catalogue: a server updates it in the background; image_repo rebuild does so now"]


@dataclass(frozen=True)
class State:
    """The state of the catalogue."""

    ok: bool
    text: str


def state(config: Config, stores: wiring.Stores) -> State | None:
    """Return the state of the index; None if the catalogue is disabled."""
    try:
        index = wiring.open_index(config, stores.origin)
        if index is None:
            return None
        with closing(index):
            index.check()
            images, missing, (engine, size) = index.count(Filter()), lacking(index), index.engine()
    except Problem as problem:
        return State(False, str(problem))
    progress = "complete" if missing is None else f"{float(missing):.0%} complete; a server makes the rest"
    return State(True, f"{index.description}, {engine}, {size / 1e6:.1f} MB, {images} images, {progress}")


def folders_without_owner(config: Config, stores: wiring.Stores) -> tuple[int, list[str]] | None:
    """Return how many images no user owns, and the first folders at the top that hold some; None without a catalogue.

    :raises Problem: if the catalogue cannot be queried
    """
    index = wiring.open_index(config, stores.origin)
    if index is None:
        return None
    unowned = Filter((Condition(("owner",), "eq", (None,)),))
    with closing(index):
        count = index.count(unowned)
        names = (str(document["name"]) for document in islice(index.each(unowned), _MAX_UNOWNED))
        folders = {folder: None for name in names for folder, slash, _ in (name.partition("/"),) if slash}
    return count, list(folders)[:_MAX_FOLDERS]


def node_conflict(config: Config, stores: wiring.Stores) -> str | None:
    """Return why this node cannot write beside the others, or why their indices do not fit together; None if all fits.

    :raises StoreUnavailable, OSError: if the nodes are unknown
    """
    writer = wiring.other_writer(config, stores)
    if writer:
        return (
            f"The node {writer} writes to this container, and this one will refuse to: without a shared catalogue "
            "nothing orders the writes of two. Set catalogue.url to the same postgresql://… on all of them."
        )
    index, nodes = wiring.open_index(config, stores.origin), wiring.nodes(config, stores)
    if index is None or nodes is None:
        return None
    others = [node for node in nodes.others() if node.shared is not None]
    if not others or (index.shared and all(node.shared for node in others)):
        return None
    hosts = ", ".join(sorted({node.host for node in others}))
    return (
        f"{len(others)} other nodes ({hosts}) serve this container, and SQLite is the index of one node: it "
        "misses what others write. Set catalogue.url to the same postgresql://… on all of them."
    )
