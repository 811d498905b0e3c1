"""The Flask application; ``web/`` alone imports Flask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request

from image_repo.config import Config
from image_repo.observability.tracing import traced
from image_repo.repository.collection import Collection
from image_repo.repository.repository import Repository
from image_repo.web import (
    artifacts,
    auth,
    catalogue,
    dialects,
    docs,
    exchange,
    gallery,
    iiif,
    iiif_auth,
    login,
    oembed,
    openapi,
    ops,
    problem_page,
    problems,
    resumable_uploads,
    snapshots,
)
from image_repo.web.audit import Audit
from image_repo.web.cors import Cors
from image_repo.web.handle import Pictures
from image_repo.web.identity import IDENTIFY, Identify, by_credentials
from image_repo.web.ignored_parameters import IgnoredParameters
from image_repo.web.images import Images, ReadsWithoutFlask
from image_repo.web.paths import AnyPath
from image_repo.web.render_budget import RENDER_BUDGET
from image_repo.web.responses import NOSNIFF, Reply
from image_repo.web.sessions import SessionRules
from image_repo.web.translated_reads import TranslatedReads
from image_repo.web.uploads import UploadRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: of a form beside its files
_MAX_FORM_BYTES, _MAX_FORM_PARTS = 1 << 20, 200
#: what a multipart body may add to the bytes of its file
_MULTIPART_OVERHEAD_BYTES = 2 << 20


class Application(Flask):
    """Flask whose views may return a :class:`.Reply`, and whose errors are problem documents."""

    request_class = UploadRequest

    def make_response(self, rv: Any) -> Response:
        """Convert what a view returns."""
        if not isinstance(rv, Reply):
            return super().make_response(rv)
        # A list, because Werkzeug replaces Content-Length by that of bytes, also for HEAD.
        body = [rv.body] if isinstance(rv.body, bytes) else rv.body
        response = Response(body, rv.status, rv.headers)
        response.call_on_close(rv.close)
        return response

    def send_static_file(self, filename: str) -> Response:
        """Serve a style sheet or a script."""
        response = super().send_static_file(filename)
        response.headers.extend((NOSNIFF,))
        return response


def _respond_to_error(error: Exception) -> Reply:
    reply = problems.respond(error, request.method, request.path)
    return problem_page.for_browsers(reply, request.environ)


def create_app(repo: Repository, config: Config, identify: Identify | None = None) -> Flask:
    """Return the application over a live repository.

    :param identify: returns on whose behalf a request is made; by its credentials where None
    """
    identify = identify or by_credentials(repo, config.repository_base_pathname)
    app = _bare_application(config)
    app.extensions["image_repo"] = repo
    app.extensions[IDENTIFY] = identify
    pictures = Pictures(repo, config)
    app.extensions[RENDER_BUDGET] = pictures.budget
    ops.install(app, repo, config)
    docs.install(app, openapi.install(app, config, *_documented_paths(config)))
    _install_subjects(app, repo, config, pictures)
    cors = Cors(app.wsgi_app, config.cors_origin, config.cors_write_origins, config.public_url)
    inner: WSGIApplication = ReadsWithoutFlask(cors, pictures, identify, "/" + config.repository_base_pathname)
    if repo.authenticator.sessions is not None:
        inner = SessionRules(inner, repo.authenticator, config.public_url)
    if config.access.audit:
        inner = Audit(inner, identify, config.access.audit)
    app.wsgi_app = IgnoredParameters(inner, config.ignored_parameters)  # type: ignore[method-assign]
    if config.telemetry:
        app.wsgi_app = traced(app.wsgi_app)  # type: ignore[method-assign, assignment]
    return app


def _bare_application(config: Config) -> Application:
    """Return an application without routes: its limits, and how it reads paths and reports errors."""
    app = Application("image_repo.web")
    app.config.update(
        MAX_CONTENT_LENGTH=config.server.max_upload + _MULTIPART_OVERHEAD_BYTES,
        MAX_FORM_MEMORY_SIZE=_MAX_FORM_BYTES,
        MAX_FORM_PARTS=_MAX_FORM_PARTS,
    )
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # An empty part of a path is answered with 400, not with a redirect.
    app.url_map.merge_slashes = False
    app.url_map.converters["any_path"] = AnyPath
    app.register_error_handler(Exception, _respond_to_error)
    return app


def _documented_paths(config: Config) -> Iterator[openapi.Paths]:
    """Yield what OpenAPI says of each subject."""
    yield catalogue.paths("/" + config.repository_base_pathname)
    yield dialects.paths(config)
    subjects = (artifacts, auth, exchange, gallery, iiif, iiif_auth, login, oembed, resumable_uploads, snapshots)
    yield from (subject.paths() for subject in subjects)


def _install_subjects(app: Flask, repo: Repository, config: Config, pictures: Pictures) -> None:
    """Add the routes of each subject."""
    collection, reads = Collection(repo), TranslatedReads(repo, pictures, config)
    images = Images(repo, pictures, config)
    images.install(app)
    resumable_uploads.install(app, repo, images, config)
    for paged in (catalogue, gallery, exchange):
        paged.install(app, repo, collection, config)
    iiif.install(app, repo, reads, collection, config)
    dialects.install(app, reads, config)
    login.install(app, repo.authenticator, config)
    for subject in (oembed, artifacts, auth, iiif_auth, snapshots):
        subject.install(app, repo, config)
