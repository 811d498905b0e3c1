"""Verbs for pictures: ``put``, ``get``, ``link``, ``warm``, ``purge``."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

from image_repo import render, wiring
from image_repo.access.principal import ADMIN
from image_repo.catalogue.near import HASH_PATH
from image_repo.catalogue.query import Condition, Filter
from image_repo.cli.options import DRY_RUN, FILE, PARAMETERS, Options, parse_pairs, print_failures, verb
from image_repo.cli.progress import Step
from image_repo.config import Config
from image_repo.errors import ImageNotFound, NotAPicture, Problem
from image_repo.exchange.base import write_file
from image_repo.model.formats import split_ending
from image_repo.model.names import ImageName, parse_prefix
from image_repo.model.operations import ORIGINAL
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe, RecipeRequest, read_request
from image_repo.repository.repository import Repository
from image_repo.repository.resolver import read_record
from image_repo.server import address
from image_repo.stores.base import CHUNK

#: pictures that are rendered at a time: the limiter admits as many renders as there are processors, and the next
#: originals are read meanwhile
AT_ONCE = 2 * len(os.sched_getaffinity(0))
#: files that are uploaded at a time, as many as there are connections to a store by default. Measured with small
#: pictures: 1.4 to 1.9 times as fast as 4
_UPLOADS_AT_ONCE = 8
#: the same to a folder: what waits for the disk and for the index is written together. Measured with small pictures:
#: 0.98 to 1.8 times as fast as 8, mostly more than 1; 32 are no faster
_UPLOADS_TO_A_FOLDER = 16


# -- put -------------------------------------------------------------------------------


@click.command("put")
@click.argument("paths", nargs=-1, required=True, metavar="DIR|FILE...", type=click.Path(exists=True, path_type=Path))
@click.option("--prefix", default="", metavar="PATH", help="Store them below this path of the repository.")
@DRY_RUN
@verb
def put_command(options: Options, /, paths: tuple[Path, ...], prefix: str, dry_run: bool) -> None:
    """Upload files, or all pictures of folders.

    Files get their names, and those of folders their paths there. May be repeated, also after an interruption:
    pictures that are stored with the same bytes are skipped. Files of folders that are no pictures are listed at
    the end.
    """
    with closing(options.repo_with_store()) as repo:
        uploads = [upload for path in paths for upload in uploads_of(path)]
        with options.progress("Uploading", len(uploads)) as step:
            report = put(repo, uploads, prefix, step, dry_run=dry_run)
    print_failures((path, "is no picture") for path in report.no_pictures)
    print_failures(report.failed)
    options.say(
        f"{report.stored} {'to store' if dry_run else 'stored'}, {report.skipped} there already, "
        f"{len(report.no_pictures)} no pictures, {len(report.failed)} failed."
    )
    if report.failed:
        raise SystemExit(1)


@dataclass(frozen=True)
class Upload:
    """A file to upload.

    :param path: from which its name follows
    :param is_named: whether the user named it, so that it must be a picture
    """

    file: Path
    path: str
    is_named: bool


def uploads_of(path: Path) -> list[Upload]:
    """Return the uploads of a file, or of the files of a folder."""
    if path.is_dir():
        return [Upload(file, file.relative_to(path).as_posix(), False) for file in files_below(path)]
    return [Upload(path, path.name, True)]


@dataclass
class UploadReport:
    """The outcome of an upload of many files.

    :param failed: file and reason
    """

    stored: int = 0
    skipped: int = 0
    no_pictures: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def files_below(folder: Path) -> list[Path]:
    """Return the files of a tree, without hidden ones, and without following links to folders."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(parent) / name for name in sorted(names) if not name.startswith(".")]
    return files


def put(repo: Repository, uploads: Iterable[Upload], prefix: str, step: Step, *, dry_run: bool = False) -> UploadReport:
    """Upload files; those stored with the same bytes are skipped.

    :param prefix: empty, or a folder of the repository
    :param step: called after each file
    """
    parent = parse_prefix(prefix)
    report = UploadReport()
    path_by_name: dict[ImageName, Upload] = {}

    def run(upload: Upload) -> None:
        try:
            name = ImageName.readings(parent + upload.path)[0]
            first = path_by_name.setdefault(name, upload)
            if first is not upload:
                report.failed.append((upload.path, f"has the same name as {first.path}"))
            elif _upload(repo, name, upload.file, dry_run=dry_run):
                report.stored += 1
            else:
                report.skipped += 1
        except NotAPicture as problem:
            if upload.is_named:
                report.failed.append((upload.path, str(problem)))
            else:
                report.no_pictures.append(upload.path)
        except Problem as problem:
            report.failed.append((upload.path, str(problem)))
        except OSError as error:
            report.failed.append((upload.path, error.strerror or str(error)))

    with ThreadPoolExecutor(_UPLOADS_TO_A_FOLDER if repo.origin.capabilities.folder else _UPLOADS_AT_ONCE) as pool:
        for _ in pool.map(run, uploads):
            step(1)
    return report


