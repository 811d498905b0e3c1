"""Trouble on the way to a store that speaks HTTP, whatever the client library calls it."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping
from typing import TypeVar

from urllib3.exceptions import HTTPError

from image_repo.errors import StoreUnavailable
from image_repo.stores.base import OutOfDescriptors, StoreSilent

T = TypeVar("T")

#: what a call may meet below HTTP: ``requests`` raises OSErrors, and reading a body urllib3's own
BROKEN = (OSError, HTTPError, http.client.HTTPException)


class Refusal(StoreUnavailable):
    """An answer that some calls expect; for all others it is trouble.

    :param status: of HTTP
    """

    def __init__(self, detail: str, status: int) -> None:
        super().__init__(detail)
        self.http_status = status


def broken_problem(error: BaseException) -> StoreUnavailable:
    """Return the problem of a call that ended below HTTP."""
    reason = reason_of(error)
    kind = {_NO_DESCRIPTORS: OutOfDescriptors, _SILENT: StoreSilent}.get(reason, StoreUnavailable)
    return kind(f"The store cannot be reached: {reason}.")


def is_whole(headers: Mapping[str, str]) -> bool:
    """Return whether HTTP headers came complete; Python's library accepts them wherever they break off.

    Every server that has a clock sends a Date (RFC 9110, 6.6.1), and Swift sends it last.
    """
    return "date" in headers or "Date" in headers


_NO_DESCRIPTORS = "too many files are open here"
_SILENT = "it does not answer in time"


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in words without addresses and headers."""
    seen: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(seen) < 10:
        seen.append(f"{type(cause).__name__} {cause}")
        inner = [part for part in cause.args if isinstance(part, BaseException)]
        cause = inner[0] if inner else (getattr(cause, "reason", None) or cause.__cause__ or cause.__context__)
        cause = cause if isinstance(cause, BaseException) else None
    text = " ".join(seen).lower()
    words = {
        "the name of its host is not known": ("nameresolution", "gaierror", "name or service not known"),
        "nobody listens at its address": ("refused",),
        "its certificate is not accepted": ("certificate",),
        _NO_DESCRIPTORS: ("too many open files",),
        _SILENT: ("timeout", "timed out"),
        "it closed the connection": ("reset", "aborted", "broken pipe", "incompleteread", "remotedisconnected"),
        "there is no way to its network": ("unreachable",),
    }
    return next(
        (reason for reason, signs in words.items() if any(sign in text for sign in signs)), "the connection failed"
    )


def absent(call: Callable[[], T]) -> T | None:
    """Return the result of the call; None where the store answers 404."""
    try:
        return call()
    except Refusal as error:
        if error.http_status == 404:
            return None
        raise
