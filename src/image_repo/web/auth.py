"""Who the caller is (``/me``), and for administrators API keys (``/access/keys``) and audit log (``/access/audit``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, request

from image_repo import wiring
from image_repo.access.api_keys import ApiKey, new_key
from image_repo.access.control import Action
from image_repo.config import Config
from image_repo.errors import BadBody, BadParameter
from image_repo.model.parameters import unknown_parameter
from image_repo.repository.repository import Repository
from image_repo.web import audit, catalogue, openapi, responses, uploads
from image_repo.web.identity import authorise, principal
from image_repo.web.login import LOGIN, LOGOUT, path_of
from image_repo.web.responses import Reply
from image_repo.web.sessions import session_of

_KEYS, _AUDIT = "/access/keys", "/access/audit"
#: lines of the audit log in one answer
_MAX_LINES = 100
_MEMBERS = ("name", "role", "prefix", "expires")


def install(app: Flask, repo: Repository, config: Config) -> None:
    """Add the routes."""
    views = _Views(repo, config)
    app.add_url_rule("/me", "me", views.me, methods=["GET"])
    app.add_url_rule(_KEYS, "api_keys", views.list, methods=["GET"])
    app.add_url_rule(_KEYS, "add_api_key", views.add, methods=["POST"])
    app.add_url_rule(_AUDIT, "audit", views.audit, methods=["GET"])
    app.add_url_rule(f"{_KEYS}/<name>", "revoke_api_key", views.revoke, methods=["DELETE"])


class _Views:
    """The views over one repository."""

    def __init__(self, repo: Repository, config: Config) -> None:
        self._repo = repo
        self._config = config
        self._keys = repo.authenticator.keys
        self._signer = wiring.request_signer(config)

    def me(self) -> Reply:
        """``GET /me``: the caller's name, roles, what it may do, where to log in and out, and which sizes there are."""
        catalogue.read_parameters(())
        caller, allows = principal(), self._repo.access.allows
        may = [action.name.lower() for action in Action if allows(caller, action, "")]
        members = {"name": caller.name, "roles": sorted(caller.roles), "prefix": caller.prefix, "may": may}
        owner = {} if caller.owner is None else {"owner": caller.owner}
        return responses.send_json({**members, **owner, **self._login(), **self._requests()})

    def _requests(self) -> dict[str, Any]:
        """Return the mode of requests where only some sizes are rendered, and what lets the page show pictures."""
        mode = self._config.requests.mode
        if mode not in ("presets", "signed"):
            return {}
        may_sign = mode == "signed" and self._repo.access.allows(principal(), Action.WRITE, "")
        signature = {"signature": self._signer.sign_tiles()} if may_sign else {}
        presets = {"presets": list(self._config.presets)} if mode == "presets" else {}
        return {"requests": {"mode": mode, **signature, **presets}}

    def _login(self) -> dict[str, str]:
        """Return where people log in, where they can; where they log out in a session."""
        authenticator = self._repo.authenticator
        if authenticator.login is None:
            return {}
        has_session = not session_of(authenticator, request.environ).is_anonymous
        places = {"login": LOGIN, **({"logout": LOGOUT} if has_session else {})}
        return {name: path_of(self._config, path) for name, path in places.items()}

    def list(self) -> Reply:
        """``GET /access/keys``: what is known of each key."""
        catalogue.read_parameters(())
        authorise(self._repo, Action.ADMINISTER, "")
        return responses.send_json({"keys": [key.public() for key in self._keys.all()]})

    def add(self) -> Reply:
        """``POST /access/keys``: makes a key; its text is in this answer alone."""
        catalogue.read_parameters(())
        authorise(self._repo, Action.ADMINISTER, "")
        key = _read_key(uploads.read_data())
        text = self._keys.add(key)
        return responses.send_json({**key.public(), "key": text}, 201)

    def revoke(self, name: str) -> Reply:
        """``DELETE /access/keys/NAME``: no request with the key is accepted any more."""
        catalogue.read_parameters(())
        authorise(self._repo, Action.ADMINISTER, "")
        self._keys.revoke(name)
        return responses.send_json({"name": name, "revoked": True})

    def audit(self) -> Reply:
        """``GET /access/audit``: where the audit log is, and the newest lines of the file on this node."""
        catalogue.read_parameters(())
        authorise(self._repo, Action.ADMINISTER, "")
        target, members = self._config.access.audit, dict[str, Any]()
        try:
            lines = [] if target in (None, audit.LOG) else audit.newest_lines(Path(str(target)), _MAX_LINES)
        except OSError as error:
            lines, members = [], {"detail": f"The file cannot be read: {error.strerror}."}
        return responses.send_json({"target": target, "lines": lines, **members})


def _read_key(data: Any) -> ApiKey:
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values() if value is not None):
        raise BadBody("Expected a JSON object of texts: name and role, prefix and expires where wanted.")
    given = {name: value for name, value in data.items() if value is not None}
    unknown = next((name for name in given if name not in _MEMBERS), None)
    if unknown is not None:
        raise unknown_parameter(unknown, _MEMBERS)
    missing = next((name for name in ("name", "role") if name not in given), None)
    if missing is not None:
        raise BadParameter(missing, f"Expected {missing}.")
    return new_key(**given)


# -- OpenAPI -----------------------------------------------------------------------------


def paths() -> openapi.Paths:
    """Return the OpenAPI paths of callers and keys."""
    facts = {"application/json": {"schema": {"type": "object"}}}
    text = {"type": "string"}
    members = {"name": text, "role": {"enum": ["reader", "writer", "admin"]}, "prefix": text, "expires": text}
    body = {"type": "object", "properties": members, "required": ["name", "role"], "additionalProperties": False}
    made = openapi.operation(
        "Make an API key", [], facts, requestBody={"required": True, "content": {"application/json": {"schema": body}}}
    )
    made["responses"]["201"] = {"description": "the key, shown this once", "content": facts}
    return {
        "/me": {"get": openapi.operation("Who the caller is, and what it may do", [], facts)},
        _KEYS: {"get": openapi.operation("The API keys", [], facts), "post": made},
        _AUDIT: {"get": openapi.operation("The audit log, its newest lines first", [], facts)},
        f"{_KEYS}/{{name}}": {
            "parameters": [openapi.in_path("name", "of the key")],
            "delete": openapi.operation("Revoke an API key", [], facts),
        },
    }
