"""Whole collections over HTTP: ``GET /export`` and ``POST /import``, both streamed."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, get_args

from flask import Flask, request
from werkzeug.exceptions import UnsupportedMediaType

from image_repo import wiring
from image_repo.catalogue.base import Document
from image_repo.catalogue.grammar import FILTER_WORDS, PAGE_WORDS, ParsedQuery, Words
from image_repo.config import Config
from image_repo.errors import BadBody, BadParameter, Busy, CatalogueUnavailable, OriginalsNotServed
from image_repo.exchange.base import About, ImportOutcome, Status
from image_repo.exchange.exporter import PICTURE_WORDS, Export, Settled, settled
from image_repo.exchange.formats import FORMATS
from image_repo.exchange.formats.base import FormatWriter
from image_repo.exchange.importer import Importer, from_zip
from image_repo.exchange.zip_writer import stream_zip, temporary
from image_repo.model.operations import PARAMETERS
from image_repo.repository.collection import Collection
from image_repo.repository.repository import Repository
from image_repo.repository.snapshots import Snapshots
from image_repo.repository.spool import Spool
from image_repo.web import catalogue, openapi, responses, uploads
from image_repo.web.identity import principal
from image_repo.web.responses import Reply

#: exports, and imports, of one process at a time
_AT_ONCE = 4
#: members that a zip from outside may have
MOST_MEMBERS = 250_000
_MOST_TITLE = 500
_FILENAME = "images.zip"

EXPORT_WORDS: Words = {
    "format": (
        {"type": "string", "enum": [made.name for made in FORMATS]},
        "what tells of the pictures beside metadata.jsonl: "
        + "; ".join(f"{made.name}: {made.help}" for made in FORMATS),
    ),
    "snapshot": ({"type": "string"}, "instead of a filter: the images of this snapshot, as they were then"),
}
IMPORT_WORDS: Words = {"prefix": ({"type": "string"}, "a folder of the repository to put them below")}
_SORT: Words = {"sort": PAGE_WORDS["sort"]}
_TYPES = ("application/zip", "application/x-zip-compressed", "application/octet-stream")


def install(app: Flask, repo: Repository, collection: Collection, config: Config) -> None:
    """Adds the routes."""
    views = _Views(repo, collection, config)
    app.add_url_rule("/export", "export", views.export, methods=["GET"])
    app.add_url_rule("/import", "import", views.take_in, methods=["POST"])


class _Views:
    """The views over one repository."""

    def __init__(self, repo: Repository, collection: Collection, config: Config) -> None:
        self._repo = repo
        self._collection = collection
        self._snapshots = Snapshots(repo)
        self._defaults = wiring.defaults(config)
        self._base = "/" + config.repository_base_pathname
        self._public_url = config.public_url
        self._exports = threading.BoundedSemaphore(_AT_ONCE)
        self._imports = threading.BoundedSemaphore(_AT_ONCE)

    # -- out -------------------------------------------------------------------------

    def export(self) -> Reply:
        """``GET /export?FILTER``: a zip of pictures, and of what is known of them."""
        asked = catalogue.read_query((*FILTER_WORDS, *_SORT), (*PICTURE_WORDS, *EXPORT_WORDS))
        made, formats = self._settled(asked.rest), _formats(asked.rest)
        documents = _begun(self._documents(asked))
        if request.method == "HEAD":
            return responses.send_zip((), _FILENAME)
        about = About(_title(asked), self._images(), partial(temporary, self._repo.policy.spool))
        frozen = "snapshot" in asked.rest
        members = Export(self._repo, principal(), made, about, formats, frozen=frozen).members(documents)
        zipped = stream_zip(members, self._repo.policy.spool)
        return _limited(self._exports, lambda: responses.send_zip(zipped, _FILENAME))

    def _documents(self, asked: ParsedQuery) -> Iterator[Document]:
        """What is to be exported: what a filter means now, or what a snapshot holds."""
        if "snapshot" not in asked.rest:
            if self._collection.rebuilding(surely=True) is not None:
                raise CatalogueUnavailable("The catalogue is still being made, and an export would lack what it lacks.")
            return self._collection.each(principal(), asked.query.filter, asked.query.order)
        if not asked.query.filter.is_empty or asked.query.order:
            raise BadParameter("snapshot", "A snapshot is exported whole: neither a filter nor sort goes with it.")
        return self._snapshots.documents(principal(), self._snapshots.get(principal(), asked.rest["snapshot"]))

    def _settled(self, told: Mapping[str, str]) -> Settled:
        """How a picture is made; what is wrong with it shows now.

        :raises OriginalsNotServed: when they are asked for, and the configuration does not allow it
        """
        made = settled(told, self._defaults)
        if made(None).is_original and not self._repo.policy.serve_originals:
            raise OriginalsNotServed(
                "Originals hold positions and names. The configuration allows them with serve_originals: true; "
                "image_repo export, on the command line, always can.",
                parameter="kind",
            )
        return made

    def _images(self) -> str:
        return (self._public_url or request.host_url).rstrip("/") + self._base

    # -- in --------------------------------------------------------------------------

    def take_in(self) -> Reply:
        """``POST /import``: takes a zip in, and tells what became of each of its members while it goes on."""
        importer = Importer(self._repo, principal(), catalogue.read_parameters(IMPORT_WORDS).get("prefix", ""))
        return _limited(self._imports, lambda: self._taken_in(importer))

    def _taken_in(self, importer: Importer) -> Reply:
        with ExitStack() as stack:
            spool = stack.enter_context(_receive(self._repo))
            lines = stack.enter_context(temporary(self._repo.policy.spool))
            found = from_zip(spool.file, spool.size, lines, MOST_MEMBERS)
            outcomes = importer.run(found.items)
            reply = responses.stream_json(_told(outcomes))
            reply.on_close(stack.pop_all().close)
            return reply


def _formats(told: Mapping[str, str]) -> tuple[type[FormatWriter], ...]:
    if "format" not in told:
        return ()
    found = tuple(made for made in FORMATS if made.name == told["format"].lower())
    if not found:
        names = ", ".join(made.name for made in FORMATS)
        raise BadParameter.expected(f"one of {names} (data.format means the field)", "format", told["format"])
    return found


def _begun(documents: Iterator[Document]) -> Iterator[Document]:
    """The same; but what is wrong with the first shows now, while there is still another answer."""
    first = list(itertools.islice(documents, 1))
    return itertools.chain(first, documents)


def _title(asked: ParsedQuery) -> str:
    if "snapshot" in asked.rest:
        return f"snapshot {asked.rest['snapshot']}"
    text = "&".join(f"{name}={value}" for name, value in request.args.items(multi=True) if name not in asked.rest)
    return text[:_MOST_TITLE] or "everything"


def _limited(free: threading.BoundedSemaphore, make: Callable[[], Reply]) -> Reply:
    """An answer that holds a place until it is sent, or nobody wants it any more.

    :raises Busy: when all places are taken
    """
    if not free.acquire(blocking=False):
        raise Busy("As many exports or imports are under way as may.")
    with ExitStack() as stack:
        stack.callback(free.release)
        reply = make()
        reply.on_close(stack.pop_all().close)
        return reply


# -- in -------------------------------------------------------------------------------------


@contextmanager
def _receive(repo: Repository) -> Iterator[Spool]:
    """Yield the archive that the request brings; it stays open while the report is streamed.

    :raises UnsupportedMediaType: when the request brings something else
    :raises Problem: as :func:`.uploads.receive` says
    """
    if request.mimetype not in ("", *_TYPES, uploads.MULTIPART):
        raise UnsupportedMediaType(f"Expected a zip as {_TYPES[0]}, or a form with a part 'file'.")
    with uploads.receive(repo, "a zip", beyond_request=True) as upload:
        if not upload.spool.size:
            raise BadBody("Expected a zip in the part 'file', but it is empty.")
        yield upload.spool


def _told(outcomes: Iterable[ImportOutcome]) -> Iterator[str]:
    """The report: ``entries`` first, each as soon as it is known, and how many there were of each kind at the end."""
    counts: Counter[str] = Counter()
    separator = '{"entries":['
    for outcome in outcomes:
        counts[outcome.status] += 1
        yield separator + json.dumps(outcome.public(), ensure_ascii=True)
        separator = ",\n"
    totals = {status: counts[status] for status in get_args(Status)}
    yield ("" if counts else separator) + "]," + json.dumps(totals)[1:] + "\n"


# -- what is told of it ---------------------------------------------------------------------


def paths(_: str) -> openapi.Paths:
    """What can be done here, as OpenAPI has it."""
    made = [{**PARAMETERS[name].document(), "description": PARAMETERS[name].help} for name in PICTURE_WORDS]
    asking = [*openapi.query({**FILTER_WORDS, **_SORT, **EXPORT_WORDS}), *made]
    raw = {"schema": {"type": "string", "format": "binary"}}
    form = {"schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}}
    body = {"required": True, "content": {"application/zip": raw, uploads.MULTIPART: form}}
    return {
        "/export": {
            "get": openapi.operation(
                "A zip of all that match: pictures, and metadata.jsonl (ImageFolder of Hugging Face)",
                asking,
                {"application/zip": {}},
            )
        },
        "/import": {
            "post": openapi.operation(
                "Take in such a zip, or any zip of pictures; tells what became of each entry",
                openapi.query(IMPORT_WORDS),
                {"application/json": {"schema": _REPORT}},
                requestBody=body,
            )
        },
    }


_ENTRY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "entry": {"type": "string"},
        "name": {"type": ["string", "null"]},
        "status": {"type": "string", "enum": list(get_args(Status))},
        "problem": {"$ref": "#/components/schemas/Problem"},
    },
}
_REPORT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "entries": {"type": "array", "items": _ENTRY},
        **{status: {"type": "integer"} for status in get_args(Status)},
    },
}
