"""The table of operations: each field of :class:`Operations` is a row.

A row holds the default, the spelling in keys, the step of :mod:`image_repo.render` that applies it, and the query
parameter that requests it. Derived from the rows: :class:`~image_repo.model.recipe.Recipe` and its canonical text, the
key, the reader of query strings, the OpenAPI parameters, the README's table, and the strategy of the property tests.

The order of the rows is the order in the canonical text, that of IIIF Image API 3.0, section 4: region, size, mirroring
and rotation, quality. One exception: the box (`xsize`, `ysize`) limits the picture as it is served, after rotation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal, TypeVar

from image_repo.errors import BadParameter
from image_repo.model.formats import BY_ENDING, BY_KIND, SUMMARY_KINDS, WRITABLE
from image_repo.model.parameters import (
    DECIMAL,
    FALSE,
    INTEGER,
    TRUE,
    Parameter,
    Reader,
    between,
    choice,
    decimal,
    integer,
    matched,
    read_boolean,
)
from image_repo.model.watermark import Watermark

V = TypeVar("V")
Fit = Literal["inside", "cover", "contain", "fill"]
#: fractions of width and height, or the part that draws attention
Focus = tuple[float, float] | Literal["smart"]
#: the longest side that can be requested, in pixels
MAX_SIDE_PX = 10_000
#: the kind that stands for the uploaded bytes
ORIGINAL = "original"
#: the default kind that stands for the format of the original where browsers show it, else JPEG
SOURCE = "source"


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


# -- rows --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spelling:
    """The canonical text of an operation in a key: ``q(82)``, ``gray``, ``size(300,)``.

    Adjacent rows with the same spelling are one operation; its value is the property that its word names.

    :param words: what the text can begin with
    :param write: value → text; not called for the default
    :param parse: (word, text in parentheses) → value; raises ValueError
    """

    words: tuple[str, ...]
    write: Callable[[Any], str]
    parse: Callable[[str, str], Any]


def flag(word: str) -> Spelling:
    """Return the spelling of a boolean: the word alone."""
    return Spelling((word,), lambda _: word, lambda *_: True)


def call(word: str, parse: Callable[[str], Any], write: Callable[[Any], str] = str) -> Spelling:
    """Return the spelling of a word and a value in parentheses."""
    return Spelling((word,), lambda value: f"{word}({write(value)})", lambda _, text: parse(text))


@dataclass(frozen=True, slots=True)
class Operation:
    """What the table says of a field.

    :param spelling: None for the kind, which is the ending of the key
    :param step: dotted name of the function below :mod:`image_repo.render` that applies it
    :param parameter: None for what only the configuration or the program decides
    :param applies: whether it has a meaning beside the other values; where not, the default stands
    """

    spelling: Spelling | None
    step: str
    parameter: Parameter | None
    applies: Callable[[Mapping[str, Any]], bool] | None


def operation(
    default: V,
    spelling: Spelling | None,
    step: str,
    parameter: Parameter | None = None,
    applies: Callable[[Mapping[str, Any]], bool] | None = None,
) -> V:
    """Return a row of the table: a dataclass field, declared to mypy as its default."""
    row: V = field(default=default, metadata={"operation": Operation(spelling, step, parameter, applies)})
    return row


# -- values ------------------------------------------------------------------------------


def format_number(value: float) -> str:
    """Return a number with at most four decimals and no trailing zeros: 2, 0.5, 33.3333."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def write_region(region: Region) -> str:
    sides = ",".join(map(format_number, (region.x, region.y, region.width, region.height)))
    return f"pct,{sides}" if region.unit == "pct" else sides


def _parse_region(text: str) -> Region:
    x, y, width, height = map(float, text.removeprefix("pct,").split(","))
    return Region("pct" if text.startswith("pct,") else "px", x, y, width, height)


