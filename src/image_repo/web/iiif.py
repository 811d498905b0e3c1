"""``/iiif``: the Image API, an adapter of :meth:`.Pictures.handle`, and manifests from the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from flask import Flask, request
from werkzeug.exceptions import NotFound

from image_repo import wiring
from image_repo.access.control import Action, Grant
from image_repo.access.principal import ADMIN
from image_repo.access.rules import PRIVATE
from image_repo.config import Config
from image_repo.errors import BadName, BadRequest, InvalidToken, Unauthenticated
from image_repo.iiif import auth, image_api, presentation
from image_repo.iiif.image_api import Dialect, Size
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.recipe import listed_sizes
from image_repo.model.record import Record
from image_repo.repository.collection import Collection
from image_repo.repository.repository import Repository
from image_repo.web import iiif_auth, openapi, responses
from image_repo.web.identity import authorise, name_of, principal
from image_repo.web.manifests import Manifests, send_document
from image_repo.web.paths import check_encoding, path_as_sent
from image_repo.web.responses import Reply
from image_repo.web.translated_reads import TranslatedReads

_LD_IMAGE = 'application/ld+json;profile="http://iiif.io/api/image/{}/context.json"'
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
        self._config = config
        self._manifests = Manifests(repo, collection, config)
        self._reads = reads
        self._origin = config.cors_origin
        self._mode = config.requests.mode
        self._steps = wiring.defaults(config).steps
        self._signer = wiring.request_signer(config)

    def get(self, path: str) -> Reply:
        """``GET /iiif/3/ID/info.json``, ``…/ID/REGION/SIZE/ROTATION/QUALITY.FORMAT``, or the base URI."""
        check_encoding(request.environ)
        if path == "discovery/1/changes.json":
            return self._manifests.changes()
        version, *parts = path_as_sent(request.environ, "/iiif/", path).split("/")
        if version not in ("2", "3") or not parts:
            raise NotFound
        dialect: Dialect = 3 if version == "3" else 2
        if dialect == 3 and parts[-1] == "manifest.json" and len(parts) > 1:
            reply = self._manifests.get(parts)
            return reply or self._manifests.of_picture(self._reads.resolve(_identifier(parts[:-1])))
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
        signatures = request.args.getlist("signature") if is_listed else []
        is_signed = any(map(self._signer.accepts_tiles, signatures))
        reply = self._reads.handle(original, image_request.parameters(), is_listed=is_listed, is_signed=is_signed)
        # Relative, because a response is repeated under any name of this host.
        base = presentation.service_of(request.script_root, name_of(original), dialect)
        reply.headers.append(("Link", image_api.link_header(base, image_request, dialect)))
        return reply

    def _info(self, identifier: str, dialect: Dialect) -> Reply:
        original, record, grant = self._described(identifier)
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
        services = [] if grant.is_shared else iiif_auth.services(self._repo, self._config, name_of(original))
        document = auth.declare(document, services) if services else document
        ld_type = _LD_IMAGE.format(dialect)
        return send_document(document, self._origin, ld_type, is_shared=grant.is_shared, is_usual=dialect == 3)

    def _described(self, identifier: str) -> tuple[Original, Record, Grant]:
        """Return an image, its record, and what the caller may.

        Where the configuration says so, everybody learns size and services of a closed one: viewers have no cookies
        before they know where to log in.
        """
        try:
            original = self._reads.resolve(identifier)
            grant = authorise(self._repo, Action.READ, name_of(original))
            return original, self._repo.reader.record(principal(), original), grant
        except Unauthenticated as error:
            is_told = self._config.access.iiif_info and not isinstance(error, InvalidToken)
            if not is_told or not principal().is_anonymous:
                raise
        original = self._repo.reader.resolve(ADMIN, ImageName.readings(identifier))
        return original, self._repo.reader.record(ADMIN, original), PRIVATE

    def _listed(self, size: Size) -> list[Size] | None:
        """Return the sizes of the whole picture that may be requested; None for any."""
        return None if self._mode == "any" else listed_sizes(*size, self._steps)

    def _service(self, original: Original, dialect: Dialect) -> str:
        """Return the absolute address of an image service."""
        return presentation.service_of(self._manifests.root(), name_of(original), dialect)


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
        "3/collection/FOLDER/manifest.json, 3/query/manifest.json with a filter as for /images, "
        "3/snapshot/SNAPSHOT/manifest.json, 3/ID/manifest.json; changes (Change Discovery API 1.0): "
        "discovery/1/changes.json"
    )
    content = {"image/*": {}, "application/json": {"schema": {"type": "object"}}}
    return {
        "/iiif/{path}": {
            "parameters": [openapi.in_path("path", text)],
            "get": openapi.operation("A picture, or its image service, by the IIIF Image API", [], content),
        }
    }
