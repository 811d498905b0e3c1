"""Login of people in a browser: ``/login``, ``/login/callback`` and ``/logout``."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, request

from image_repo.access.authenticator import Authenticator
from image_repo.access.login import LOGIN_LIFETIME_S, LoginFlow
from image_repo.config import Config
from image_repo.errors import BadParameter, LoginNotConfigured
from image_repo.web import openapi
from image_repo.web.catalogue import read_parameters
from image_repo.web.responses import Reply
from image_repo.web.sessions import SESSION_COOKIE, cookie_header

#: paths, which the public URL may put another one before
LOGIN, CALLBACK, LOGOUT = "/login", "/login/callback", "/logout"
_LOGIN_COOKIE = "image_repo_login"
_NEXT = {"next": ({"type": "string", "default": "/"}, "path of this server where the browser goes on")}
#: of this server: a browser takes ``//`` and ``/\\`` for the beginning of a host
_LOCAL_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,1000}")


def install(app: Flask, authenticator: Authenticator, config: Config) -> None:
    """Add the routes."""
    views = _Views(authenticator, config)
    app.add_url_rule(LOGIN, "login", views.login, methods=["GET"])
    app.add_url_rule(CALLBACK, "login_callback", views.callback, methods=["GET"])
    app.add_url_rule(LOGOUT, "logout", views.logout, methods=["GET", "POST"])


def path_of(config: Config, path: str) -> str:
    """Return a path of this server as browsers see it."""
    return urlsplit(config.public_url or "").path + path


class _Views:
    """The views for the people of one provider."""

    def __init__(self, authenticator: Authenticator, config: Config) -> None:
        self._authenticator = authenticator
        self._config = config
        self._is_secure = (config.public_url or "").startswith("https:")

    def login(self) -> Reply:
        """``GET /login?next=PATH``: sends the browser to the provider."""
        url, cookie = self._flow().begin(self._redirect_uri(), _read_next(self._config))
        return _redirect(url, self._cookie(_LOGIN_COOKIE, cookie, LOGIN, LOGIN_LIFETIME_S))

    def callback(self) -> Reply:
        """``GET /login/callback``: the provider sends the browser back; the session begins."""
        flow, sessions = self._flow(), self._authenticator.sessions
        assert sessions is not None
        cookie = request.cookies.get(_LOGIN_COOKIE)
        principal, target = flow.complete(self._redirect_uri(), request.args, cookie)
        begun = self._cookie(SESSION_COOKIE, sessions.begin(principal), "/", sessions.lifetime)
        return _redirect(target, begun, self._cookie(_LOGIN_COOKIE, "", LOGIN, 0))

    def logout(self) -> Reply:
        """``GET`` or ``POST /logout?next=PATH``: ends the session in this browser, and what it has stored of it."""
        target = _read_next(self._config)
        return _redirect(target, self._cookie(SESSION_COOKIE, "", "/", 0), ("Clear-Site-Data", '"cache"'))

    def _flow(self) -> LoginFlow:
        """
        :raises LoginNotConfigured: where nobody can log in
        """
        if self._authenticator.login is None:
            raise LoginNotConfigured("People log in where the configuration has access.oidc.client_id.")
        return self._authenticator.login

    def _redirect_uri(self) -> str:
        return (self._config.public_url or request.host_url.rstrip("/")) + CALLBACK

    def _cookie(self, name: str, value: str, path: str, max_age: int) -> tuple[str, str]:
        path = path_of(self._config, path)
        return cookie_header(name, value, path, max_age, request.environ, is_secure=self._is_secure)


def _read_next(config: Config) -> str:
    """Return the path where the browser goes on; never another site.

    :raises BadParameter: for anything else
    """
    target = read_parameters(_NEXT).get("next", path_of(config, "/"))
    if not _LOCAL_PATH.fullmatch(target):
        raise BadParameter.expected("a path of this server", "next", target)
    return target


def _redirect(location: str, *headers: tuple[str, str]) -> Reply:
    """Return a redirect that no cache stores."""
    common = [("Location", location), ("Cache-Control", "no-store"), ("Content-Length", "0")]
    return Reply(303, [*common, ("Referrer-Policy", "no-referrer"), *headers])


# -- OpenAPI -----------------------------------------------------------------------------


def _redirecting(summary: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    described = openapi.operation(summary, parameters, {})
    described["responses"]["303"] = {"description": "the browser goes on there"}
    del described["responses"]["200"]
    return described


def paths() -> openapi.Paths:
    """Return the OpenAPI paths of login."""
    target = openapi.query(_NEXT)
    return {
        LOGIN: {"get": _redirecting("Log in at the identity provider", target)},
        LOGOUT: {method: _redirecting("End the session of this browser", target) for method in ("get", "post")},
    }
