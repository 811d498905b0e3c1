"""Reading labels and annotations from a user's ``data``, which may hold any JSON.

* ``annotations``: a list of ``{"category": TEXT, "bbox": [x, y, width, height], …}`` in pixels of the upright
  original; with ``segmentation`` (polygons ``[[x1, y1, x2, y2, …], …]``), ``score`` (0 to 1) and ``iscrowd`` if
  there are any. ``label``, ``category_name``, ``species`` and ``scientificName`` are read for ``category`` too.
* ``labels`` (a list or one), ``label``, ``category``, ``species``, ``scientificName``: labels of the whole picture.
* ``license``, ``copyright``: text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from image_repo.exchange.formats.notes import Notes

#: of text that names something
MAX_CHARACTERS = 1_000
#: how far anything may lie from a picture, in pixels
_MAX_PIXELS = 1e7
#: of one picture; numbers are those of one outline
_MAX_ANNOTATIONS, _MAX_NUMBERS = 10_000, 20_000
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?")
CATEGORY = ("category", "category_name", "label", "species", "scientificName")
LABELS = ("labels", "label", "category", "species", "scientificName")


@dataclass(frozen=True, slots=True)
class Annotation:
    """Something in a picture.

    :param box: left, top, width, height in pixels of the upright original; None for the whole picture
    :param polygons: outlines, ``x1, y1, x2, y2, …``
    :param source: the object from which it was read
    """

    category: str
    box: tuple[float, float, float, float] | None = None
    polygons: tuple[tuple[float, ...], ...] = ()
    score: float | None = None
    crowd: bool = False
    source: Mapping[str, Any] | None = None


def user_data(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data of the user, empty if it is no object."""
    data = document.get("data")
    return data if isinstance(data, Mapping) else {}


def facts(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the EXIF of a record, empty if it has none."""
    exif = document.get("exif")
    return exif if isinstance(exif, Mapping) else {}


def text_at(document: Mapping[str, Any], path: Sequence[str]) -> str | None:
    """Return the text at a path of a document, of a list the first; None if there is none."""
    value: Any = document
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return label(value[0] if isinstance(value, list) and value else value)


def text(value: Any, longest: int = MAX_CHARACTERS) -> str | None:
    """Return text that names something; None for anything else, empty text, or text that is too long."""
    if not isinstance(value, str) or len(value) > longest:
        return None
    # half of a surrogate pair is JSON, but no text that could be written
    return value.strip().encode("utf-8", "replace").decode() or None


def label(value: Any) -> str | None:
    """Return a label: text, or an integer as text."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_PIXELS:
        return str(value)
    return text(value)


def number(value: Any, least: float = -_MAX_PIXELS, most: float = _MAX_PIXELS) -> float | None:
    """Return a finite number within bounds, else None. ``"4.5"`` is a number, because forms send text; True is none."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if least <= value <= most else None


def moment(value: Any) -> tuple[datetime, bool] | None:
    """Return a time and whether it has a zone, UTC being the default; None for anything else."""
    if not isinstance(value, str) or not 8 <= len(value) <= 40:
        return None
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is None:
            return time.replace(tzinfo=UTC, microsecond=0), False
        offset = time.utcoffset()
        if offset is None or offset.total_seconds() % 60:
            time = time.astimezone(UTC)
        time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return time.replace(microsecond=0), True


def annotations_of(document: Mapping[str, Any], notes: Notes) -> Iterator[Annotation]:
    """Yield the annotations of a picture; those that cannot be read are noted."""
    name = str(document.get("name"))
    objects = user_data(document).get("annotations")
    if objects is None:
        return
    if not isinstance(objects, list):
        notes.add(name, "annotations: expected a list")
        return
    for index, value in enumerate(objects[:_MAX_ANNOTATIONS]):
        annotation = _annotation(value)
        if isinstance(annotation, str):
            notes.add(name, f"annotations[{index}] is left out: {annotation}")
        else:
            yield annotation
    if len(objects) > _MAX_ANNOTATIONS:
        notes.add(name, f"annotations: only the first {_MAX_ANNOTATIONS} are read")


def labels_of(document: Mapping[str, Any], notes: Notes) -> list[str]:
    """Return the labels of the whole picture, each once."""
    labels: dict[str, None] = {}
    data = user_data(document)
    for key in LABELS:
        value = data.get(key)
        for one in value[:_MAX_ANNOTATIONS] if isinstance(value, list) else [value]:
            if (name := label(one)) is not None:
                labels[name] = None
            elif one is not None and one != "":
                notes.add(str(document.get("name")), f"{key}: expected text of at most {MAX_CHARACTERS} characters")
    return list(labels)


def _annotation(one: Any) -> Annotation | str:
    """Return an annotation, or the reason why it is none."""
    if not isinstance(one, Mapping):
        return "expected an object"
    category = next((name for key in CATEGORY if (name := label(one.get(key)))), None)
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
    if sum(map(len, value)) > _MAX_NUMBERS or any(len(one) < 6 or len(one) % 2 for one in value):
        return wrong
    polygons = tuple(tuple(number(side) for side in one) for one in value)
    if any(side is None or not math.isfinite(side) for one in polygons for side in one):
        return wrong
    return polygons  # type: ignore[return-value]


def _around(polygons: tuple[tuple[float, ...], ...]) -> tuple[float, float, float, float] | None:
    """Return the bounding box of outlines."""
    if not polygons:
        return None
    xs = [x for polygon in polygons for x in polygon[::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return (min(xs), min(ys), width, height) if width > 0 and height > 0 else None
