"""Plain requests for a picture, answered without Flask: half of what such a request costs is Flask's own.

Plain is a GET with nothing encoded in its target, and nothing beside it that has a say but ``Accept``. How it is
read, what it means and how its answer is dressed is the application's to say, in the same functions. Whatever
is not plain, or goes wrong, is Flask's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from image_repo.errors import Busy, Problem
from image_repo.web import problems
from image_repo.web.fast_path import NOTE, PROTOCOLS, UNUSUAL, Ready

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: where a problem is left that Flask is to answer with
TROUBLE = "image_repo.trouble"
#: a path and a query in which nothing is encoded
_TARGET = re.compile(r"(/[A-Za-z0-9_./-]*)(?:\?([A-Za-z0-9_.,:=&-]*))?")
_CONDITIONS = frozenset(("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE"))

#: from path, query and Accept; None where Flask is to answer
Answer = Callable[[str, str, str | None], Ready | None]


class Plain:
    """Stands directly before Flask.

    :param inner: answers what is not answered here
    """

    def __init__(self, inner: WSGIApplication, answer: Answer) -> None:
        self.inner = inner
        self._answer = answer

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        told = _TARGET.fullmatch(environ.get("REQUEST_URI", ""))
        if not told or told[1] != environ.get("PATH_INFO") or "/." in told[1] or not _is_plain(environ):
            return self.inner(environ, start_response)
        try:
            ready = self._answer(told[1], told[2] or "", environ.get("HTTP_ACCEPT"))
        except Busy as problem:  # when there is most to do, refusing is to be the least of it
            headers, body = problems.told(problems.document(problem), told[1], problem.retry_after)
            start_response(f"{problem.status} {HTTPStatus(problem.status).phrase.upper()}", headers)
            return (body,)
        except Problem as problem:
            environ[TROUBLE] = problem
            return self.inner(environ, start_response)
        if ready is None:
            return self.inner(environ, start_response)
        if ready.shown:
            environ[NOTE] = ready.shown
        start_response("200 OK", ready.headers)
        return (ready.body,)


def _is_plain(environ: WSGIEnvironment) -> bool:
    return (
        environ.get("REQUEST_METHOD") == "GET"
        and UNUSUAL.isdisjoint(environ)
        and _CONDITIONS.isdisjoint(environ)
        and not environ.get("CONTENT_LENGTH")
        and environ.get("SERVER_PROTOCOL") in PROTOCOLS
    )
