"""Pages for people: ``/docs`` and ``/problems``."""

from __future__ import annotations

import inspect
from typing import Any

from flask import Flask, Response, render_template

from image_repo.errors import ImageNotFound
from image_repo.web import problems
from image_repo.web.responses import NOSNIFF

_METHODS = ("get", "put", "post", "patch", "delete")
_POLICY = "default-src 'none'; img-src 'self'; style-src 'self'"
#: Swagger UI: its scripts, icons in its style sheet, and the requests that people try
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def install(app: Flask, document: dict[str, Any]) -> None:
    """Add the routes.

    :param document: of OpenAPI
    """
    app.add_url_rule("/docs", "docs", lambda: _docs(document))
    app.add_url_rule("/problems", "problems", _problems)
    app.add_url_rule("/problems/<slug>", "problem", _problem)


def _problems() -> Response:
    known = sorted(problems.KNOWN.values(), key=lambda kind: (kind.status, kind.slug))
    return _page("problems.html", problems=known)


def _problem(slug: str) -> Response:
    kind, of_werkzeug = problems.KNOWN.get(slug), problems.OF_WERKZEUG.get(slug)
    if kind:
        # the marks of reStructuredText mean nothing to a reader of the page
        text = (inspect.getdoc(kind) or "").replace("``", "")
        return _page("problem.html", title=kind.title, status=kind.status, slug=slug, text=text)
    if of_werkzeug:
        text = of_werkzeug.description or ""
        return _page("problem.html", title=of_werkzeug.name, status=of_werkzeug.code, slug=slug, text=text)
    raise ImageNotFound(f"No problem is called {slug[:40]!r}.")


def _docs(document: dict[str, Any]) -> Response:
    return _page("docs.html", _DOCS_POLICY, document=document, methods=_METHODS)


def _page(template: str, policy: str = _POLICY, **values: Any) -> Response:
    headers = [("Content-Security-Policy", policy), NOSNIFF]
    return Response(render_template(template, **values), mimetype="text/html", headers=headers)
