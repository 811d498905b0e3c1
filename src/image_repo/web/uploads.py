"""Bodies of requests: a file in a form or by itself, or a user's data as JSON."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

from flask import Request, current_app, request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.utils import cached_property

from image_repo.errors import BadBody, BadRequest
from image_repo.model.formats import SNIFF_BYTES, sniff_kind
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe
from image_repo.model.strict_json import read_json
from image_repo.repository.metadata import MOST_DATA, Conditions, check_data
from image_repo.repository.repository import Repository
from image_repo.repository.spool import Spool, check_digests
from image_repo.stores.base import CHUNK

MULTIPART = "multipart/form-data"
#: what clients send that declare no type
URL_ENCODED = "application/x-www-form-urlencoded"
#: names of the part of a form that holds the file
_FILE_PARTS = ("file", "image")
#: at the top of an update in MongoDB
_UPDATE_OPERATORS = ("$set", "$unset", "$setOnInsert", "$inc", "$push", "$pull", "$addToSet", "$rename")
_DATA_TYPES = ("application/json", "application/merge-patch+json")
#: of a body that is read: what may be stored, and room for blanks and ``\u`` escapes
_MAX_JSON_BYTES = 8 * MOST_DATA


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has arrived, and whose digests fit.

    :param spool: at its beginning
    :param filename: as a form says
    :param fields: of the form beside its file; empty without a form
    """

    spool: Spool
    content_type: str | None
    filename: str | None
    fields: Mapping[str, Sequence[str]]


class UploadRequest(Request):
    """A request that spools its files once, hashed on their way."""

    _spools: Sequence[Spool] = ()

    @cached_property
    def args(self) -> MultiDict[str, str]:
        """The parameters of the query.

        :raises BadRequest: for a query string that is not UTF-8
        """
        try:
            return super().args
        except UnicodeDecodeError as error:
            raise BadRequest("The query is not UTF-8.") from error

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        repo: Repository = current_app.extensions["image_repo"]
        spool = repo.writer.spool()
        self._spools = [*self._spools, spool]
        return cast("IO[bytes]", spool)

    def release(self, spool: Spool) -> None:
        """Leave a file open beyond the request; the caller closes it."""
        self._spools = [each for each in self._spools if each is not spool]

    def close(self) -> None:
        """Close the files, also those of a form that was refused halfway."""
        super().close()
        for spool in self._spools:
            spool.close()


@contextmanager
def receive(
    repo: Repository, what: str, parts: Collection[str] = _FILE_PARTS, *, beyond_request: bool = False
) -> Iterator[Upload]:
    """Yield the file that the request brings.

    :param what: is expected, for messages
    :param parts: names of the part of a form that may hold the file; empty for any. A body that is no form is the file
    :param beyond_request: whether the file stays open until the context ends, even if the request ends before
    :raises BadBody: for an empty body, or a form without exactly one file
    :raises DigestMismatch: when a digest of the sender does not fit
    """
    with ExitStack() as stack:
        if request.mimetype == MULTIPART:
            upload = _read_form(stack, what, parts, beyond_request=beyond_request)
        else:
            spool = stack.enter_context(repo.writer.spool())
            spool.fill(iter(lambda: request.stream.read(CHUNK), b""))
            if not spool.size:
                raise BadBody(f"Expected {what} in the body, or a form with a part 'file', but the body is empty.")
            upload = Upload(spool, request.content_type, None, {})
        upload.spool.seek(0)
        _check_digests(upload.spool)
        yield upload


def _read_form(stack: ExitStack, what: str, parts: Collection[str], *, beyond_request: bool) -> Upload:
    files = list(request.files.items(multi=True))
    if len(files) != 1 or (parts and files[0][0] not in parts):
        raise BadBody(_what_is_wrong([name for name, _ in files], what))
    storage = files[0][1]
    spool = cast("Spool", storage.stream)
    if beyond_request:
        storage.stream = io.BytesIO()
        cast("UploadRequest", request._get_current_object()).release(spool)  # type: ignore[attr-defined]
        stack.enter_context(spool)
    return Upload(spool, storage.content_type, storage.filename or None, dict(request.form.lists()))


