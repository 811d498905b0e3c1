"""thumbor's URLs as parameters of ``/images``: ``300x200/smart/filters:quality(80)/NAME``.

The parts and their order are those of https://thumbor.readthedocs.io/en/latest/usage.html.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from image_repo.dialects.sizes import Pairs, crop_parameters, round_up
from image_repo.errors import BadRequest
from image_repo.iiif.image_api import Part, Size, scale_parameters
from image_repo.model.operations import format_number

#: the first part of a URL without a signature
UNSAFE = "unsafe"
_SIDE = r"[0-9]{1,5}|orig"
_PATH = re.compile(
    r"(?:(?P<unavailable>debug|meta|trim(?::[a-z-]+)?(?::[0-9]+)?)/)?"
    r"(?:(?P<crop>[0-9]{1,6}x[0-9]{1,6}:[0-9]{1,6}x[0-9]{1,6})/)?"
    r"(?:(?P<adaptive>adaptive-)?(?P<full>full-)?(?P<fit_in>fit-in)/)?"
    rf"(?:(?P<mirrored>-)?(?P<width>{_SIDE})?x(?P<flipped>-)?(?P<height>{_SIDE})?/)?"
    r"(?:(?P<horizontal>left|center|right)/)?(?:(?P<vertical>top|middle|bottom)/)?(?:(?P<smart>smart)/)?"
    r"(?:filters:(?P<filters>.+?\))/)?(?P<image>.+)",
    re.DOTALL,
)
_FILTER = re.compile(r"([a-z_]{1,40})\(([^()]*)\)(?::|$)")
_FOCAL = re.compile(r"([0-9]{1,6})x([0-9]{1,6}):([0-9]{1,6})x([0-9]{1,6})")
_NUMBER = re.compile(r"-?[0-9]{1,6}(?:\.[0-9]{1,6})?")
_ALIGNMENTS = {"left": 0.0, "center": 0.5, "right": 1.0, "top": 0.0, "middle": 0.5, "bottom": 1.0}
#: filters that would change no pixel here: metadata and profiles are never served, and a first frame always is
_PASSED_OVER = frozenset(("strip_exif", "strip_icc", "cover", "max_age"))

Side = int | Literal["orig"]


@dataclass(slots=True)
class Filters:
    """What the filters of a URL request.

    :param parameters: of ``/images``
    :param flags: names of those without a value that decide the size
    :param focal: left, top, right, bottom of what is to be seen, in pixels of the upright original
    """

    parameters: dict[str, str] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    focal: Part | None = None


@dataclass(frozen=True, slots=True)
class ThumborRequest:
    """What a URL of thumbor requests.

    :param image: the name or the address of the picture
    :param crop: left, top, right, bottom in pixels of the upright original
    :param width: in pixels, 0 where it follows from the other side
    :param horizontal: alignment, as a fraction; None where it is not named
    """

    image: str
    crop: Part | None
    fit: Literal["", "fit-in", "full-fit-in"]
    is_adaptive: bool
    width: Side
    height: Side
    flip: str
    horizontal: float | None
    vertical: float | None
    is_smart: bool
    filters: Filters

    def parameters(self, source: Size, kind: str | None) -> Pairs:
        """Return the query of ``/images/NAME`` that gives this picture.

        :param source: width and height of the upright original in pixels
        :param kind: the format where the URL names none; None leaves it to the configuration
        """
        region = self._region(source)
        flips = [("flip", self.flip)] if self.flip else []
        return [
            *crop_parameters(region, source),
            *self._box(region, source),
            *flips,
            *({"kind": kind} | self.filters.parameters if kind else self.filters.parameters).items(),
        ]

    def _region(self, source: Size) -> Part:
        if self.crop:
            left, right = (min(side, source[0]) for side in self.crop[::2])
            top, bottom = (min(side, source[1]) for side in self.crop[1::2])
            if left < right and top < bottom:  # others have no effect
                return left, top, right - left, bottom - top
        return 0, 0, *source

    def _box(self, region: Part, source: Size) -> Pairs:
        full = region[2:]
        size = self._target(full, source)
        if size is None:
            return []
        is_sideways = self.filters.parameters.get("rotate") in ("90", "270")
        if self.fit == "fit-in":
            return self._inside(full, size, is_sideways)
        if self.fit == "full-fit-in":
            scale = max(size[0] / full[0], size[1] / full[1])
            covering = round_up(full[0] * scale), round_up(full[1] * scale)
            return scale_parameters(full, covering, is_sideways=is_sideways)
        scaled = scale_parameters(full, size, is_sideways=is_sideways)
        if ("fit", "fill") not in scaled or "stretch" in self.filters.flags:
            return scaled
        focus = self._focus(region)
        return [*_without(scaled, "fit"), ("fit", "cover"), *([("focus", focus)] if focus else [])]

    def _target(self, full: Size, source: Size) -> Size | None:
        """Return the requested size in pixels, None where there is none."""
        sides = [self.width, self.height]
        if "no_upscale" in self.filters.flags:
            sides = [
                min(side, most) if isinstance(side, int) else side for side, most in zip(sides, source, strict=True)
            ]
        width, height = (own if side == "orig" else side for side, own in zip(sides, full, strict=True))
        if not (width or height):
            return None
        size = width or round_up(full[0] * height / full[1]), height or round_up(full[1] * width / full[0])
        if self.is_adaptive and (full[0] - full[1]) * (size[0] - size[1]) < 0:
            return size[1], size[0]
        return size

    def _inside(self, full: Size, size: Size, is_sideways: bool) -> Pairs:
        is_filled = "fill" in self.filters.flags and bool(self.width and self.height)
        is_enlarged = "upscale" in self.filters.flags
        if not is_filled and not is_enlarged and size[0] >= full[0] and size[1] >= full[1]:
            return []
        across, down = size[::-1] if is_sideways else size
        return [
            ("xsize", str(across)),
            ("ysize", str(down)),
            *([("fit", "contain")] if is_filled else []),
            *([("enlarge", "True")] if is_enlarged else []),
        ]

    def _focus(self, region: Part) -> str | None:
        """Return the part that is kept; None leaves it to the record of the picture, else to the middle."""
        if focal := self.filters.focal:
            left, top, right, bottom = focal
            x, y = ((left + right) / 2 - region[0]) / region[2], ((top + bottom) / 2 - region[1]) / region[3]
            if 0 <= x <= 1 and 0 <= y <= 1:
                return f"{format_number(x)},{format_number(y)}"
        if self.is_smart:
            return "smart"
        if self.horizontal is None and self.vertical is None:
            return None
        x, y = (0.5 if place is None else place for place in (self.horizontal, self.vertical))
        return f"{format_number(x)},{format_number(y)}"


def read_request(text: str) -> ThumborRequest:
    """Return what the part of a URL behind the signature requests.

    :param text: percent-decoded
    :raises BadRequest: for what cannot be understood, or is not available here
    """
    match = _PATH.fullmatch(text)
    if match is None:
        raise BadRequest("Expected OPTIONS/NAME as thumbor has them, such as 300x200/smart/NAME.")
    if match["unavailable"]:
        raise BadRequest(f"Of thumbor's options {match['unavailable']} is not available here.")
    return ThumborRequest(
        image=match["image"],
        crop=_part(match["crop"]) if match["crop"] else None,
        fit=("full-fit-in" if match["full"] else "fit-in") if match["fit_in"] else "",
        is_adaptive=bool(match["adaptive"]),
        width=_side(match["width"]),
        height=_side(match["height"]),
        flip=("h" if match["mirrored"] else "") + ("v" if match["flipped"] else ""),
        horizontal=_ALIGNMENTS.get(match["horizontal"]),
        vertical=_ALIGNMENTS.get(match["vertical"]),
        is_smart=bool(match["smart"]),
        filters=_read_filters(match["filters"] or ""),
    )


def _part(text: str) -> Part:
    left, top, right, bottom = map(int, re.split("[x:]", text))
    return left, top, right, bottom


def _side(text: str | None) -> Side:
    return "orig" if text == "orig" else int(text or 0)


def _without(pairs: Pairs, name: str) -> Pairs:
    return [pair for pair in pairs if pair[0] != name]


# -- filters -----------------------------------------------------------------------------

#: adds what a filter with these arguments requests
_ReadFilter = Callable[[Filters, Sequence[str]], None]


def _read_filters(text: str) -> Filters:
    filters = Filters()
    place = 0
    while place < len(text):
        match = _FILTER.match(text, place)
        if match is None:
            raise BadRequest(f"Expected filters:NAME(VALUE):NAME(VALUE) but received {text[place : place + 60]!r}.")
        name, arguments = match[1], [part.strip() for part in match[2].split(",")]
        read = _FILTERS.get(name)
        if read is None and name not in _PASSED_OVER:
            raise BadRequest(f"Of thumbor's filters {name} is not available here; there are {', '.join(_FILTERS)}.")
        if read is not None:
            read(filters, arguments)
        place = match.end()
    return filters


def _number(filter_name: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise BadRequest(f"Expected a number in {filter_name}(…) but received {text[:60]!r}.")
    return float(text)


def _rotate(filters: Filters, arguments: Sequence[str]) -> None:
    """Turn the other way round: thumbor's degrees are counter-clockwise."""
    degrees = format_number(-_number("rotate", arguments[0]) % 360)
    if degrees != "0":
        filters.parameters["rotate"] = degrees


