"""What the verbs of the command line do. Nothing here knows how a command is spelled."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.cli import catalogue
from image_repo.concurrency.private_folder import make_private
from image_repo.config import Config, foreign
from image_repo.errors import ImageNotFound, LinksNotConfigured, NotAPicture, Problem, StoreUnavailable
from image_repo.model.formats import split_ending
from image_repo.model.names import ImageName, parse_prefix
from image_repo.model.operations import ORIGINAL
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe, read_request
from image_repo.model.record import MEDIA_TYPE as RECORD
from image_repo.model.record import record_key
from image_repo.repository.artifacts import Artifacts
from image_repo.repository.repository import Repository
from image_repo.repository.resolver import image_of, read_record
from image_repo.repository.snapshots import Snapshots
from image_repo.server import address
from image_repo.stores.base import CHUNK, Entry, Store
from image_repo.stores.swift import new_link_key

log = logging.getLogger(__name__)

#: files that are uploaded, or originals that are read, at a time
AT_ONCE = 4
Step = Callable[[], None]


# -- before serving --------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, and how it is."""

    ok: bool
    what: str
    detail: str

    def __str__(self) -> str:
        return f"{'ok   ' if self.ok else 'WRONG'}  {self.what}: {self.detail}"


def trial(config: Config) -> list[Finding]:
    """Checks what can be checked without serving: folders, stores, the key of links, the catalogue, other nodes."""
    findings = [Finding(True, "settings", "every one is understood")]
    findings += [Finding(True, "environment", line) for line in foreign(os.environ, config)]
    findings += [_folder(*named) for named in _folders(config)]
    stores = wiring.build_stores(config)
    try:
        for what, store in (("originals", stores.origin), ("renditions", stores.cache)):
            if store is not None:
                findings.append(_reach(what, store, create=config.create_new))
        if all(finding.ok for finding in findings):
            findings.append(_links(stores.cache or stores.origin))
            findings += _catalogue(config, stores)
    finally:
        stores.close()
    return findings


def _folders(config: Config) -> Iterator[tuple[str, str]]:
    if config.local_cache_configuration.enabled:
        yield "disk cache", config.local_cache_configuration.cache_path
    yield "local files", config.local_file_cache_path


def _folder(what: str, path: str) -> Finding:
    try:
        make_private(Path(path))
    except OSError as error:
        return Finding(False, what, str(error) if error.errno is None else f"{path}: {error.strerror}")
    usable = os.access(path, os.R_OK | os.W_OK | os.X_OK)
    return Finding(usable, what, f"{path} is ours alone" if usable else f"{path} cannot be written to")


def _reach(what: str, store: Store, *, create: bool) -> Finding:
    try:
        store.check(create=create)
    except StoreUnavailable as error:
        return Finding(False, what, f"{store.description}: {error.detail or error.title}")
    return Finding(True, what, store.description)


def _links(store: Store) -> Finding:
    try:
        base = store.link_base()
    except LinksNotConfigured as error:
        return Finding(True, "temporary URLs", f"none: {error.detail or error.title} (image_repo link-key makes a key)")
    return Finding(True, "temporary URLs", f"signed with {base.digest}")


def _catalogue(config: Config, stores: wiring.Stores) -> Iterator[Finding]:
    state = catalogue.state(config, stores)
    if state is None:
        yield Finding(True, "catalogue", "none (catalogue.enabled: false)")
        return
    yield Finding(state.ok, "catalogue", state.what)
    try:
        lonely = catalogue.lonely(config, stores)
    except (Problem, OSError) as error:
        yield Finding(False, "other nodes", f"nobody can tell whether there are any: {error}")
    else:
        yield Finding(
            lonely is None, "other nodes", lonely or "none whose catalogue would not know of what is written here"
        )


def prepare(config: Config) -> list[str]:
    """What is done once before serving. What is wrong with the stores goes to the log: they may come back.

    :returns: what a person wants to know: where originals are, and addresses to try
    """
    for line in foreign(os.environ, config):
        log.warning("%s", line)
    for named in _folders(config):
        finding = _folder(*named)
        if not finding.ok:
            log.warning("there is no %s: %s", finding.what, finding.detail)
    stores = wiring.build_stores(config)
    try:
        warnings = wiring.prepare(config, stores)
        with suppress(Problem, OSError):  # it is told already
            lonely = None if warnings else catalogue.lonely(config, stores)
            warnings += [lonely] if lonely else []
        for warning in warnings:
            log.warning("%s", warning)
        return [f"Originals are kept in {stores.origin.description}.", *_addresses(config, stores.origin)]
    finally:
        stores.close()


def _addresses(config: Config, origin: Store) -> list[str]:
    """Three addresses to try, of pictures that are there."""
    base = f"{address.url(config)}/{config.repository_base_pathname}"
    try:
        entries = origin.keys()
        found = next((name for entry in entries if (name := image_of(entry.key, entry.media_type))), None)
    except Problem:
        found = None
    if found is None:
        return [f"Serving {base}; there is no picture yet: curl -F file=@PICTURE.jpg {base}/NAME"]
    url = f"{base}/{quote(found.text)}"
    return ["Try:", f"  {url}", f"  {url}?xsize=300", f"  {url}?thumbnail=True&kind=webp"]


