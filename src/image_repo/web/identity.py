"""On whose behalf a request is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import current_app, request

from image_repo.access.control import Action, Grant
from image_repo.access.principal import ANONYMOUS, Principal
from image_repo.repository.repository import Repository
from image_repo.web.client_address import is_local

#: returns the principal of a request, from its WSGI environment
Identify = Callable[[Mapping[str, Any]], Principal]
#: of the application's extensions
IDENTIFY = "image_repo.identify"


def anonymous(_: Mapping[str, Any]) -> Principal:
    """Return the anonymous principal for every request."""
    return ANONYMOUS


def by_credentials(repo: Repository) -> Identify:
    """Return what identifies the callers of a repository by their credentials.

    Pass the same to the application and to the fast path.
    """
    authenticate = repo.authenticator.principal

    def identify(environ: Mapping[str, Any]) -> Principal:
        return authenticate(environ.get("HTTP_AUTHORIZATION"))

    return identify


def principal() -> Principal:
    """Return the principal of the request that Flask is handling.

    :raises InvalidToken, ProviderUnavailable: when its token is not accepted, or cannot be verified
    """
    identify: Identify = current_app.extensions[IDENTIFY]
    return identify(request.environ)


def authorise(repo: Repository, action: Action, target: str) -> Grant:
    """Return the grant of the caller. Called before the body of a request is read.

    :raises Problem: when the action is refused
    """
    return repo.access.authorise(principal(), action, target)


def is_shared(repo: Repository, action: Action, target: str) -> bool:
    """Return whether every caller gets the same answer, so that shared caches may store it.

    :raises Problem: when the action is refused
    """
    return authorise(repo, action, target).is_shared


def check_operator(repo: Repository) -> None:
    """Accept administrators, callers on this machine unless a proxy passed them on, and all where all may write.

    :raises Problem: for all others
    """
    is_open = repo.access.allows(ANONYMOUS, Action.DELETE, "")
    if not is_open and not is_local(request.environ):
        authorise(repo, Action.ADMINISTER, "")
