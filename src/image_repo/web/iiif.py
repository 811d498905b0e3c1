"""``/iiif``: the Image API, an adapter of :meth:`.Pictures.handle`, and manifests from the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote, urlencode

from flask import Flask, request
from werkzeug.exceptions import NotFound
from werkzeug.wsgi import get_current_url

from image_repo import wiring
from image_repo.access.control import Action
from image_repo.catalogue.grammar import FILTER_WORDS, Words
from image_repo.catalogue.query import Filter, Query
from image_repo.config import Config
from image_repo.errors import BadName, BadRequest, ImageNotFound
from image_repo.iiif import image_api, presentation
from image_repo.iiif.image_api import Dialect, Size
from image_repo.iiif.presentation import MAX_CANVASES
from image_repo.model.names import parse_prefix
from image_repo.model.original import Original
from image_repo.model.parameters import integer
from image_repo.model.recipe import listed_sizes
from image_repo.repository.collection import Collection
from image_repo.repository.repository import Repository
from image_repo.web import openapi, responses
from image_repo.web.catalogue import read_query
from image_repo.web.conditions import ConditionalRequest
from image_repo.web.identity import authorise, is_shared, principal
from image_repo.web.paths import check_encoding, path_as_sent
from image_repo.web.responses import Reply
from image_repo.web.translated_reads import TranslatedReads

_LD_IMAGE = 'application/ld+json;profile="http://iiif.io/api/image/{}/context.json"'
_LD_PRESENTATION = f'application/ld+json;profile="{presentation.CONTEXT}"'
#: parameters of manifests beside a filter
_MANIFEST_WORDS: Words = {
    "page": ({"type": "integer", "minimum": 1}, f"of a result with more than {MAX_CANVASES} pictures, the page"),
}
_read_page = integer(1, 1_000_000)
#: parts of a path behind the identifier: region, size, rotation, quality and format
_PARTS = 4


def install(app: Flask, repo: Repository, reads: TranslatedReads, collection: Collection, config: Config) -> None:
    """Add the routes."""
    views = _Views(repo, reads, collection, config)
    app.add_url_rule("/iiif/<any_path:path>", "iiif", views.get, methods=["GET"])


class _Views:
    """The views of ``/iiif``."""

    def __init__(self, repo: Repository, reads: TranslatedReads, collection: Collection, config: Config) -> None:
        self._repo = repo
        self._collection = collection
        self._reads = reads
        self._public_url = config.public_url
        self._origin = config.cors_origin
        self._mode = config.requests.mode
        self._steps = wiring.defaults(config).steps

    def get(self, path: str) -> Reply:
        """``GET /iiif/3/ID/info.json``, ``…/ID/REGION/SIZE/ROTATION/QUALITY.FORMAT``, or the base URI."""
        check_encoding(request.environ)
        version, *parts = path_as_sent(request.environ, "/iiif/", path).split("/")
        if version not in ("2", "3") or not parts:
            raise NotFound
        dialect: Dialect = 3 if version == "3" else 2
        if dialect == 3 and parts[-1] == "manifest.json" and parts[0] in ("collection", "query"):
            return self._manifest(parts[0], unquote("/".join(parts[1:-1])))
        if parts[-1] == "info.json" and len(parts) > 1:
            return self._info(_identifier(parts[:-1]), dialect)
        if len(parts) > _PARTS:
            return self._image(_identifier(parts[:-_PARTS]), [unquote(part) for part in parts[-_PARTS:]], dialect)
        original = self._reads.resolve(_identifier(parts))
        location = f"{self._service(original, dialect)}/info.json"
        return Reply(303, [("Location", location), ("Content-Length", "0"), *responses.allow_origin(self._origin)])

    def _image(self, identifier: str, parts: Sequence[str], dialect: Dialect) -> Reply:
        original = self._reads.resolve(identifier)
        size = self._reads.size(original)
        image_request, listed = image_api.read_request(parts, size, dialect), self._listed(size)
        is_listed = listed is not None and image_request.is_offered(listed)
        if listed is not None and not is_listed and self._mode != "signed":
            raise BadRequest("The configuration allows the sizes and tiles that info.json lists, as default.jpg.")
        reply = self._reads.handle(original, image_request.parameters(), is_listed=is_listed)
        # Relative, because a response is repeated under any name of this host.
        base = presentation.service_of(request.script_root, original.name.text, dialect)
        reply.headers.append(("Link", image_api.link_header(base, image_request, dialect)))
        return reply

    def _info(self, identifier: str, dialect: Dialect) -> Reply:
        original = self._reads.resolve(identifier)
        grant = authorise(self._repo, Action.READ, original.name.text)
        record = self._repo.reader.record(principal(), original)
        size = record.width, record.height
        most = grant.limits.max_width if grant.limits else None
        listed = self._listed(size)
        document = image_api.info(
            self._service(original, dialect),
            size,
            dialect,
            rights=presentation.rights_of(record.data),
            listed=listed,
            max_width=most,
        )
        return self._document(document, grant.is_shared, _LD_IMAGE.format(dialect), is_usual=dialect == 3)

    def _document(self, document: dict[str, Any], is_shared: bool, ld_type: str, *, is_usual: bool = True) -> Reply:
        """Return a document under its own entity tag.

        :param is_usual: whether JSON-LD is what clients get that accept either: so it is since 3.0, in 2.1 it is JSON
        """
        accept = request.headers.get("Accept", "")
        is_linked = "application/ld+json" in accept or (is_usual and "application/json" not in accept)
        reply = responses.send_tagged(
            ConditionalRequest(request.environ),
            document,
            origin=self._origin,
            is_shared=is_shared,
            media_type=ld_type if is_linked else "application/json",
        )
        reply.headers.append(("Vary", "Accept"))
        return reply

    def _manifest(self, kind: str, folder: str) -> Reply:
        """Return a manifest of all pictures below a folder, or of those that a query finds."""
        query = read_query(FILTER_WORDS, _MANIFEST_WORDS)
        criteria, label = query.query.filter, "query"
        if kind == "collection":
            prefix = f"{folder}/" if folder else ""
            criteria, label = criteria & Filter(prefix=parse_prefix(prefix)), folder.rpartition("/")[2] or "all"
        elif folder:
            raise NotFound
        self._collection.refuse_unknown_keys(principal(), criteria)
        number = _read_page("page", query.rest["page"]) if "page" in query.rest else None
        address = self._root() + quote(request.path)
        shared = is_shared(self._repo, Action.LIST, "")
        count = self._collection.count(principal(), criteria)
        if number is None and count > MAX_CANVASES:
            others = list(request.args.items(multi=True))
            last = -(-count // MAX_CANVASES)
            pages = (f"{address}?{urlencode([*others, ('page', each)])}" for each in range(1, last + 1))
            parts = presentation.collection(self._own_address(address), label, pages)
            return self._document(parts, shared, _LD_PRESENTATION)
        page = Query(criteria, skip=((number or 1) - 1) * MAX_CANVASES, limit=MAX_CANVASES)
        pictures = [each for each in self._collection.page(principal(), page).documents if each["width"]]
        if not pictures:
            raise ImageNotFound("No picture matches.", name=folder)
        document = presentation.manifest(self._own_address(address), label, self._root(), pictures)
        return self._document(document, shared, _LD_PRESENTATION)

    def _own_address(self, address: str) -> str:
        """Return the address of this request, with its query."""
        query = request.query_string.decode("latin-1")
        return f"{address}?{query}" if query else address

    def _listed(self, size: Size) -> list[Size] | None:
        """Return the sizes of the whole picture that may be requested; None for any."""
        return None if self._mode == "any" else listed_sizes(*size, self._steps)

    def _service(self, original: Original, dialect: Dialect) -> str:
        """Return the absolute address of an image service."""
        return presentation.service_of(self._root(), original.name.text, dialect)

    def _root(self) -> str:
        root = self._public_url or get_current_url(request.environ, root_only=True)
        return root.rstrip("/")


def _identifier(parts: Sequence[str]) -> str:
    """Return the name of an image; parts that were not encoded are joined."""
    text = unquote("/".join(parts))
    if not text or text.endswith("/"):
        raise BadName("Expected the identifier of an image, with each / as %2F.")
    return text


def paths() -> openapi.Paths:
    """Return the OpenAPI path of the Image API."""
    text = (
        "3/ID/info.json, 3/ID/REGION/SIZE/ROTATION/QUALITY.FORMAT (IIIF Image API 3.0), the same under 2/ (2.1.1), or "
        "3/ID alone, which leads to info.json; each / of a name is %2F in its ID. Manifests (Presentation API 3.0): "
        "3/collection/FOLDER/manifest.json, and 3/query/manifest.json with a filter as for /images"
    )
    content = {"image/*": {}, "application/json": {"schema": {"type": "object"}}}
    return {
        "/iiif/{path}": {
            "parameters": [openapi.in_path("path", text)],
            "get": openapi.operation("A picture, or its image service, by the IIIF Image API", [], content),
        }
    }
