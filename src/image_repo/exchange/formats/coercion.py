"""What the formats read of a user's ``data``. Nothing of it is trusted: any JSON may stand anywhere.

* ``annotations``: a list of ``{"category": TEXT, "bbox": [x, y, width, height], …}`` in pixels of the upright
  original; with ``segmentation`` (polygons ``[[x1, y1, x2, y2, …], …]``), ``score`` (0 to 1) and ``iscrowd`` if
  there are any. ``label``, ``category_name``, ``species`` and ``scientificName`` are read for ``category`` too.
* ``labels`` (a list or one), ``label``, ``category``, ``species``, ``scientificName``: what the whole picture shows.
* ``license``, ``copyright``: text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from image_repo.exchange.formats.notes import Notes

#: the longest text that names something, in characters
LONGEST = 1_000
#: nothing lies further from a picture than this, in pixels
_FARTHEST = 1e7
#: the most annotations, and the most numbers of an outline, that are read of one picture
_MOST_ANNOTATIONS, _MOST_NUMBERS = 10_000, 20_000
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?")
CATEGORY = ("category", "category_name", "label", "species", "scientificName")
LABELS = ("labels", "label", "category", "species", "scientificName")


@dataclass(frozen=True, slots=True)
class Annotation:
    """Something in a picture.

    :param box: left, top, width, height in pixels of the upright original; None where it is the whole picture's
    :param polygons: outlines, ``x1, y1, x2, y2, …``
    :param said: the object that it was read from
    """

    category: str
    box: tuple[float, float, float, float] | None = None
    polygons: tuple[tuple[float, ...], ...] = ()
    score: float | None = None
    crowd: bool = False
    said: Mapping[str, Any] | None = None


def user_data(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the user says of an image."""
    data = document.get("data")
    return data if isinstance(data, Mapping) else {}


def facts(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What its EXIF tells."""
    exif = document.get("exif")
    return exif if isinstance(exif, Mapping) else {}


def text(value: Any, longest: int = LONGEST) -> str | None:
    """A value that names something; None where it is no text, an empty one, or too long."""
    if not isinstance(value, str) or len(value) > longest:
        return None
    # half of a surrogate pair is JSON, but no text that could be written
    return value.strip().encode("utf-8", "replace").decode() or None


def named(value: Any) -> str | None:
    """What something is called: text, or a whole number that stands for it."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _FARTHEST:
        return str(value)
    return text(value)


def number(value: Any, least: float = -_FARTHEST, most: float = _FARTHEST) -> float | None:
    """A finite number within bounds; None where it is none. ``"4.5"`` is one, because forms send text; True is none."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if least <= value <= most else None


def moment(value: Any) -> tuple[datetime, bool] | None:
    """A time, and whether its zone was told; where it was not, it is taken for UTC. None where it is no time."""
    if not isinstance(value, str) or not 8 <= len(value) <= 40:
        return None
    try:
        read = datetime.fromisoformat(value)
        if read.tzinfo is None:
            return read.replace(tzinfo=UTC, microsecond=0), False
        offset = read.utcoffset()
        if offset is None or offset.total_seconds() % 60:
            read = read.astimezone(UTC)
        read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return read.replace(microsecond=0), True


def annotated(document: Mapping[str, Any], notes: Notes) -> Iterator[Annotation]:
    """What is told to be in parts of a picture; what cannot be read is noted."""
    name = str(document.get("name"))
    told = user_data(document).get("annotations")
    if told is None:
        return
    if not isinstance(told, list):
        notes.add(name, "annotations: expected a list")
        return
    for place, one in enumerate(told[:_MOST_ANNOTATIONS]):
        read = _annotation(one)
        if isinstance(read, str):
            notes.add(name, f"annotations[{place}] is left out: {read}")
        else:
            yield read
    if len(told) > _MOST_ANNOTATIONS:
        notes.add(name, f"annotations: only the first {_MOST_ANNOTATIONS} are read")


def labelled(document: Mapping[str, Any], notes: Notes) -> list[str]:
    """What the whole picture is told to show, each once."""
    found: dict[str, None] = {}
    data = user_data(document)
    for key in LABELS:
        value = data.get(key)
        for one in value[:_MOST_ANNOTATIONS] if isinstance(value, list) else [value]:
            label = named(one)
            if label:
                found[label] = None
            elif one is not None and one != "":
                notes.add(str(document.get("name")), f"{key}: expected text of at most {LONGEST} characters")
    return list(found)


def _annotation(one: Any) -> Annotation | str:
    """One annotation, or why it is none."""
    if not isinstance(one, Mapping):
        return "expected an object"
    category = next((label for key in CATEGORY if (label := named(one.get(key)))), None)
    if category is None:
        return "expected a category"
    box = _box(one.get("bbox"))
    if isinstance(box, str):
        return box
    polygons = _polygons(one.get("segmentation"))
    if isinstance(polygons, str):
        return polygons
    return Annotation(
        category,
        box or _around(polygons),
        polygons,
        number(one.get("score"), 0, 1),
        one.get("iscrowd") in (1, True),
        one,
    )


def _box(value: Any) -> tuple[float, float, float, float] | str | None:
    if value is None:
        return None
    sides = [number(side) for side in value] if isinstance(value, list) and len(value) == 4 else []
    x, y, width, height = sides if sides else (None,) * 4
    if x is None or y is None or width is None or height is None or width <= 0 or height <= 0:
        return "expected bbox to be [x, y, width, height] in pixels"
    return x, y, width, height


def _polygons(value: Any) -> tuple[tuple[float, ...], ...] | str:
    if value is None or value == []:
        return ()
    wrong = "expected segmentation to be a list of polygons [x1, y1, x2, y2, …]"
    if not isinstance(value, list) or not all(isinstance(one, list) for one in value):
        return wrong
    if sum(map(len, value)) > _MOST_NUMBERS or any(len(one) < 6 or len(one) % 2 for one in value):
        return wrong
    read = tuple(tuple(number(side) for side in one) for one in value)
    if any(side is None or not math.isfinite(side) for one in read for side in one):
        return wrong
    return read  # type: ignore[return-value]


def _around(polygons: tuple[tuple[float, ...], ...]) -> tuple[float, float, float, float] | None:
    """The box around outlines that have none."""
    if not polygons:
        return None
    xs = [x for polygon in polygons for x in polygon[::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return (min(xs), min(ys), width, height) if width > 0 and height > 0 else None
