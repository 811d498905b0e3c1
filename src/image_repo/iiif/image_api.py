"""IIIF Image API 3.0 and 2.1.1: ``REGION/SIZE/ROTATION/QUALITY.FORMAT`` as query parameters, and ``info.json``.

A request is translated to the parameters of ``/images/NAME``, so that the same pixels are one rendition under either
address. Sections are those of https://iiif.io/api/image/3.0/.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from image_repo.errors import BadRequest
from image_repo.model.operations import MAX_SIDE_PX, format_number

#: the major version of the Image API
Dialect = Literal[2, 3]
Size = tuple[int, int]
#: left, top, width, height in pixels of the upright original
Part = tuple[int, int, int, int]

#: side of a tile in pixels
TILE_PX = 512
#: the smallest side of the pictures that ``sizes`` lists, in pixels
_LEAST_SIDE_PX = 64
_FORMATS = ("jpg", "png", "webp", "avif", "tif", "gif", "jp2")
_QUALITIES = ("default", "color", "gray", "bitonal")
_PROFILE = {2: "http://iiif.io/api/image/2/level2.json", 3: "http://iiif.io/api/image/3/level2.json"}
_CONTEXT = {2: "http://iiif.io/api/image/2/context.json", 3: "http://iiif.io/api/image/3/context.json"}
_FEATURES_3 = (
    "mirroring", "regionByPct", "regionByPx", "regionSquare", "rotationArbitrary", "rotationBy90s", "sizeByConfinedWh",
    "sizeByH", "sizeByPct", "sizeByW", "sizeByWh", "sizeUpscaling", "baseUriRedirect", "canonicalLinkHeader", "cors",
    "jsonldMediaType", "profileLinkHeader",
)  # fmt: skip
_FEATURES_2 = (
    "baseUriRedirect", "canonicalLinkHeader", "cors", "jsonldMediaType", "mirroring", "profileLinkHeader",
    "regionByPct", "regionByPx", "regionSquare", "rotationArbitrary", "rotationBy90s", "sizeAboveFull",
    "sizeByConfinedWh", "sizeByDistortedWh", "sizeByForcedWh", "sizeByH", "sizeByPct", "sizeByW", "sizeByWh",
)  # fmt: skip
#: what an info.json of version 3 says beyond its level; where only some sizes are served, they are JPEG alone
_EXTRAS: Mapping[str, list[str]] = {
    "preferredFormats": ["webp", "jpg"],
    "extraFormats": [kind for kind in _FORMATS if kind not in ("jpg", "png")],
    "extraQualities": list(_QUALITIES[1:]),
    "extraFeatures": list(_FEATURES_3),
}
_LISTED_ALONE: Mapping[str, list[str]] = {"extraQualities": ["color"], "extraFeatures": []}
_NUMBER = r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})"
_PIXELS = re.compile(r"([0-9]{1,9}),([0-9]{1,9}),([0-9]{1,9}),([0-9]{1,9})")
_PERCENT = re.compile(rf"pct:({_NUMBER}),({_NUMBER}),({_NUMBER}),({_NUMBER})")
_SIZE = re.compile(rf"(\^?)(?:(max|full)|pct:({_NUMBER})|(!?)([0-9]{{0,9}}),([0-9]{{0,9}}))")
_ROTATION = re.compile(rf"(!?)({_NUMBER})")


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What is requested of a picture, in its pixels.

    :param size: before rotation
    :param rotation: degrees clockwise
    """

    source: Size
    region: Part
    size: Size
    is_mirrored: bool
    rotation: float
    quality: str
    format: str

    def parameters(self) -> list[tuple[str, str]]:
        """Return the query of ``/images/NAME`` that gives this picture."""
        values: list[tuple[str, str]] = [("kind", self.format)]
        if self.region != (0, 0, *self.source):
            values.append(("crop", ",".join(map(str, self.region))))
        values += scale_parameters(self.region[2:], self.size, is_sideways=self.rotation in (90, 270))
        if self.is_mirrored:
            values.append(("flip", "h"))
        if self.rotation:
            values.append(("rotate", format_number(self.rotation)))
        if self.quality in ("gray", "bitonal"):
            values.append((self.quality, "True"))
        return values

    def is_offered(self, sizes: Collection[Size]) -> bool:
        """Return whether this is one of the sizes of the whole picture or one of the tiles, as ``default.jpg``."""
        if self.is_mirrored or self.rotation or self.format != "jpg" or self.quality not in ("default", "color"):
            return False
        (width, height), (left, top, across, down) = self.source, self.region
        if (across, down) == self.source and self.size in sizes:
            return True
        for scale in _tile_scales(self.source):
            side = TILE_PX * scale
            part = min(side, width - left), min(side, height - top)
            is_tile = left % side == 0 and top % side == 0 and (across, down) == part
            if is_tile and self.size == (-(-across // scale), -(-down // scale)):
                return True
        return False

    def canonical(self, dialect: Dialect) -> str:
        """Return ``REGION/SIZE/ROTATION/QUALITY.FORMAT`` in its canonical form (section 4.7)."""
        region = "full" if self.region == (0, 0, *self.source) else ",".join(map(str, self.region))
        rotation = ("!" if self.is_mirrored else "") + format_number(self.rotation)
        quality = "default" if self.quality == "color" else self.quality
        return f"{region}/{self._canonical_size(dialect)}/{rotation}/{quality}.{self.format}"

    def _canonical_size(self, dialect: Dialect) -> str:
        (width, height), full = self.size, self.region[2:]
        if self.size == full:
            return "max" if dialect == 3 else "full"
        if dialect == 2:
            keeps_ratio = height == _scaled(full[1], width / full[0])
            return f"{width}," if keeps_ratio else f"{width},{height}"
        return f"{'^' if width > full[0] or height > full[1] else ''}{width},{height}"


def scale_parameters(full: Size, size: Size, *, is_sideways: bool = False) -> list[tuple[str, str]]:
    """Return the parameters that scale a region to exactly a size.

    They name one side where the ratio stays: the request of most people, and so the same rendition.

    :param is_sideways: whether it is turned by a quarter afterwards: a box limits the picture as it is served
    """
    if size == full:
        return []
    across, down = ("ysize", "xsize") if is_sideways else ("xsize", "ysize")
    larger = [("enlarge", "True")] if size[0] > full[0] or size[1] > full[1] else []
    if size[1] == _scaled(full[1], size[0] / full[0]):
        return [(across, str(size[0])), *larger]
    if size[0] == _scaled(full[0], size[1] / full[1]):
        return [(down, str(size[1])), *larger]
    return [(across, str(size[0])), (down, str(size[1])), ("fit", "fill"), *larger]


def read_request(parts: Iterable[str], source: Size, dialect: Dialect) -> ImageRequest:
    """Return what the four parts of a path request.

    :param parts: ``REGION``, ``SIZE``, ``ROTATION``, ``QUALITY.FORMAT``, percent-decoded
    :param source: width and height of the upright original in pixels
    :raises BadRequest: for a part that cannot be understood, or wants what the dialect does not allow
    """
    region_text, size_text, rotation_text, last = parts
    region = _read_region(region_text, source)
    quality, _, kind = last.rpartition(".")
    if quality not in _QUALITIES or kind not in _FORMATS:
        wanted = f"{'|'.join(_QUALITIES)}.{'|'.join(_FORMATS)}"
        raise BadRequest(f"Expected QUALITY.FORMAT to be {wanted}, but received {last[:60]!r}.")
    is_mirrored, rotation = _read_rotation(rotation_text)
    size = _read_size(size_text, region[2:], dialect)
    return ImageRequest(source, region, size, is_mirrored, rotation, quality, kind)


def _read_region(text: str, source: Size) -> Part:
    width, height = source
    if text == "full":
        return 0, 0, width, height
    if text == "square":
        side = min(source)
        return (width - side) // 2, (height - side) // 2, side, side
    if match := _PIXELS.fullmatch(text):
        left, top, across, down = map(int, match.groups())
    elif match := _PERCENT.fullmatch(text):
        x, y, w, h = (float(number) / 100 for number in match.groups())
        left, top = round(x * width), round(y * height)
        across, down = (max(1, round(part * side)) if part else 0 for part, side in ((w, width), (h, height)))
    else:
        raise BadRequest(f"Expected REGION to be full, square, x,y,w,h or pct:x,y,w,h, but received {text[:60]!r}.")
    if left >= width or top >= height or not across or not down:
        raise BadRequest(
            f"Expected REGION to have pixels of a picture of {width}x{height}, but received {text[:60]!r}."
        )
    return left, top, min(across, width - left), min(down, height - top)


def _read_size(text: str, full: Size, dialect: Dialect) -> Size:
    """Return the size of the region as it is served, before rotation (section 4.2)."""
    match = _SIZE.fullmatch(text)
    words = ("max",) if dialect == 3 else ("max", "full")
    if not match or (match[1] and dialect == 2) or (match[2] and match[2] not in words):
        raise _bad_size(text)
    larger, whole, percent, confined, across, down = match.groups()
    may_enlarge = bool(larger) or dialect == 2
    if whole:
        scale = min(1.0, *(MAX_SIDE_PX / side for side in full))
        return full if scale == 1.0 else (_scaled(full[0], scale), _scaled(full[1], scale))
    if percent:
        scale = float(percent) / 100
        size = _scaled(full[0], scale), _scaled(full[1], scale)
        size = size if scale else (0, 0)
    elif not (across or down) or (confined and not (across and down)):
        raise _bad_size(text)
    else:
        size = _fitted(full, int(across or 0), int(down or 0), confined=bool(confined), may_enlarge=bool(larger))
        if (across and not int(across)) or (down and not int(down)):
            raise _bad_size(text)
    if not all(size) or max(size) > MAX_SIDE_PX:
        raise BadRequest(f"Expected SIZE to be 1 to {MAX_SIDE_PX} pixels on each side, but received {text[:60]!r}.")
    if not may_enlarge and (size[0] > full[0] or size[1] > full[1]):
        raise BadRequest(f"The region has {full[0]}x{full[1]} pixels: enlarge it with ^ ahead of SIZE, ^{text[:60]}.")
    return size


def _fitted(full: Size, across: int, down: int, *, confined: bool, may_enlarge: bool) -> Size:
    if confined:
        scale = min(across / full[0], down / full[1])
        scale = scale if may_enlarge else min(1.0, scale)
        return min(across, _scaled(full[0], scale)), min(down, _scaled(full[1], scale))
    if not down:
        return across, _scaled(full[1], across / full[0])
    if not across:
        return _scaled(full[0], down / full[1]), down
    return across, down


def _bad_size(text: str) -> BadRequest:
    return BadRequest(
        f"Expected SIZE to be max, w, or ,h or w,h or !w,h or pct:n (3.0: with ^ ahead to enlarge), but received "
        f"{text[:60]!r}."
    )


def _read_rotation(text: str) -> tuple[bool, float]:
    match = _ROTATION.fullmatch(text)
    if not match or float(match[2]) > 360:
        raise BadRequest(f"Expected ROTATION to be 0 to 360, with ! ahead to mirror, but received {text[:60]!r}.")
    return bool(match[1]), round(float(match[2]) % 360, 4)


def _scaled(side: int, scale: float) -> int:
    """As the renderer rounds."""
    return max(1, int(side * scale + 0.5))


# -- documents ---------------------------------------------------------------------------


def link_header(base: str, request: ImageRequest, dialect: Dialect) -> str:
    """Return the Link header of a picture: its canonical address, and the level (sections 4.7 and 6).

    :param base: the address of the image service
    """
    return f'<{base}/{request.canonical(dialect)}>;rel="canonical", <{_PROFILE[dialect]}>;rel="profile"'


def scales(source: Size) -> list[int]:
    """Return the scale factors of the sizes that are offered: powers of two, 1 first."""
    factors = [1]
    while min(source) // (factors[-1] * 2) >= _LEAST_SIDE_PX:
        factors.append(factors[-1] * 2)
    return factors


def info(
    base: str,
    source: Size,
    dialect: Dialect,
    *,
    rights: str | None = None,
    listed: list[Size] | None = None,
    max_width: int | None = None,
) -> dict[str, Any]:
    """Return the ``info.json`` of a picture (section 5).

    :param base: the absolute address of the image service
    :param rights: the URI of a licence or of a statement of rights
    :param listed: where only some sizes of the whole picture are served, those
    :param max_width: the most that this caller gets, in pixels
    """
    most = max_width or MAX_SIDE_PX
    halves = [(_scaled(source[0], 1 / scale), _scaled(source[1], 1 / scale)) for scale in scales(source)[::-1]]
    sizes = [size for size in listed or halves if size[0] <= most]
    members = {"protocol": "http://iiif.io/api/image", "width": source[0], "height": source[1]}
    offered: dict[str, Any] = {"sizes": [{"width": width, "height": height} for width, height in sizes]}
    offered["tiles"] = [{"width": TILE_PX, "height": TILE_PX, "scaleFactors": _tile_scales(source)}]
    context = {"@context": _CONTEXT[dialect]}
    if dialect == 3:
        about: Mapping[str, Any] = {
            "profile": "level0" if listed else "level2",
            "maxWidth": most,
            **offered,
            **({"rights": rights} if rights else {}),
            **(_LISTED_ALONE if listed else _EXTRAS),
        }
        return {**context, "id": base, "type": "ImageService3", **members, **about}
    level = _PROFILE[2].replace("level2", "level0") if listed else _PROFILE[2]
    supports = {
        "formats": ["jpg"] if listed else list(_FORMATS),
        "qualities": list(_QUALITIES[:2]) if listed else list(_QUALITIES),
        "supports": [] if listed else list(_FEATURES_2),
        "maxWidth": most,
    }
    more = {"license": rights} if rights else {}
    return {**context, "@id": base, **members, **offered, "profile": [level, supports], **more}


def _tile_scales(source: Size) -> list[int]:
    """Return the scales of tiles, until one tile shows the whole picture."""
    factors = [1]
    while max(source) > TILE_PX * factors[-1]:
        factors.append(factors[-1] * 2)
    return factors
