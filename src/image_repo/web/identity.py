"""On whose behalf a request is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from flask import current_app, request

from image_repo.access.authenticator import Authenticator
from image_repo.access.control import Action, Grant, image_not_found
from image_repo.access.principal import ANONYMOUS, Principal
from image_repo.access.share_links import ShareLinks
from image_repo.access.shared_queries import signed_text
from image_repo.model.original import Original
from image_repo.model.parameters import is_boolean
from image_repo.repository.repository import Repository
from image_repo.web.client_address import is_local
from image_repo.web.sessions import SESSION_COOKIE, session_of

#: returns the principal of a request, from its WSGI environment
Identify = Callable[[Mapping[str, Any]], Principal]
#: of the application's extensions
IDENTIFY = "image_repo.identify"


def anonymous(_: Mapping[str, Any]) -> Principal:
    """Return the anonymous principal for every request."""
    return ANONYMOUS


def by_credentials(repo: Repository, base: str = "images") -> Identify:
    """Return what identifies the callers of a repository by their credentials, a session, or a share link.

    Pass the same to the application and to the fast path.

    :param base: what the paths of images begin with
    """
    return identify_by(repo.authenticator, base)


def identify_by(authenticator: Authenticator, base: str = "images") -> Identify:
    """Return what identifies callers by an authenticator."""
    collection = f"/{base}"
    authenticate, shares = authenticator.principal, authenticator.shares

    def identify(environ: Mapping[str, Any]) -> Principal:
        if "share=" in environ.get("QUERY_STRING", "") and environ.get("PATH_INFO", "").startswith(collection):
            shared = _shared(shares, environ, collection)
            if shared is not None:
                return shared
        authorization = environ.get("HTTP_AUTHORIZATION")
        caller = ANONYMOUS if authorization is None else authenticate(authorization)
        return session_of(authenticator, environ) if caller is ANONYMOUS and "HTTP_COOKIE" in environ else caller

    return identify


def may_take_time(environ: Mapping[str, Any]) -> bool:
    """Return whether a request has credentials, for which a store or an identity provider may have to be asked."""
    return (
        "HTTP_AUTHORIZATION" in environ
        or SESSION_COOKIE in environ.get("HTTP_COOKIE", "")
        or "share=" in environ.get("QUERY_STRING", "")
    )


def _shared(shares: ShareLinks, environ: Mapping[str, Any], collection: str) -> Principal | None:
    """Return who may read what a share link is for; None without a link. True and False ask for one.

    :param collection: the path of the collection
    """
    pairs = parse_qsl(environ["QUERY_STRING"], keep_blank_values=True)
    values = [value for name, value in pairs if name == "share"]
    if len(values) != 1 or is_boolean(values[0]):
        return None
    path = environ["PATH_INFO"].removeprefix(collection).encode("latin-1").decode(errors="replace")
    if path.startswith("/"):
        return shares.principal(path[1:], values[0])
    owners = (value for name, value in pairs if name == "owner")
    return None if path else shares.query_principal(signed_text(pairs), values[0], owners)


def principal() -> Principal:
    """Return the principal of the request that Flask is handling.

    :raises InvalidToken, ProviderUnavailable: when its token is not accepted, or cannot be verified
    """
    identify: Identify = current_app.extensions[IDENTIFY]
    return identify(request.environ)


def has_credentials(caller: Principal) -> bool:
    """Return whether a caller has credentials of its own, not a share link."""
    return not caller.is_anonymous and caller.shared is None


def name_of(original: Original) -> str:
    """Return the name of an image as the caller uses it."""
    return principal().relative(original.name.text)


def authorise(repo: Repository, action: Action, target: str) -> Grant:
    """Return the grant of the caller. Called before the body of a request is read.

    :param target: as :meth:`~image_repo.access.control.Rules.decide` takes it, but under the caller's own name
    :raises Problem: when the action is refused
    """
    caller = principal()
    return repo.access.authorise(caller, action, caller.qualify_target(target), lambda _: image_not_found(target))


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
