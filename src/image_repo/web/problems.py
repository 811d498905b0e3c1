"""Errors over HTTP: every one is application/problem+json (RFC 9457), the router's own and the unforeseen included."""

from __future__ import annotations

import inspect
import json
import logging
from html import escape

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, default_exceptions

from image_repo import errors
from image_repo.errors import Problem

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
#: slug → the class that it stands for
KNOWN: dict[str, type[Problem]] = {
    kind.slug: kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Problem)
}
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<h1>{title}</h1><p>Status {status}, type <code>/problems/{slug}</code></p><p>{text}</p>
<p><a href="/problems">All problems</a></p></html>"""


def install(app: Flask) -> None:
    """Answers errors, and serves the pages that explain them."""
    app.register_error_handler(Problem, _answer)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_unforeseen)
    app.add_url_rule("/problems", "problems", _index)
    app.add_url_rule("/problems/<slug>", "problem", _page)


def document(problem: Problem) -> dict[str, object]:
    """The problem as its JSON members, without ``instance``."""
    members: dict[str, object] = {
        "type": f"/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
    }
    if problem.detail:
        members["detail"] = problem.detail
    return {**members, **{name: value for name, value in problem.members.items() if value is not None}}


def _answer(problem: Problem) -> Response:
    if problem.status >= 500 and not isinstance(problem, errors.Busy):  # where many are refused, the log tells of each
        log.warning("%s %s: %s: %s (%r)", request.method, request.path, problem.slug, problem.detail, problem.__cause__)
    response = _respond(document(problem), problem.status, problem.retry_after)
    if problem.challenge:
        response.headers["WWW-Authenticate"] = problem.challenge
    return response


def _answer_http(error: HTTPException) -> Response:
    status = error.code or 500
    members = {"type": f"/problems/{_slug(error)}", "title": error.name, "status": status, "detail": error.description}
    response = _respond(members, status, None)
    for name, value in error.get_headers(request.environ):
        if name.lower() in ("allow", "content-range", "location"):
            response.headers[name] = value
    return response


def _slug(error: HTTPException) -> str:
    return (error.name or "error").lower().replace(" ", "-").replace("'", "")


#: slug → what the router and the parser of bodies refuse by themselves; ours stand before theirs
_OF_HTTP = {_slug(made): made for made in (kind() for kind in default_exceptions.values())}


def _answer_unforeseen(error: Exception) -> Response:
    log.exception("%s %s failed", request.method, request.path, exc_info=error)
    return _respond(document(Problem()), 500, None)


def told(members: dict[str, object], path: str, retry_after: int | None) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of the answer, also for those who answer without Flask.

    :param path: that was asked for; the query stays out of it, as it may hold a signature
    """
    body = json.dumps({**members, "instance": path}, ensure_ascii=False).encode()
    headers = [
        ("Content-Type", MEDIA_TYPE),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Access-Control-Allow-Origin", "*"),
    ]
    if retry_after is not None:
        headers.append(("Retry-After", str(retry_after)))
    return headers, body


def _respond(members: dict[str, object], status: int, retry_after: int | None) -> Response:
    headers, body = told(members, request.path, retry_after)
    response = Response(body, status, headers)
    if request.method == "HEAD":
        response.set_data(b"")
    return response


def _html(text: str, status: int = 200) -> Response:
    response = Response(text, status, mimetype="text/html")
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _index() -> Response:
    items = "".join(
        f'<li><a href="/problems/{slug}">{slug}</a> ({kind.status}): {escape(kind.title)}</li>'
        for slug, kind in sorted(KNOWN.items(), key=lambda item: (item[1].status, item[0]))
    )
    return _html(f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Problems</title><ul>{items}</ul></html>')


def _page(slug: str) -> Response:
    kind, of_http = KNOWN.get(slug), _OF_HTTP.get(slug)
    if kind is None and of_http:
        told = {"title": escape(of_http.name), "status": of_http.code, "text": of_http.description or ""}
        return _html(_PAGE.format(slug=slug, **told))
    if kind is None:
        raise errors.ImageNotFound(f"No problem is called {slug[:40]!r}.")
    # ReST marks of the docstring mean nothing to a reader of the page
    text = escape(inspect.getdoc(kind) or "").replace("``", "")
    return _html(_PAGE.format(title=escape(kind.title), status=kind.status, slug=slug, text=text))
