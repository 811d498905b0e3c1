"""The audit log: who wrote, deleted, linked, shared, exported and changed keys; a JSON line each."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from image_repo.errors import Problem
from image_repo.model.parameters import is_boolean, read_boolean
from image_repo.model.record import timestamp
from image_repo.observability.logging import clean
from image_repo.web.access_log import REQUEST_ID
from image_repo.web.identity import Identify

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

#: in place of a file
LOG = "log"
#: environ key: the path of the image that a request for another path has written, or tried to
WRITTEN_PATH = "image_repo.written_path"
_WRITES = {"POST": "write", "PUT": "write", "PATCH": "change", "DELETE": "delete"}
#: beginning of a path → what is done there, by whichever method that changes something
_BY_PATH = {"/access/keys": "keys", "/import": "import", "/snapshots": "freeze", "/uploads": "upload"}
#: parameter of a GET → what it makes
_LINKS = {"url": "link", "share": "share"}
_MAX_TEXT_CHARS = 2048
#: end of the file that :func:`newest_lines` looks at
_MAX_TAIL_BYTES = 256 << 10


class Audit:
    """WSGI middleware that writes a line for each request that changes something or gives something away.

    :param identify: returns on whose behalf a request is made
    :param target: path of a file that lines are appended to, or :data:`LOG`
    """

    def __init__(self, inner: WSGIApplication, identify: Identify, target: str) -> None:
        self._inner = inner
        self._identify = identify
        self._file = None if target == LOG else Path(target)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        action = _action(environ)
        if action is None:
            return self._inner(environ, start_response)
        line = self._describe(environ, action)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
            target = {"action": "write", "path": environ[WRITTEN_PATH]} if WRITTEN_PATH in environ else {}
            self._write({**line, **target, "status": int(status[:3])})
            return start_response(status, headers, *error)

        return self._inner(environ, start)

    def _describe(self, environ: WSGIEnvironment, action: str) -> dict[str, Any]:
        owner = None
        try:
            caller = self._identify(environ)
            who, owner = caller.name, caller.owner
        except Problem as problem:
            who = f"({problem.slug})"
        line = {
            "time": timestamp(time.time()),
            "id": environ.get(REQUEST_ID),
            "who": who,
            **({} if owner is None else {"owner": owner}),
            "client": environ.get("REMOTE_ADDR"),
            "action": action,
            "method": environ["REQUEST_METHOD"],
            "path": _decoded(environ.get("PATH_INFO", "")),
        }
        query = environ.get("QUERY_STRING", "")
        return {**line, "query": clean(query[:_MAX_TEXT_CHARS])} if query else line

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line)
        if self._file is None:
            log.warning("audit %s", text)
            return
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            handle = os.open(self._file, flags, 0o600)
            try:
                os.write(handle, text.encode() + b"\n")
            finally:
                os.close(handle)
        except OSError as error:
            log.error("the audit log cannot be written: %s: %s", error.strerror, text)  # noqa: TRY400, the line counts


def _action(environ: WSGIEnvironment) -> str | None:
    """Return what a request does, where that is of interest."""
    method, path = environ.get("REQUEST_METHOD", ""), environ.get("PATH_INFO", "")
    if method in _WRITES:
        return next((action for begin, action in _BY_PATH.items() if path.startswith(begin)), _WRITES[method])
    if method != "GET":
        return None
    if path == "/export":
        return "export"
    query = environ.get("QUERY_STRING", "")
    if not any(f"{name}=" in query for name in _LINKS):
        return None
    words = [
        name for name, text in parse_qsl(query) if name in _LINKS and is_boolean(text) and read_boolean(name, text)
    ]
    return _LINKS[words[0]] if words else None


def _decoded(path: str) -> str:
    return clean(path.encode("latin-1", "replace").decode(errors="replace")[:_MAX_TEXT_CHARS])


def newest_lines(file: Path, most: int) -> list[dict[str, Any]]:
    """Return the newest lines of an audit log, the newest first; none where nothing has been written yet.

    :param most: how many; less where they are long, because the last 256 KiB of the file are read
    :raises OSError: when it cannot be read
    """
    if file.is_fifo():  # to open it would wait for a writer
        raise OSError(errno.ESPIPE, "it is a pipe")
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _MAX_TAIL_BYTES))
            first, *rest = stream.read(_MAX_TAIL_BYTES).split(b"\n")
    except FileNotFoundError:
        return []
    # the first is cut off, unless it is the file's first
    texts = [text for text in ([first] if size <= _MAX_TAIL_BYTES else []) + rest if text]
    return [line for text in texts[: -most - 1 : -1] if isinstance(line := _parse(text), dict)]


def _parse(text: bytes) -> Any:
    """Return the JSON of a line; None where another program has written it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
