"""Taking in pictures and what is said of them, from wherever they come, and telling what became of each."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from image_repo.access.control import Action
from image_repo.access.principal import Principal
from image_repo.errors import (
    BrokenArchive,
    Busy,
    DigestMismatch,
    ImageNotFound,
    NameConflict,
    NotAPicture,
    Problem,
    StoreUnavailable,
)
from image_repo.exchange.base import ImportOutcome, Item, Opener, Status
from image_repo.exchange.manifest_lines import Lines, is_sheet
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

#: how many are taken in at a time: more wait for the disk together, but also for one interpreter
AT_ONCE = 4
#: how often a picture waits for its turn to be checked
_TURNS = 20
#: bytes by which a picture is known
_SNIFFED = 256
#: data that is taken in together, in bytes
_MOST_TOGETHER = 1 << 18
#: an archive may unpack to so many times its size, or to so many bytes if that is more
_MOST_RATIO, _LEAST_BUDGET = 20, 1 << 30

#: an item, and the name that it shall have, or why there is none
_Judged = tuple[Item, ImageName | Problem]


class Importer:
    """Takes items into a repository. One for each import: it sees to it that no two of them have one name.

    :param prefix: the folder that they are put below; empty for none
    :raises BadName: for a prefix that no image can have
    """

    def __init__(self, repo: Repository, principal: Principal, prefix: str = "") -> None:
        self._repo = repo
        self._principal = principal
        self._above = parse_prefix(prefix)
        self._named: set[bytes] = set()
        self._lock = threading.Lock()

    def run(self, items: Iterable[Item], at_once: int = AT_ONCE) -> Iterator[ImportOutcome]:
        """Takes items in, several at a time; outcomes come in the order of the items, and no more than a few wait.

        Who stops listening stops it: what has begun by then is ended.
        """
        waiting: deque[Future[list[ImportOutcome]]] = deque()
        with ThreadPoolExecutor(at_once, thread_name_prefix="import") as pool:
            try:
                for batch in self._batches(items):
                    waiting.append(pool.submit(self._take_all, batch))
                    if len(waiting) >= 2 * at_once:
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            finally:
                for left in waiting:
                    left.cancel()

    def _batches(self, items: Iterable[Item]) -> Iterator[list[_Judged]]:
        """Items that are taken together: descriptions, as they follow one another; pictures one by one."""
        batch: list[_Judged] = []
        size = 0
        for item in items:
            name = self._judge(item)
            together = item.open is None and isinstance(name, ImageName)
            if batch and (not together or len(batch) == bulk.MOST or size > _MOST_TOGETHER):
                yield batch
                batch, size = [], 0
            if together:
                batch.append((item, name))
                size += len(json.dumps(item.data))
            else:
                yield [(item, name)]
        if batch:
            yield batch

    def _take_all(self, batch: Sequence[_Judged]) -> list[ImportOutcome]:
        done: Mapping[ImageName, Status] = {}
        if len(batch) > 1:
            said = {name: _said(item.data) for item, name in batch if isinstance(name, ImageName)}
            try:
                done = self._repo.writer.replace_many(self._principal, said)
            except NotOnDisk as problem:  # what is read there now is no proof
                return [_refused(item, name if isinstance(name, ImageName) else None, problem) for item, name in batch]
            except Problem as problem:  # each of them is told what it is
                log.debug("not together: %s", problem)
        return [
            ImportOutcome(item.entry, done[name], name.text)
            if isinstance(name, ImageName) and name in done
            else self._take(item, name)
            for item, name in batch
        ]

    def take(self, item: Item) -> ImportOutcome:
        """Takes one item in."""
        return self._take(item, self._judge(item))

    def _judge(self, item: Item) -> ImageName | Problem:
        """The name of the image, or why there can be none; the first item of a name has it."""
        if item.problem:
            return item.problem
        try:
            name = ImageName.parse(self._above + item.name)
        except Problem as problem:
            return problem
        digest = blake2b(name.text.encode(), digest_size=8).digest()
        with self._lock:
            if digest in self._named:
                return NameConflict("Another entry has this name already.", name=name.text)
            self._named.add(digest)
        return name

    def _take(self, item: Item, name: ImageName | Problem) -> ImportOutcome:
        if isinstance(name, Problem):
            return _refused(item, None, name)
        try:
            self._repo.access.authorise(self._principal, Action.WRITE, name.text)
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
                raise DigestMismatch("Its SHA-256 is another than the one that is told of it.", sha256=spool.sha256)
            there = self._there(name)
            if there and there.sha256 in (spool.sha256, item.original):
                return self._say(name, item.data, there)
            created = self._put(name, item, spool)
        return "stored" if created else "replaced"

    def _put(self, name: ImageName, item: Item, spool: Spool) -> bool:
        """Stores a picture; where others are told to come again, it waits for its turn."""
        for _ in range(_TURNS):
            try:
                return self._put_now(name, item, spool)
            except Busy as busy:
                time.sleep(busy.retry_after or 1)
        return self._put_now(name, item, spool)

    def _put_now(self, name: ImageName, item: Item, spool: Spool) -> bool:
        spool.file.seek(0)
        return self._repo.writer.put(self._principal, name, spool, filename=item.filename, data=item.data)[1]

    def _description(self, name: ImageName, item: Item) -> Status:
        stored = read_record(self._repo.origin, name)
        return self._say(name, _said(item.data), stored)

    def _say(self, name: ImageName, data: Any, stored: Record | None) -> Status:
        """Replaces what is said of an image, if it is something else."""
        if stored and (data is None or is_same(data, stored.data)):
            return "unchanged"
        _, created = self._repo.writer.replace_data(self._principal, name, _said(data), UNCONDITIONAL)
        return "stored" if created else "replaced"

    def _there(self, name: ImageName) -> Record | None:
        """The record of the picture that has this name; None where there is none, or what it tells is of another."""
        stored = read_record(self._repo.origin, name)
        if stored is None or stored.is_description:
            return None
        try:
            current = self._repo.reader.resolve(self._principal, [name])
        except ImageNotFound:
            return None
        return stored if (current.name, current.version) == (name, stored.version) else None


def _said(data: Any) -> Any:
    """What becomes of an image of which nothing is said."""
    return {} if data is None else data


def _refused(item: Item, name: ImageName | None, problem: Problem) -> ImportOutcome:
    """What is told of an item that is not taken: skipped where it is no picture, and nobody says that it is one."""
    skipped = isinstance(problem, NotAPicture) and item.data is None
    # A traceback holds whatever was at hand, and would wait with the outcome.
    shown = problem.with_traceback(None)
    return ImportOutcome(
        item.entry, "skipped" if skipped else "failed", None if skipped or not name else name.text, shown
    )


def _sniffed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Bytes of a picture; those of other things are not read to their end.

    :raises NotAPicture: when they begin like none
    """
    head = b""
    for chunk in chunks:
        if len(head) >= _SNIFFED:
            yield chunk
            continue
        head += chunk
        if len(head) >= _SNIFFED:
            sniff(memoryview(head))
            yield head
    if 0 < len(head) < _SNIFFED:
        sniff(memoryview(head))
        yield head


