"""Import pictures and their data from any source, with an outcome for each."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from image_repo import render
from image_repo.access.control import Action
from image_repo.access.principal import Principal
from image_repo.concurrency.in_order import map_ahead
from image_repo.errors import (
    BadBody,
    BrokenArchive,
    DigestMismatch,
    ImageNotFound,
    NameConflict,
    NotAPicture,
    Problem,
    StoreUnavailable,
)
from image_repo.exchange.base import ImportOutcome, Item, Opener, Status, retry_while_busy
from image_repo.exchange.formats.notes import notes_member
from image_repo.exchange.labels import HEAD_BYTES, MAX_LABEL_BYTES, MAX_OWN_LABEL_BYTES, is_label_file, label_lines
from image_repo.exchange.manifest_lines import ManifestLines, is_manifest
from image_repo.exchange.zip_reader import Archive, Budget
from image_repo.model.names import ImageName, parse_prefix
from image_repo.model.record import Record
from image_repo.model.strict_json import is_same
from image_repo.render.headers import sniff
from image_repo.repository import bulk
from image_repo.repository.metadata import UNCONDITIONAL
from image_repo.repository.repository import Repository
from image_repo.repository.resolver import read_record
from image_repo.repository.spool import Spool
from image_repo.stores.base import CHUNK, NotOnDisk

log = logging.getLogger(__name__)

#: items that are imported at a time: more would share the disk, but also one interpreter
AT_ONCE = 4
#: bytes from which a format is detected
_SNIFFED_BYTES = 256
#: of descriptions that are imported together
_MAX_BATCH_BYTES = 1 << 18
#: an archive may unpack to this multiple of its size, or to this many bytes if that is more
_MAX_RATIO, _MIN_BUDGET_BYTES = 20, 1 << 30

#: belongs to the manifest of an export
_NOTES = notes_member("imagefolder")
#: of one import; others are skipped
_MAX_LABEL_FILES = 1_000

#: an item, and its name or the reason why it has none
_NamedItem = tuple[Item, ImageName | Problem]


class Importer:
    """Imports items into a repository. One for each import: it refuses a second item of one name.

    :param prefix: the folder below which they are stored; empty for none
    :param dry_run: whether to store nothing; outcomes are those of an import
    :raises BadName: for an invalid prefix
    """

    def __init__(self, repo: Repository, principal: Principal, prefix: str = "", *, dry_run: bool = False) -> None:
        self._repo = repo
        self._principal = principal
        self._parent = parse_prefix(prefix)
        self._dry_run = dry_run
        self._names: set[bytes] = set()
        self._lock = threading.Lock()

    def run(self, items: Iterable[Item], at_once: int = AT_ONCE) -> Iterator[ImportOutcome]:
        """Import items, several at a time, and yield outcomes in the order of the items; only a few are pending.

        Closing the generator stops the import after the items that have begun.
        """
        for outcomes in map_ahead(self._import_batch, self._batches(items), at_once, 2 * at_once - 1, name="import"):
            yield from outcomes

    def _batches(self, items: Iterable[Item]) -> Iterator[list[_NamedItem]]:
        """Group consecutive descriptions; pictures are imported one by one."""
        batch: list[_NamedItem] = []
        size = 0
        for item in items:
            name = self._name(item)
            is_description = item.open is None and isinstance(name, ImageName)
            if batch and (not is_description or len(batch) == bulk.MAX_NAMES or size > _MAX_BATCH_BYTES):
                yield batch
                batch, size = [], 0
            if is_description:
                batch.append((item, name))
                size += len(json.dumps(item.data))
            else:
                yield [(item, name)]
        if batch:
            yield batch

    def _import_batch(self, batch: Sequence[_NamedItem]) -> list[ImportOutcome]:
        statuses: Mapping[ImageName, Status] = {}
        if len(batch) > 1 and not self._dry_run:
            data_by_name = {name: _data_of(item) for item, name in batch if isinstance(name, ImageName)}
            try:
                statuses = self._repo.writer.replace_many(self._principal, data_by_name)
            except NotOnDisk as problem:  # reading them back now would prove nothing
                return [_refused(item, name if isinstance(name, ImageName) else None, problem) for item, name in batch]
            except Problem as problem:  # each one gets its own problem below
                log.debug("the batch is imported one by one: %s", problem)
        return [
            ImportOutcome(item.entry, statuses[name], name.text)
            if isinstance(name, ImageName) and name in statuses
            else self._import(item, name)
            for item, name in batch
        ]

    def _name(self, item: Item) -> ImageName | Problem:
        """Return the name of the image, or why it has none; only the first item of a name gets it."""
        if item.problem:
            return item.problem
        try:
            name = ImageName.parse(self._parent + item.name)
        except Problem as problem:
            return problem
        digest = blake2b(name.text.encode(), digest_size=8).digest()
        with self._lock:
            if digest in self._names:
                return NameConflict("Another entry has this name already.", name=name.text)
            self._names.add(digest)
        return name

    def _import(self, item: Item, name: ImageName | Problem) -> ImportOutcome:
        if isinstance(name, Problem):
            return _refused(item, None, name)
        try:
            self._repo.access.authorise(self._principal, Action.WRITE, self._principal.qualify(name).text)
            status = self._picture(name, item, item.open) if item.open else self._description(name, item)
        except Problem as problem:
            return _refused(item, name, problem)
        except OSError as error:
            log.warning("%s cannot be read: %s", item.entry, error)
            return _refused(item, name, StoreUnavailable("It cannot be read."))
        return ImportOutcome(item.entry, status, name.text)

    def _picture(self, name: ImageName, item: Item, opener: Opener) -> Status:
        with self._repo.writer.spool() as spool:
            spool.fill(_sniffed(opener()))
            if not spool.size:
                raise NotAPicture("It is empty.")
            if item.sha256 and item.sha256 != spool.sha256:
                raise DigestMismatch("Its SHA-256 differs from the expected one.", sha256=spool.sha256)
            record = self._stored_picture(name)
            if item.merge:
                item = replace(item, data=_merged(item.data, self._stored(name)))
            if record and record.sha256 in (spool.sha256, item.original):
                return self._replace_data(name, item.data, record)
            is_new = self._is_new(name, spool) if self._dry_run else self._put(name, item, spool)
        return "stored" if is_new else "replaced"

    def _put(self, name: ImageName, item: Item, spool: Spool) -> bool:
        """Store a picture, and return whether the name is new."""

        def put() -> bool:
            spool.file.seek(0)
            return self._repo.writer.put(self._principal, name, spool, filename=item.filename, data=item.data)[1]

        return retry_while_busy(put)

    def _is_new(self, name: ImageName, spool: Spool) -> bool:
        """Check a picture without storing it, and return whether the name is new."""
        spool.file.seek(0)
        render.inspect(spool.file, self._repo.limits, location=False)
        try:
            self._repo.reader.resolve(self._principal, [name])
        except ImageNotFound:
            return True
        return False

    def _description(self, name: ImageName, item: Item) -> Status:
        return self._replace_data(name, _data_of(item), self._stored(name))

    def _replace_data(self, name: ImageName, data: Any, stored: Record | None) -> Status:
        """Replace the data of an image if they differ."""
        if stored and (data is None or is_same(data, stored.data)):
            return "unchanged"
        data = {} if data is None else data
        if self._dry_run:
            return "replaced" if stored else "stored"
        _, is_new = self._repo.writer.replace_data(self._principal, name, data, UNCONDITIONAL)
        return "stored" if is_new else "replaced"

    def _stored(self, name: ImageName) -> Record | None:
        """Return the record of this name; None if there is none that the caller may see."""
        stored = read_record(self._repo.origin, self._principal.qualify(name))
        return stored if stored and self._principal.owner in (None, stored.owner) else None

    def _stored_picture(self, name: ImageName) -> Record | None:
        """Return the record of the picture of this name; None if there is none, or the record is outdated."""
        stored = self._stored(name)
        if stored is None or stored.is_description:
            return None
        try:
            original = self._repo.reader.resolve(self._principal, [name])
        except ImageNotFound:
            return None
        named = self._principal.qualify(name)
        return stored if (original.name, original.version) == (named, stored.version) else None


def _data_of(item: Item) -> Any:
    return {} if item.data is None else item.data


def _merged(data: Any, stored: Record | None) -> Any:
    """Return the data of a record with labels added."""
    if stored and isinstance(stored.data, Mapping) and isinstance(data, Mapping):
        return {**stored.data, **data}
    return data


def _refused(item: Item, name: ImageName | None, problem: Problem) -> ImportOutcome:
    """Return the outcome of a refused item: skipped if it is no picture and has no data, else failed."""
    is_skipped = isinstance(problem, NotAPicture) and item.data is None
    status: Status = "skipped" if is_skipped else "failed"
    # The outcome outlives the frames that a traceback would keep in memory.
    problem = problem.with_traceback(None)
    return ImportOutcome(item.entry, status, None if is_skipped or not name else name.text, problem)


def _sniffed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content of a picture; other content is not read to its end.

    :raises NotAPicture: if it has no known format
    """
    head = b""
    for chunk in chunks:
        if len(head) >= _SNIFFED_BYTES:
            yield chunk
            continue
        head += chunk
        if len(head) >= _SNIFFED_BYTES:
            sniff(memoryview(head))
            yield head
    if 0 < len(head) < _SNIFFED_BYTES:
        sniff(memoryview(head))
        yield head


