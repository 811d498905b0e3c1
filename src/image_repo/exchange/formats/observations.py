"""Observations of Camtrap DP from the data of a picture: values by the columns of that table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from image_repo.exchange.formats import coercion
from image_repo.exchange.formats.notes import Notes
from image_repo.exchange.formats.placement import Box, Placement
from image_repo.exchange.formats.tables import OBSERVATIONS

#: labels of people and detectors that are no species
_TYPES = {
    "animal": "animal", "human": "human", "person": "human", "people": "human", "homo sapiens": "human",
    "vehicle": "vehicle", "car": "vehicle", "blank": "blank", "empty": "blank", "unknown": "unknown",
}  # fmt: skip
#: columns that `data` may hold beside a species
_OTHER_COLUMNS = tuple(
    column.name
    for column in OBSERVATIONS
    if column.name not in ("observationID", "deploymentID", "mediaID", "eventStart", "eventEnd", "observationLevel")
    and not column.name.startswith("bbox")
)
_MAX_OBSERVATIONS = 10_000


def read(document: Mapping[str, Any], placement: Placement | None, notes: Notes) -> Iterator[dict[str, Any]]:
    """Yield the observations of a picture, at least one.

    :param placement: of the original in the exported picture; None if unknown
    """
    data = coercion.user_data(document)
    rows = [*_from_observations(document, placement, notes), *_from_annotations(document, placement, notes)]
    if not rows or _species(data):
        rows += _whole(data)
    yield from rows


def _from_observations(
    document: Mapping[str, Any], placement: Placement | None, notes: Notes
) -> Iterator[dict[str, Any]]:
    """Yield ``data.observations``: objects with the columns of the table."""
    name, objects = str(document.get("name")), coercion.user_data(document).get("observations")
    if objects is None:
        return
    if not isinstance(objects, list):
        notes.add(name, "observations: expected a list")
        return
    for index, one in enumerate(objects[:_MAX_OBSERVATIONS]):
        if not isinstance(one, Mapping):
            notes.add(name, f"observations[{index}] is left out: expected an object")
            continue
        values = {key: one.get(key) for key in _OTHER_COLUMNS}
        values["scientificName"] = one.get("scientificName", one.get("species"))
        box = _fractions(_pixel_box(one, document), placement)
        if box is None:
            notes.add(name, f"observations[{index}]: {_why(placement)}")
        yield _typed(values) | (box or {})


def _from_annotations(
    document: Mapping[str, Any], placement: Placement | None, notes: Notes
) -> Iterator[dict[str, Any]]:
    """Yield ``data.annotations``, with boxes as fractions of the exported picture."""
    for annotation in coercion.annotations_of(document, notes):
        source = annotation.source or {}
        kind = _TYPES.get(annotation.category.lower())
        values = {key: source.get(key) for key in _OTHER_COLUMNS}
        names = (coercion.text(source.get(key)) for key in ("scientificName", "species"))
        values["scientificName"] = next(filter(None, names), None)
        if not values["scientificName"] and kind is None:
            # a category may be anything, a tree: it becomes a tag, not an animal
            tags = source.get("observationTags")
            values["observationTags"] = [
                *(tags if isinstance(tags, list) else [tags]),
                f"category:{annotation.category}",
            ]
        values["observationType"] = values["observationType"] or kind
        values["classificationProbability"] = annotation.score
        box = _fractions(annotation.box, placement)
        if box is None:
            notes.add(str(document.get("name")), f"{annotation.category!r}: {_why(placement)}")
        yield _typed(values) | (box or {})


def _fractions(box: Box | None, placement: Placement | None) -> dict[str, float] | None:
    """Return the cells of a box in pixels of the original; empty without box, None if it is not visible."""
    if box is None:
        return {}
    visible = placement.box(box) if placement else None
    if placement is None or visible is None:
        return None
    width, height = placement.size
    left, top = visible[0] / width, visible[1] / height
    return {
        "bboxX": left,
        "bboxY": top,
        "bboxWidth": min(visible[2] / width, 1 - left),
        "bboxHeight": min(visible[3] / height, 1 - top),
    }


def _pixel_box(observation: Mapping[str, Any], document: Mapping[str, Any]) -> Box | None:
    """Return the box of an observation in pixels of the original; None if it is absent or incomplete."""
    left, top = (coercion.number(observation.get(name), 0, 1) for name in ("bboxX", "bboxY"))
    wide, high = (coercion.number(observation.get(name), 1e-15, 1) for name in ("bboxWidth", "bboxHeight"))
    width, height = (coercion.number(document.get(name), 1) for name in ("width", "height"))
    if None in (left, top, wide, high, width, height):
        return None
    return left * width, top * height, wide * width, high * height  # type: ignore[operator]


def _why(placement: Placement | None) -> str:
    where = "is not in" if placement else "has no known place in"
    return f"its box is left out, because it {where} the exported picture"


def _whole(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the observations of the picture as a whole."""
    values = {key: data.get(key) for key in _OTHER_COLUMNS}
    species: list[str | None] = [*_species(data)]
    for name in species or [None]:
        kind = _TYPES.get(name.lower()) if name else None
        # "blank" and "person" are no species
        value = values | {"scientificName": name if kind is None or " " in str(name) else None}
        value["observationType"] = values["observationType"] or kind
        if len(species) > 1:
            # one number for several species belongs to none of them
            value["count"] = None
        yield _typed(value)


def _species(data: Mapping[str, Any]) -> list[str]:
    """Return the names in ``data.scientificName`` or ``data.species``, text or a list."""
    for key in ("scientificName", "species"):
        value = data.get(key)
        names = [name for one in (value[:100] if isinstance(value, list) else [value]) if (name := coercion.text(one))]
        if names:
            return list(dict.fromkeys(names))
    return []


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with a type: their own, else an animal if they have a name, else unclassified."""
    if values.get("observationType") in (None, ""):
        has_name = coercion.text(values.get("scientificName")) is not None
        values["observationType"] = "animal" if has_name else "unclassified"
    return values