def _upload(repo: Repository, name: ImageName, file: Path, *, dry_run: bool) -> bool:
    """Upload a file unless it is stored; return whether it was not stored before."""
    with repo.writer.spool() as spool:
        with file.open("rb") as source:
            spool.fill(iter(lambda: source.read(CHUNK), b""))
        if _is_stored(repo, name, spool.sha256):
            return False
        if dry_run:
            spool.file.seek(0)
            render.inspect(spool.file, repo.limits, location=False)
        else:
            repo.writer.put(ADMIN, name, spool, filename=file.name)
    return True


def _is_stored(repo: Repository, name: ImageName, sha256: str) -> bool:
    record = read_record(repo.origin, name)
    if record is None or record.sha256 != sha256:
        return False
    try:
        return repo.reader.resolve(ADMIN, [name]).version == record.version
    except ImageNotFound:
        return False


# -- get, link -------------------------------------------------------------------------


@click.command("get")
@click.argument("name")
@PARAMETERS
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write to FILE instead of standard output.")
@verb
def get_command(options: Options, /, name: str, parameters: tuple[str, ...], output: Path | None) -> None:
    """Get one picture, rendered by the parameters.

    \b
    image_repo get sites/north xsize=300 kind=webp -o north.webp
    image_repo get sites/north kind=original > north.jpg
    """
    pairs = parse_pairs(parameters)
    if output is None and sys.stdout.isatty():
        raise click.UsageError("Refusing to write image data to a terminal; use -o FILE.")
    with closing(options.repo()) as repo:
        chunks = get(repo, *find(repo, options.load(), name, pairs))
        if output is None:
            sys.stdout.buffer.writelines(chunks)
        else:
            write_file(output, chunks)


@click.command("link")
@click.argument("name")
@PARAMETERS
@click.option("--lifetime", type=click.IntRange(min=1), metavar="SECONDS", help="Keep it valid for at least SECONDS.")
@verb
def link_command(options: Options, /, name: str, parameters: tuple[str, ...], lifetime: int | None) -> None:
    """Print a temporary URL of a picture, rendered by the parameters."""
    config = options.load()
    longest = config.persistent_store_configuration.url_lifetime_most
    if lifetime and lifetime > longest:
        raise click.UsageError(f"Expected --lifetime of at most {longest} (url_lifetime_most).")
    with closing(options.repo()) as repo:
        original, recipe = find(repo, config, name, parse_pairs(parameters))
        link = repo.links.create(ADMIN, original, recipe, lifetime, filename(original, recipe))
    click.echo(address.url(config) + link.url if link.url.startswith("/") else link.url)


def find(repo: Repository, config: Config, name: str, parameters: Mapping[str, str]) -> tuple[Original, Recipe]:
    """Resolve a name and parameters as over HTTP.

    :raises Problem: as over HTTP
    """
    request = parse_request(config, parameters)
    original = repo.reader.resolve(ADMIN, ImageName.readings(name))
    focus = repo.reader.focus(original) if request.uses_record_focus else None
    return original, request.settle(wiring.defaults(config), focus=focus, source=original.media_type)[0]


def parse_request(config: Config, parameters: Mapping[str, str]) -> RecipeRequest:
    """Parse the parameters of a picture.

    :raises BadParameter: for an unknown parameter or preset, and for an invalid value
    """
    return read_request(parameters.items())[0].with_preset(wiring.defaults(config).presets)


def get(repo: Repository, original: Original, recipe: Recipe) -> Iterator[bytes]:
    """Yield the content of a rendition, or of the original: the command line may always read it."""
    if recipe.is_original:
        with repo.reader.original(ADMIN, original) as (_, spool):
            yield from iter(lambda: spool.file.read(CHUNK), b"")
    else:
        yield repo.reader.fetch(repo.reader.variant(ADMIN, original, recipe)).rendition.body


def filename(original: Original, recipe: Recipe) -> str:
    """Return the name of a picture as a file."""
    leaf = original.name.text.rpartition("/")[2]
    format_ = split_ending(original.key)[1]
    ending = (format_.kind if format_ else "") if recipe.kind == ORIGINAL else recipe.kind
    return f"{leaf}.{ending}" if ending else leaf


