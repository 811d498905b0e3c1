"""Recipes: what to do with a picture, how that is asked for, and its canonical text.

A request is read in two steps. :func:`ask` turns query parameters into an
:class:`RecipeRequest`, which still has holes (a preset, a negotiated format, defaults);
:meth:`RecipeRequest.settle` fills them from the configuration and gives the :class:`Recipe`,
in which every value that decides a pixel is written out. Equal recipes are equal
pictures, and ``Recipe.parse(str(recipe)) == recipe``.

The order of the operations is that of IIIF Image API 3.0, section 4: region, size,
mirroring and rotation, quality, format; except that the box (`xsize`, `ysize`)
holds for the picture as it is handed out, so after a rotation.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Generic, Literal, TypeVar

from image_repo.errors import BadParameter
from image_repo.model.formats import BY_ENDING, BY_KIND, WRITABLE

V = TypeVar("V")
#: the longest side that may be asked for, in pixels
MOST_PIXELS = 10_000
ORIGINAL = "original"

Fit = Literal["inside", "cover", "contain", "fill"]
Focus = tuple[float, float] | Literal["smart"]


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the upright original.

    :param unit: ``px`` (whole numbers) or ``pct`` (of width and height, 0 to 100)
    """

    unit: Literal["px", "pct"]
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to do with an original, with nothing left to decide.

    :param kind: the format to write (``jpg``), or ``original`` for the bytes as they are
    :param region: taken first; None is all of it
    :param width: of the box in pixels, None where that side is free
    :param height: of the box in pixels, None where that side is free
    :param fit: how the picture meets the box; anything but ``inside`` has both sides
    :param focus: which part ``cover`` keeps, as fractions of width and height, or ``smart``
    :param enlarge: whether a picture smaller than the box grows
    :param flip: ``h`` left and right change places, ``v`` top and bottom, ``hv`` both; before rotating
    :param rotate: clockwise, 0, 90, 180 or 270 degrees
    :param blur: radius of the Gaussian in pixels of the result, 0 for none
    :param sharpen: strength, 0 for none
    :param equalise: whether the histogram is equalised
    :param background: ``rrggbb`` or ``rrggbbaa``, None where nothing can show it
    :param page: frame or page of the source, from 1
    :param animate: all frames instead of one
    :param copyright: whether Artist and Copyright are written back
    :param quality: 1 to 100, None where the format has none
    :param copy: not a variant but a working copy, 1 to 4 (:mod:`image_repo.render.mezzanine`); nobody can ask for it
    """

    kind: str = "jpg"
    region: Region | None = None
    width: int | None = None
    height: int | None = None
    fit: Fit = "inside"
    focus: Focus | None = None
    enlarge: bool = False
    flip: Literal["", "h", "v", "hv"] = ""
    rotate: Literal[0, 90, 180, 270] = 0
    gray: bool = False
    equalise: bool = False
    blur: float = 0.0
    sharpen: float = 0.0
    background: str | None = None
    page: int = 1
    animate: bool = False
    copyright: bool = False
    quality: int | None = None
    copy: Literal[0, 1, 2, 3, 4] = 0

    @property
    def is_original(self) -> bool:
        """Whether the uploaded bytes themselves are asked for."""
        return self.kind == ORIGINAL

    @property
    def media_type(self) -> str:
        """Of what is written; of an original, its own object knows it."""
        return BY_KIND[self.kind].media_type

    def operations(self) -> tuple[str, ...]:
        """The canonical text of each operation, in canonical order."""
        region, focus = self.region, self.focus
        size = "" if self.width is None and self.height is None else f"{self.width or ''},{self.height or ''}"
        sides = region and ",".join(map(_number, (region.x, region.y, region.width, region.height)))
        told = (
            region and f"crop({'pct,' if region.unit == 'pct' else ''}{sides})",
            size and f"size({size})",
            self.fit != "inside" and self.fit,
            focus and f"focus({focus if isinstance(focus, str) else ','.join(map(_number, focus))})",
            self.enlarge and "enlarge",
            self.flip and f"flip({self.flip})",
            self.rotate and f"rotate({self.rotate})",
            self.gray and "gray",
            self.equalise and "equalise",
            self.blur and f"blur({_number(self.blur)})",
            self.sharpen and f"sharpen({_number(self.sharpen)})",
            self.background and f"bg({self.background})",
            self.page != 1 and f"page({self.page})",
            self.animate and "animate",
            self.copyright and "copyright",
            self.quality and f"q({self.quality})",
            self.copy and f"copy({self.copy})",
        )
        return tuple(text for text in told if text)

    def __str__(self) -> str:
        return "+".join(self.operations()) + "." + self.kind

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """The inverse of ``str``.

        :raises ValueError: when it is no recipe
        """
        operations, dot, kind = text.rpartition(".")
        if not dot or (kind != ORIGINAL and kind not in WRITABLE):
            raise ValueError(f"not a recipe: {text!r}")
        values: dict[str, Any] = {"kind": kind}
        for operation in operations.split("+") if operations else ():
            found = _OPERATION.fullmatch(operation)
            if not found or found[1] not in _READERS:
                raise ValueError(f"not an operation: {operation!r}")
            values |= _READERS[found[1]](found[2] or "")
        return cls(**values)


_OPERATION = re.compile(r"([a-z]+)(?:\(([^()]*)\))?")


def _number(value: float) -> str:
    """Four decimals at most, and none that say nothing: 2, 0.5, 33.3333."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _read_crop(text: str) -> dict[str, Any]:
    unit, _, sides = text.rpartition("pct,") if text.startswith("pct,") else ("px", "", text)
    x, y, width, height = map(float, sides.split(","))
    return {"region": Region("pct" if unit == "" else "px", x, y, width, height)}


