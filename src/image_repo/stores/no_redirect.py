"""HTTP without redirects."""

from __future__ import annotations

import urllib.request
from typing import Any


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: the configuration names the address that is trusted, and they would drop method and body."""

    def redirect_request(self, *_: Any) -> None:
        return None
