"""Problem documents: every error over HTTP is application/problem+json (RFC 9457)."""

from __future__ import annotations

import inspect
import logging

from werkzeug.exceptions import HTTPException, default_exceptions

from image_repo import errors
from image_repo.errors import Problem
from image_repo.web.responses import NOSNIFF, Reply, allow_origin, to_json

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
#: slug → class of each problem
KNOWN: dict[str, type[Problem]] = {
    kind.slug: kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Problem)
}
#: headers of Werkzeug's exceptions that its responses keep
_KEPT_HEADERS = ("allow", "content-range", "location")


def document(problem: Problem) -> dict[str, object]:
    """Return the problem as its JSON members, without ``instance``."""
    members: dict[str, object] = {
        "type": f"/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
    }
    if problem.detail:
        members["detail"] = problem.detail
    return {**members, **{name: value for name, value in problem.members.items() if value is not None}}


def slug_of(error: HTTPException) -> str:
    """Return the slug of an exception that Werkzeug raises by itself."""
    return (error.name or "error").lower().replace(" ", "-").replace("'", "")


#: slug → exception that the router and the parser of bodies raise by themselves; ours take precedence
OF_WERKZEUG = {slug_of(error): error for error in (kind() for kind in default_exceptions.values())}


def respond(error: Exception, method: str, path: str) -> Reply:
    """Return the response to any exception, and log what an operator has to know.

    :param path: of the request; without the query, which may hold a signature
    """
    if isinstance(error, HTTPException):
        return _respond_to_werkzeug(error, path)
    if not isinstance(error, Problem):
        log.error("%s %s failed", method, path, exc_info=error)
        error = Problem()
    elif error.status >= 500 and not isinstance(error, errors.Busy):  # a refused crowd would flood the log
        log.warning("%s %s: %s: %s (%r)", method, path, error.slug, error.detail, error.__cause__)
    reply = _reply(document(error), error.status, path)
    if error.retry_after is not None:
        reply.headers.append(("Retry-After", str(error.retry_after)))
    if error.challenge is not None:
        reply.headers.append(("WWW-Authenticate", error.challenge))
    reply.headers.extend(error.headers)
    return reply


def _respond_to_werkzeug(error: HTTPException, path: str) -> Reply:
    status = error.code or 500
    members = {"type": f"/problems/{slug_of(error)}", "title": error.name, "status": status}
    reply = _reply({**members, "detail": error.description}, status, path)
    reply.headers.extend(header for header in error.get_headers({}) if header[0].lower() in _KEPT_HEADERS)
    return reply


def _reply(members: dict[str, object], status: int, path: str) -> Reply:
    body = to_json({**members, "instance": path}).encode()
    headers = [
        ("Content-Type", MEDIA_TYPE),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        NOSNIFF,
        *allow_origin("*"),
    ]
    return Reply(status, headers, body)
