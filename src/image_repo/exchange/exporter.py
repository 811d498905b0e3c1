"""Export pictures and their records as members of an archive.

The archive has begun before all pictures are rendered: ``_missing.txt``, its last member, lists those that failed.
"""

from __future__ import annotations

import io
import logging
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Self

from image_repo import render
from image_repo.access.principal import Principal
from image_repo.catalogue.base import Document
from image_repo.concurrency.in_order import map_ahead
from image_repo.errors import NameConflict, OriginalDamaged, Problem
from image_repo.exchange.base import About, Exported, File, retry_while_busy, write_file
from image_repo.exchange.formats import coercion
from image_repo.exchange.formats.base import FormatWriter
from image_repo.exchange.formats.notes import is_note
from image_repo.exchange.imagefolder import ImageFolder
from image_repo.exchange.zip_writer import Member, chunks, temporary
from image_repo.model.formats import BY_ENDING, FORMATS, split_ending
from image_repo.model.names import ImageName
from image_repo.model.operations import Focus, focus_of
from image_repo.model.original import Original
from image_repo.model.recipe import Defaults, Recipe, read_request
from image_repo.repository.repository import Repository
from image_repo.stores.base import CHUNK

log = logging.getLogger(__name__)

MISSING = "_missing.txt"
#: the folder of pictures without a split, or beyond so many splits
NO_SPLIT, MAX_SPLITS = "none", 100
#: attempts to read a picture that is replaced meanwhile
_MAX_VERSIONS = 3
#: pictures that are rendered while others are sent: as many as the limiter admits renders
AHEAD = max(2, len(os.sched_getaffinity(0)))

#: parameters of renditions (derivatives) in a request; without aliases, because other names are filters
PICTURE_WORDS = ("xsize", "ysize", "kind", "quality", "fit", "thumbnail")
#: maps the focus in the record of a picture, and the media type of its original, to its recipe
Settled = Callable[[Focus | None, str], Recipe]


def settled(parameters: Mapping[str, str], defaults: Defaults) -> Settled:
    """Return what settles the recipe of a picture, from the focus in its record and the media type of its original.

    :param parameters: those beside :data:`PICTURE_WORDS` are ignored
    :raises BadParameter: for an invalid value
    """
    request, _ = read_request((name, text) for name, text in parameters.items() if name in PICTURE_WORDS)
    request = request.with_preset(defaults.presets)
    return lambda focus, source: request.settle(defaults, focus=focus, source=source)[0]


# -- names of members ---------------------------------------------------------------------

#: devices of Windows, with any ending (learn.microsoft.com, "Naming Files, Paths, and Namespaces")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\.|$)", re.IGNORECASE)
#: characters that Windows refuses, and what would be read as an escape
_ILLEGAL = re.compile(r'[<>:"\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]|%(?=[0-9A-Fa-f]{2})')
#: endings of files that may lie beside a folder of the same name
_ENDINGS = frozenset((*BY_ENDING, "jsonl", "json", "csv", "txt", "md"))
#: of a file name: 255 less the ending and what unpackers add
_MAX_SEGMENT_BYTES = 200
_KIND_OF = {format_.media_type: format_.kind for format_ in reversed(FORMATS)}


def member_name(name: str, ending: str) -> str:
    """Return the path of a picture in an archive: its name and an ending, safe to unpack on any system.

    Ordinary names stay unchanged. What some system refuses is percent-encoded, so that different names stay different:
    devices of Windows, ``: * ? " < > |``, control characters, backslashes, dots and blanks at an end. No file has the
    name of a folder.
    """
    *folders, leaf = unicodedata.normalize("NFC", name).split("/")
    return "/".join([*map(_folder, folders), f"{_segment(leaf, at_end=False)}.{ending}"])


def _folder(text: str) -> str:
    segment = _segment(text)
    stem, dot, ending = segment.rpartition(".")
    return f"{stem}%2E{ending}" if dot and ending.lower() in _ENDINGS else segment


def _segment(text: str, *, at_end: bool = True) -> str:
    segment = _ILLEGAL.sub(lambda match: _escaped(match[0]), text) or "%00"
    if segment.startswith((".", " ")) or _DEVICE.match(segment):
        segment = _escaped(segment[:1]) + segment[1:]
    if at_end and segment.endswith((".", " ")):
        segment = segment[:-1] + _escaped(segment[-1])
    if len(segment.encode()) > _MAX_SEGMENT_BYTES:
        start = segment.encode()[: _MAX_SEGMENT_BYTES - 20].decode(errors="ignore")
        segment = f"{start}~{sha256(segment.encode()).hexdigest()[:16]}"
    return segment


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def ending_of(original: Original, recipe: Recipe) -> str:
    """Return the ending of a picture as a file."""
    if not recipe.is_original:
        return recipe.kind
    format_ = split_ending(original.key)[1]
    return format_.kind if format_ else _KIND_OF.get(original.media_type, "bin")


