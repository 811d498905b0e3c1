"""What the dialects have in common: regions, rounding, and names of pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence

from image_repo.errors import BadName
from image_repo.iiif.image_api import Part, Size

#: name and value of query parameters
Pairs = list[tuple[str, str]]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):/+")


def round_up(value: float) -> int:
    """Return a side in pixels, rounded half up as the renderer does, at least 1."""
    return max(1, int(value + 0.5))


def crop_parameters(region: Part, source: Size) -> Pairs:
    """Return the parameter of a region in pixels; none for the whole picture."""
    return [] if region == (0, 0, *source) else [("crop", ",".join(map(str, region)))]


def name_of(address: str, sources: Sequence[str]) -> str:
    """Return the name of a picture from what a URL says of its source.

    :param address: a name, ``local:///NAME``, or an address below one of ``sources``; percent-decoded
    :param sources: beginnings of addresses, each standing for the whole repository
    :raises BadName: for an address elsewhere
    """
    scheme = _SCHEME.match(address)
    if scheme is None:
        return address.lstrip("/")
    whole = f"{scheme[1]}://{address[scheme.end() :]}"  # some proxies merge slashes
    for source in sources:
        if whole.startswith(source):
            return whole.removeprefix(source).partition("?")[0].lstrip("/")
    if scheme[1] == "local":
        return whole.removeprefix("local://")
    raise BadName("Expected a name of this repository, or an address that begins as one of dialects.sources does.")
