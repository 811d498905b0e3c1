"""Paths of requests, decoded once and strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from flask import request
from werkzeug.routing import PathConverter
from werkzeug.wsgi import get_current_url

from image_repo.errors import BadName


class AnyPath(PathConverter):
    """Everything behind a prefix, with empty parts and a ``/`` at either end: names are checked in one place."""

    part_isolating = False
    regex = "(?s:.*?)"
    weight = 300


def server_root(public_url: str | None) -> str:
    """Return the address of this server without a slash at its end: the configured one, or that of this request."""
    return (public_url or get_current_url(request.environ, root_only=True)).rstrip("/")


def check_encoding(environ: Mapping[str, Any]) -> None:
    """Refuse a path that is not UTF-8, or has dot segments: each would find another image than it names.

    This checks the path as it was sent where the server passes it on (uWSGI, gunicorn). Some servers have put
    replacement characters, or resolved the segments, in PATH_INFO.

    :raises BadName: for such a path
    """
    sent = environ.get("REQUEST_URI") or environ.get("RAW_URI") or ""
    try:
        environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8")
        path = unquote_to_bytes(sent.partition("?")[0].encode("latin-1")).decode("utf-8")
    except UnicodeError as error:
        raise BadName("The path is not UTF-8.") from error
    if not {".", ".."}.isdisjoint(path.split("/")):
        raise BadName("No part of a name may be '.' or '..'.")


def path_as_sent(environ: Mapping[str, Any], prefix: str, path: str) -> str:
    """Return the path behind a prefix, percent-encoded as the client sent it: ``%2F`` is no separator there.

    :param prefix: with a ``/`` at either end
    :param path: what Flask has decoded, for servers that pass on no path as it was sent
    """
    sent: str = environ.get("REQUEST_URI") or environ.get("RAW_URI") or ""
    return sent.partition("?")[0].partition(prefix)[2] or quote(path)
