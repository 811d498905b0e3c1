"""HTTP: a request is parsed once, handed to the repository, and its answer dressed.

The only importer of Flask.
"""

from __future__ import annotations

from flask import Flask

from image_repo.config import Config
from image_repo.observability.tracing import traced
from image_repo.repository.collection import Collection
from image_repo.repository.repository import Repository
from image_repo.web import artifacts, catalogue, exchange, openapi, ops, problems, snapshots
from image_repo.web.images import Images
from image_repo.web.paths import AnyPath
from image_repo.web.plain import Plain
from image_repo.web.uploads import UploadRequest

#: what a form may take in memory beside its files, and of how many parts it may be
_MOST_FORM_BYTES, _MOST_FORM_PARTS = 1 << 20, 200
#: what a multipart body may add to the bytes of its file
_MULTIPART_ROOM = 2 << 20


def create_app(repo: Repository, config: Config) -> Flask:
    """The application over a live repository."""
    app = Flask("image_repo", static_folder=None)
    app.request_class = UploadRequest
    app.config.update(
        MAX_CONTENT_LENGTH=config.server.max_upload + _MULTIPART_ROOM,
        MAX_FORM_MEMORY_SIZE=_MOST_FORM_BYTES,
        MAX_FORM_PARTS=_MOST_FORM_PARTS,
    )
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["image_repo"] = repo
    # An empty part of a path is a mistake to be told, not one to be mended by a redirect.
    app.url_map.merge_slashes = False
    app.url_map.converters["any_path"] = AnyPath
    problems.install(app)
    ops.install(app, repo, config)
    base, collection = "/" + config.repository_base_pathname, Collection(repo)
    more = (part.paths(base) for part in (artifacts, catalogue, exchange, snapshots))
    openapi.install(app, config, *more)
    images = Images(repo, config)
    images.install(app)
    catalogue.install(app, collection, config)
    artifacts.install(app, repo, config)
    exchange.install(app, repo, collection, config)
    snapshots.install(app, repo, config)
    app.wsgi_app = Plain(app.wsgi_app, images.plain)  # type: ignore[method-assign]
    if config.telemetry:
        app.wsgi_app = traced(app.wsgi_app)  # type: ignore[method-assign, assignment]
    return app
