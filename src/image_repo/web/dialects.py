"""``/thumbor/…``, ``/imgproxy/…`` and ``/dzi/…``: addresses of other image servers, each where it is configured."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import unquote

from flask import Flask, request

from image_repo.config import Config
from image_repo.dialects import deep_zoom, imgproxy, thumbor
from image_repo.dialects.signatures import verify_imgproxy, verify_thumbor
from image_repo.dialects.sizes import name_of
from image_repo.errors import LinkExpired, LinkRefused
from image_repo.model.formats import SHOWN_BY_BROWSERS
from image_repo.model.original import Original
from image_repo.web import openapi, responses
from image_repo.web.conditions import ConditionalRequest
from image_repo.web.paths import check_encoding, path_as_sent
from image_repo.web.responses import Reply
from image_repo.web.translated_reads import TranslatedReads


def install(app: Flask, reads: TranslatedReads, config: Config, clock: Callable[[], float] = time.time) -> None:
    """Add the routes of those dialects that are configured."""
    views, dialects = _Views(reads, config, clock), config.dialects
    for is_served, prefix, view in (
        (dialects.thumbor, "thumbor", views.thumbor),
        (dialects.imgproxy, "imgproxy", views.imgproxy),
        (dialects.deep_zoom, "dzi", views.deep_zoom),
    ):
        if is_served:
            app.add_url_rule(f"/{prefix}/<any_path:path>", prefix, view, methods=["GET"])


class _Views:
    """The views."""

    def __init__(self, reads: TranslatedReads, config: Config, clock: Callable[[], float]) -> None:
        self._reads = reads
        self._clock = clock
        self._sources = config.dialects.sources
        self._thumbor_key = config.dialects.thumbor_key
        key, salt = config.dialects.imgproxy_key, config.dialects.imgproxy_salt
        self._imgproxy_keys = (bytes.fromhex(key), bytes.fromhex(salt)) if key and salt else None
        self._has_presets = config.requests.mode == "presets"
        self._origin = config.cors_origin

    def thumbor(self, path: str) -> Reply:
        """``GET /thumbor/SIGNATURE/OPTIONS/NAME``, or with ``unsafe`` in place of a signature."""
        check_encoding(request.environ)
        signature, _, sent = path_as_sent(request.environ, "/thumbor/", path).partition("/")
        if self._thumbor_key:
            verify_thumbor(self._thumbor_key, unquote(signature), sent, unquote(sent))
        elif signature != thumbor.UNSAFE:
            raise LinkRefused("Signed URLs of thumbor need dialects.thumbor_key; without it they begin with unsafe/.")
        image = thumbor.read_request(unquote(sent))
        original = self._reads.resolve(name_of(image.image, self._sources))
        parameters = image.parameters(self._reads.size(original), self._kind_of(original))
        return self._reads.handle(original, parameters, is_signed=self._thumbor_key is not None)

    def imgproxy(self, path: str) -> Reply:
        """``GET /imgproxy/SIGNATURE/OPTIONS/plain/NAME@FORMAT``, or the source in base64url."""
        check_encoding(request.environ)
        signature, _, sent = path_as_sent(request.environ, "/imgproxy/", path).partition("/")
        if self._imgproxy_keys:
            verify_imgproxy(*self._imgproxy_keys, signature, f"/{sent}")
        image = imgproxy.read_request(sent)
        if image.expires is not None and self._clock() >= image.expires:
            raise LinkExpired("This URL has expired.")
        original = self._reads.resolve(name_of(image.source, self._sources))
        parameters = image.parameters(self._reads.size(original), self._kind_of(original))
        is_signed = self._imgproxy_keys is not None
        return self._reads.handle(original, parameters, is_signed=is_signed, ends=image.expires)

    def _kind_of(self, original: Original) -> str | None:
        """Return the format of the original, as these servers have it where a URL names none."""
        return None if self._has_presets else SHOWN_BY_BROWSERS.get(original.media_type, "jpg")

    def deep_zoom(self, path: str) -> Reply:
        """``GET /dzi/NAME.dzi`` and ``/dzi/NAME_files/LEVEL/COLUMN_ROW.jpg``."""
        check_encoding(request.environ)
        if path.endswith(".dzi"):
            original = self._reads.resolve(path.removesuffix(".dzi"))
            body, is_shared = deep_zoom.descriptor(self._reads.size(original)), self._reads.is_shared(original)
            conditions = ConditionalRequest(request.environ)
            return responses.send_tagged(
                conditions, body, origin=self._origin, is_shared=is_shared, media_type=deep_zoom.MEDIA_TYPE
            )
        name, at = deep_zoom.read_tile(path)
        original = self._reads.resolve(name)
        tile = deep_zoom.tile(self._reads.size(original), at)
        return self._reads.handle(original, tile.parameters(), is_listed=True)


def paths(config: Config) -> openapi.Paths:
    """Return the OpenAPI paths of those dialects that are configured."""
    dialects = config.dialects
    rows = (
        (dialects.thumbor, "thumbor", "SIGNATURE/OPTIONS/NAME as thumbor has it; unsafe in place of a signature"),
        (dialects.imgproxy, "imgproxy", "SIGNATURE/OPTIONS/plain/NAME@FORMAT as imgproxy has it"),
        (dialects.deep_zoom, "dzi", "NAME.dzi, or NAME_files/LEVEL/COLUMN_ROW.jpg"),
    )
    return {
        f"/{prefix}/{{path}}": {
            "parameters": [openapi.in_path("path", text)],
            "get": openapi.operation(f"A picture, by an address of {prefix}", [], {"image/*": {}}),
        }
        for is_served, prefix, text in rows
        if is_served
    }