# -- pictures -----------------------------------------------------------------------------


class _Picture:
    """A picture that is ready to be written. A context manager.

    :param original: its original
    :param body: bytes, or a file from its present position on
    :param opened: closed with it
    """

    def __init__(self, original: Original, recipe: Recipe, body: bytes | BinaryIO, opened: ExitStack) -> None:
        self.original = original
        self.recipe = recipe
        self.body = body
        self._opened = opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


def _make(repo: Repository, principal: Principal, original: Original, recipe: Recipe) -> _Picture:
    """Render a picture, or open its original.

    :raises Problem: if that fails
    """
    with ExitStack() as stack:
        if not recipe.is_original:
            variant = repo.reader.variant(principal, original, recipe)
            served = retry_while_busy(lambda: repo.reader.fetch(variant))
            return _Picture(replace(original, version=served.version), recipe, served.rendition.body, stack.pop_all())
        newest, spool = stack.enter_context(repo.reader.original(principal, original))
        return _Picture(newest, recipe, spool.file, stack.pop_all())


class _Missing:
    """The list of missing pictures, a line each."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, name: str, problem: Problem) -> None:
        log.warning("%s is missing in an archive: %s", name, problem.detail)
        line = f"{name}: {problem.status} {problem.title} {problem.detail}"
        self._file.write(" ".join(line.splitlines()).encode("utf-8", "replace") + b"\n")

    def members(self, newest: float) -> Iterator[Member]:
        if self._file.tell():
            self._file.seek(0)
            yield MISSING, newest, self._file

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A picture to be made, or why it is missing."""

    name: str
    original: Original
    recipe: Recipe | Problem


def pictures(
    repo: Repository,
    principal: Principal,
    images: Iterable[Original],
    settled: Callable[[Original], Recipe],
    *,
    ahead: int = AHEAD,
) -> Iterator[Member]:
    """Yield pictures without records, under their names.

    :param settled: returns the recipe of each; may raise problems
    :param ahead: pictures that are rendered while others are sent
    """

    def wanted() -> Iterator[_Wanted]:
        for original in images:
            try:
                recipe: Recipe | Problem = settled(original)
            except Problem as problem:
                recipe = problem
            yield _Wanted(principal.relative(original.name.text), original, recipe)

    newest = 0.0
    with closing(_Missing(temporary(repo.policy.spool))) as missing:
        make = partial(_made, repo, principal)
        for name, made in map_ahead(make, wanted(), ahead, ahead, lambda outcome: _close(outcome[1])):
            if isinstance(made, Problem):
                missing.add(name, made)
                continue
            with made as picture:
                newest = max(newest, picture.original.modified)
                yield name, picture.original.modified, picture.body
        yield from missing.members(newest)


def _made(repo: Repository, principal: Principal, wanted: _Wanted) -> tuple[str, _Picture | Problem]:
    """Return the name of a member, and its picture or why it is missing."""
    if isinstance(wanted.recipe, Problem):
        return wanted.name, wanted.recipe
    name = member_name(wanted.name, ending_of(wanted.original, wanted.recipe))
    try:
        return name, _make(repo, principal, wanted.original, wanted.recipe)
    except Problem as problem:
        return name, problem


def _close(made: _Picture | Problem) -> None:
    if isinstance(made, _Picture):
        with made:
            pass


# -- pictures and their records -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ready:
    """A document with its picture, if there is one.

    :param problem: why an existing picture is missing
    """

    exported: Exported
    modified: float
    picture: _Picture | None = None
    problem: Problem | None = None

    def close(self) -> None:
        if self.picture:
            _close(self.picture)


