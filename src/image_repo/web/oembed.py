"""``/oembed``: what a page needs to show a picture from its address alone (https://oembed.com, version 1.0)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit
from xml.sax.saxutils import escape

from flask import Flask, request
from werkzeug.wsgi import get_current_url

from image_repo import wiring
from image_repo.access.control import Action
from image_repo.access.request_rules import signed_targets
from image_repo.config import Config
from image_repo.errors import BadParameter, ImageNotFound
from image_repo.model.names import ImageName, path_of
from image_repo.model.operations import MAX_SIDE_PX
from image_repo.model.original import Original
from image_repo.model.parameters import choice, integer
from image_repo.model.recipe import RecipeRequest, read_request
from image_repo.model.record import Record
from image_repo.render.geometry import Size
from image_repo.repository.repository import Repository
from image_repo.web import openapi, responses
from image_repo.web.catalogue import read_parameters
from image_repo.web.conditions import ConditionalRequest
from image_repo.web.identity import is_shared, name_of, principal
from image_repo.web.paths import server_root
from image_repo.web.responses import Reply
from image_repo.web.sized_urls import SizedUrls

#: of what pages link to (oEmbed 1.0, section 4)
DISCOVERY_TYPE = "application/json+oembed"
_SIDE = {"type": "integer", "minimum": 1}
_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "url": ({"type": "string"}, "the address of a picture of this server"),
    "maxwidth": (_SIDE, "its greatest width in pixels"),
    "maxheight": (_SIDE, "its greatest height in pixels"),
    "format": ({"enum": ["json", "xml"]}, "json (default) or xml"),
}
#: characters that no XML document may hold (XML 1.0, section 2.2)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_read_format = choice({"json": "json", "xml": "xml"})
_read_side = integer(1, 1_000_000)


def install(app: Flask, repo: Repository, config: Config) -> None:
    """Add the route."""
    app.add_url_rule("/oembed", "oembed", _Views(repo, config).get, methods=["GET"])


def discovery_url(root: str, base: str, name: str) -> str:
    """Return the address at which consumers of a page about an image find its description.

    :param root: address of this server
    :param base: first segment of the addresses of images
    """
    return f"{root}/oembed?{urlencode({'url': f'{root}/{base}/{quote(path_of(name))}'})}"


class _Views:
    """The view of ``/oembed``."""

    def __init__(self, repo: Repository, config: Config) -> None:
        self._repo = repo
        self._defaults = wiring.defaults(config)
        self._rules = wiring.request_rules(config)
        self._sized_urls = SizedUrls(repo, config)
        self._base = f"/{config.repository_base_pathname}/"
        self._public_url = config.public_url
        self._origin = config.cors_origin
        self._is_free = config.requests.mode in ("any", "steps")

    def get(self) -> Reply:
        """``GET /oembed?url=``: type, address and size of a picture."""
        parameters = read_parameters(_PARAMETERS)
        if "url" not in parameters:
            raise BadParameter.expected("the address of a picture", "url", "")
        format_ = _read_format("format", parameters.get("format", "json"))
        name, image_request, rest = self._read_address(parameters["url"])
        original = self._repo.reader.resolve(principal(), ImageName.readings(name))
        targets = [principal().qualify_target(target) for target in signed_targets(name)]
        self._rules.check(image_request, targets, None, rest.get("signature"))
        record = self._repo.reader.record(principal(), original)
        fitting, size = self._fit(original, record, image_request, _read_limits(parameters))
        # The caller's own signature: a new one would have no end.
        url = self._sized_urls.url(
            server_root(self._public_url), name, original, fitting, signature=rest.get("signature")
        )
        members = {
            "version": "1.0",
            "type": "photo",
            "url": url,
            "width": size[0],
            "height": size[1],
            **_about(record),
            "provider_name": "image_repo",
            "provider_url": f"{server_root(self._public_url)}/",
        }
        return responses.send_tagged(
            ConditionalRequest(request.environ),
            members if format_ == "json" else _xml(members),
            origin=self._origin,
            is_shared=is_shared(self._repo, Action.READ, name_of(original)),
            media_type="application/json" if format_ == "json" else "text/xml; charset=utf-8",
        )

    def _fit(
        self, original: Original, record: Record, image_request: RecipeRequest, most: list[int | None]
    ) -> tuple[RecipeRequest, Size]:
        """Return the request within these sides, and the size of what it gives.

        :param most: greatest width and height in pixels
        :raises ImageNotFound: when the configuration allows no picture that small
        """
        fitting = self._fitted(image_request, most)
        size = self._sized_urls.size(principal(), original, fitting, (record.width, record.height))
        if any(limit and side > limit for side, limit in zip(size, most, strict=True)):
            raise ImageNotFound("The picture is not served in a size that small.", name=record.name)
        return fitting, size

    def _read_address(self, text: str) -> tuple[str, RecipeRequest, Mapping[str, str]]:
        """Return name, recipe and other parameters of the address of a picture.

        :raises ImageNotFound: for an address elsewhere
        """
        try:
            address = urlsplit(text)
        except ValueError:
            raise BadParameter.expected("the address of a picture", "url", text[:60]) from None
        hosts = {
            urlsplit(each).netloc
            for each in (server_root(self._public_url), get_current_url(request.environ, root_only=True))
        }
        path = address.path.removeprefix(urlsplit(server_root(self._public_url)).path)
        if (address.netloc and address.netloc not in hosts) or not path.startswith(self._base) or path.endswith("/"):
            raise ImageNotFound("The address is not one of a picture of this server.")
        pairs = parse_qsl(address.query, keep_blank_values=True)
        image_request, rest = read_request(pairs, openapi.READ_OPTIONS)
        return unquote(path.removeprefix(self._base)), image_request, rest

    def _fitted(self, image_request: RecipeRequest, most: list[int | None]) -> RecipeRequest:
        """Return the request within these sides, where the configuration leaves a choice."""
        resolved = image_request.with_preset(self._defaults.presets)
        if not self._is_free or not any(most):
            return image_request
        box = resolved.box(self._defaults)
        sides = [self._side(side, limit) for side, limit in zip(box, most, strict=True)]
        values = {name: value for name, value in resolved.values.items() if name not in ("xsize", "ysize", "dpr")}
        values.update((name, side) for name, side in zip(("xsize", "ysize"), sides, strict=True) if side)
        return RecipeRequest(**values)

    def _side(self, side: int | None, limit: int | None) -> int | None:
        """Return the side of the box, in mode ``steps`` the largest step within the limit."""
        if limit is None or (side is not None and side <= limit):
            return side
        steps = [step for step in self._defaults.steps if step <= limit]
        return steps[-1] if steps else limit


def _read_limits(parameters: Mapping[str, str]) -> list[int | None]:
    return [
        min(MAX_SIDE_PX, _read_side(name, parameters[name])) if name in parameters else None
        for name in ("maxwidth", "maxheight")
    ]


def _about(record: Record) -> dict[str, str]:
    """Return title and author, as the data of the image has them."""
    values = record.data if isinstance(record.data, Mapping) else {}
    title, author = values.get("title"), values.get("author")
    return {
        "title": title if isinstance(title, str) else record.name.rpartition("/")[2],
        **({"author_name": author} if isinstance(author, str) else {}),
    }


def _xml(members: Mapping[str, object]) -> bytes:
    texts = ((name, escape(_NOT_XML.sub("", str(value)))) for name, value in members.items())
    text = "".join(f"<{name}>{each}</{name}>" for name, each in texts)
    return f'<?xml version="1.0" encoding="utf-8" standalone="yes"?>\n<oembed>{text}</oembed>\n'.encode()


def paths() -> openapi.Paths:
    """Return the OpenAPI path."""
    schema = {"schema": {"type": "object"}}
    content = {"application/json": schema, "text/xml": schema}
    return {
        "/oembed": {
            "get": openapi.operation("What a page needs to show a picture", openapi.query(_PARAMETERS), content)
        }
    }
