"""On whose behalf a request is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import current_app, request

from image_repo.access.principal import ANONYMOUS, Principal

#: returns the principal of a request, from its WSGI environment
Identify = Callable[[Mapping[str, Any]], Principal]
#: of the application's extensions
IDENTIFY = "image_repo.identify"


def anonymous(_: Mapping[str, Any]) -> Principal:
    """Identify everybody as nobody in particular."""
    return ANONYMOUS


def principal() -> Principal:
    """Return the principal of the request that Flask is handling."""
    identify: Identify = current_app.extensions[IDENTIFY]
    return identify(request.environ)
