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
from urllib.parse import quote

from flask import Flask, request
from werkzeug.exceptions import UnsupportedMediaType

from image_repo import wiring
from image_repo.access.control import Action
from image_repo.catalogue.base import Document
from image_repo.catalogue.grammar import FILTER_WORDS, PAGE_WORDS, ParsedQuery, Words
from image_repo.config import Config
from image_repo.errors import BadBody, BadParameter, Busy, CatalogueUnavailable, OriginalsNotServed, Unauthenticated
from image_repo.exchange.base import About, ImportOutcome, Status
from image_repo.exchange.exporter import PICTURE_WORDS, Export, Settled, settled
from image_repo.exchange.formats import FORMATS
from image_repo.exchange.formats.base import FormatWriter
from image_repo.exchange.importer import Importer, from_zip, with_data
from image_repo.exchange.zip_writer import stream_zip, temporary
from image_repo.model.names import parse_prefix
from image_repo.model.operations import PARAMETERS
from image_repo.model.parameters import unknown_parameter
from image_repo.repository.collection import Collection
from image_repo.repository.repository import Repository
from image_repo.repository.snapshots import Snapshots
from image_repo.web import catalogue, openapi, responses, uploads
from image_repo.web.identity import authorise, has_credentials, principal
from image_repo.web.responses import Reply

#: of one process at a time
_MAX_EXPORTS = _MAX_IMPORTS = 4
#: of an imported zip
MAX_MEMBERS = 250_000
_MAX_TITLE_CHARS = 500
_FILENAME = "images.zip"

#: header of an export: keys of its filter that no record has, percent-encoded
UNKNOWN_KEYS = "X-Unknown-Keys"
EXPORT_WORDS: Words = {
    "format": (
        {"type": "string", "enum": [format_.name for format_ in FORMATS]},
        "a further description of the pictures beside metadata.jsonl: "
        + "; ".join(f"{format_.name}: {format_.help}" for format_ in FORMATS),
    ),
    "snapshot": ({"type": "string"}, "instead of a filter: the images of this snapshot, as they were then"),
}
IMPORT_WORDS: Words = {"prefix": ({"type": "string"}, "a folder of the repository to put them below")}
_SORT: Words = {"sort": PAGE_WORDS["sort"]}
_TYPES = ("application/zip", "application/x-zip-compressed", "application/octet-stream")


def install(app: Flask, repo: Repository, collection: Collection, config: Config) -> None:
    """Add the routes."""
    views = _Views(repo, collection, config)
    app.add_url_rule("/export", "export", views.export, methods=["GET"])
    app.add_url_rule("/import", "import", views.import_, methods=["POST"])


class _Views:
    """The views of exports and imports over one repository."""

    def __init__(self, repo: Repository, collection: Collection, config: Config) -> None:
        self._repo = repo
        self._collection = collection
        self._snapshots = Snapshots(repo)
        self._defaults = wiring.defaults(config)
        self._base = "/" + config.repository_base_pathname
        self._public_url = config.public_url
        #: where readers get what is listed or signed alone, an export of any size is not theirs
        self._is_counted = config.requests.renders_per_minute > 0
        self._is_for_writers = config.requests.mode in ("presets", "signed")
        self._exports = threading.BoundedSemaphore(_MAX_EXPORTS)
        self._imports = threading.BoundedSemaphore(_MAX_IMPORTS)

    # -- export----------------------------------------------------------------------

    def export(self) -> Reply:
        """``GET /export?FILTER``: a zip of pictures and their records."""
        query = catalogue.read_query((*FILTER_WORDS, *_SORT), (*PICTURE_WORDS, *EXPORT_WORDS))
        recipe_of, formats = self._settle(query.rest), _formats(query.rest)
        unknown = [] if "snapshot" in query.rest else self._unknown_keys(query)
        documents = _start(self._documents(query))
        if request.method == "HEAD":
            return responses.send_zip((), _FILENAME)
        about = About(_title(query), self._images(), partial(temporary, self._repo.policy.spool))
        frozen = "snapshot" in query.rest
        members = Export(self._repo, principal(), recipe_of, about, formats, frozen=frozen).members(documents)
        zipped = stream_zip(members, self._repo.policy.spool)
        reply = _limited(self._exports, lambda: responses.send_zip(zipped, _FILENAME))
        if unknown:
            reply.headers.append((UNKNOWN_KEYS, ", ".join(map(quote, unknown))))
        return reply

    def _unknown_keys(self, query: ParsedQuery) -> list[str]:
        """Return the keys that no record has.

        :raises BadParameter: for one that is probably a misspelt parameter
        """
        unknown = self._collection.unknown_keys(principal(), query.query.paths())
        words = (*PICTURE_WORDS, *EXPORT_WORDS, *FILTER_WORDS)
        for key, nearest in unknown.items():
            problem = unknown_parameter(key, words)
            if nearest in (None, *words) and key not in words and "nearest" in problem.members:
                raise problem
        return list(unknown)

    def _documents(self, query: ParsedQuery) -> Iterator[Document]:
        """Return the records to export: those that match a filter now, or those of a snapshot."""
        if "snapshot" not in query.rest:
            if self._collection.rebuilding(surely=True) is not None:
                raise CatalogueUnavailable("The catalogue is still being made: an export would not be complete.")
            return self._collection.each(principal(), query.query.filter, query.query.order)
        if not query.query.filter.is_empty or query.query.order:
            raise BadParameter("snapshot", "A snapshot is exported whole: neither a filter nor sort goes with it.")
        return self._snapshots.documents(principal(), self._snapshots.get(principal(), query.rest["snapshot"]))

    def _settle(self, parameters: Mapping[str, str]) -> Settled:
        """Return how each picture is rendered.

        :raises BadParameter: for a bad value
        :raises OriginalsNotServed: when the configuration does not allow originals
        """
        if self._is_for_writers:
            authorise(self._repo, Action.WRITE, "")
        recipe_of = settled(parameters, self._defaults)
        is_original = recipe_of(None, "").is_original
        if self._is_counted and not is_original and not has_credentials(principal()):
            raise Unauthenticated("Exports of renditions need credentials here, because renders are counted.")
        if is_original and not self._repo.policy.serve_originals:
            raise OriginalsNotServed(
                "Originals hold positions and names. The configuration allows them with serve_originals: true; "
                "image_repo export, on the command line, always can.",
                parameter="kind",
            )
        return recipe_of

    def _images(self) -> str:
        return (self._public_url or request.host_url).rstrip("/") + self._base

    # -- import ----------------------------------------------------------------------

    def import_(self) -> Reply:
        """``POST /import``: import a zip, and stream a report on each of its members."""
        prefix = catalogue.read_parameters(IMPORT_WORDS).get("prefix", "")
        importer = Importer(self._repo, principal(), prefix)
        authorise(self._repo, Action.WRITE, parse_prefix(prefix))
        return _limited(self._imports, lambda: self._import(importer))

    def _import(self, importer: Importer) -> Reply:
        with ExitStack() as stack:
            upload = stack.enter_context(_receive(self._repo))
            data = _form_data(upload)
            lines = stack.enter_context(temporary(self._repo.policy.spool))
            archive = from_zip(upload.spool.file, upload.spool.size, lines, MAX_MEMBERS)
            items = with_data(archive.items, data) if data else archive.items
            reply = responses.stream_json(_report(importer.run(items)))
            reply.on_close(stack.pop_all().close)
            return reply