def _blur(filters: Filters, arguments: Sequence[str]) -> None:
    radius, *sigma = (_number("blur", text) for text in arguments[:2])
    filters.parameters["blur"] = format_number((sigma and sigma[0]) or radius)


def _sharpen(filters: Filters, arguments: Sequence[str]) -> None:
    filters.parameters["sharpen"] = format_number(_number("sharpen", arguments[0]))


def _focal(filters: Filters, arguments: Sequence[str]) -> None:
    if not _FOCAL.fullmatch(arguments[0]):
        raise BadRequest(f"Expected focal(LEFTxTOP:RIGHTxBOTTOM) but received {arguments[0][:60]!r}.")
    filters.focal = _part(arguments[0])


def _fill(filters: Filters, arguments: Sequence[str]) -> None:
    if arguments[0] in ("auto", "blur"):
        raise BadRequest(f"Expected a colour in fill(…): {arguments[0]} is not available here.")
    filters.flags.add("fill")
    filters.parameters["background"] = arguments[0]


def _parameter(name: str) -> _ReadFilter:
    def read(filters: Filters, arguments: Sequence[str]) -> None:
        filters.parameters[name] = arguments[0].lower()

    return read


def _flag(name: str) -> _ReadFilter:
    return lambda filters, _: filters.flags.add(name)


def _grayscale(filters: Filters, _: Sequence[str]) -> None:
    filters.parameters["gray"] = "True"


_FILTERS: dict[str, _ReadFilter] = {
    "background_color": _parameter("background"),
    "blur": _blur,
    "fill": _fill,
    "focal": _focal,
    "format": _parameter("kind"),
    "grayscale": _grayscale,
    "no_upscale": _flag("no_upscale"),
    "quality": _parameter("quality"),
    "rotate": _rotate,
    "sharpen": _sharpen,
    "stretch": _flag("stretch"),
    "upscale": _flag("upscale"),
}