# -- sources ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ItemSource:
    """The items of a source.

    :param items: can be iterated once
    :param total: their number; invalid items may be a few more
    """

    items: Iterator[Item]
    total: int


def from_zip(
    file: BinaryIO, size: int, temporary: BinaryIO, max_members: int, max_label_bytes: int = MAX_LABEL_BYTES
) -> ItemSource:
    """Return the items of a zip: an export, or pictures alone. The directory is read at once.

    :param file: the archive, seekable; read by other threads until the last item is imported
    :param size: in bytes
    :param temporary: a file for its manifests
    :param max_members: of the archive, and lines of its manifests: each takes some 200 bytes of memory
    :param max_label_bytes: of one file of labels, which is parsed in memory
    :raises BrokenArchive: if it is no zip, has too many members, or a manifest cannot be read
    :raises TooLarge: if it unpacks to too many bytes
    """
    archive = Archive(file, Budget(max(_MAX_RATIO * size, _MIN_BUDGET_BYTES)), max_members)
    members = ((member.name, partial(archive.open, member)) for member in archive)
    lines = ManifestLines(temporary, max_members)
    labels, broken = _read_manifests(members, lines, max_label_bytes)
    files = sum(1 for member in archive if not member.is_folder and _is_picture(member.name, labels))
    return ItemSource(chain(broken, _zipped(archive, lines, labels)), len(broken) + files + lines.without_file)