def _read_region(text: str) -> Region:
    in_percent = text.startswith("pct:")
    pattern, most = (DECIMAL, 100.0) if in_percent else (INTEGER, 1e6)
    sides = text.removeprefix("pct:").split(",")
    x, y, width, height = (between(0, round(float(matched(pattern, side)), 4), most) for side in sides)
    if not (width and height):
        raise ValueError(text)
    return Region("pct" if in_percent else "px", x, y, width, height)


def write_focus(focus: Focus) -> str:
    return focus if isinstance(focus, str) else ",".join(map(format_number, focus))


def _parse_focus(text: str) -> Focus:
    if text == "smart":
        return "smart"
    x, y = map(float, text.split(","))
    return x, y


def _read_focus(text: str) -> Focus:
    if text.lower() in _FOCUS_WORDS:
        return _FOCUS_WORDS[text.lower()]
    x, y = (round(between(0, float(matched(DECIMAL, part)), 1), 4) for part in text.split(","))
    return x, y


def _parse_degrees(text: str) -> float:
    degrees = float(text)
    return int(degrees) if degrees.is_integer() else degrees


def _read_degrees(text: str) -> float:
    return _parse_degrees(str(round(between(0, float(matched(DECIMAL, text)), 360) % 360, 4)))


def _read_sharpen(text: str) -> float:
    return float(text.lower() in TRUE) if text.lower() in TRUE | FALSE else decimal(0.1, 10).convert(text)


def _read_background(text: str) -> str:
    """``rrggbb``, ``rrggbbaa`` or ``rgb``, with or without a leading ``#``, or a basic CSS colour name."""
    value = matched(_HEX, _COLOURS.get(text.lower(), text.lower().removeprefix("#")))
    value = "".join(c * 2 for c in value) if len(value) == 3 else value
    return value.removesuffix("ff") if len(value) == 8 else value


_HEX = re.compile(r"[0-9a-f]{3}|[0-9a-f]{6}|[0-9a-f]{8}")
_FOCUS_WORDS: dict[str, Focus] = {
    "smart": "smart", "center": (0.5, 0.5), "centre": (0.5, 0.5),
    "n": (0.5, 0.0), "north": (0.5, 0.0), "top": (0.5, 0.0), "ne": (1.0, 0.0), "northeast": (1.0, 0.0),
    "e": (1.0, 0.5), "east": (1.0, 0.5), "right": (1.0, 0.5), "se": (1.0, 1.0), "southeast": (1.0, 1.0),
    "s": (0.5, 1.0), "south": (0.5, 1.0), "bottom": (0.5, 1.0), "sw": (0.0, 1.0), "southwest": (0.0, 1.0),
    "w": (0.0, 0.5), "west": (0.0, 0.5), "left": (0.0, 0.5), "nw": (0.0, 0.0), "northwest": (0.0, 0.0),
}  # fmt: skip
# CSS Color Module Level 4, section 6.1: the sixteen basic names, and transparent
_COLOURS = {
    "transparent": "ffffff00", "black": "000000", "silver": "c0c0c0", "gray": "808080", "grey": "808080",
    "white": "ffffff", "maroon": "800000", "red": "ff0000", "purple": "800080", "fuchsia": "ff00ff",
    "green": "008000", "lime": "00ff00", "olive": "808000", "yellow": "ffff00", "navy": "000080",
    "blue": "0000ff", "teal": "008080", "aqua": "00ffff",
}  # fmt: skip
_FITS: dict[str, Fit] = {
    "inside": "inside", "cover": "cover", "contain": "contain", "fill": "fill",
    "clip": "inside", "max": "inside", "crop": "cover", "scale": "fill",
}  # fmt: skip
_FLIPS = {"h": "h", "v": "v", "hv": "hv", "vh": "hv", "horizontal": "h", "vertical": "v", "both": "hv"}
_KINDS = {kind: kind for kind in (*WRITABLE, *SUMMARY_KINDS, "auto", ORIGINAL)} | {
    ending: known.kind for ending, known in BY_ENDING.items() if known.writes
}

read_background = Reader(_read_background, "a colour such as white, fff or 1e90ff")
read_focus_text = Reader(_read_focus, "x,y as fractions from 0 to 1, smart, or a compass word")


