"""On whose behalf a request is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import current_app, request

from image_repo.access.control import Action
from image_repo.access.principal import ANONYMOUS, Principal
from image_repo.repository.repository import Repository

#: returns the principal of a request, from its WSGI environment
Identify = Callable[[Mapping[str, Any]], Principal]
#: of the application's extensions
IDENTIFY = "image_repo.identify"


def anonymous(_: Mapping[str, Any]) -> Principal:
    """Return the anonymous principal for every request."""
    return ANONYMOUS


def principal() -> Principal:
    """Return the principal of the request that Flask is handling."""
    identify: Identify = current_app.extensions[IDENTIFY]
    return identify(request.environ)


def is_shared(repo: Repository, action: Action, target: str) -> bool:
    """Return whether every caller gets the same answer, so that shared caches may store it.

    :raises Problem: when the action is refused
    """
    return repo.access.authorise(principal(), action, target).is_shared