# -- where items come from ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceFile:
    """What is to be taken in.

    :param items: to be gone through once
    :param total: how many there are; a few more where something is wrong with them
    """

    items: Iterator[Item]
    total: int


def from_zip(file: BinaryIO, size: int, temporary: BinaryIO, most: int) -> SourceFile:
    """The items of a zip, as an export makes it or of pictures alone. Reads its directory at once.

    :param file: the archive, seekable; read by other threads until the last item is taken
    :param size: its bytes
    :param temporary: a file for what the zip says of its pictures
    :param most: members that it may have, and lines of what it says of them: each takes some 200 bytes of memory
    :raises BrokenArchive: when it is no zip, has more, or what it says of its pictures cannot be read
    :raises TooLarge: when that is too much
    """
    archive = Archive(file, Budget(max(_MOST_RATIO * size, _LEAST_BUDGET)), most)
    lines, files = Lines(temporary, most), 0
    for member in archive:
        if is_sheet(member.name):
            try:
                lines.add(member.name, archive.open(member))
            except BrokenArchive as problem:
                raise BrokenArchive(f"{member.name[:200]!r}: {problem.detail}") from problem
        elif not member.is_folder:
            files += 1
    return SourceFile(_zipped(archive, lines), files + lines.loose)


def _zipped(archive: Archive, lines: Lines) -> Iterator[Item]:
    for member in archive:
        if not member.is_folder and not is_sheet(member.name):
            yield lines.item(member.name, partial(archive.open, member))
    yield from lines.rest()


def from_folder(folder: Path, files: Iterable[Path], temporary: BinaryIO) -> SourceFile:
    """The items of a folder: what a zip of it would hold.

    :param files: below the folder
    :param temporary: a file for what the folder says of its pictures
    :raises OSError: when that cannot be read
    """
    paths, lines = [], Lines(temporary)
    for path in files:
        if is_sheet(path.as_posix()):
            lines.add(path.relative_to(folder).as_posix(), _read(path))
        else:
            paths.append(path)
    items = (lines.item(path.relative_to(folder).as_posix(), partial(_read, path)) for path in paths)
    return SourceFile(chain(items, lines.rest()), len(paths) + lines.loose)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")
