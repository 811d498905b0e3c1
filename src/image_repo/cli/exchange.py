"""The verbs ``export`` and ``import``."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.catalogue.base import Document
from image_repo.catalogue.grammar import IMAGES, ParsedQuery
from image_repo.catalogue.query import Filter, SortKey
from image_repo.cli import catalogue
from image_repo.cli.options import DRY_RUN, Options, fail, verb
from image_repo.cli.pictures import files_below
from image_repo.cli.progress import Bar
from image_repo.config import Config
from image_repo.errors import BadParameter
from image_repo.exchange import legacy
from image_repo.exchange.base import About, ImportOutcome, naming, write_file
from image_repo.exchange.exporter import AHEAD, PICTURE_WORDS, Export, Settled, settled, write_folder
from image_repo.exchange.formats import FORMATS
from image_repo.exchange.formats.base import FormatWriter
from image_repo.exchange.importer import Importer, from_folder, from_zip, label_by_folder
from image_repo.exchange.labels import MAX_OWN_LABEL_BYTES
from image_repo.exchange.manifest_lines import METADATA
from image_repo.exchange.table_merge import Match, merge_table
from image_repo.exchange.tables import read_table
from image_repo.exchange.zip_writer import Member, stream_zip, temporary
from image_repo.model.operations import ORIGINAL
from image_repo.observability.logging import clean
from image_repo.repository.collection import Collection
from image_repo.repository.repository import Repository
from image_repo.repository.snapshots import Snapshots

log = logging.getLogger(__name__)

#: members of a zip
_MAX_MEMBERS = 10_000_000
#: pictures that are rendered, or whose originals are read, while one is written
_AHEAD = 2 * AHEAD


# -- export ----------------------------------------------------------------------------


@click.command("export")
@click.argument("arguments", nargs=-1, metavar="[PATH/] [FILTER | PARAMETER=VALUE]...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.zip|DIR",
    help="Write to FILE or DIR.",
)
@click.option(
    "--originals/--rendered",
    default=None,
    help="Write pictures as they were uploaded, or rendered and without metadata. "
    "Originals unless xsize, ysize, kind, quality, fit or thumbnail is given.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice([format_.name for format_ in FORMATS]),
    help="Also write the metadata in this format.",
)
@click.option("--label", metavar="KEY", help="Write the value of KEY as the label of each picture (metadata.jsonl).")
@click.option("--split", metavar="KEY", help="Write a folder for each value of KEY, such as train and test.")
@click.option("--force", is_flag=True, help="Replace the export that is in DIR.")
@verb
def export_command(
    options: Options,
    /,
    arguments: tuple[str, ...],
    output: Path,
    originals: bool | None,
    format_: str | None,
    label: str | None,
    split: str | None,
    force: bool,
) -> None:
    """Write pictures and their records to a zip or a folder.

    The import reads them again.

    \b
    image_repo export -o all.zip
    image_repo export sites/ species=fox width__gte=1000 -o foxes.zip
    image_repo export text=badger xsize=640 kind=webp --format coco -o badgers
    """
    config = options.load()
    _check_folder(output, is_replaced=force)
    label_path, split_path = (IMAGES.path("KEY", key) if key else () for key in (label, split))
    with closing(options.repo()) as repo:
        hash_near = partial(repo.reader.hash_near, ADMIN)
        request = read_export(config, arguments, hash_near, originals=originals, format=format_)
        request = replace(request, label=label_path, split=split_path)
        report = export(config, repo, request, output, options.progress)
    options.say(f"{report.pictures} pictures, {report.descriptions} descriptions, {report.missing} missing: {output}")
    for name in report.notes:
        options.say(f"{name} lists what this format cannot hold.")
    if report.missing:
        fail("_missing.txt lists what is missing.")


def _check_folder(output: Path, *, is_replaced: bool) -> None:
    """Refuse a folder with files: an export would mix with them.

    :param is_replaced: whether an older export may be there
    """
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not is_replaced:
        fail(f"{output} is not empty; --force replaces an export.")
    if not any((folder / METADATA).is_file() for folder in (output, *output.iterdir())):
        fail(f"{output} holds no export ({METADATA} is missing); it is not replaced.")


@dataclass(frozen=True)
class ExportRequest:
    """The request of an export.

    :param title: for people
    :param snapshot: exported instead of the matches of the filter
    :param label: path of the label of a picture in its document
    :param split: path of the split of a picture in its document
    """

    filter: Filter
    order: Sequence[SortKey]
    settled: Settled
    title: str
    formats: tuple[type[FormatWriter], ...] = ()
    snapshot: str | None = None
    label: tuple[str, ...] = ()
    split: tuple[str, ...] = ()


def read_export(
    config: Config,
    arguments: Sequence[str],
    hash_near: Callable[[str], str],
    *,
    originals: bool | None,
    format: str | None,
) -> ExportRequest:
    """Parse the arguments: ``PATH/``, filters and picture parameters, as over HTTP.

    :param hash_near: as that of :func:`~image_repo.cli.catalogue.parse_selection`
    :param originals: None for originals unless there are picture parameters
    :raises BadParameter: for invalid arguments
    """
    parsed = catalogue.parse_selection(arguments, hash_near, ("sort",), (*PICTURE_WORDS, "snapshot"))
    parameters = {name: value for name, value in parsed.rest.items() if name in PICTURE_WORDS}
    if originals and parameters:
        raise BadParameter(next(iter(parameters)), "Originals are exported unchanged; it needs --rendered.")
    if originals or (originals is None and not parameters):
        parameters = {"kind": ORIGINAL}
    return ExportRequest(
        parsed.query.filter,
        parsed.query.order,
        settled(parameters, wiring.defaults(config)),
        " ".join(arguments) or "everything",
        tuple(format_ for format_ in FORMATS if format_.name == format),
        _snapshot(parsed),
    )


def _snapshot(parsed: ParsedQuery) -> str | None:
    if "snapshot" in parsed.rest and (not parsed.query.filter.is_empty or parsed.query.order):
        raise BadParameter("snapshot", "A snapshot is exported whole, without filter and sort.")
    return parsed.rest.get("snapshot")


def export(config: Config, repo: Repository, request: ExportRequest, output: Path, bar: Bar) -> Export:
    """Write an export to a zip, or to a folder if the output does not end in ``.zip``.

    A catalogue that was never complete is rebuilt first, so that the export is complete.

    :raises OSError: if it cannot be written
    """
    base = f"{config.public_url.rstrip('/')}/{config.repository_base_pathname}" if config.public_url else None
    about = About(request.title, base, partial(temporary, repo.policy.spool), request.label, request.split)
    export = Export(
        repo, ADMIN, request.settled, about, request.formats, frozen=request.snapshot is not None, ahead=_AHEAD
    )
    documents, total = _documents(config, repo, request, bar)
    with bar("Exporting", total) as step:
        members = export.members(_with_steps(documents, step))
        if output.suffix.lower() == ".zip":
            write_file(output, stream_zip(members, repo.policy.spool))
        else:
            _replace_folder(members, output)
    return export


def _replace_folder(members: Iterable[Member], output: Path) -> None:
    """Write an export into a folder, whole or not at all; an older one is replaced.

    :raises OSError: if it cannot be written
    """
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    with naming(output), tempfile.TemporaryDirectory(dir=output.parent, prefix=".part-") as folder:
        export, older = Path(folder) / "new", Path(folder) / "old"
        write_folder(members, export)
        if output.exists():
            output.rename(older)
        export.rename(output)


def _documents(config: Config, repo: Repository, request: ExportRequest, bar: Bar) -> tuple[Iterator[Document], int]:
    """Return the documents of an export, and their number."""
    if request.snapshot is not None:
        snapshots = Snapshots(repo)
        snapshot = snapshots.get(ADMIN, request.snapshot)
        return snapshots.documents(ADMIN, snapshot), snapshot.count
    catalogue.complete_catalogue(config, repo, bar)
    collection = Collection(repo)
    collection.refuse_unknown_keys(ADMIN, request.filter)
    return collection.each(ADMIN, request.filter, request.order), collection.count(ADMIN, request.filter)


def _with_steps(documents: Iterable[Document], step: Callable[[int], object]) -> Iterator[Document]:
    for document in documents:
        yield document
        step(1)


# -- import ----------------------------------------------------------------------------


@click.command("import")
@click.argument("path", metavar="PATH", type=click.Path(exists=True, path_type=Path))
@click.option("--prefix", default="", metavar="PATH", help="Store them below this path of the repository.")
@click.option(
    "--uploads",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="The folder of the files that a mongoexport names.",
)
@click.option("--label-from-folder", "folder_key", metavar="KEY", help="Set KEY to the name of each picture's folder.")
@click.option("--match", metavar="COLUMN=KEY", help="Merge a table into the data of images whose KEY equals COLUMN.")
@DRY_RUN
@verb
def import_command(
    options: Options,
    /,
    path: Path,
    prefix: str,
    uploads: Path | None,
    folder_key: str | None,
    match: str | None,
    dry_run: bool,
) -> None:
    """Import a zip, a folder, or a table of labels.

    It may be an export, pictures alone, or the data of another system. Labels are read from metadata.csv, COCO,
    Camtrap DP packages and results of MegaDetector beside the pictures.

    \b
    image_repo import pictures/ --label-from-folder species
    image_repo import sites.xlsx --match site=data.site --dry-run

    May be repeated, also after an interruption: what is stored with the same content stays unchanged. The data in
    metadata.jsonl replace those of stored pictures.
    """
    if match is not None or path.suffix.lower() in (".csv", ".xlsx"):
        _merge_table(options, path, match, dry_run=dry_run)
        return
    with closing(options.repo_with_store()) as repo:
        source = ImportSource(path, prefix, uploads, folder_key, dry_run)
        counts = import_path(options.load(), repo, source, options.progress, _print_problem)
    statuses = ("stored", "replaced", "unchanged", "skipped", "failed")
    numbers = ", ".join(f"{counts[status]} {status}" for status in statuses)
    options.say(f"Nothing is changed; it would be: {numbers}." if dry_run else f"{numbers}.")
    if counts["failed"]:
        raise SystemExit(1)


def _merge_table(options: Options, path: Path, match: str | None, *, dry_run: bool) -> None:
    column, equals, key = (match or "").partition("=")
    if not (column and equals and key):
        raise click.UsageError("A table needs --match COLUMN=KEY, such as --match file=name or --match site=data.site.")
    with closing(options.repo_with_store()) as repo:
        catalogue.complete_catalogue(options.load(), repo, options.progress)
        report = merge_table(repo, ADMIN, read_table(path), Match(column, key), dry_run=dry_run)
    for row in report.unmatched:
        click.echo(f"{clean(row)}: no image", err=True)
    for name, reason in report.failed:
        click.echo(f"{clean(name)}: {clean(reason)}", err=True)
    verb = "would change" if dry_run else "changed"
    options.say(f"{report.rows} rows, {report.matched} images matched, {report.modified} {verb}.")
    if report.failed:
        raise SystemExit(1)


def _print_problem(outcome: ImportOutcome) -> None:
    click.echo(f"{clean(outcome.entry)}: {outcome.status}: {clean(str(outcome.problem or ''))}", err=True)


@dataclass(frozen=True)
class ImportSource:
    """The source of an import.

    :param uploads: the folder of the files that a ``mongoexport`` names
    :param folder_key: the key of the data that gets the name of each picture's folder
    :param dry_run: whether to store nothing
    """

    path: Path
    prefix: str = ""
    uploads: Path | None = None
    folder_key: str | None = None
    dry_run: bool = False


def import_path(
    config: Config, repo: Repository, source: ImportSource, bar: Bar, report: Callable[[ImportOutcome], object]
) -> Counter[str]:
    """Import a zip, a folder of pictures, or the data of another system; what is stored is not written again.

    :param report: called with each entry that was not imported
    :returns: number of entries by status
    :raises Problem: if nothing of it can be read
    :raises OSError: if it cannot be opened
    """
    importer = Importer(repo, ADMIN, source.prefix, dry_run=source.dry_run)
    counts: Counter[str] = Counter()
    with ExitStack() as opened:
        outcomes, total, reached = _outcomes(config, repo, importer, source, opened)
        step, reported = opened.enter_context(bar("Importing", total)), 0
        for outcome in outcomes:
            counts[outcome.status] += 1
            position = reached() if reached else counts.total()
            step(position - reported)
            reported = position
            if outcome.problem:
                report(outcome)
    return counts


def _outcomes(
    config: Config, repo: Repository, importer: Importer, source: ImportSource, opened: ExitStack
) -> tuple[Iterator[ImportOutcome], int, Callable[[], int] | None]:
    """Return outcomes, their total, and what returns the current position; None if outcomes are counted."""
    path = source.path
    other = legacy.detect(path, source.uploads)
    if other is not None:
        artifacts = wiring.build_artifacts(config, repo)
        outcomes = legacy.outcomes(other, importer, repo, ADMIN, artifacts, dry_run=source.dry_run)
        return outcomes, other.total, lambda: other.done
    lines = opened.enter_context(temporary(repo.policy.spool))
    if path.is_dir():
        items = from_folder(path, files_below(path), lines)
    else:
        file = opened.enter_context(path.open("rb"))
        items = from_zip(file, path.stat().st_size, lines, _MAX_MEMBERS, MAX_OWN_LABEL_BYTES)
    labelled = label_by_folder(items.items, source.folder_key) if source.folder_key else items.items
    return importer.run(labelled), items.total, None
