"""IIIF Authorization Flow API 2.0: the documents of its services. Pure."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import quote, urlsplit

CONTEXT = "http://iiif.io/api/auth/2/context.json"
#: paths of the services, the probe's followed by the identifier of an image
PROBE, ACCESS, TOKEN = "/iiif/auth/2/probe", "/iiif/auth/2/access", "/iiif/auth/2/token"
#: why there is no token (section 4.5)
TokenError = Literal["invalidRequest", "invalidOrigin", "missingAspect", "invalidAspect"]
_NOTES: dict[TokenError, str] = {
    "invalidRequest": "The request for a token has no messageId.",
    "invalidOrigin": "This server gives tokens to viewers of other sites.",
    "missingAspect": "Nobody has logged in in this browser.",
    "invalidAspect": "The session of this browser has ended.",
}
_HEADINGS = {401: "Log in", 403: "Not allowed", 404: "Not found", 503: "Not now"}


def probe_services(root: str, name: str, logout: str) -> list[dict[str, Any]]:
    """Return the probe service of an image, with the services of access and tokens (sections 3 to 6).

    A viewer tries the session that there is (``external``) before it opens the page to log in (``active``).

    :param root: the address of this server
    :param name: of the image
    :param logout: the address where people log out
    """
    host = urlsplit(root).netloc
    token = {"id": f"{root}{TOKEN}", "type": "AuthAccessTokenService2"}
    external = {
        "type": "AuthAccessService2",
        "profile": "external",
        "label": _text(f"Session at {host}"),
        "service": [token],
    }
    active = {
        "id": f"{root}{ACCESS}",
        "type": "AuthAccessService2",
        "profile": "active",
        "label": _text(f"Log in at {host}"),
        "heading": _text("Log in"),
        "note": _text(f"This picture is for people who have logged in at {host}."),
        "confirmLabel": _text("Log in"),
        "service": [token, {"id": logout, "type": "AuthLogoutService2", "label": _text(f"Log out at {host}")}],
    }
    return [{"id": f"{root}{PROBE}/{quote(name, safe='')}", "type": "AuthProbeService2", "service": [external, active]}]


def declare(document: dict[str, Any], services: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an ``info.json`` that declares services (section 2.1).

    :param document: of the Image API 3.0 or 2.1.1
    """
    if "type" in document:
        return {**document, "@context": [CONTEXT, document["@context"]], "service": services}
    return {**document, "service": [{"@context": CONTEXT, **service} for service in services]}


def probe_result(status: int, note: str = "") -> dict[str, Any]:
    """Return what a probe service answers (section 5.2).

    :param status: of a request for the image itself
    """
    result: dict[str, Any] = {"@context": CONTEXT, "type": "AuthProbeResult2", "status": status}
    if status == 200:
        return result
    return {**result, "heading": _text(_HEADINGS.get(status, "No access")), **({"note": _text(note)} if note else {})}


def token_message(token: str, seconds: int, message_id: str) -> dict[str, Any]:
    """Return the message with a token (section 4.4)."""
    members = {"accessToken": token, "expiresIn": seconds, "messageId": message_id}
    return {"@context": CONTEXT, "type": "AuthAccessToken2", **members}


def token_error(profile: TokenError, message_id: str) -> dict[str, Any]:
    """Return the message that there is no token (section 4.5)."""
    about = {"heading": _text("No access"), "note": _text(_NOTES[profile])}
    return {
        "@context": CONTEXT,
        "type": "AuthAccessTokenError2",
        "profile": profile,
        "messageId": message_id,
        **about,
    }


def _text(text: str) -> dict[str, list[str]]:
    return {"en": [text]}