def _is_picture(path: str, labels: Collection[str]) -> bool:
    return not is_manifest(path) and path not in labels and path != _NOTES


def _read_manifests(
    files: Iterable[tuple[str, Opener]], lines: ManifestLines, max_label_bytes: int
) -> tuple[frozenset[str], list[Item]]:
    """Read manifests, then files of labels, and return the paths of the latter, and those that are damaged.

    A damaged manifest ends the import, because no picture is imported without its line; damaged labels do not.
    """
    labels: dict[str, Opener] = {}
    for path, opener in files:
        try:
            if is_manifest(path):
                lines.add(path, opener())
            elif len(labels) < _MAX_LABEL_FILES and is_label_file(path, partial(_head, opener)):
                labels[path] = opener
        except BrokenArchive as problem:
            raise BrokenArchive(f"{path[:200]!r}: {problem.detail}") from problem
    broken = []
    for path, texts in label_lines(labels, max_label_bytes):
        try:
            lines.add_labels(path, list(texts))
        except (BrokenArchive, BadBody) as problem:
            broken.append(Item(path, "", problem=problem))
    return frozenset(labels), broken


def _head(opener: Opener) -> bytes:
    """Return the first bytes of a file; none if it cannot be read, which its own outcome reports."""
    head = b""
    with suppress(Problem, OSError):
        for chunk in opener():
            head += chunk
            if len(head) >= HEAD_BYTES:
                break
    return head


def _zipped(archive: Archive, lines: ManifestLines, labels: Collection[str]) -> Iterator[Item]:
    for member in archive:
        if not member.is_folder and _is_picture(member.name, labels):
            yield lines.item(member.name, partial(archive.open, member))
    yield from lines.rest()


def from_folder(folder: Path, files: Iterable[Path], temporary: BinaryIO) -> ItemSource:
    """Return the items of a folder, like those of a zip of it.

    :param files: below the folder
    :param temporary: a file for its manifests
    :raises BrokenArchive: if a manifest is damaged
    :raises OSError: if a manifest cannot be read
    """
    openers = {path.relative_to(folder).as_posix(): partial(_read, path) for path in files}
    lines = ManifestLines(temporary)
    labels, broken = _read_manifests(openers.items(), lines, MAX_OWN_LABEL_BYTES)
    pictures = {path: open_ for path, open_ in openers.items() if _is_picture(path, labels)}
    items = (lines.item(path, open_) for path, open_ in pictures.items())
    return ItemSource(chain(broken, items, lines.rest()), len(broken) + len(pictures) + lines.without_file)


def label_by_folder(items: Iterable[Item], key: str) -> Iterator[Item]:
    """Add the name of the folder of each picture to its data."""
    for item in items:
        folder = item.entry.rpartition("/")[0].rpartition("/")[2]
        if item.open and folder and isinstance(item.data, Mapping | None):
            is_label_only = item.data is None
            yield replace(item, data={key: folder, **(item.data or {})}, merge=item.merge or is_label_only)
        else:
            yield item


def with_data(items: Iterable[Item], data: Mapping[str, Any]) -> Iterator[Item]:
    """Add members to the data of each item, whose own members count more."""
    for item in items:
        if isinstance(item.data, Mapping | None):
            yield replace(item, data={**data, **(item.data or {})}, merge=item.merge or item.data is None)
        else:
            yield item


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")
