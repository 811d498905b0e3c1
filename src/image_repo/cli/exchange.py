"""What the verbs ``export`` and ``import`` do. Nothing here knows how a command is spelled."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.catalogue.base import Document
from image_repo.catalogue.grammar import FILTER_WORDS, IMAGES, ParsedQuery
from image_repo.catalogue.indexer import SweepState
from image_repo.catalogue.query import Filter, SortKey
from image_repo.cli import catalogue
from image_repo.cli.catalogue import Bar
from image_repo.cli.pictures import files_below
from image_repo.config import Config
from image_repo.errors import BadParameter
from image_repo.exchange import legacy
from image_repo.exchange.base import About, ImportOutcome
from image_repo.exchange.exporter import PICTURE_WORDS, Export, Settled, settled, write_folder
from image_repo.exchange.formats import FORMATS
from image_repo.exchange.formats.base import FormatWriter
from image_repo.exchange.importer import Importer, from_folder, from_zip
from image_repo.exchange.zip_writer import Member, stream_zip, temporary
from image_repo.model.names import parse_prefix
from image_repo.model.operations import ORIGINAL
from image_repo.repository.artifacts import Artifacts
from image_repo.repository.collection import Collection
from image_repo.repository.repository import Repository
from image_repo.repository.snapshots import Snapshots

log = logging.getLogger(__name__)

#: members that a zip may have
_MOST_MEMBERS = 10_000_000
#: pictures that are made while one is written
_AHEAD = 4


# -- export ----------------------------------------------------------------------------


@dataclass(frozen=True)
class ExportRequest:
    """What is to be exported, and how.

    :param title: for people
    :param snapshot: instead of what the filter means
    """

    filter: Filter
    order: Sequence[SortKey]
    settled: Settled
    title: str
    formats: tuple[type[FormatWriter], ...] = ()
    snapshot: str | None = None


def read_export(
    config: Config, arguments: Sequence[str], *, originals: bool | None, format: str | None
) -> ExportRequest:
    """Reads what is said on the command line: ``PATH/``, filters and picture parameters, as over HTTP.

    :param originals: None for originals unless something is said of pictures
    :raises BadParameter: for what cannot be understood
    """
    folders = [text for text in arguments if "=" not in text]
    if len(folders) > 1:
        raise BadParameter.expected("one PATH/, and PARAMETER=VALUE", "the second", folders[1])
    pairs = [(name, value) for name, _, value in (text.partition("=") for text in arguments if "=" in text)]
    wanted = IMAGES.read(pairs, (*FILTER_WORDS, "sort"), (*PICTURE_WORDS, "snapshot"))
    said = {name: value for name, value in wanted.rest.items() if name in PICTURE_WORDS}
    if originals and said:
        raise BadParameter(next(iter(said)), "Originals come as they are: nothing can be said of how they are made.")
    if originals or (originals is None and not said):
        said = {"kind": ORIGINAL}
    return ExportRequest(
        replace(wanted.query.filter, prefix=parse_prefix(folders[0]) if folders else ""),
        wanted.query.order,
        settled(said, wiring.defaults(config)),
        " ".join(arguments) or "everything",
        tuple(made for made in FORMATS if made.name == format),
        _snapshot(wanted, folders),
    )


def _snapshot(wanted: ParsedQuery, folders: Sequence[str]) -> str | None:
    if "snapshot" in wanted.rest and (folders or not wanted.query.filter.is_empty or wanted.query.order):
        raise BadParameter("snapshot", "A snapshot is exported whole: neither a filter nor sort goes with it.")
    return wanted.rest.get("snapshot")


def export(config: Config, repo: Repository, asked: ExportRequest, output: Path, bar: Bar) -> Export:
    """Writes what is asked for into a zip, or a folder where the output does not end in ``.zip``.

    A catalogue that has never been held against the container is made first: an export must not lack what it lacks.

    :returns: how many went out
    :raises OSError: when it cannot be written
    """
    base = f"{config.public_url.rstrip('/')}/{config.repository_base_pathname}" if config.public_url else None
    about = About(asked.title, base, partial(temporary, repo.policy.spool))
    made = Export(repo, ADMIN, asked.settled, about, asked.formats, frozen=asked.snapshot is not None, ahead=_AHEAD)
    documents, total = _documents(config, repo, asked, bar)
    with bar("Exporting", total) as step:
        members = made.members(_stepping(documents, step))
        if output.suffix.lower() == ".zip":
            _write_zip(members, output, repo.policy.spool)
        else:
            write_folder(members, output)
    return made


def _documents(config: Config, repo: Repository, asked: ExportRequest, bar: Bar) -> tuple[Iterator[Document], int]:
    """What goes out, and how many they are."""
    if asked.snapshot is not None:
        snapshots = Snapshots(repo)
        snapshot = snapshots.get(ADMIN, asked.snapshot)
        return snapshots.documents(ADMIN, snapshot), snapshot.count
    if SweepState.read(repo.indexer.index) is None:
        for name, reason in catalogue.rebuild(config, repo, bar).failed:
            log.warning("the catalogue does not tell of %s, nor will the export: %s", name, reason)
    collection = Collection(repo)
    return collection.each(ADMIN, asked.filter, asked.order), collection.count(ADMIN, asked.filter)


def _stepping(documents: Iterable[Document], step: Callable[[int], object]) -> Iterator[Document]:
    for document in documents:
        yield document
        step(1)


def _write_zip(members: Iterable[Member], output: Path, spool: Path | None) -> None:
    """Writes an archive, whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}-", delete=False) as file:
        try:
            file.writelines(stream_zip(members, spool))
            file.close()
            Path(file.name).replace(output)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


# -- import ----------------------------------------------------------------------------


def take_in(
    config: Config,
    repo: Repository,
    path: Path,
    prefix: str,
    uploads: Path | None,
    bar: Bar,
    tell: Callable[[ImportOutcome], object],
) -> Counter[str]:
    """Takes in a zip, a folder of pictures, or what a neighbour has left. May be repeated: what is there is not written
    again.

    :param uploads: the folder of the files that a ``mongoexport`` names
    :param tell: told of each entry that was not taken
    :returns: how many entries ended how
    :raises Problem: when nothing of it can be understood
    :raises OSError: when it cannot be read
    """
    importer = Importer(repo, ADMIN, prefix)
    counts: Counter[str] = Counter()
    with ExitStack() as opened:
        outcomes, total, reached = _outcomes(config, repo, importer, path, uploads, opened)
        step, shown = opened.enter_context(bar("Importing", total)), 0
        for outcome in outcomes:
            counts[outcome.status] += 1
            now = reached() if reached else counts.total()
            step(now - shown)
            shown = now
            if outcome.problem:
                tell(outcome)
    return counts


def _outcomes(
    config: Config, repo: Repository, importer: Importer, path: Path, uploads: Path | None, opened: ExitStack
) -> tuple[Iterator[ImportOutcome], int, Callable[[], int] | None]:
    """What becomes of each entry; how far it goes, and what tells how far it is: None where entries are counted."""
    left = legacy.detect(path, uploads)
    if left is not None:
        artifacts = Artifacts(repo, wiring.artifacts_follower(config, repo.origin))
        return legacy.outcomes(left, importer, repo, ADMIN, artifacts), left.total, lambda: left.done
    lines = opened.enter_context(temporary(repo.policy.spool))
    if path.is_dir():
        found = from_folder(path, files_below(path), lines)
    else:
        file = opened.enter_context(path.open("rb"))
        found = from_zip(file, path.stat().st_size, lines, _MOST_MEMBERS)
    return importer.run(found.items), found.total, None