def _formats(parameters: Mapping[str, str]) -> tuple[type[FormatWriter], ...]:
    if "format" not in parameters:
        return ()
    formats = tuple(format_ for format_ in FORMATS if format_.name == parameters["format"].lower())
    if not formats:
        names = ", ".join(format_.name for format_ in FORMATS)
        raise BadParameter.expected(f"one of {names} (data.format means the field)", "format", parameters["format"])
    return formats


def _start(documents: Iterator[Document]) -> Iterator[Document]:
    """Read the first document, so that its problem is raised before the response begins."""
    first = list(itertools.islice(documents, 1))
    return itertools.chain(first, documents)


def _title(query: ParsedQuery) -> str:
    if "snapshot" in query.rest:
        return f"snapshot {query.rest['snapshot']}"
    text = "&".join(f"{name}={value}" for name, value in request.args.items(multi=True) if name not in query.rest)
    return text[:_MAX_TITLE_CHARS] or "everything"


def _limited(free: threading.BoundedSemaphore, make: Callable[[], Reply]) -> Reply:
    """Return a response that holds a place until it is sent, or the client is gone.

    :raises Busy: when all places are taken
    """
    if not free.acquire(blocking=False):
        raise Busy("As many exports or imports are running as may.")
    with ExitStack() as stack:
        stack.callback(free.release)
        reply = make()
        reply.on_close(stack.pop_all().close)
        return reply


# -- import ---------------------------------------------------------------------------------


@contextmanager
def _receive(repo: Repository) -> Iterator[uploads.Upload]:
    """Yield the archive that the request brings; it stays open while the report is streamed.

    :raises UnsupportedMediaType: when the request brings something else
    :raises Problem: as :func:`.uploads.receive` says
    """
    if request.mimetype not in ("", *_TYPES, uploads.MULTIPART):
        raise UnsupportedMediaType(f"Expected a zip as {_TYPES[0]}, or a form with it as its only file.")
    with uploads.receive(repo, "a zip", parts=(), beyond_request=True) as upload:
        if not upload.spool.size:
            raise BadBody("Expected a zip as the file of the form, but it is empty.")
        yield upload


def _form_data(upload: uploads.Upload) -> dict[str, Any]:
    """Return the data that a form adds to each image."""
    data = uploads.data_of(upload.fields)
    if not isinstance(data, dict | None):
        raise BadBody("Expected data to be a JSON object, because it is added to the data of each image.")
    return data or {}


def _report(outcomes: Iterable[ImportOutcome]) -> Iterator[str]:
    """Yield ``entries``, each as soon as it is known, and at the end the number of each status."""
    counts: Counter[str] = Counter()
    separator = '{"entries":['
    for outcome in outcomes:
        counts[outcome.status] += 1
        yield separator + json.dumps(outcome.public(), ensure_ascii=True)
        separator = ",\n"
    totals = {status: counts[status] for status in get_args(Status)}
    yield ("" if counts else separator) + "]," + json.dumps(totals)[1:] + "\n"


# -- OpenAPI -------------------------------------------------------------------------------


def paths() -> openapi.Paths:
    """Return the OpenAPI paths of exports and imports."""
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
                "Import such a zip, or any zip of pictures; reports on each entry",
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
