"""Errors of the Swift client library, translated into those of a store."""

from __future__ import annotations

from collections.abc import Mapping

from image_repo.errors import StoreUnavailable
from image_repo.stores.base import OutOfDescriptors, StoreSilent
from image_repo.stores.http_errors import Refusal, broken_problem, is_whole

_STATUSES = {
    401: "The store does not take the token that it gave.",
    403: "The user of the repository has no right to do this in the store.",
    404: "The store has no such container.",
    408: "The store waited too long for the bytes.",
    413: "The object is larger than the store allows.",
    422: "The bytes were damaged on their way to the store.",
    429: "The store asks for fewer requests.",
    498: "The store asks for fewer requests.",
    507: "The store is full.",
}


def translated(error: Exception) -> StoreUnavailable:
    """Return the problem for an exception of the library; the exception itself is for the log."""
    status = getattr(error, "http_status", None)
    if not status:
        return broken_problem(error)
    headers: Mapping[str, str] = getattr(error, "http_response_headers", None) or {}
    if not is_whole(headers):
        return StoreUnavailable("The answer of the store was cut off.")
    refusal = Refusal(_STATUSES.get(status, f"The store answered with status {status}."), status)
    retry_after = headers.get("Retry-After", "")
    if retry_after.isascii() and retry_after.isdigit():
        refusal.retry_after = min(int(retry_after), 3600)
    return refusal


def copy_of(error: StoreUnavailable) -> StoreUnavailable:
    """The same trouble for another thread, which needs a traceback of its own."""
    problem = (
        type(error)(error.detail)
        if isinstance(error, StoreSilent | OutOfDescriptors)
        else StoreUnavailable(error.detail)
    )
    problem.retry_after, problem.__cause__ = error.retry_after, error.__cause__
    return problem
