"""Images as things, ``/images/…``: the adapters of reads, and writing."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from flask import Flask, request, url_for

from image_repo import wiring
from image_repo.access.control import Action
from image_repo.config import Config
from image_repo.errors import BadBody, BadName, BadParameter, NotAPicture
from image_repo.model.names import ImageName, parse_prefix
from image_repo.model.parameters import TRUE, integer, read_boolean
from image_repo.model.recipe import RecipeRequest
from image_repo.model.record import Record
from image_repo.repository.metadata import Conditions
from image_repo.repository.rename import rename
from image_repo.repository.repository import Repository
from image_repo.repository.restore import restore
from image_repo.web import openapi, problem_page, problems, responses, uploads
from image_repo.web.catalogue import read_parameters
from image_repo.web.handle import Pictures, ReadRequest
from image_repo.web.identity import Identify, authorise, principal
from image_repo.web.paths import check_encoding
from image_repo.web.responses import Reply
from image_repo.web.uploads import Upload

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


_read_most = integer(1, 1_000)


class ReadsWithoutFlask:
    """WSGI middleware before Flask: half of what a read costs is Flask's own.

    It takes each GET and HEAD below ``/images/`` whose path is not percent-encoded; all others go on.

    :param base: the path of images
    """

    def __init__(self, inner: WSGIApplication, pictures: Pictures, identify: Identify, base: str) -> None:
        self.inner = inner
        self._pictures = pictures
        self._identify = identify
        self._prefix = f"{base}/"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        path: str = environ.get("PATH_INFO", "")
        is_plain = (
            path.startswith(self._prefix) and path.isascii() and environ.get("REQUEST_URI", "").split("?")[0] == path
        )
        if not is_plain or environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return self.inner(environ, start_response)
        try:
            check_encoding(environ)
            read = ReadRequest.of(environ, path.removeprefix(self._prefix), self._identify(environ))
            reply = self._pictures.handle(read)
        except Exception as error:
            problem = problems.respond(error, environ["REQUEST_METHOD"], path)
            reply = problem_page.for_browsers(problem, environ)
        return reply(environ, start_response)


class Images:
    """The views of ``/images``.

    :param pictures: answers reads
    """

    def __init__(self, repo: Repository, pictures: Pictures, config: Config) -> None:
        self._repo = repo
        self._pictures = pictures
        self._base = "/" + config.repository_base_pathname
        self._defaults = wiring.defaults(config)

    def install(self, app: Flask) -> None:
        """Add the routes."""
        one, base = f"{self._base}/<any_path:path>", self._base
        app.add_url_rule("/trash", "trash", self.trash, methods=["GET"])
        app.add_url_rule(base, "add", self.add, methods=["POST"])
        app.add_url_rule(one, "image", self.get, methods=["GET"])
        app.add_url_rule(one, "put", self.put, methods=["POST", "PUT"])
        app.add_url_rule(one, "patch", self.patch, methods=["PATCH"])
        app.add_url_rule(one, "delete", self.delete, methods=["DELETE"])

    def get(self, path: str) -> Reply:
        """``GET /images/NAME``, or everything below a folder."""
        check_encoding(request.environ)
        reply = self._pictures.handle(ReadRequest.of(request.environ, path, principal()))
        request.environ[responses.HIT] = reply.hit
        return reply

    def trash(self) -> Reply:
        """``GET /trash``: what was deleted or replaced, and can be restored."""
        authorise(self._repo, Action.WRITE, "")
        parameters = read_parameters(openapi.TRASH)
        prefix = parse_prefix(parameters.get("prefix", ""))
        most = _read_most("limit", parameters.get("limit", "100"))
        caller = principal()
        allows = partial(self._repo.access.allows, caller, Action.WRITE)
        stored = self._repo.trash.items(caller.namespace + prefix, caller.owner)
        items = islice((item for item in stored if allows(item.name.text)), most)
        listed = [{**item.public(), "name": caller.relative(item.name.text)} for item in items]
        return responses.send_json({"items": listed})

    # -- writing ---------------------------------------------------------------------

    def add(self) -> Reply:
        """``POST /images``: a picture named by its content, or data under a name of its own."""
        return self._write("" if uploads.has_data() else None)

    def put(self, path: str) -> Reply:
        """``POST`` or ``PUT /images/NAME``; below a folder under the file's own name."""
        check_encoding(request.environ)
        if not path or path.endswith("/"):
            return self._write(parse_prefix(path))
        readings = ImageName.readings(path)
        if request.method == "POST" and (parameters := read_parameters(openapi.MOVES)):
            return self._move(readings, parameters)
        return self._write(self._repo.reader.resolve_name(principal(), readings) if uploads.has_data() else readings[0])

    def _move(self, readings: Sequence[ImageName], parameters: Mapping[str, str]) -> Reply:
        """``POST /images/NAME?rename=NEW``, and ``?restore=True`` or ``?restore=ID``."""
        if len(parameters) > 1:
            raise BadParameter("restore", "Expected either rename or restore, not both.")
        if "rename" in parameters:
            new_name = ImageName.readings(parameters["rename"])[0]
            name = self._repo.reader.resolve_name(principal(), readings)
            return _written(rename(self._repo, principal(), name, new_name), 201)
        item = parameters["restore"]
        item_id = None if item.lower() in TRUE else item
        return _written(restore(self._repo, principal(), readings, item_id), 201)

    def _write(self, target: ImageName | str | None) -> Reply:
        """
        :param target: a name, a folder, or None for a name by content
        """
        read_parameters(())
        authorise(self._repo, Action.WRITE, target.text if isinstance(target, ImageName) else target or "")
        return self._write_data(target or "") if uploads.has_data() else self._upload(target)

    def _write_data(self, target: ImageName | str) -> Reply:
        data = uploads.read_data()
        name = _name_in_data(target, data) if isinstance(target, str) else target
        record, is_new = self._repo.writer.replace_data(principal(), name, data, self.conditions())
        return _written(record, 201 if is_new else 200)

    def _upload(self, target: ImageName | str | None) -> Reply:
        if request.mimetype.endswith("json"):
            raise NotAPicture(f"Expected a picture, or data as application/json, but received {request.mimetype[:60]}.")
        with uploads.receive(self._repo, "a picture") as upload:
            record, is_new = self.store(target, upload, self.conditions())
        return _written(record, 201 if is_new else 200)

    def store(self, target: ImageName | str | None, upload: Upload, conditions: Conditions) -> tuple[Record, bool]:
        """Store what has arrived: the end of every upload.

        :param target: a name, a folder, or None for a name by content
        :returns: its record, and whether there was none of this name before
        """
        uploads.check_begin(upload)
        data, filename = uploads.data_of(upload.fields), upload.filename
        name = _name_in_folder(target, filename) if isinstance(target, str) else target
        return self._repo.writer.put(
            principal(), name, upload.spool, conditions=conditions, filename=filename, data=data
        )

    def check(
        self,
        target: ImageName | str | None,
        filename: str | None,
        fields: Mapping[str, Sequence[str]],
        conditions: Conditions,
    ) -> None:
        """Check what :meth:`store` would refuse whatever the bytes are, before they arrive."""
        uploads.data_of(fields)
        name = _name_in_folder(target, filename) if isinstance(target, str) else target
        if name is not None:
            self._repo.writer.check(principal(), name, conditions)

    def patch(self, path: str) -> Reply:
        """``PATCH /images/NAME``: merges into the user's data."""
        check_encoding(request.environ)
        read_parameters(())
        if not path or path.endswith("/"):
            raise BadName("A folder has no data: name an image.")
        readings = ImageName.readings(path)
        authorise(self._repo, Action.WRITE, readings[0].text)
        name = self._repo.reader.resolve_name(principal(), readings)
        record = self._repo.writer.patch_data(principal(), name, uploads.read_patch(), self.conditions())
        return _written(record, 200)

    def delete(self, path: str) -> Reply:
        """``DELETE /images/NAME``: returns how many went from which layer."""
        check_encoding(request.environ)
        parameters = read_parameters(openapi.DELETIONS)
        renditions_only, permanent = (
            read_boolean(word, parameters.get(word, "false")) for word in ("derived", "permanent")
        )
        if not path or path.endswith("/"):
            raise BadName("A folder cannot be deleted: name an image.")
        readings, writer = ImageName.readings(path), self._repo.writer
        authorise(self._repo, Action.DELETE, readings[0].text)
        if renditions_only:
            original = self._repo.reader.resolve(principal(), readings)
            name = ImageName(principal().relative(original.name.text))
            deleted = writer.purge(principal(), name)
        else:  # where there is no picture, there may be what a failed deletion has left
            name = self._repo.reader.resolve_name(principal(), readings)
            deleted = writer.delete(principal(), name, self.conditions(), disposal="erase" if permanent else "bin")
        return responses.send_json({"name": name.text, "deleted": deleted})

    def conditions(self) -> Conditions:
        """Return the conditions of this request."""
        return uploads.read_conditions(
            lambda original: RecipeRequest().settle(self._defaults, source=original.media_type)[0]
        )


def _written(record: Record, status: int) -> Reply:
    return responses.send_written(record, status, url_for("image", path=record.name))


def _name_in_data(folder: str, data: Any) -> ImageName:
    """Return the name that the data has, else a new one."""
    name = data.get("name", str(uuid.uuid4())) if isinstance(data, Mapping) else str(uuid.uuid4())
    if not isinstance(name, str):
        raise BadBody("Expected the name to be text.")
    return ImageName.readings(folder + name)[0]


def _name_in_folder(folder: str, filename: str | None) -> ImageName:
    if not filename:
        raise BadBody("Expected the file to have a name of its own, because the path ends in '/'.")
    return ImageName.readings(folder + filename)[0]
