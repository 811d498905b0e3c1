"""IIIF manifests of folders, queries, snapshots and single pictures, and the feed of changes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import quote, unquote, urlencode

from flask import request
from werkzeug.exceptions import NotFound

from image_repo.access.control import Action
from image_repo.catalogue.grammar import FILTER_WORDS, Words
from image_repo.catalogue.query import Condition, Filter, Query, SortKey
from image_repo.config import Config
from image_repo.errors import BadParameter, ImageNotFound
from image_repo.exchange.formats.positions import Position, position
from image_repo.iiif import discovery, presentation
from image_repo.iiif.discovery import PAGE_ACTIVITIES
from image_repo.iiif.presentation import MAX_CANVASES, Document
from image_repo.model.names import parse_prefix
from image_repo.model.original import Original
from image_repo.model.parameters import integer
from image_repo.repository.collection import Collection
from image_repo.repository.repository import Repository
from image_repo.repository.snapshots import Snapshots
from image_repo.web import responses
from image_repo.web.catalogue import read_parameters, read_query
from image_repo.web.conditions import ConditionalRequest
from image_repo.web.identity import authorise, is_shared, name_of, principal
from image_repo.web.paths import server_root
from image_repo.web.responses import Reply

_LD_PRESENTATION = f'application/ld+json;profile="{presentation.CONTEXT}"'
_LD_DISCOVERY = f'application/ld+json;profile="{discovery.CONTEXT}"'
#: parameters of manifests beside a filter
_WORDS: Words = {
    "page": ({"type": "integer", "minimum": 1}, f"of a result with more than {MAX_CANVASES} pictures, the page"),
}
_read_page = integer(1, 1_000_000)
#: records with a picture, not descriptions alone
_PICTURES = Filter((Condition(("width",), "gt", (0,)),))
_BY_UPLOAD = (SortKey(("uploaded",)),)


def send_document(
    document: dict[str, Any] | bytes, origin: str | None, ld_type: str, *, is_shared: bool, is_usual: bool = True
) -> Reply:
    """Return a document under its own entity tag.

    :param is_usual: whether JSON-LD is what clients get that accept either: so it is since 3.0, in 2.1 it is JSON
    """
    accept = request.headers.get("Accept", "")
    is_linked = "application/ld+json" in accept or (is_usual and "application/json" not in accept)
    reply = responses.send_tagged(
        ConditionalRequest(request.environ),
        document,
        origin=origin,
        is_shared=is_shared,
        media_type=ld_type if is_linked else "application/json",
    )
    reply.headers.append(("Vary", "Accept"))
    return reply


class Manifests:
    """Answers requests for manifests."""

    def __init__(self, repo: Repository, collection: Collection, config: Config) -> None:
        self._repo = repo
        self._collection = collection
        self._snapshots = Snapshots(repo)
        self._public_url = config.public_url
        self._origin = config.cors_origin
        self._position_of = _position if config.metadata_location else None

    def get(self, parts: Sequence[str]) -> Reply | None:
        """Return what a path below ``/iiif/3/`` that ends in ``manifest.json`` names; None for that of a picture.

        :param parts: of the path, as it was sent
        """
        kind, rest = parts[0], unquote("/".join(parts[1:-1]))
        if kind == "collection":
            prefix = Filter(prefix=parse_prefix(f"{rest}/" if rest else ""))
            return self._of_filter(prefix, rest.rpartition("/")[2] or "all")
        if kind == "query":
            if rest:
                raise NotFound
            return self._of_filter(Filter(), "query")
        return self._of_snapshot(rest) if kind == "snapshot" else None

    def of_picture(self, original: Original) -> Reply:
        """Return the manifest of one picture."""
        grant = authorise(self._repo, Action.READ, name_of(original))
        record = self._repo.reader.record(principal(), original)
        address = f"{presentation.service_of(self.root(), record.name)}/manifest.json"
        return self._manifest(address, record.name.rpartition("/")[2], [record.public()], is_shared=grant.is_shared)

    def _of_filter(self, prefix: Filter, label: str) -> Reply:
        """Return a manifest of all pictures for which the filter of the request holds."""
        query = read_query(FILTER_WORDS, _WORDS)
        self._collection.refuse_unknown_keys(principal(), query.query.filter)
        criteria = query.query.filter & prefix & _PICTURES
        number = _read_page("page", query.rest["page"]) if "page" in query.rest else None
        shared = is_shared(self._repo, Action.LIST, "")
        first = ((number or 1) - 1) * MAX_CANVASES
        page = self._collection.page(principal(), Query(criteria, skip=first, limit=MAX_CANVASES, exact=number is None))
        if number is None and page.count > MAX_CANVASES:
            return self._in_parts(label, page.count, is_shared=shared)
        return self._manifest(self._own_address(), label, page.documents, is_shared=shared)

    def _of_snapshot(self, snapshot_id: str) -> Reply:
        """Return a manifest of the pictures as they were frozen."""
        parameters = read_parameters(_WORDS)
        number = _read_page("page", parameters["page"]) if "page" in parameters else None
        snapshot = self._snapshots.get(principal(), snapshot_id)
        shared = self._snapshots.is_shared(principal(), snapshot)
        if number is None and snapshot.count > MAX_CANVASES:
            return self._in_parts(snapshot.id, snapshot.count, is_shared=shared)
        first = ((number or 1) - 1) * MAX_CANVASES
        with closing(self._snapshots.documents(principal(), snapshot)) as entries:
            documents = [each for each in itertools.islice(entries, first, first + MAX_CANVASES) if each["width"]]
        return self._manifest(self._own_address(), snapshot.id, documents, is_shared=shared, is_frozen=True)

    def _manifest(
        self, address: str, label: str, documents: Sequence[Document], *, is_shared: bool, is_frozen: bool = False
    ) -> Reply:
        if not documents:
            raise ImageNotFound("No picture matches.")
        text = presentation.manifest(address, label, self.root(), documents, self._position_of, is_frozen=is_frozen)
        return send_document(text, self._origin, _LD_PRESENTATION, is_shared=is_shared)

    def _in_parts(self, label: str, count: int, *, is_shared: bool) -> Reply:
        """Return a collection of the manifests that hold a part each."""
        others, path = list(request.args.items(multi=True)), self.root() + quote(request.path)
        last = -(-count // MAX_CANVASES)
        pages: Iterable[str] = (f"{path}?{urlencode([*others, ('page', each)])}" for each in range(1, last + 1))
        document = presentation.collection(self._own_address(), label, pages)
        return send_document(document, self._origin, _LD_PRESENTATION, is_shared=is_shared)

    def changes(self) -> Reply:
        """Return the feed of changes, or a page of it, for harvesters."""
        parameters = read_parameters(_WORDS)
        shared = is_shared(self._repo, Action.LIST, "")
        count = self._collection.count(principal(), _PICTURES)
        address = self.root() + quote(request.path)
        if "page" not in parameters:
            return send_document(discovery.collection(address, count), self._origin, _LD_DISCOVERY, is_shared=shared)
        number = _read_page("page", parameters["page"])
        if number > max(1, -(-count // PAGE_ACTIVITIES)):
            raise BadParameter.expected("a page that there is", "page", parameters["page"])
        query = Query(_PICTURES, _BY_UPLOAD, _SELECTED, skip=(number - 1) * PAGE_ACTIVITIES, limit=PAGE_ACTIVITIES)
        documents = self._collection.page(principal(), query).documents
        page = discovery.page(address, number, count, self.root(), documents)
        return send_document(page, self._origin, _LD_DISCOVERY, is_shared=shared)

    def root(self) -> str:
        """Return the address of this server."""
        return server_root(self._public_url)

    def _own_address(self) -> str:
        """Return the address of this request, with its query."""
        query = request.query_string.decode("latin-1")
        return self.root() + quote(request.path) + (f"?{query}" if query else "")


#: members of a record that an activity needs
_SELECTED = (("name",), ("uploaded",))


def _position(document: Document) -> Position | None:
    data, exif = document.get("data"), document.get("exif")
    return position(data if isinstance(data, dict) else {}, exif if isinstance(exif, dict) else {})
