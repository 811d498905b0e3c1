"""Problems as pages, for people whose browser leads them to one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from image_repo.web.responses import Reply

_POLICY = "default-src 'none'; img-src 'self'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"
#: not Flask's: reads of pictures are refused before it
_TEMPLATES = Environment(loader=PackageLoader("image_repo.web"), autoescape=True)
#: what a program gets, and a browser that asks for nothing better
_JSON = ("application/problem+json", "application/json")
_HTML = "text/html"
_REPLACED = ("Content-Type", "Content-Length")


def prefers_page(environ: Mapping[str, Any]) -> bool:
    """Return whether the client prefers HTML to JSON, as browsers do where people go (RFC 9110, section 12.5.1)."""
    accept = environ.get("HTTP_ACCEPT", "")
    return _HTML in accept and parse_accept_header(accept, MIMEAccept).best_match((*_JSON, _HTML)) == _HTML


def for_browsers(reply: Reply, environ: Mapping[str, Any]) -> Reply:
    """Return a problem as a page where the client prefers one, else as it is.

    :param reply: a problem document (RFC 9457)
    """
    if not prefers_page(environ) or not isinstance(reply.body, bytes):
        return reply
    problem = json.loads(reply.body)
    page = _TEMPLATES.get_template("refused.html").render(problem=problem, root=environ.get("SCRIPT_NAME", ""))
    body = page.encode()
    headers = [header for header in reply.headers if header[0] not in _REPLACED]
    about = [("Content-Type", f"{_HTML}; charset=utf-8"), ("Content-Length", str(len(body)))]
    return Reply(reply.status, [*headers, *about, ("Content-Security-Policy", _POLICY)], body)