class Export:
    """Documents and their pictures as members of an archive.

    :param settled: returns the recipe of a picture
    :param formats: further formats of the metadata
    :raises LibraryMissing: if a format needs a library that is not installed
    :param frozen: whether pictures must be of the versions in the documents. Otherwise a picture that is replaced
        meanwhile gets its new record
    :param ahead: pictures that are rendered while others are sent
    """

    def __init__(
        self,
        repo: Repository,
        principal: Principal,
        settled: Settled,
        about: About,
        formats: Sequence[type[FormatWriter]] = (),
        *,
        frozen: bool = False,
        ahead: int = AHEAD,
    ) -> None:
        self._repo = repo
        self._principal = principal
        self._settled = settled
        self._about = about
        for format_ in formats:
            format_.require()
        self._formats = formats
        self._splits: set[str] = set()
        self._frozen = frozen
        self._ahead = ahead
        #: documents so far; ``missing`` lack their picture
        self.pictures = self.descriptions = self.missing = 0
        #: the members with notes of the formats
        self.notes: list[str] = []

    def members(self, documents: Iterable[Document]) -> Iterator[Member]:
        """Yield pictures, the files of the formats, ``descriptions.jsonl``, ``metadata.jsonl``, and what is missing.

        The same documents and pictures give the same members: their times are those of the uploads.

        :param documents: public records; each name once
        """
        with ExitStack() as opened:
            missing = opened.enter_context(closing(_Missing(self._about.temporary())))
            kinds: tuple[type[FormatWriter], ...] = (*self._formats, ImageFolder)
            formats = [opened.enter_context(closing(kind(self._about))) for kind in kinds]
            newest = 0.0
            for ready in map_ahead(self._ready, documents, self._ahead, self._ahead, _Ready.close):
                with closing(ready):
                    if ready.picture and ready.exported.file:
                        yield ready.exported.file.name, ready.modified, ready.picture.body
                if ready.problem:
                    missing.add(str(ready.exported.document["name"]), ready.problem)
                self._count(ready)
                newest = max(newest, ready.modified)
                for writer in formats:
                    writer.add(ready.exported)
            for writer in formats:
                for name, body in writer.members(newest):
                    self.notes += [name] if is_note(name) else []
                    yield name, newest, body
            yield from missing.members(newest)

    def _count(self, ready: _Ready) -> None:
        if ready.problem:
            self.missing += 1
        elif ready.picture:
            self.pictures += 1
        else:
            self.descriptions += 1

    def _ready(self, document: Document) -> _Ready:
        moment = _moment(document)
        if not document.get("version"):
            return _Ready(Exported(document, None), moment)
        try:
            return self._with_picture(document, moment)
        except Problem as problem:
            return _Ready(Exported(document, None), moment, problem=problem)

    def _with_picture(self, document: Document, moment: float) -> _Ready:
        name = ImageName(document["name"])
        for _ in range(_MAX_VERSIONS):
            original = self._repo.reader.resolve(self._principal, [name], aliases=False)
            if original.version != document["version"] or not document.get("sha256"):
                document = self._now(document, original)
            recipe = self._settled(focus_of(document.get("data")), original.media_type)
            picture = _make(self._repo, self._principal, original, recipe)
            if picture.original.version == original.version:
                with ExitStack() as failing:
                    failing.enter_context(picture)
                    file = self._file(document, picture)
                    failing.pop_all()
                return _Ready(Exported(document, file), moment or (0.0 if self._frozen else original.modified), picture)
            with picture:
                pass
        raise OriginalDamaged("The original does not stay the same while it is read.")

    def _now(self, document: Document, original: Original) -> Document:
        """Return the present record of a picture whose document is of another version."""
        record = self._repo.reader.record(self._principal, original)
        if not self._frozen:
            return record.public()
        if record.sha256 != document.get("sha256"):
            raise NameConflict("The picture is another one now.", name=record.name)
        return document

    def _file(self, document: Document, picture: _Picture) -> File:
        split = self._split(document)
        name = member_name(str(document["name"]), ending_of(picture.original, picture.recipe))
        name = f"{split}/{name}" if split else name
        if not isinstance(picture.body, bytes):
            digest, size = _digest(picture.body)
            if self._frozen and digest != document["sha256"]:
                raise NameConflict("The picture is another one now.", name=document["name"])
            width, height = document["width"], document["height"]
            return File(name, digest, document["media_type"], size, width, height, split=split)
        info = render.inspect(io.BytesIO(picture.body), self._repo.limits, location=False)
        digest, size = sha256(picture.body).hexdigest(), len(picture.body)
        return File(name, digest, info.media_type, size, info.width, info.height, picture.recipe, split)

    def _split(self, document: Document) -> str:
        """Return the folder of a picture's split; empty without splits."""
        if not self._about.split:
            return ""
        split = _folder(coercion.text_at(document, self._about.split) or NO_SPLIT)
        self._splits |= {split} if len(self._splits) < MAX_SPLITS else set()
        return split if split in self._splits else NO_SPLIT


def _digest(file: BinaryIO) -> tuple[str, int]:
    """Return SHA-256 and size of a file, and rewind it."""
    digest = sha256()
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    size = file.tell()
    file.seek(0)
    return digest.hexdigest(), size


def _moment(document: Document) -> float:
    """Return the time of the upload in seconds since the epoch; 0 if unknown."""
    try:
        return datetime.fromisoformat(document["uploaded"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0


def write_folder(members: Iterable[Member], folder: Path) -> None:
    """Write members as files below a folder, each whole or not at all; existing files are replaced.

    :raises OSError: if one cannot be written
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, modified, body in members:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, chunks(body), modified)