def _what_is_wrong(names: Sequence[str], what: str) -> str:
    """Return why a form is refused.

    :param names: of its parts with a file
    """
    if not names:
        text = next((name for name in _FILE_PARTS if name in request.form), None)
        if text:
            return f"Expected a file in the part {text!r}, but it is text. With curl, write -F {text}=@PATH."
        return f"Expected {what} in a part called 'file' or 'image', but the form has no file."
    if len(names) > 1:
        return f"Expected one file, but the form has {len(names)}. Send each by itself, or a zip to /import."
    return f"Expected {what} in a part called 'file' or 'image', but it is in {names[0][:40]!r}."


def check_begin(upload: Upload) -> None:
    """Check that a picture was sent: its first bytes decide, whatever Content-Type a client adds.

    :raises BadBody: for an empty file, and for text that is declared as a form
    """
    begin = upload.spool.read(SNIFF_BYTES)
    upload.spool.seek(0)
    if not begin:
        raise BadBody("Expected a picture, but the file is empty.")
    if request.mimetype == URL_ENCODED and sniff_kind(begin) is None:
        raise BadBody(
            "Expected a picture, but received text as a form. With curl: --data-binary @PATH, or -F file=@PATH; "
            "for data: -H 'Content-Type: application/json'."
        )


def _check_digests(spool: Spool) -> None:
    check_digests(spool, request.headers.get("Repr-Digest"), request.headers.get("Content-MD5"))


def data_of(fields: Mapping[str, Sequence[str]]) -> Any:
    """Return ``data`` as JSON with every other field as text, or as a list of texts; None where there are none.

    :raises BadBody: for several ``data``, one that cannot be stored, or that is no object where there are other fields
    """
    if not fields:
        return None
    texts = fields.get("data", ())
    if len(texts) > 1:
        raise BadBody(f"Expected one part called 'data', but received {len(texts)}.")
    data = read_json(texts[0]) if texts else {}
    others = {name: values if values[1:] else values[0] for name, values in fields.items() if name != "data"}
    if others and not isinstance(data, dict):
        raise BadBody("Expected data to be a JSON object, because other fields come with it.")
    data = {**data, **others} if others else data
    check_data(data)
    return data


def has_data() -> bool:
    """Return whether the body is a user's data instead of a picture."""
    return request.mimetype == _DATA_TYPES[0]


def read_patch() -> Any:
    """Return the merge patch (RFC 7396) that the body is; raises as :func:`read_data`.

    :raises BadBody: also for update operators of MongoDB, which would become members of the data
    """
    patch = read_data()
    operator = next((name for name in patch if name in _UPDATE_OPERATORS), None) if isinstance(patch, dict) else None
    if operator:
        raise BadBody(f'Expected members of the data, but received {operator}: {{"KEY":VALUE}} sets, null removes one.')
    return patch


def read_data() -> Any:
    """Return the user's data that the body is.

    :raises UnsupportedMediaType: when it is neither JSON nor a merge patch
    :raises BadBody: for JSON that cannot be stored, or null
    :raises DigestMismatch: when a digest of the sender does not fit
    :raises TooLarge: for too many bytes
    """
    if request.mimetype not in _DATA_TYPES:
        raise UnsupportedMediaType(f"Expected the body to be {' or '.join(_DATA_TYPES)}.")
    with Spool(None, _MAX_JSON_BYTES) as spool:
        spool.fill(iter(lambda: request.stream.read(CHUNK), b""))
        _check_digests(spool)
        text = spool.read()
    try:
        data = read_json(text.decode())
    except UnicodeDecodeError as error:
        hint = " A picture needs a Content-Type of its own, such as image/jpeg." if sniff_kind(text) else ""
        raise BadBody(f"Expected data to be JSON in UTF-8.{hint}") from error
    check_data(data)
    return data


def read_conditions(default: Callable[[Original], Recipe]) -> Conditions:
    """Return ``If-Match`` and ``If-None-Match: *`` of a write.

    :param default: returns the recipe of a picture without parameters, whose entity tag counts too
    """
    match = frozenset(request.if_match.as_set(include_weak=False)) if "If-Match" in request.headers else None
    if match is not None and request.if_match.star_tag:
        match = frozenset("*")
    return Conditions(match, bool(request.if_none_match.star_tag), default)