# -- warm, purge -----------------------------------------------------------------------


@click.command("warm")
@click.argument("prefix", metavar="PATH/", default="")
@PARAMETERS
@click.option("--preset", "presets", multiple=True, metavar="NAME", help="A preset of the settings; may be repeated.")
@DRY_RUN
@verb
def warm_command(
    options: Options, /, prefix: str, parameters: tuple[str, ...], presets: tuple[str, ...], dry_run: bool
) -> None:
    """Render pictures of all images below a path ahead of requests.

    Also makes hash, placeholder and colours of those whose records lack them.

    \b
    image_repo warm sites/ --preset card --preset thumb
    image_repo warm "" xsize=300 kind=webp
    """
    config, pairs = options.load(), parse_pairs(parameters)
    requests = [{"preset": preset, **pairs} for preset in presets] or [pairs]
    for request in requests:
        parse_request(config, request)
    with closing(options.repo_with_store()) as repo:
        images = list(repo.reader.images(ADMIN, parse_prefix(prefix)))
        if dry_run:
            options.say(f"{len(requests)} renditions of each of {len(images)} images to make.")
            return
        with options.progress("Warming", len(images)) as step:
            report = warm(repo, config, images, requests, step, unsummarised(repo, parse_prefix(prefix)))
    print_failures(report.failed)
    options.say(f"{report.rendered} made, {report.cached} there already, {len(report.failed)} failed.")
    if report.failed:
        raise SystemExit(1)


@dataclass
class WarmReport:
    """The outcome of warming.

    :param rendered: renditions that were made
    :param cached: renditions that a cache had already
    :param failed: name and reason
    """

    rendered: int = 0
    cached: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def unsummarised(repo: Repository, prefix: str) -> set[str]:
    """Return the names of pictures below a folder whose records lack the summary of their pixels.

    Where the catalogue cannot tell, none.
    """
    lacking = Filter((Condition(HASH_PATH, "exists", (False,)), Condition(("width",), "gt", (0,))), prefix)
    try:
        return {str(document["name"]) for document in repo.indexer.index.each(lacking)}
    except Problem:
        return set()


def warm(
    repo: Repository,
    config: Config,
    images: Iterable[Original],
    requests: list[dict[str, str]],
    step: Step,
    lacking: Container[str] = (),
) -> WarmReport:
    """Render pictures of images unless a cache has them.

    :param requests: the parameters of each rendition, as over HTTP
    :param step: called after each image
    :param lacking: names whose records get the summary of the pixels
    """
    report = WarmReport()

    def render(image: Original) -> None:
        for parameters in requests:
            try:
                original, recipe = find(repo, config, image.name.text, parameters)
                is_rendered = repo.reader.fetch(repo.reader.variant(ADMIN, original, recipe)).layer == "rendered"
            except Problem as problem:
                report.failed.append((image.name.text, str(problem)))
            else:
                report.rendered += is_rendered
                report.cached += not is_rendered
        if image.name.text in lacking:
            with suppress(Problem):  # what cannot be decoded has failed above
                repo.metadata.read_summarised(image)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(render, images):
            step(1)
    return report


@click.command("purge")
@click.argument("target", metavar="NAME|PATH/")
@DRY_RUN
@verb
def purge_command(options: Options, /, target: str, dry_run: bool) -> None:
    """Remove renditions from every cache; originals stay.

    Those of one image, or of all images below a path.
    """
    with closing(options.repo()) as repo:
        images, removed = purge(repo, target, dry_run=dry_run)
    if dry_run:
        options.say(f"{images} images to purge.")
        return
    numbers = ", ".join(f"{number} from {layer}" for layer, number in removed.items() if number)
    options.say(f"{images} looked at; removed: {numbers or 'nothing'}.")


def purge(repo: Repository, target: str, *, dry_run: bool = False) -> tuple[int, Counter[str]]:
    """Remove the renditions of one image, or of all images below a path that ends in ``/``.

    :returns: number of images, and of renditions by layer
    """
    if target.endswith("/"):
        names: Iterable[ImageName] = (original.name for original in repo.reader.images(ADMIN, parse_prefix(target)))
    else:
        names = [repo.reader.resolve(ADMIN, ImageName.readings(target)).name]
    count, removed = 0, Counter[str]()
    for name in names:
        count += 1
        removed.update({} if dry_run else repo.writer.purge(ADMIN, name))
    return count, removed