@contextmanager
def warnings() -> Iterator[list[str]]:
    """Collects what is warned about meanwhile."""
    told: list[str] = []
    handler = _Collector(told)
    logging.getLogger().addHandler(handler)
    try:
        yield told
    finally:
        logging.getLogger().removeHandler(handler)


class _Collector(logging.Handler):
    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        self._told.append(record.getMessage())


# -- put -------------------------------------------------------------------------------


@dataclass
class Report:
    """What came of an upload of many: file → why not."""

    stored: int = 0
    skipped: int = 0
    no_pictures: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def files_below(folder: Path) -> list[Path]:
    """The files of a tree that an upload would take: none that are hidden, nothing behind links to folders."""
    found = []
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(above) / name for name in sorted(names) if not name.startswith(".")]
    return found


def put(repo: Repository, folder: Path, files: Iterable[Path], prefix: str, step: Step) -> Report:
    """Uploads files under their path below a folder. May be repeated: what is there with the same bytes is skipped.

    :param prefix: empty, or a folder of the repository
    :param step: called after each file
    """
    above = parse_prefix(prefix)
    report = Report()
    named: dict[ImageName, Path] = {}

    def one(file: Path) -> None:
        shown = str(file.relative_to(folder))
        try:
            name = ImageName.readings(above + file.relative_to(folder).as_posix())[0]
            first = named.setdefault(name, file)
            if first is not file:
                report.failed.append((shown, f"has the same name as {first.relative_to(folder)}"))
            elif _put_one(repo, name, file):
                report.stored += 1
            else:
                report.skipped += 1
        except NotAPicture:
            report.no_pictures.append(shown)
        except (Problem, OSError) as error:
            report.failed.append((shown, _reason(error)))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(one, files):
            step()
    return report


def _put_one(repo: Repository, name: ImageName, file: Path) -> bool:
    """Whether there was something to upload."""
    with repo.writer.spool() as spool:
        with file.open("rb") as source:
            spool.fill(iter(lambda: source.read(CHUNK), b""))
        if _is_there(repo, name, spool.sha256):
            return False
        repo.writer.put(ADMIN, name, spool, filename=file.name)
    return True


def _is_there(repo: Repository, name: ImageName, sha256: str) -> bool:
    record = read_record(repo.origin, name)
    if record is None or record.sha256 != sha256:
        return False
    try:
        return repo.reader.resolve(ADMIN, [name]).version == record.version
    except ImageNotFound:
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


# -- one image -------------------------------------------------------------------------


def find(repo: Repository, config: Config, name: str, parameters: Mapping[str, str]) -> tuple[Original, Recipe]:
    """What a name and ``parameter=value`` stand for, as over HTTP.

    :raises Problem: as over HTTP
    """
    defaults = wiring.defaults(config)
    asked = read_request(parameters.items())[0].with_preset(defaults.presets)
    current = repo.reader.resolve(ADMIN, ImageName.readings(name))
    focus = repo.reader.focus(current) if asked.uses_record_focus else None
    return current, asked.settle(defaults, focus=focus)[0]


def get(repo: Repository, current: Original, recipe: Recipe) -> Iterator[bytes]:
    """The bytes of a picture; of the original too, which the command line may always have."""
    if recipe.is_original:
        with repo.reader.original(ADMIN, current) as (_, spool):
            yield from iter(lambda: spool.file.read(CHUNK), b"")
    else:
        yield repo.reader.fetch(repo.reader.variant(ADMIN, current, recipe)).rendition.body


def filename(current: Original, recipe: Recipe) -> str:
    """What the picture is called as a file."""
    last = current.name.text.rpartition("/")[2]
    made = split_ending(current.key)[1]
    ending = (made.kind if made else "") if recipe.kind == ORIGINAL else recipe.kind
    return f"{last}.{ending}" if ending else last


def purge(repo: Repository, target: str) -> tuple[int, dict[str, int]]:
    """Removes renditions: of one image, or of all below a path that ends in ``/``.

    :returns: how many images were looked at, and how many renditions went from each layer
    """
    if target.endswith("/"):
        names: Iterable[ImageName] = (current.name for current in repo.reader.images(ADMIN, parse_prefix(target)))
    else:
        names = [repo.reader.resolve(ADMIN, ImageName.readings(target)).name]
    count, gone = 0, dict[str, int]()
    for name in names:
        count += 1
        for layer, number in repo.writer.purge(ADMIN, name).items():
            gone[layer] = gone.get(layer, 0) + number
    return count, gone


