"""What was seen in a picture, as observations of Camtrap DP: values by the names of that table's columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from image_repo.exchange.formats import coercion
from image_repo.exchange.formats.notes import Notes
from image_repo.exchange.formats.placement import Box, Placement
from image_repo.exchange.formats.tables import OBSERVATIONS

#: words of people and of detectors that are no species
_TYPES = {
    "animal": "animal", "human": "human", "person": "human", "people": "human", "homo sapiens": "human",
    "vehicle": "vehicle", "car": "vehicle", "blank": "blank", "empty": "blank", "unknown": "unknown",
}  # fmt: skip
#: what `data` may say of the animal beside its species
_BESIDE = tuple(
    column.name
    for column in OBSERVATIONS
    if column.name not in ("observationID", "deploymentID", "mediaID", "eventStart", "eventEnd", "observationLevel")
    and not column.name.startswith("bbox")
)
_MOST = 10_000


def read(document: Mapping[str, Any], placement: Placement | None, notes: Notes) -> Iterator[dict[str, Any]]:
    """The observations of a picture, at least one.

    :param placement: how the exported picture shows the original; None where that is not known
    """
    data = coercion.user_data(document)
    found = [*_told(document, placement, notes), *_annotated(document, placement, notes)]
    if not found or _species(data):
        # what is said of the picture as a whole; with nothing said, that nobody has looked yet
        found += _whole(data)
    yield from found


def _told(document: Mapping[str, Any], placement: Placement | None, notes: Notes) -> Iterator[dict[str, Any]]:
    """``data.observations``: objects with the columns of the table."""
    name, told = str(document.get("name")), coercion.user_data(document).get("observations")
    if told is None:
        return
    if not isinstance(told, list):
        notes.add(name, "observations: expected a list")
        return
    for place, one in enumerate(told[:_MOST]):
        if not isinstance(one, Mapping):
            notes.add(name, f"observations[{place}] is left out: expected an object")
            continue
        values = {key: one.get(key) for key in _BESIDE}
        values["scientificName"] = one.get("scientificName", one.get("species"))
        box = _fractions(_told_box(one, document), placement)
        if box is None:
            notes.add(name, f"observations[{place}]: {_why(placement)}")
        yield _typed(values) | (box or {})


def _annotated(document: Mapping[str, Any], placement: Placement | None, notes: Notes) -> Iterator[dict[str, Any]]:
    """``data.annotations``: a box each, as fractions of the exported picture."""
    for annotation in coercion.annotated(document, notes):
        said = annotation.said or {}
        kind = _TYPES.get(annotation.category.lower())
        values = {key: said.get(key) for key in _BESIDE}
        values["scientificName"] = coercion.text(said.get("scientificName")) or coercion.text(said.get("species"))
        if not values["scientificName"] and kind is None:
            # a category may be anything, a tree: it is told, but not as an animal
            tags = said.get("observationTags")
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
    """The cells of a box in pixels of the original; none where there is none, None where it has no place."""
    if box is None:
        return {}
    found = placement.box(box) if placement else None
    if placement is None or found is None:
        return None
    width, height = placement.size
    left, top = found[0] / width, found[1] / height
    return {
        "bboxX": left,
        "bboxY": top,
        "bboxWidth": min(found[2] / width, 1 - left),
        "bboxHeight": min(found[3] / height, 1 - top),
    }


def _told_box(said: Mapping[str, Any], document: Mapping[str, Any]) -> Box | None:
    """The box of an observation, which is told in fractions; one that is told in part is none."""
    left, top = (coercion.number(said.get(name), 0, 1) for name in ("bboxX", "bboxY"))
    wide, high = (coercion.number(said.get(name), 1e-15, 1) for name in ("bboxWidth", "bboxHeight"))
    width, height = (coercion.number(document.get(name), 1) for name in ("width", "height"))
    if None in (left, top, wide, high, width, height):
        return None
    return left * width, top * height, wide * width, high * height  # type: ignore[operator]


def _why(placement: Placement | None) -> str:
    where = "is not in" if placement else "has no known place in"
    return f"told without its box, which {where} the exported picture"


def _whole(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    said = {key: data.get(key) for key in _BESIDE}
    species: list[str | None] = [*_species(data)]
    for name in species or [None]:
        kind = _TYPES.get(name.lower()) if name else None
        # "blank" and "person" are no species
        value = said | {"scientificName": name if kind is None or " " in str(name) else None}
        value["observationType"] = said["observationType"] or kind
        if len(species) > 1:
            # one number for several species is nobody's
            value["count"] = None
        yield _typed(value)


def _species(data: Mapping[str, Any]) -> list[str]:
    """The names that ``data.scientificName`` or ``data.species`` gives, text or a list of it."""
    for key in ("scientificName", "species"):
        value = data.get(key)
        names = [name for one in (value[:100] if isinstance(value, list) else [value]) if (name := coercion.text(one))]
        if names:
            return list(dict.fromkeys(names))
    return []


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """With a type: as told, else an animal where it has a name, else unclassified."""
    if values.get("observationType") in (None, ""):
        named = coercion.text(values.get("scientificName"))
        values["observationType"] = "animal" if named else "unclassified"
    return values
