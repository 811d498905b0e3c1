"""Which requests for renditions are accepted (``requests.mode``): any, a ladder of sizes, presets, or signed ones.

The ladder of sizes itself is applied where a recipe is settled (:mod:`image_repo.model.recipe`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from image_repo.errors import BadName, BadParameter, LinkExpired, LinkRefused, LinksNotConfigured
from image_repo.model.names import ImageName, parse_prefix
from image_repo.model.recipe import RecipeRequest

_SIGNATURE = re.compile(r"(?:([0-9]{1,12})\.)?([A-Za-z0-9_-]{43})")
#: parameters of pictures that are one rendition each without a preset
_ALONE: tuple[list[str], ...] = ([], ["thumbnail=True"], ["kind=original"])
#: what a signature for the tiles of every picture covers: no request for a rendition has such a line
_TILES = ["tiles=True"]


class RequestSigner:
    """Signs and verifies requests: HMAC-SHA256 over the name and the canonical recipe.

    :param keys: the first one signs, all are accepted, so that one can be changed
    """

    def __init__(self, keys: Sequence[str], clock: Callable[[], float] = time.time) -> None:
        self._keys = [key.encode() for key in keys]
        self._clock = clock

    def sign(self, target: str, lines: Sequence[str], lifetime: int | None = None) -> str:
        """Return the value of ``signature``.

        :param target: the name of an image, or a folder with its ``/``
        :param lines: ``NAME=VALUE`` of each parameter in canonical spelling, sorted
        :param lifetime: in seconds; None for ever
        :raises LinksNotConfigured: without a key
        """
        if not self._keys:
            raise LinksNotConfigured("Signed requests need requests.key in the configuration.")
        end = "" if lifetime is None else str(int(self._clock()) + lifetime)
        return (end and end + ".") + _signature(self._keys[0], target, lines, end)

    def verify(self, signature: str, targets: Iterable[str], lines: Sequence[str]) -> int | None:
        """Return when an accepted signature ends, in seconds since the epoch; None for never.

        :param targets: what the request can be for; one of them has to be signed
        :raises LinkRefused: when it is not accepted
        :raises LinkExpired: after its time
        """
        match = _SIGNATURE.fullmatch(signature)
        # The lines are joined by line breaks, so that one within a value could pass for two parameters.
        if match is None or any("\n" in line for line in lines):
            raise LinkRefused("The signature of this request is not valid.")
        end, received = match[1] or "", match[2]
        expected = [_signature(key, target, lines, end) for key in self._keys for target in targets]
        if not any(hmac.compare_digest(each, received) for each in expected):
            raise LinkRefused("The signature of this request is not valid.")
        if end and self._clock() >= int(end):
            raise LinkExpired("The signature of this request has expired.")
        return int(end) if end else None

    def sign_tiles(self) -> str:
        """Return a signature for the sizes and tiles that an ``info.json`` lists, of every picture.

        :raises LinksNotConfigured: without a key
        """
        return self.sign("", _TILES)

    def accepts_tiles(self, signature: str) -> bool:
        """Return whether a signature is one of :meth:`sign_tiles`."""
        try:
            self.verify(signature, [""], _TILES)
        except (LinkRefused, LinkExpired):
            return False
        return True


class RequestRules:
    """Accepts requests for renditions by the mode of the configuration.

    :param presets: names of the presets
    """

    def __init__(
        self, mode: Literal["any", "steps", "presets", "signed"], presets: Sequence[str], signer: RequestSigner
    ) -> None:
        self._mode = mode
        self._presets = presets
        self._signer = signer

    def check(
        self, request: RecipeRequest, targets: Iterable[str], regex: str | None, signature: str | None
    ) -> int | None:
        """Accept a request; return when its signature ends, in seconds since the epoch, if it does.

        :param request: with its preset unresolved
        :param targets: the names of the image that it can be for, or the folder
        :param regex: which images of the folder
        :raises BadParameter: for parameters beside a preset, where presets alone are accepted
        :raises LinkRefused, LinkExpired: where a signature is needed
        """
        if self._mode == "presets":
            self._check_preset(request)
        if self._mode != "signed":
            return None
        if signature is None:
            raise LinkRefused("Requests are to be signed here: image_repo sign NAME [PARAMETER=VALUE]... does so.")
        return self._signer.verify(signature, targets, signed_lines(request, regex))

    def _check_preset(self, request: RecipeRequest) -> None:
        if request.values.keys() == {"preset"} or request.canonical_lines() in _ALONE:
            return
        known = ", ".join(sorted(self._presets)) or "none is configured"
        wrong = next(name for name in request.values if name != "preset")
        raise BadParameter(wrong, f"Expected preset=NAME ({known}) without {wrong}: the configuration allows no other.")


def signed_lines(request: RecipeRequest, regex: str | None) -> list[str]:
    """Return what a signature covers beside the name: each parameter that decides what is rendered."""
    return sorted([*request.canonical_lines(), *([f"regex={regex}"] if regex is not None else [])])


def signed_targets(path: str) -> list[str]:
    """Return the names of the image that a path can stand for, or its folder; none where there can be no such name.

    :param path: behind the base path, percent-decoded once
    """
    try:
        if not path or path.endswith("/"):
            return [parse_prefix(path)]
        return [name.text for name in ImageName.readings(path)]
    except BadName:  # the reader answers with it
        return []


def _signature(key: bytes, target: str, lines: Sequence[str], end: str) -> str:
    text = "\n".join(("image", end, target, *lines))
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode().rstrip("=")
