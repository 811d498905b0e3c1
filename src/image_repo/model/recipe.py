"""Recipes: what to do with a picture, the request for it, and its canonical text.

A request is read in two steps. :func:`read_request` turns query parameters into a :class:`RecipeRequest`, which may
leave things open (a preset, a negotiated format, defaults). :meth:`RecipeRequest.settle` decides them from the
configuration and returns the :class:`Recipe`, in which every value that decides a pixel is written out. Equal recipes
are equal pictures, and ``Recipe.parse(str(recipe)) == recipe``. The table of operations is
:mod:`image_repo.model.operations`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from image_repo.errors import BadParameter
from image_repo.model.formats import BY_KIND, SHOWN_BY_BROWSERS, SUMMARY_KINDS, SUMMARY_SIDE_PX, WRITABLE
from image_repo.model.operations import (
    ALIASES,
    CONDITIONS,
    FIELD_OF,
    MAX_SIDE_PX,
    ORIGINAL,
    PARAMETERS,
    SOURCE,
    TERM_OF_WORD,
    TERMS,
    Focus,
    Operations,
    Region,
    format_number,
    write_focus,
    write_region,
)
from image_repo.model.parameters import unknown_parameter

_OPERATION = re.compile(r"([a-z]+)(?:\(([^()]*)\))?")
_QUALITY = re.compile(r"[01](?:\.[0-9]{0,3})?")
_MAX_ACCEPT_CHARS = 4096
#: parameters that decide the box; without them that of a thumbnail is the configured one
_SIZES = ("xsize", "ysize", "dpr")


_values_of = attrgetter(*(term.attribute for term in TERMS))
_DEFAULTS = tuple(term.default for term in TERMS)
_WRITERS = tuple(term.spelling.write for term in TERMS)


@dataclass(frozen=True)
class Recipe(Operations):
    """What to do with an original, with nothing left to decide."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe with these values, and defaults for the rest.

        The constructor sets every field, which takes most of the time of :meth:`RecipeRequest.settle` (measured: 2.1 µs
        against 0.4); here the defaults stay those of the class.
        """
        recipe = cls.__new__(cls)
        recipe.__dict__.update(values)
        return recipe

    @property
    def is_original(self) -> bool:
        """Whether the uploaded bytes themselves are requested."""
        return self.kind == ORIGINAL

    @property
    def media_type(self) -> str:
        """The media type of what is rendered; that of an original is known to its own object."""
        return BY_KIND[self.kind].media_type

    def operations(self) -> tuple[str, ...]:
        """Return the canonical text of each operation, in canonical order."""
        terms = zip(_values_of(self), _DEFAULTS, _WRITERS)  # noqa: B905, of one length, and strict costs 0.1 µs
        return tuple([write(value) for value, default, write in terms if value is not default and value != default])

    def __str__(self) -> str:
        return "+".join(self.operations()) + "." + self.kind

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Return the recipe of a canonical text: the inverse of ``str``.

        :raises ValueError: when it is not a recipe
        """
        operations, dot, kind = text.rpartition(".")
        if not dot or (kind not in (*WRITABLE, *SUMMARY_KINDS, ORIGINAL)):
            raise ValueError(f"Expected a recipe but received {text!r}")
        values: dict[str, Any] = {"kind": kind}
        for operation in operations.split("+") if operations else ():
            match = _OPERATION.fullmatch(operation)
            if not match or match[1] not in TERM_OF_WORD:
                raise ValueError(f"Expected an operation but received {operation!r}")
            values |= TERM_OF_WORD[match[1]].values(match[1], match[2] or "")
        return cls.of(values)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the configuration decides where a request is silent.

    :param kind: the format where the request names none; ``source`` for that of the original where browsers show it
    :param auto: the formats that ``kind=auto`` chooses from, best first
    :param quality: kind → quality
    :param background: ``rrggbb``
    :param thumbnail_size: width and height of the box in pixels
    :param thumbnail_sharpen: strength, 0 for none
    :param steps: the sides in pixels, in order, that a box can have; a smaller side gets the next one. Empty for any
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
    steps: tuple[int, ...] = ()
    presets: Mapping[str, RecipeRequest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, init=False)
