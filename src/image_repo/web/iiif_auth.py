"""IIIF Authorization Flow 2.0: probe, access and token service, for viewers of other pages."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote, unquote

from flask import Flask, render_template, request

from image_repo.access.principal import Principal
from image_repo.config import Config
from image_repo.errors import BadParameter, InvalidToken, LoginNotConfigured, Problem
from image_repo.iiif import auth
from image_repo.model.names import ImageName
from image_repo.repository.repository import Repository
from image_repo.web import openapi, responses
from image_repo.web.identity import principal
from image_repo.web.login import LOGIN, LOGOUT, path_of
from image_repo.web.paths import check_encoding, path_as_sent, server_root
from image_repo.web.responses import NOSNIFF, Reply
from image_repo.web.sessions import SESSION_COOKIE, session_of

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?")
_BEARER = "bearer "
_MAX_MESSAGE_ID_CHARS = 200


def install(app: Flask, repo: Repository, config: Config) -> None:
    """Add the routes."""
    views = _Views(repo, config)
    app.add_url_rule(f"{auth.PROBE}/<any_path:path>", "iiif_probe", views.probe, methods=["GET"])
    app.add_url_rule(auth.ACCESS, "iiif_access", views.access, methods=["GET"])
    app.add_url_rule(auth.TOKEN, "iiif_token", views.token, methods=["GET"])


def services(repo: Repository, config: Config, name: str) -> list[dict[str, Any]]:
    """Return the services of an image that not everybody may see; none where nobody can log in."""
    if repo.authenticator.login is None:
        return []
    root = server_root(config.public_url)
    return auth.probe_services(root, name, f"{root}{LOGOUT}")


class _Views:
    """The views of the services."""

    def __init__(self, repo: Repository, config: Config) -> None:
        self._repo = repo
        self._config = config
        self._tokens = repo.authenticator.probe_tokens

    def probe(self, path: str) -> Reply:
        """``GET /iiif/auth/2/probe/ID``: the status that a request for the image would have."""
        check_encoding(request.environ)
        identifier = unquote(path_as_sent(request.environ, f"{auth.PROBE}/", path))
        try:
            self._repo.reader.resolve(self._caller(), ImageName.readings(identifier))
            result = auth.probe_result(200)
        except Problem as problem:
            result = auth.probe_result(problem.status, problem.detail or problem.title)
        reply = responses.send_json(result, origin=self._config.cors_origin)
        reply.headers.append(("Vary", "Authorization"))
        return reply

    def _caller(self) -> Principal:
        """Return whose access token the request bears, else who makes it.

        :raises InvalidToken: when its token is not accepted
        """
        header = request.headers.get("Authorization", "")
        if self._tokens is not None and header.lower().startswith(_BEARER):
            caller = self._tokens.open(header[len(_BEARER) :].strip())
            if caller is None:
                raise InvalidToken("The access token is not accepted, or has expired.")
            return caller
        return principal()

    def access(self) -> Reply:
        """``GET /iiif/auth/2/access?origin=``: the page to log in at; afterwards it closes itself."""
        if self._tokens is None:
            raise LoginNotConfigured("People log in where the configuration has access.oidc.client_id.")
        if session_of(self._repo.authenticator, request.environ).is_anonymous:
            target = quote(path_of(self._config, auth.ACCESS), safe="")
            return Reply(303, [("Location", f"{path_of(self._config, LOGIN)}?next={target}"), ("Content-Length", "0")])
        return _page("iiif_access.html", "frame-ancestors 'none'")

    def token(self) -> Reply:
        """``GET /iiif/auth/2/token?messageId=&origin=``: a page that posts a token to the page around it."""
        origin = request.args.get("origin", "")
        if not _ORIGIN.fullmatch(origin):
            raise BadParameter.expected("the origin of a page such as https://viewer.example.org", "origin", origin)
        message = json.dumps(self._message(origin, request.args.get("messageId", "")))
        return _page("iiif_token.html", f"frame-ancestors {origin}", message=message, origin=origin)

    def _message(self, origin: str, message_id: str) -> dict[str, Any]:
        caller = session_of(self._repo.authenticator, request.environ)
        if not message_id or len(message_id) > _MAX_MESSAGE_ID_CHARS:
            return auth.token_error("invalidRequest", message_id[:_MAX_MESSAGE_ID_CHARS])
        if self._config.cors_origin not in ("*", origin):
            return auth.token_error("invalidOrigin", message_id)
        if self._tokens is None or caller.is_anonymous:
            return auth.token_error(
                "invalidAspect" if SESSION_COOKIE in request.cookies else "missingAspect", message_id
            )
        return auth.token_message(self._tokens.seal(caller), self._tokens.lifetime, message_id)


def _page(template: str, framing: str, **values: Any) -> Reply:
    """Return a page that runs a script of this server and nothing else.

    :param framing: what may have it in a frame, as a directive of the policy
    """
    body = render_template(template, **values).encode()
    policy = f"default-src 'none'; style-src 'self'; script-src 'self'; {framing}"
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))]
    common = [("Cache-Control", "no-store"), ("Content-Security-Policy", policy), NOSNIFF]
    return Reply(200, [*headers, *common, ("Referrer-Policy", "no-referrer")], body)


def paths() -> openapi.Paths:
    """Return the OpenAPI path of the probe service; the others are pages."""
    probe = openapi.operation("Whether the caller may see an image (IIIF Authorization Flow 2.0)", [], _JSON)
    return {f"{auth.PROBE}/{{path}}": {"parameters": [openapi.in_path("path", "identifier of an image")], "get": probe}}


_JSON = {"application/json": {"schema": {"type": "object"}}}
