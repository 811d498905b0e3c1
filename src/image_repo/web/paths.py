"""Paths of requests: decoded once, strictly, by nobody but us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from werkzeug.routing import PathConverter

from image_repo.errors import BadName


class AnyPath(PathConverter):
    """Everything behind a prefix, empty parts and a ``/`` at either end included: names are judged in one place."""

    part_isolating = False
    regex = ".*?"
    weight = 300


def check_encoding(environ: Mapping[str, Any]) -> None:
    """Refuses a path that is no UTF-8; Werkzeug would put replacement characters, and find another image.

    :raises BadName: for such a path
    """
    try:
        environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8")
    except UnicodeError as error:
        raise BadName("The path is not UTF-8.") from error
