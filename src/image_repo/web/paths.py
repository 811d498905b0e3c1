"""Paths of requests: decoded once, strictly, by nobody but us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from werkzeug.routing import PathConverter

from image_repo.errors import BadName


class AnyPath(PathConverter):
    """Everything behind a prefix, empty parts and a ``/`` at either end included: names are judged in one place."""

    part_isolating = False
    regex = "(?s:.*?)"
    weight = 300


def check_encoding(environ: Mapping[str, Any]) -> None:
    """Refuses a path that is no UTF-8, or that holds steps: each would find another image than is named.

    The path as it was sent is looked at where the server tells it (uWSGI, gunicorn), because
    some servers have put replacement characters, or walked the steps, by now.

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
