"""Parameters that mailers and trackers add to links: they are passed over."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class IgnoredParameters:
    """WSGI middleware that removes parameters from the query string, so that no part of the application sees them.

    :param names: of the parameters; ``*`` stands for any characters
    """

    def __init__(self, inner: WSGIApplication, names: Collection[str]) -> None:
        self._inner = inner
        choices = "|".join(re.escape(name).replace(r"\*", "[^=&]*") for name in names)
        self._ignored = re.compile(rf"(?:^|&)(?:{choices})(?:=[^&]*)?(?=&|$)") if names else None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        query = environ.get("QUERY_STRING")
        if query and self._ignored:
            environ["QUERY_STRING"] = self._ignored.sub("", query).lstrip("&")
        return self._inner(environ, start_response)