def _read_size(text: str) -> dict[str, Any]:
    width, height = (int(side) if side else None for side in text.split(","))
    return {"width": width, "height": height}


def _read_focus(text: str) -> dict[str, Any]:
    if text == "smart":
        return {"focus": "smart"}
    x, y = map(float, text.split(","))
    return {"focus": (x, y)}


_READERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "crop": _read_crop,
    "size": _read_size,
    "cover": lambda _: {"fit": "cover"},
    "contain": lambda _: {"fit": "contain"},
    "fill": lambda _: {"fit": "fill"},
    "focus": _read_focus,
    "enlarge": lambda _: {"enlarge": True},
    "flip": lambda text: {"flip": text},
    "rotate": lambda text: {"rotate": int(text)},
    "gray": lambda _: {"gray": True},
    "equalise": lambda _: {"equalise": True},
    "blur": lambda text: {"blur": float(text)},
    "sharpen": lambda text: {"sharpen": float(text)},
    "bg": lambda text: {"background": text},
    "page": lambda text: {"page": int(text)},
    "animate": lambda _: {"animate": True},
    "copyright": lambda _: {"copyright": True},
    "q": lambda text: {"quality": int(text)},
    "copy": lambda text: {"copy": int(text)},
}


# -- asking ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the configuration says where a request is silent.

    :param kind: the format that is served when none is asked for
    :param auto: what ``kind=auto`` tries, best first
    :param quality: kind → quality
    :param background: ``rrggbb``
    :param thumbnail_size: width and height of the box in pixels
    :param thumbnail_sharpen: strength, 0 for none
    :param presets: name → the parameters that it stands for
    """

    kind: str = "jpg"
    auto: tuple[str, ...] = ("avif", "webp", "jpg")
    quality: Mapping[str, int] = field(default_factory=lambda: {"jpg": 82, "webp": 78, "avif": 61, "jp2": 80})
    background: str = "ffffff"
    thumbnail_size: tuple[int, int] = (50, 50)
    thumbnail_sharpen: float = 1.0
    thumbnail_equalise: bool = False
    keep_copyright: bool = False
    presets: Mapping[str, RecipeRequest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecipeRequest:
    """The parameters of a request, read and checked; None where nothing was said."""

    xsize: int | None = None
    ysize: int | None = None
    thumbnail: bool | None = None
    kind: str | None = None
    quality: int | None = None
    fit: Fit | None = None
    crop: Region | None = None
    focus: Focus | None = None
    enlarge: bool | None = None
    rotate: Literal[0, 90, 180, 270] | None = None
    flip: Literal["", "h", "v", "hv"] | None = None
    gray: bool | None = None
    blur: float | None = None
    sharpen: float | None = None
    dpr: float | None = None
    page: int | None = None
    animate: bool | None = None
    background: str | None = None
    preset: str | None = None

    def with_preset(self, presets: Mapping[str, RecipeRequest]) -> RecipeRequest:
        """What the preset says, with what was asked for beside it laid over.

        :raises BadParameter: for a preset that is not configured
        """
        if self.preset is None:
            return self
        base = presets.get(self.preset)
        if base is None:
            known = ", ".join(sorted(presets)) or "none is configured"
            raise BadParameter.expected(f"the name of a preset ({known})", "preset", self.preset)
        said = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}
        return replace(base, **said)

    def settle(
        self, defaults: Defaults, *, accept: str | None = None, focus: Focus | None = None
    ) -> tuple[Recipe, bool]:
        """Decides everything that the request left open.

        :param accept: the request's ``Accept`` header, for ``kind=auto``
        :param focus: the record's own focus, used where the request names none
        :returns: the recipe, and whether ``Accept`` had a say in it
        :raises BadParameter: for a preset that is not configured, or a box that ``dpr`` makes too large
        """
        asked = self.with_preset(defaults.presets)
        kind = asked.kind or defaults.kind
        if kind == ORIGINAL:
            return Recipe(kind=ORIGINAL), False
        width, height = asked._box(defaults)
        negotiated = kind == "auto"
        if negotiated:
            kind = negotiate(accept, defaults.auto if width or height else _quick(defaults.auto))
        made = BY_KIND[kind]
        fit: Fit = (asked.fit or "inside") if width and height else "inside"
        background = asked.background or defaults.background
        shows_background = not made.alpha or fit == "contain" or asked.background is not None
        sharpen = asked.sharpen
        if sharpen is None:
            sharpen = defaults.thumbnail_sharpen if asked.thumbnail else 0.0
        recipe = Recipe(
            kind=kind,
            region=asked.crop,
            width=width,
            height=height,
            fit=fit,
            focus=(asked.focus or focus or (0.5, 0.5)) if fit == "cover" else None,
            enlarge=bool(asked.enlarge) and bool(width or height),
            flip=asked.flip or "",
            rotate=asked.rotate or 0,
            gray=bool(asked.gray),
            equalise=bool(asked.thumbnail) and defaults.thumbnail_equalise,
            blur=asked.blur or 0.0,
            sharpen=sharpen,
            background=background if shows_background else None,
            page=asked.page or 1,
            animate=bool(asked.animate) and made.animated,
            copyright=defaults.keep_copyright,
            quality=(asked.quality or defaults.quality.get(kind)) if made.quality else None,
        )
        return recipe, negotiated

    def _box(self, defaults: Defaults) -> tuple[int | None, int | None]:
        width, height = self.xsize, self.ysize
        if self.thumbnail:
            width, height = (width or height, height or width) if width or height else defaults.thumbnail_size
        scale = self.dpr or 1.0
        for side in (width, height):
            if side and side * scale > MOST_PIXELS:
                raise BadParameter("dpr", f"The box times dpr may be at most {MOST_PIXELS} pixels on a side.")
        return (width and max(1, round(width * scale)), height and max(1, round(height * scale)))


def ask(pairs: Iterable[tuple[str, str]], others: Collection[str] = ()) -> tuple[RecipeRequest, dict[str, str]]:
    """Reads query parameters.

    :param pairs: name and value of each, as decoded
    :param others: the parameters that mean something to the caller, and nothing to a recipe
    :returns: what concerns the recipe, and the rest as text
    :raises BadParameter: for what is unknown, given twice, or has a bad value
    """
    values: dict[str, Any] = {}
    rest: dict[str, str] = {}
    for given, text in pairs:
        name = ALIASES.get(given, given)
        if name not in PARAMETERS and name not in others:
            raise unknown_parameter(given, (*PARAMETERS, *ALIASES, *others))
        if name in values or name in rest:
            also = f" (that is {name})" if given != name else ""
            raise BadParameter(given, f"The parameter {given}{also} is given more than once.")
        if name in others:
            rest[name] = text
        else:
            values[name] = PARAMETERS[name].read(given, text)
    return RecipeRequest(**values), rest


def unknown_parameter(given: str, known: Iterable[str]) -> BadParameter:
    """The refusal of a parameter that means nothing here, with the nearest that does."""
    shown = given if len(given) <= 40 else given[:39] + "…"
    near = difflib.get_close_matches(given[:40].lower(), sorted(set(known)), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return BadParameter(shown, f"There is no parameter {shown!r}.{hint}", **({"nearest": near[0]} if near else {}))


def negotiate(accept: str | None, choices: tuple[str, ...]) -> str:
    """The best of our formats that an ``Accept`` header names (RFC 9110, section 12.5.1).

    Wildcards do not count for the new formats: a client that says only ``*/*`` gets
    the last choice, which everything can show.
    """
    qualities: dict[str, float] = {}
    for part in (accept or "")[:4096].split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        qualities[media_type.lower()] = float(quality) if _QUALITY.fullmatch(quality) else 0.0
    named = [(qualities.get(BY_KIND[kind].media_type, 0.0), -place, kind) for place, kind in enumerate(choices)]
    best = max(named)
    return best[2] if best[0] > 0 else choices[-1]


def _quick(choices: tuple[str, ...]) -> tuple[str, ...]:
    """Without the formats that take seconds to write at the size of a camera: so they are only chosen into a box."""
    return tuple(kind for kind in choices if kind != "avif") or choices


_QUALITY = re.compile(r"[01](?:\.[0-9]{0,3})?")


# -- the parameters --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter: how it is read, and what a person is told about it.

    :param read: (parameter as given, text) → value; raises BadParameter
    """

    read: Callable[[str, str], Any]
    help: str
    aliases: tuple[str, ...] = ()

    @property
    def schema(self) -> Mapping[str, Any]:
        """What it takes, for machines (JSON Schema 2020-12)."""
        if isinstance(self.read, Reader):
            return self.read.schema
        return {"type": "boolean"} if self.read is read_boolean else {"type": "string"}


TRUE = frozenset(("true", "1", "yes", "on"))
FALSE = frozenset(("false", "0", "no", "off"))
_INTEGER = re.compile(r"[0-9]{1,6}")
_DECIMAL = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,8})?|\.[0-9]{1,8}")
_HEX = re.compile(r"[0-9a-f]{3}|[0-9a-f]{6}|[0-9a-f]{8}")


def read_boolean(parameter: str, text: str) -> bool:
    """``True true 1 yes on`` and their opposites, any case."""
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise BadParameter.expected("True or False", parameter, text)


@dataclass(frozen=True, slots=True)
class Reader(Generic[V]):
    """Reads the text of a parameter, and tells what it takes.

    :param convert: text → value
    :param accepts: whether it is one that is taken
    :param schema: the same for machines (JSON Schema 2020-12)
    :param expected: the same for people
    """

    convert: Callable[[str], V]
    accepts: Callable[[str], bool]
    schema: Mapping[str, Any]
    expected: str

    def __call__(self, parameter: str, text: str) -> V:
        """The value.

        :raises BadParameter: when the text is none that is taken
        """
        if self.accepts(text):
            return self.convert(text)
        raise BadParameter.expected(self.expected, parameter, text)


def integer(least: int, most: int) -> Reader[int]:
    """A reader of whole numbers in ASCII digits."""
    return Reader(
        int,
        lambda text: bool(_INTEGER.fullmatch(text)) and least <= int(text) <= most,
        {"type": "integer", "minimum": least, "maximum": most},
        f"a whole number from {least} to {most}",
    )


def decimal(least: float, most: float) -> Reader[float]:
    """A reader of decimal numbers in ASCII digits, rounded to four decimals."""
    return Reader(
        lambda text: round(float(text), 4),
        lambda text: bool(_DECIMAL.fullmatch(text)) and least <= float(text) <= most,
        {"type": "number", "minimum": least, "maximum": most},
        f"a number from {least:g} to {most:g}",
    )


def word(words: Mapping[str, Any]) -> Reader[Any]:
    """A reader of one of some words, any case."""
    return Reader(
        lambda text: words[text.lower()],
        lambda text: text.lower() in words,
        {"type": "string", "enum": list(words)},
        "one of " + ", ".join(words),
    )


def _read_sharpen(parameter: str, text: str) -> float:
    if text.lower() in TRUE | FALSE:
        return float(text.lower() in TRUE)
    return decimal(0.1, 10)(parameter, text)


def _read_region(parameter: str, text: str) -> Region:
    in_percent = text.startswith("pct:")
    sides = text.removeprefix("pct:").split(",")
    number = _DECIMAL if in_percent else _INTEGER
    if len(sides) == 4 and all(number.fullmatch(side) for side in sides):
        x, y, width, height = (round(float(side), 4) for side in sides)
        if width > 0 and height > 0 and (not in_percent or max(x, y, width, height) <= 100):
            return Region("pct" if in_percent else "px", x, y, width, height)
    raise BadParameter.expected("x,y,width,height in pixels, or pct:x,y,width,height", parameter, text)


def _read_focus_parameter(parameter: str, text: str) -> Focus:
    if text.lower() == "smart":
        return "smart"
    if text.lower() in _COMPASS:
        return _COMPASS[text.lower()]
    parts = text.split(",")
    if len(parts) == 2 and all(_DECIMAL.fullmatch(part) and float(part) <= 1 for part in parts):
        return (round(float(parts[0]), 4), round(float(parts[1]), 4))
    raise BadParameter.expected("x,y as fractions from 0 to 1, smart, or a compass word", parameter, text)


def focus_of(data: object) -> Focus | None:
    """The point of interest that the user's data of an image names, if it does."""
    return read_focus(data.get("focus")) if isinstance(data, Mapping) else None


def read_focus(value: object) -> Focus | None:
    """The focus that a record's data names: ``[x, y]``, or what the parameter takes; None for anything else."""
    try:
        if isinstance(value, (list, tuple)):
            value = ",".join(f"{part:.4f}" for part in value if isinstance(part, (int, float)))
        return _read_focus_parameter("focus", value) if isinstance(value, str) else None
    except (BadParameter, OverflowError):  # an integer beyond what a float holds
        return None


def read_background(parameter: str, text: str) -> str:
    """``rrggbb``, ``rrggbbaa``, ``rgb``, each perhaps behind a ``#``, or a basic CSS colour name."""
    value = _COLOURS.get(text.lower(), text.lower().removeprefix("#"))
    if not _HEX.fullmatch(value):
        raise BadParameter.expected("a colour such as white, fff or 1e90ff", parameter, text)
    value = "".join(c * 2 for c in value) if len(value) == 3 else value
    return value.removesuffix("ff") if len(value) == 8 else value


_COMPASS: dict[str, tuple[float, float]] = {
    name: point
    for names, point in (
        (("center", "centre"), (0.5, 0.5)),
        (("n", "north", "top"), (0.5, 0.0)),
        (("ne", "northeast"), (1.0, 0.0)),
        (("e", "east", "right"), (1.0, 0.5)),
        (("se", "southeast"), (1.0, 1.0)),
        (("s", "south", "bottom"), (0.5, 1.0)),
        (("sw", "southwest"), (0.0, 1.0)),
        (("w", "west", "left"), (0.0, 0.5)),
        (("nw", "northwest"), (0.0, 0.0)),
    )
    for name in names
}
# CSS Color Module Level 4, section 6.1: the sixteen basic names, and transparent
_COLOURS = {
    "transparent": "ffffff00", "black": "000000", "silver": "c0c0c0", "gray": "808080", "grey": "808080",
    "white": "ffffff", "maroon": "800000", "red": "ff0000", "purple": "800080", "fuchsia": "ff00ff",
    "green": "008000", "lime": "00ff00", "olive": "808000", "yellow": "ffff00", "navy": "000080",
    "blue": "0000ff", "teal": "008080", "aqua": "00ffff",
}  # fmt: skip
_FITS = {
    "inside": "inside", "cover": "cover", "contain": "contain", "fill": "fill",
    "clip": "inside", "max": "inside", "crop": "cover", "scale": "fill",
}  # fmt: skip
_FLIPS = {"h": "h", "v": "v", "hv": "hv", "vh": "hv", "horizontal": "h", "vertical": "v", "both": "hv"}
_KINDS = {kind: kind for kind in (*WRITABLE, "auto", ORIGINAL)} | {
    ending: made.kind for ending, made in BY_ENDING.items() if made.writes
}
_ROTATIONS = {"0": 0, "90": 90, "180": 180, "270": 270}

PARAMETERS: dict[str, Parameter] = {
    "xsize": Parameter(integer(1, MOST_PIXELS), "width of the box in pixels", ("w", "width")),
    "ysize": Parameter(integer(1, MOST_PIXELS), "height of the box in pixels", ("h", "height")),
    "thumbnail": Parameter(read_boolean, "a small, sharpened picture"),
    "kind": Parameter(word(_KINDS), "the format: " + " ".join((*WRITABLE, "auto", ORIGINAL)), ("fm", "format")),
    "quality": Parameter(integer(1, 100), "1 (small) to 100 (good)", ("q",)),
    "fit": Parameter(word(_FITS), "how the picture meets the box"),
    "crop": Parameter(_read_region, "the region to take first: x,y,w,h in pixels or pct:x,y,w,h"),
    "focus": Parameter(_read_focus_parameter, "which part cover keeps: x,y, smart, or a compass word"),
    "enlarge": Parameter(read_boolean, "let a picture smaller than the box grow"),
    "rotate": Parameter(word(_ROTATIONS), "clockwise: 0, 90, 180 or 270 degrees"),
    "flip": Parameter(word(_FLIPS), "mirror: h, v or hv, before rotating"),
    "gray": Parameter(read_boolean, "without colour", ("grey", "grayscale", "greyscale")),
    "blur": Parameter(decimal(0.3, 100), "radius in pixels of the result"),
    "sharpen": Parameter(_read_sharpen, "strength, 0.1 to 10, or True"),
    "dpr": Parameter(decimal(0.1, 8), "device pixel ratio: multiplies the box"),
    "page": Parameter(integer(1, 100_000), "frame or page of the source, from 1"),
    "animate": Parameter(read_boolean, "keep the animation, in gif and webp"),
    "background": Parameter(read_background, "colour behind transparent parts and around contain", ("bg",)),
    "preset": Parameter(lambda _, text: text, "a named set of these, from the configuration"),
}
ALIASES: dict[str, str] = {alias: name for name, p in PARAMETERS.items() for alias in p.aliases}