@dataclass
class WarmReport:
    """What came of it.

    :param made: renditions that were made
    :param there: renditions that lay in a cache already
    :param failed: name, and why
    """

    made: int = 0
    there: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def warm(
    repo: Repository, config: Config, images: Iterable[Original], wanted: Iterable[Mapping[str, str]], step: Step
) -> WarmReport:
    """Makes the renditions of images that somebody will ask for, unless a cache has them.

    :param wanted: the parameters of each rendition, as over HTTP
    :param step: called after each image
    """
    report, requests = WarmReport(), tuple(wanted)

    def one(current: Original) -> None:
        for parameters in requests:
            try:
                found, recipe = find(repo, config, current.name.text, parameters)
                rendered = repo.reader.fetch(repo.reader.variant(ADMIN, found, recipe)).layer == "rendered"
            except Problem as problem:
                report.failed.append((current.name.text, problem.detail or problem.title))
                continue
            report.made, report.there = report.made + rendered, report.there + (not rendered)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(one, images):
            step()
    return report


# -- check -----------------------------------------------------------------------------


@dataclass(frozen=True)
class ContainerScan:
    """What the container holds, by name: originals, newest first, and which names have a record.

    :param unnamed: keys of pictures and records that are none here, because nothing can be called so
    """

    originals: dict[ImageName, list[Entry]]
    records: dict[str, Entry]
    others: list[str]
    unnamed: list[str]


def walk(repo: Repository) -> ContainerScan:
    """Lists the whole container."""
    walked = ContainerScan({}, {}, [], [])
    for entry in repo.origin.keys():  # noqa: SIM118, a store is no dict
        name = image_of(entry.key, entry.media_type)
        if name is not None:
            walked.originals.setdefault(name, []).append(entry)
        elif _is_unnamed(entry):
            walked.unnamed.append(entry.key)
        elif entry.media_type == RECORD:
            walked.records[entry.key] = entry
        elif not entry.key.startswith("."):
            walked.others.append(entry.key)
    for entries in walked.originals.values():
        entries.sort(key=lambda entry: entry.modified, reverse=True)
    return walked


def _is_unnamed(entry: Entry) -> bool:
    """Whether something else would be an image's, but for its name; what is hidden is meant to be none."""
    if any(part.startswith(".") for part in entry.key.split("/")):
        return False
    stem, made = split_ending(entry.key)
    if entry.media_type == RECORD:
        return ImageName.of_key(entry.key.removesuffix(".json")) is None
    return (made is not None or entry.media_type.startswith("image/")) and ImageName.of_key(stem) is None


def check(repo: Repository, walked: ContainerScan, step: Step) -> Iterator[str]:
    """Reads every original and holds it against what is known of it; one line for each thing that is wrong.

    :param step: called after each image
    """
    for key in walked.unnamed:
        yield f"{key!r}: no name that an image can have"
    for name, entries in walked.originals.items():
        if len(entries) > 1:
            others = ", ".join(entry.key for entry in entries[1:])
            yield f"{name}: has more than one original: {entries[0].key} is the image, not {others}"
    known = {record_key(name.text) for name in walked.originals}
    for key in sorted(walked.records.keys() - known):
        record = read_record(repo.origin, ImageName(key.removesuffix(".json")))
        if record is None or not record.is_description:
            yield f"{key}: a record without an original"
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for wrong in pool.map(lambda item: _check_one(repo, *item), list(walked.originals.items())):
            step()
            if wrong:
                yield wrong


def check_beside(config: Config, repo: Repository) -> Iterator[str]:
    """Reads what lies beside the images, artifacts and snapshots; one line for each that is damaged."""
    yield from Artifacts(repo, wiring.artifacts_follower(config, repo.origin)).damaged()
    yield from Snapshots(repo).damaged()


def _check_one(repo: Repository, name: ImageName, entries: list[Entry]) -> str | None:
    entry = entries[0]
    try:
        digest = _sha256(repo.origin, entry.key)
        record = read_record(repo.origin, name)
    except Problem as error:
        return f"{entry.key}: {error}"
    if digest is None:
        return None  # it was deleted meanwhile
    found = repo.origin.head(entry.key)
    described = record is not None and found is not None and record.version == found.etag and record.key == entry.key
    if record and described and record.sha256 != digest:
        return f"{entry.key}: its bytes are not those that were uploaded (SHA-256 {digest}, recorded {record.sha256})"
    return None


def _sha256(store: Store, key: str) -> str | None:
    body = store.get(key)
    if body is None:
        return None
    made = hashlib.sha256()
    with body:
        for chunk in body:
            made.update(chunk)
    return made.hexdigest()


# -- link-key --------------------------------------------------------------------------


class Keyed(Protocol):
    """A store whose key for temporary URLs can be set."""

    description: str

    def set_link_key(self, secret: str, *, second: bool = False) -> None:
        """Keeps the key."""
        ...


def set_link_key(config: Config, *, second: bool) -> tuple[str, str]:
    """Makes a key for temporary URLs and sets it where they are verified.

    :param second: the key that is only verified with: set it, tell the others, then make it the first
    :returns: what it was set on, and the key
    """
    stores = wiring.build_stores(config)
    store: Keyed = stores.cache or stores.origin  # type: ignore[assignment]
    try:
        secret = new_link_key()
        store.set_link_key(secret, second=second)
        return store.description, secret
    finally:
        stores.close()