class RecipeRequest:
    """The parameters of a request, read and checked.

    :param values: name of a parameter → value; only what was given
    :param is_listed: whether the configuration names exactly this request, so that its box keeps to no step
    """

    values: Mapping[str, Any]
    is_listed: bool

    def __init__(self, *, is_listed: bool = False, **values: Any) -> None:
        if unknown := values.keys() - PARAMETERS.keys():
            raise TypeError(f"Expected parameters of the table of operations but received {', '.join(unknown)}")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "is_listed", is_listed)

    @property
    def uses_record_focus(self) -> bool:
        """Whether the focus in the image's record decides the picture; resolve presets first."""
        return self.values.get("fit") == "cover" and "focus" not in self.values

    def with_preset(self, presets: Mapping[str, RecipeRequest]) -> RecipeRequest:
        """Return the parameters of the preset, overridden by those given beside it.

        :raises BadParameter: for a preset that is not configured
        """
        if "preset" not in self.values:
            return self
        own = dict(self.values)
        preset = presets.get(name := own.pop("preset"))
        if preset is None:
            names = ", ".join(sorted(presets)) or "none is configured"
            raise BadParameter.expected(f"the name of a preset ({names})", "preset", name)
        return RecipeRequest(is_listed=not own, **{**preset.values, **own})

    def canonical_lines(self) -> list[str]:
        """Return ``NAME=VALUE`` of each parameter, sorted, without aliases and without what is False."""
        return sorted(f"{name}={_spell(value)}" for name, value in self.values.items() if value is not False)

    def box(self, defaults: Defaults) -> tuple[int | None, int | None]:
        """Return width and height of the requested box in pixels, None where that side is free; resolve presets first.

        :raises BadParameter: for a box that ``dpr`` makes too large
        """
        return _box(self.values, defaults)

    def settle(
        self, defaults: Defaults, *, accept: str | None = None, focus: Focus | None = None, source: str = ""
    ) -> tuple[Recipe, bool]:
        """Decide everything that the request left open.

        Fields and their conditions come from the table of operations. Written here are the rules between several
        fields: the box (thumbnail, dpr), the format (negotiation), and defaults that depend on fit or format.

        :param accept: the request's ``Accept`` header, for ``kind=auto``
        :param source: the media type of the original, for the default ``source``
        :param focus: the record's own focus, used where the request names none
        :returns: the recipe, and whether it depends on ``Accept``
        :raises BadParameter: for a preset that is not configured, or a box that ``dpr`` makes too large
        """
        resolved = self.with_preset(defaults.presets)
        given = resolved.values
        kind = given.get("kind") or defaults.kind
        if kind == SOURCE:
            kind = SHOWN_BY_BROWSERS.get(source, "jpg")
        if kind == ORIGINAL:
            return Recipe(kind=ORIGINAL), False
        width, height = _box(given, defaults)
        if defaults.steps and not resolved.is_listed and not given.keys().isdisjoint(_SIZES):
            width, height = (side and next_step(side, defaults.steps) for side in (width, height))
        if kind in SUMMARY_KINDS:
            width = height = SUMMARY_SIDE_PX
        negotiated = kind == "auto"
        if negotiated:
            # AVIF takes seconds to encode at the size of a camera: it needs a box
            quick = tuple(kind for kind in defaults.auto if kind != "avif" or width or height)
            kind = negotiate(accept, quick or defaults.auto)
        values = {FIELD_OF[name]: value for name, value in given.items() if name in FIELD_OF}
        values.update(kind=kind, width=width, height=height, copyright=defaults.keep_copyright)
        for name, applies in CONDITIONS:
            if name in values and not applies(values):
                del values[name]
        _fill_in(values, defaults, focus)
        if given.get("thumbnail"):
            values.setdefault("sharpen", defaults.thumbnail_sharpen)
            values["equalise"] = defaults.thumbnail_equalise
        return Recipe.of(values), negotiated


def next_step(side: int, steps: Sequence[int]) -> int:
    """Return the least of some sides in order that is not smaller, else the largest."""
    return steps[min(bisect_left(steps, side), len(steps) - 1)]


def listed_sizes(width: int, height: int, steps: Iterable[int]) -> list[tuple[int, int]]:
    """Return the sizes of the whole picture that a ladder of widths gives, in pixels, its own size last.

    For the ``sizes`` of an ``info.json`` (IIIF Image API 3.0, section 5.3).

    :param width: of the upright picture
    :param steps: in order
    """
    scaled = [(step, max(1, round(height * step / width))) for step in steps if step < width]
    return [*scaled, (width, height)]


def _spell(value: Any) -> str:
    """Return the canonical text of a parameter's value."""
    if isinstance(value, Region):
        return write_region(value).replace("pct,", "pct:")
    if isinstance(value, tuple):
        return write_focus(value)
    return format_number(value) if isinstance(value, float) else str(value)


def _box(given: Mapping[str, Any], defaults: Defaults) -> tuple[int | None, int | None]:
    """Return width and height of the box in pixels, None where that side is free."""
    width, height = given.get("xsize"), given.get("ysize")
    if given.get("thumbnail"):
        width, height = (width or height, height or width) if width or height else defaults.thumbnail_size
    if "dpr" not in given:
        return width, height
    scaled = [side and max(1, round(side * given["dpr"])) for side in (width, height)]
    if any(side and side * given["dpr"] > MAX_SIDE_PX for side in (width, height)):
        raise BadParameter("dpr", f"The box times dpr may be at most {MAX_SIDE_PX} pixels on a side.")
    return scaled[0], scaled[1]


def _fill_in(values: dict[str, Any], defaults: Defaults, focus: Focus | None) -> None:
    """Set what was not requested and depends on other values: focus, quality, background."""
    format_ = BY_KIND[values["kind"]]
    if values.get("fit") == "cover":
        values.setdefault("focus", focus or (0.5, 0.5))
    if format_.quality:
        values.setdefault("quality", defaults.quality.get(format_.kind))
    if not format_.alpha or values.get("fit") == "contain":
        values.setdefault("background", defaults.background)


def read_request(
    pairs: Iterable[tuple[str, str]], others: Collection[str] = ()
) -> tuple[RecipeRequest, dict[str, str]]:
    """Read query parameters.

    :param pairs: name and value of each, decoded
    :param others: further parameters that the caller reads itself
    :returns: the request of a recipe, and those further parameters as text
    :raises BadParameter: for an unknown parameter, one given twice, or a bad value
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


def negotiate(accept: str | None, choices: tuple[str, ...]) -> str:
    """Return the best of our formats that an ``Accept`` header names (RFC 9110, section 12.5.1).

    Wildcards do not count for the new formats: a client that sends only ``*/*`` gets the last choice, which every
    client can show.
    """
    qualities: dict[str, float] = {}
    for part in (accept or "")[:_MAX_ACCEPT_CHARS].split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        qualities[media_type.lower()] = float(quality) if _QUALITY.fullmatch(quality) else 0.0
    named = [(qualities.get(BY_KIND[kind].media_type, 0.0), -place, kind) for place, kind in enumerate(choices)]
    best = max(named)
    return best[2] if best[0] > 0 else choices[-1]