def read_focus(value: object) -> Focus | None:
    """Return the focus that a record's data names: ``[x, y]`` or the text of the parameter; None for anything else."""
    try:
        if isinstance(value, (list, tuple)):
            value = ",".join(f"{part:.4f}" for part in value if isinstance(part, (int, float)))
        return read_focus_text("focus", value) if isinstance(value, str) else None
    except (BadParameter, OverflowError):  # an integer beyond the range of a float
        return None


def focus_of(data: object) -> Focus | None:
    """Return the focus in the user's data of an image, None where there is none."""
    return read_focus(data.get("focus")) if isinstance(data, Mapping) else None


def _parse_size(_: str, text: str) -> tuple[int | None, ...]:
    width, height = (int(side) if side else None for side in text.split(","))
    return width, height


_SIZE = Spelling(("size",), lambda sides: f"size({sides[0] or ''},{sides[1] or ''})", _parse_size)
_FIT = Spelling(("cover", "contain", "fill"), str, lambda word, _: word)


# -- the table ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Operations:
    """What to do with an original. A field that is not a row fails at import."""

    # fmt: off
    kind: str = operation("jpg", None, "encoders.encode",
        Parameter("kind", choice(_KINDS), f"format: {' '.join(WRITABLE)}, auto (by Accept; AVIF only into a box), "
            "thumbhash or palette (JSON), or original (the uploaded file, where serve_originals allows it)",
            ("fm", "format")))
    region: Region | None = operation(None, call("crop", _parse_region, write_region), "geometry.plan",
        Parameter("crop", Reader(_read_region, "x,y,width,height in pixels, or pct:x,y,width,height"),
            "region of the upright original: x,y,w,h in pixels or pct:x,y,w,h"))
    width: int | None = operation(None, _SIZE, "geometry.plan",
        Parameter("xsize", integer(1, MAX_SIDE_PX), "width of the box in pixels; free where absent", ("w", "width")))
    height: int | None = operation(None, _SIZE, "geometry.plan",
        Parameter("ysize", integer(1, MAX_SIDE_PX), "height of the box in pixels; free where absent", ("h", "height")))
    fit: Fit = operation("inside", _FIT, "geometry.plan",
        Parameter("fit", choice(_FITS), "inside (default), cover (fill the box and crop), contain (fill it and pad), "
            "fill (ignore the ratio), or imgix's clip crop max scale"),
        applies=lambda values: bool(values["width"] and values["height"]))
    focus: Focus | None = operation(None, call("focus", _parse_focus, write_focus), "geometry.cover_box",
        Parameter("focus", read_focus_text,
            "part that cover keeps: x,y as fractions, smart, or n ne e se s sw w nw center"),
        applies=lambda values: values.get("fit") == "cover")
    enlarge: bool = operation(False, flag("enlarge"), "geometry.plan",
        Parameter("enlarge", read_boolean, "enlarge a picture that is smaller than the box"),
        applies=lambda values: bool(values["width"] or values["height"]))
    flip: Literal["", "h", "v", "hv"] = operation("", call("flip", str), "pipeline.turn",
        Parameter("flip", choice(_FLIPS), "mirror, before rotating: h, v or hv"))
    rotate: float = operation(0, call("rotate", _parse_degrees, format_number), "pipeline.turn",
        Parameter("rotate", Reader(_read_degrees, "degrees from 0 to 360"), "rotate clockwise by so many degrees; "
            "beside quarter turns the picture grows beyond its box, its corners are transparent or the background"))
    gray: bool = operation(False, flag("gray"), "pipeline.tone",
        Parameter("gray", read_boolean, "remove colour", ("grey", "grayscale", "greyscale")))
    bitonal: bool = operation(False, flag("bitonal"), "pipeline.tone",
        Parameter("bitonal", read_boolean, "black and white alone"))
    equalise: bool = operation(False, flag("equalise"), "pipeline.tone")
    blur: float = operation(0.0, call("blur", float, format_number), "pipeline.soften",
        Parameter("blur", decimal(0.3, 100), "radius of the Gaussian in pixels of the result"))
    sharpen: float = operation(0.0, call("sharpen", float, format_number), "pipeline.soften",
        Parameter("sharpen", Reader(_read_sharpen, "a number from 0.1 to 10"), "strength from 0.1 to 10, or True"))
    background: str | None = operation(None, call("bg", str), "pipeline.flatten",
        Parameter("background", read_background, "colour behind transparent parts and around contain: "
            "white, fff, 1e90ff, or 1e90ff80 with alpha", ("bg",)))
    page: int = operation(1, call("page", int), "decoders.open_picture",
        Parameter("page", integer(1, 100_000), "frame or page of the source, from 1"))
    animate: bool = operation(False, flag("animate"), "render",
        Parameter("animate", read_boolean, "keep the animation, in gif and webp"),
        applies=lambda values: BY_KIND[values["kind"]].animated)
    watermark: Watermark | None = operation(None, call("wm", Watermark, attrgetter("id")), "watermark.stamp",
        applies=lambda values: values["kind"] not in SUMMARY_KINDS)
    copyright: bool = operation(False, flag("copyright"), "encoders.encode")
    quality: int | None = operation(None, call("q", int), "encoders.encode",
        Parameter("quality", integer(1, 100), "1 (small) to 100 (good)", ("q",)),
        applies=lambda values: BY_KIND[values["kind"]].quality)
    # fmt: on

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Width and height of the box in pixels."""
        return self.width, self.height


#: parameters that change others and leave nothing of their own in the recipe
MODIFIERS = (
    Parameter("thumbnail", read_boolean, "fit the configured box (50x50, or xsize and ysize) and sharpen"),
    Parameter("dpr", decimal(0.1, 8), "device pixel ratio: multiplies the box"),
    Parameter("preset", Reader(str, "the name of a preset"), "a named set of these parameters, from the configuration"),
)


@dataclass(frozen=True, slots=True)
class Term:
    """One operation of the canonical text: one field, or several that share a spelling.

    :param attribute: of the recipe: the field, or the property that joins the fields
    """

    names: tuple[str, ...]
    spelling: Spelling
    attribute: str
    default: Any

    def values(self, word: str, text: str) -> Iterator[tuple[str, Any]]:
        """Return name and value of each field, from the canonical text.

        :raises ValueError: when it is not canonical text of this operation
        """
        value = self.spelling.parse(word, text)
        return zip(self.names, value if len(self.names) > 1 else (value,), strict=True)


def rows_of(table: type[Any]) -> dict[str, Operation]:
    """Return field → row.

    :raises TypeError: for a field that is not a row: it would be missing in keys
    """
    for declared in fields(table):
        if "operation" not in declared.metadata:
            raise TypeError(f"Expected {declared.name} to be declared with operation(...)")
    return {declared.name: declared.metadata["operation"] for declared in fields(table)}


OPERATIONS = rows_of(Operations)


def _terms() -> Iterator[Term]:
    for spelling, group in groupby(OPERATIONS, key=lambda name: OPERATIONS[name].spelling):
        names = tuple(group)
        attribute = names[0] if len(names) == 1 else spelling.words[0] if spelling else ""
        if spelling:
            yield Term(names, spelling, attribute, getattr(Operations(), attribute))


#: in canonical order
TERMS = tuple(_terms())
TERM_OF_WORD = {word: term for term in TERMS for word in term.spelling.words}
#: name of a parameter → the field that it fills
FIELD_OF = {row.parameter.name: name for name, row in OPERATIONS.items() if row.parameter}
#: fields that apply only beside certain values, in the order of the table: a condition sees those above it settled
CONDITIONS = tuple((name, row.applies) for name, row in OPERATIONS.items() if row.applies)
PARAMETERS = {p.name: p for p in (*(row.parameter for row in OPERATIONS.values() if row.parameter), *MODIFIERS)}
ALIASES = {alias: name for name, parameter in PARAMETERS.items() for alias in parameter.aliases}
