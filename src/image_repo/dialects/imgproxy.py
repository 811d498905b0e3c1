"""imgproxy's URLs as parameters of ``/images``: ``rs:fill:300:400/g:sm/plain/NAME@png``.

The options are those of https://docs.imgproxy.net/usage/processing, their sizes those of its ``calcScale``. Sizes,
crops and gravities refer to the picture as it is served, after a rotation.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from image_repo.dialects.sizes import Pairs, crop_parameters, round_up
from image_repo.errors import BadRequest
from image_repo.iiif.image_api import Part, Size, scale_parameters
from image_repo.model.formats import BY_ENDING, WRITABLE
from image_repo.model.operations import format_number

_NUMBER = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,7})?")
_HEX = re.compile(r"[0-9a-fA-F]{6}|[0-9a-fA-F]{3}")
_TRUE, _FALSE = ("1", "t", "true", "True", "T", "TRUE"), ("0", "f", "false", "False", "F", "FALSE", "")
_TYPES = ("fit", "fill", "fill-down", "force", "auto")
#: gravity → the place across and down, as fractions
_GRAVITIES = {
    "no": (0.5, 0.0), "so": (0.5, 1.0), "ea": (1.0, 0.5), "we": (0.0, 0.5), "ce": (0.5, 0.5),
    "noea": (1.0, 0.0), "nowe": (0.0, 0.0), "soea": (1.0, 1.0), "sowe": (0.0, 1.0),
}  # fmt: skip
Arguments = Sequence[str]


@dataclass(frozen=True, slots=True)
class Gravity:
    """What is kept of a picture.

    :param kind: a word of the table above, ``fp`` or ``sm``
    :param x: an offset in pixels, below 1 as a fraction; of ``fp`` the point itself
    """

    kind: str
    x: float = 0.0
    y: float = 0.0

    def place(self, outer: Size, inner: Size) -> tuple[int, int]:
        """Return left and top of the part of this size that is kept."""
        if self.kind == "fp":
            places = [
                int(side * at + 0.5) - part // 2 for side, at, part in zip(outer, (self.x, self.y), inner, strict=True)
            ]
        else:
            ways = zip(outer, inner, _GRAVITIES[self.kind], (self.x, self.y), strict=True)
            places = [_aligned(side, part, at, offset) for side, part, at, offset in ways]
        left, top = (max(0, min(at, side - part)) for at, side, part in zip(places, outer, inner, strict=True))
        return left, top


def _aligned(side: int, part: int, at: float, offset: float) -> int:
    shift = int(offset) if abs(offset) >= 1 else round(side * offset)
    if at == 1.0:
        return side - part - shift
    return shift if at == 0.0 else (side - part + 1) // 2 + shift


@dataclass(slots=True)
class ImgproxyRequest:
    """What a URL of imgproxy requests.

    :param source: the name or the address of the picture
    :param width: in pixels, 0 where it follows from the other side
    :param crop: width and height, below 1 as fractions, 0 for all
    :param rotate: degrees clockwise
    :param named: further parameters of ``/images``
    :param expires: from when on the URL is refused, in seconds since the epoch
    """

    source: str = ""
    resizing_type: str = "fit"
    width: int = 0
    height: int = 0
    dpr: float = 1.0
    is_enlarged: bool = False
    is_extended: bool = False
    gravity: Gravity | None = None
    crop: tuple[float, float] = (0.0, 0.0)
    crop_gravity: Gravity | None = None
    rotate: int = 0
    qualities: dict[str, str] = field(default_factory=dict)
    filename: str = ""
    named: dict[str, str] = field(default_factory=dict)
    expires: int | None = None

    def parameters(self, source: Size, kind: str | None) -> Pairs:
        """Return the query of ``/images/NAME`` that gives this picture.

        :param source: width and height of the upright original in pixels
        :param kind: the format where the URL names none; None leaves it to the configuration
        """
        named = self.named if kind is None or "preset" in self.named else {"kind": kind, **self.named}
        made = named.get("kind", "")
        if made in self.qualities:
            named = {"quality": self.qualities[made], **named}
        if "download" in named and self.filename:
            named = {**named, "download": f"{self.filename}.{made}" if made in WRITABLE else self.filename}
        if made == "original":
            return [(name, named[name]) for name in ("kind", "download") if name in named]
        turned = source[::-1] if self.rotate in (90, 270) else source
        region = self._region(turned)
        pairs = [*crop_parameters(self._upright(region, source), source), *self._box(region[2:])]
        return [*pairs, *([("rotate", str(self.rotate))] if self.rotate else []), *named.items()]

    def _region(self, turned: Size) -> Part:
        width, height = (
            side if not part else min(side, int(part) if part >= 1 else max(1, int(side * part)))
            for part, side in zip(self.crop, turned, strict=True)
        )
        gravity = self.crop_gravity or self.gravity or Gravity("ce")
        if (width, height) == turned:
            return 0, 0, width, height
        if gravity.kind == "sm":
            raise BadRequest("Expected crop to have another gravity than sm.")
        return (*gravity.place(turned, (width, height)), width, height)

    def _upright(self, region: Part, source: Size) -> Part:
        """Return the region of the upright original that is this one after the rotation."""
        left, top, width, height = region
        if self.rotate == 90:
            return top, source[1] - left - width, height, width
        if self.rotate == 180:
            return source[0] - left - width, source[1] - top - height, width, height
        if self.rotate == 270:
            return source[0] - top - height, left, height, width
        return region

    def _box(self, full: Size) -> Pairs:
        """Return the parameters of the size.

        :param full: size of the region, as it is turned
        """
        scales, resizing_type = self._scales(full)
        scaled = round_up(full[0] * scales[0]), round_up(full[1] * scales[1])
        wanted = [round_up(side * self.dpr) if side else None for side in (self.width, self.height)]
        box = wanted[0] or scaled[0], wanted[1] or scaled[1]
        larger = [("enlarge", "True")] if scaled[0] > full[0] or scaled[1] > full[1] else []
        if self.is_extended and box[0] >= scaled[0] and box[1] >= scaled[1] and box != scaled:
            return [("xsize", str(box[0])), ("ysize", str(box[1])), ("fit", "contain"), *larger]
        if resizing_type == "fit" and scaled != full:
            names = [(name, str(side)) for name, side in zip(("xsize", "ysize"), wanted, strict=True) if side]
            return [*names, *larger]
        cropped = min(box[0], scaled[0]), min(box[1], scaled[1])
        if resizing_type == "fill-down" and wanted[0] and wanted[1]:
            shrink = min(1.0, cropped[0] / box[0], cropped[1] / box[1])
            cropped = round_up(box[0] * shrink), round_up(box[1] * shrink)
        if resizing_type not in ("fill", "fill-down") or cropped == scaled:
            return scale_parameters(full, cropped)
        larger = [("enlarge", "True")] if cropped[0] > full[0] or cropped[1] > full[1] else []
        focus = self._focus(scaled, cropped)
        return [
            ("xsize", str(cropped[0])), ("ysize", str(cropped[1])), ("fit", "cover"),
            *([("focus", focus)] if focus else []), *larger,
        ]  # fmt: skip

    def _scales(self, full: Size) -> tuple[tuple[float, float], str]:
        """Return the scale across and down, and the resizing type without ``auto``."""
        scales = [side / own if side else 1.0 for side, own in zip((self.width, self.height), full, strict=True)]
        resizing_type = self.resizing_type
        if resizing_type == "auto":
            target = self.width or full[0], self.height or full[1]
            is_alike = (full[0] >= full[1]) == (target[0] >= target[1])
            resizing_type = "fill" if is_alike else "fit"
        if resizing_type != "force":
            given = [scale for scale, side in zip(scales, (self.width, self.height), strict=True) if side]
            scale = (min if resizing_type == "fit" else max)(given, default=1.0)
            scales = [scale, scale]
        most = max(*scales, 1.0) if not self.is_enlarged else 1.0
        scales = [scale / most for scale in scales]
        dpr = self.dpr if self.is_enlarged else min(self.dpr, 1 / max(scales))
        return (scales[0] * dpr, scales[1] * dpr), resizing_type

    def _focus(self, scaled: Size, box: Size) -> str | None:
        """Return the focus of the upright picture; None leaves it to its record, else to the middle."""
        gravity = self.gravity
        if gravity is None:
            return None
        if gravity.kind == "sm":
            return "smart"
        if gravity.kind == "fp":
            x, y = gravity.x, gravity.y
        elif gravity.x or gravity.y:
            left, top = gravity.place(scaled, box)
            x, y = (left + box[0] / 2) / scaled[0], (top + box[1] / 2) / scaled[1]
        else:
            x, y = _GRAVITIES[gravity.kind]
        x, y = {90: (y, 1 - x), 180: (1 - x, 1 - y), 270: (1 - y, x)}.get(self.rotate, (x, y))
        return f"{format_number(x)},{format_number(y)}"


# -- reading -----------------------------------------------------------------------------


def read_request(path: str) -> ImgproxyRequest:
    """Return what the part of a URL behind the signature requests.

    :param path: as it was sent, without a ``/`` ahead
    :raises BadRequest: for what cannot be understood, or is not available here
    """
    parts = path.split("/")
    request = ImgproxyRequest()
    while parts and ":" in (option := unquote(parts[0])):
        name, *arguments = option.split(":")
        if name not in _PASSED_OVER:
            _reader_of(name)(request, arguments)
        parts.pop(0)
    request.source, ending = _read_source(parts)
    if ending:
        _format(request, [ending])
    return request


def _read_source(parts: list[str]) -> tuple[str, str]:
    """Return the address of the source, and the ending of the format."""
    if parts[:1] == ["plain"]:
        address, at, ending = "/".join(parts[1:]).rpartition("@")
        address, ending = (address, ending) if at else (ending, "")
        address = unquote(address)
    elif parts[:1] == ["enc"]:
        raise BadRequest("Encrypted source URLs are not available here.")
    else:
        encoded, _, ending = "".join(parts).partition(".")
        try:
            address = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True).decode()
        except (binascii.Error, ValueError):
            raise BadRequest("Expected OPTIONS/plain/SOURCE@FORMAT, or the source in base64url.") from None
    if not address:
        raise BadRequest("Expected a source behind the options: plain/NAME.")
    return address, ending


def _reader_of(name: str) -> _ReadOption:
    read = _OPTIONS.get(name)
    if read is None:
        raise BadRequest(f"Of imgproxy's options {name[:60]} is not available here.")
    return read


def _number(name: str, text: str, least: float = 0.0, most: float = 1e6) -> float:
    if not _NUMBER.fullmatch(text) or not least <= float(text) <= most:
        raise BadRequest(f"Expected {name} to be a number from {least:g} to {most:g}, but received {text[:60]!r}.")
    return float(text)


def _boolean(name: str, text: str) -> bool:
    if text not in _TRUE + _FALSE:
        raise BadRequest(f"Expected {name} to be 1 or 0, but received {text[:60]!r}.")
    return text in _TRUE


#: adds what an option with these arguments requests
_ReadOption = Callable[[ImgproxyRequest, Arguments], None]


def _resize(request: ImgproxyRequest, arguments: Arguments) -> None:
    if arguments[0]:
        _resizing_type(request, arguments[:1])
    _size(request, arguments[1:])


def _size(request: ImgproxyRequest, arguments: Arguments) -> None:
    for read, text in zip((_width, _height, _enlarge), arguments, strict=False):
        if text:
            read(request, [text])
    if len(arguments) > 3:
        _extend(request, arguments[3:])


def _resizing_type(request: ImgproxyRequest, arguments: Arguments) -> None:
    if arguments[0] not in _TYPES:
        raise BadRequest(f"Expected the resizing type to be {'|'.join(_TYPES)}, but received {arguments[0][:60]!r}.")
    request.resizing_type = arguments[0]


def _width(request: ImgproxyRequest, arguments: Arguments) -> None:
    request.width = int(_number("width", arguments[0] or "0", most=10_000))


def _height(request: ImgproxyRequest, arguments: Arguments) -> None:
    request.height = int(_number("height", arguments[0] or "0", most=10_000))


def _dpr(request: ImgproxyRequest, arguments: Arguments) -> None:
    request.dpr = _number("dpr", arguments[0], least=0.1, most=8)


def _enlarge(request: ImgproxyRequest, arguments: Arguments) -> None:
    request.is_enlarged = _boolean("enlarge", arguments[0])


def _extend(request: ImgproxyRequest, arguments: Arguments) -> None:
    request.is_extended = _boolean("extend", arguments[0])
    if request.is_extended and "".join(arguments[1:]).rstrip("0.") not in ("", "ce"):
        raise BadRequest("Expected extend to have no gravity but ce.")


def _read_gravity(arguments: Arguments) -> Gravity:
    kind, *offsets = arguments
    if kind not in (*_GRAVITIES, "sm", "fp"):
        words = " ".join((*_GRAVITIES, "sm", "fp"))
        raise BadRequest(f"Expected the gravity to be one of {words}, but received {kind[:60]!r}.")
    most = 1.0 if kind == "fp" else 1e6
    x, y = (
        _number("gravity", text or "0", least=0 if kind == "fp" else -1e6, most=most) for text in [*offsets, "", ""][:2]
    )
    return Gravity(kind, x, y)


def _gravity(request: ImgproxyRequest, arguments: Arguments) -> None:
    request.gravity = _read_gravity(arguments)


def _crop(request: ImgproxyRequest, arguments: Arguments) -> None:
    width, height = (_number("crop", text or "0") for text in [*arguments, ""][:2])
    request.crop = width, height
    if len(arguments) > 2:
        request.crop_gravity = _read_gravity(arguments[2:])


def _rotate(request: ImgproxyRequest, arguments: Arguments) -> None:
    degrees = _number("rotate", arguments[0], least=-3600, most=3600)
    if degrees % 90:
        raise BadRequest(f"Expected rotate to be a multiple of 90, but received {arguments[0][:60]!r}.")
    request.rotate = int(degrees % 360)


def _auto_rotate(_: ImgproxyRequest, arguments: Arguments) -> None:
    if not _boolean("auto_rotate", arguments[0]):
        raise BadRequest("Expected auto_rotate to be 1: pictures are always upright here.")


def _background(request: ImgproxyRequest, arguments: Arguments) -> None:
    if len(arguments) == 3:
        colour = "".join(f"{int(_number('background', text, most=255)):02x}" for text in arguments)
    else:
        colour = arguments[0]
    if colour and not _HEX.fullmatch(colour):
        raise BadRequest(f"Expected background to be R:G:B or rrggbb, but received {':'.join(arguments)[:60]!r}.")
    request.named.update({"background": colour} if colour else {})


def _blur(request: ImgproxyRequest, arguments: Arguments) -> None:
    if sigma := _number("blur", arguments[0]):
        request.named["blur"] = format_number(sigma)


def _sharpen(request: ImgproxyRequest, arguments: Arguments) -> None:
    if sigma := _number("sharpen", arguments[0]):
        request.named["sharpen"] = format_number(sigma)


def _quality(request: ImgproxyRequest, arguments: Arguments) -> None:
    if quality := int(_number("quality", arguments[0] or "0", most=100)):
        request.named["quality"] = str(quality)


def _format_quality(request: ImgproxyRequest, arguments: Arguments) -> None:
    for kind, text in zip(arguments[::2], arguments[1::2], strict=False):
        request.qualities[_kind_of(kind)] = str(int(_number("format_quality", text, least=1, most=100)))


def _kind_of(ending: str) -> str:
    known = BY_ENDING.get(ending.lower())
    return known.kind if known else ending


def _format(request: ImgproxyRequest, arguments: Arguments) -> None:
    request.named["kind"] = "auto" if arguments[0] == "best" else _kind_of(arguments[0])


def _page(request: ImgproxyRequest, arguments: Arguments) -> None:
    if page := int(_number("page", arguments[0])):
        request.named["page"] = str(page + 1)


def _raw(request: ImgproxyRequest, arguments: Arguments) -> None:
    if _boolean("raw", arguments[0]):
        request.named["kind"] = "original"


def _preset(request: ImgproxyRequest, arguments: Arguments) -> None:
    if len(arguments) > 1:
        raise BadRequest("Expected one preset.")
    request.named["preset"] = arguments[0]


def _expires(request: ImgproxyRequest, arguments: Arguments) -> None:
    if arguments[0]:
        request.expires = int(_number("expires", arguments[0], most=1e12))


def _filename(request: ImgproxyRequest, arguments: Arguments) -> None:
    request.filename = arguments[0]
    if len(arguments) > 1 and _boolean("filename", arguments[1]):
        request.filename = _read_source([arguments[0]])[0]


def _attachment(request: ImgproxyRequest, arguments: Arguments) -> None:
    if _boolean("return_attachment", arguments[0]):
        request.named["download"] = ""


#: options that would change no pixel here: metadata and profiles are never served
_PASSED_OVER = frozenset(
    ("cachebuster", "cb", "strip_metadata", "sm", "keep_copyright", "kcr", "strip_color_profile", "scp",
     "enforce_thumbnail", "eth")
)  # fmt: skip
_OPTIONS: Mapping[str, _ReadOption] = {
    name: read
    for names, read in (
        ("resize rs", _resize), ("size s", _size), ("resizing_type rt", _resizing_type), ("width w", _width),
        ("height h", _height), ("dpr", _dpr), ("enlarge el", _enlarge), ("extend ex", _extend),
        ("gravity g", _gravity), ("crop c", _crop), ("rotate rot", _rotate), ("auto_rotate ar", _auto_rotate),
        ("background bg", _background), ("blur bl", _blur), ("sharpen sh", _sharpen), ("quality q", _quality),
        ("format_quality fq", _format_quality), ("format f ext", _format), ("page pg", _page), ("raw", _raw),
        ("preset pr", _preset), ("expires exp", _expires), ("filename fn", _filename),
        ("return_attachment att", _attachment),
    )
    for name in names.split()
}  # fmt: skip
