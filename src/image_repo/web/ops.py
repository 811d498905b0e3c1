"""For operators and temporary links: health, readiness, metrics, ``/temp/…``."""

from __future__ import annotations

from contextlib import ExitStack

from flask import Flask, request

from image_repo import __version__
from image_repo.config import Config
from image_repo.errors import LinkRefused, Problem
from image_repo.model.parameters import read_boolean
from image_repo.observability import metrics
from image_repo.repository.repository import Repository
from image_repo.web import responses
from image_repo.web.conditions import ConditionalRequest
from image_repo.web.health import Health
from image_repo.web.identity import check_operator
from image_repo.web.paths import check_encoding
from image_repo.web.responses import NOSNIFF, Reply

#: of the name in a temporary URL: the longest name of an image, and an ending
_MAX_LINK_NAME_CHARS = 720
#: paths of liveness probes
ALIVE = ("/health", "/healthz", "/livez")


def install(app: Flask, repo: Repository, config: Config) -> None:
    """Add the routes."""

    def temp(path: str) -> Reply:
        return _temporary(repo, path, config.cors_origin)

    app.add_url_rule("/temp/<any_path:path>", "temp", temp)
    for path in ALIVE:
        app.add_url_rule(path, path[1:], lambda: _alive(repo))
    health = Health(repo, config)
    app.add_url_rule("/readyz", "readyz", lambda: _ready(repo, health))
    app.add_url_rule("/metrics", "metrics", lambda: _metrics(repo, health))


def _alive(repo: Repository) -> Reply:
    """Return 200; with ``?verbose`` the version as well."""
    return responses.send_json({"ok": True, **({"version": __version__} if _is_verbose(repo) else {})})


def _is_verbose(repo: Repository) -> bool:
    """Return whether details are asked for.

    :raises Unauthenticated, Forbidden: when the caller may not have them
    """
    text = request.args.get("verbose")
    is_verbose = text is not None and (text == "" or read_boolean("verbose", text))
    if is_verbose:
        check_operator(repo)
    return is_verbose


def _ready(repo: Repository, health: Health) -> Reply:
    """Return 200 when each part is well, else 503; with ``?verbose`` the state of each, and what is passed over."""
    parts = health.parts()
    ok = all(state == "ok" for state in parts.values())
    details = {"parts": parts, "passed_over": health.passed_over()} if _is_verbose(repo) else {}
    return responses.send_json({"ok": ok, **details}, 200 if ok else 503)


def _metrics(repo: Repository, health: Health) -> Reply:
    """Return the metrics of this node in the format of Prometheus."""
    check_operator(repo)
    headers = [("Content-Type", metrics.MEDIA_TYPE), ("Cache-Control", "no-store"), NOSNIFF]
    return Reply(200, headers, repo.counters.text(health.gauges()).encode())


def _temporary(repo: Repository, key: str, origin: str | None) -> Reply:
    """Serve a temporary URL in Swift's scheme, where the store cannot do it itself."""
    check_encoding(request.environ)
    given, expires = request.args.get("temp_url_sig"), request.args.get("temp_url_expires")
    if not given or not expires:
        raise LinkRefused("Expected temp_url_sig and temp_url_expires.")
    try:
        target = repo.links.open(key, given, expires)
    except Problem as problem:
        problem.members.pop("name", None)  # a refused caller learns nothing of what there is
        raise
    conditions = ConditionalRequest(request.environ)
    with ExitStack() as stack:
        stack.callback(target.file.close)
        filename = request.args.get("filename") or key.rpartition("/")[2]
        head = responses.ResponseHead(
            media_type=target.media_type,
            etag=target.etag,
            modified=target.modified,
            filename=responses.safe_filename("filename", filename, forbidden="/\\", max_chars=_MAX_LINK_NAME_CHARS),
            attachment="inline" not in request.args,
            cache_control="private, no-cache",
            origin=origin,
        )
        unchanged = responses.not_modified(conditions, head)
        return unchanged or responses.send_file(conditions, head, target.file, target.size, stack)
    raise AssertionError
