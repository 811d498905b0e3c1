"""What was seen in a picture, as observations of Camtrap DP: values by the names of that table's columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from image_repo.exchange.formats import reading
from image_repo.exchange.formats.notes import Notes
from image_repo.exchange.formats.placement import Placement
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
    data = reading.user_data(document)
    found = [*_told(document, notes), *_annotated(document, placement, notes)]
    if not found or _species(data):
        # what is said of the picture as a whole; with nothing said, that nobody has looked yet
        found += _whole(data)
    yield from found


def _told(document: Mapping[str, Any], notes: Notes) -> Iterator[dict[str, Any]]:
    """``data.observations``: objects with the columns of the table."""
    told = reading.user_data(document).get("observations")
    if told is None:
        return
    if not isinstance(told, list):
        notes.add(str(document.get("name")), "observations: expected a list")
        return
    for place, one in enumerate(told[:_MOST]):
        if isinstance(one, Mapping):
            said = {column.name: one.get(column.name) for column in OBSERVATIONS}
            yield _boxed_whole(_typed(said | {"scientificName": one.get("scientificName", one.get("species"))}))
        else:
            notes.add(str(document.get("name")), f"observations[{place}] is left out: expected an object")


def _annotated(document: Mapping[str, Any], placement: Placement | None, notes: Notes) -> Iterator[dict[str, Any]]:
    """``data.annotations``: a box each, as fractions of the exported picture."""
    for annotation in reading.annotated(document, notes):
        said = annotation.said or {}
        kind = _TYPES.get(annotation.category.lower())
        values = {key: said.get(key) for key in _BESIDE}
        named = reading.text(said.get("scientificName")) or reading.text(said.get("species"))
        values["scientificName"] = named
        if not named and kind is None:
            # a category may be anything, a tree: it is told, but not as an animal
            values["observationTags"] = f"category:{annotation.category}"
        values["observationType"] = values["observationType"] or kind
        values["classificationProbability"] = annotation.score
        yield _typed(values) | _fractions(annotation, placement)


def _fractions(annotation: reading.Annotation, placement: Placement | None) -> dict[str, Any]:
    box = placement.box(annotation.box) if placement and annotation.box else None
    if placement is None or box is None:
        return {}
    width, height = placement.size
    left, top = box[0] / width, box[1] / height
    return {
        "bboxX": left,
        "bboxY": top,
        "bboxWidth": min(box[2] / width, 1 - left),
        "bboxHeight": min(box[3] / height, 1 - top),
    }


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
        names = [name for one in (value[:100] if isinstance(value, list) else [value]) if (name := reading.text(one))]
        if names:
            return list(dict.fromkeys(names))
    return []


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """With a type: as told, else an animal where it has a name, else unclassified."""
    if values.get("observationType") in (None, ""):
        named = reading.text(values.get("scientificName"))
        values["observationType"] = "animal" if named else "unclassified"
    return values


def _boxed_whole(values: dict[str, Any]) -> dict[str, Any]:
    """A box that is told in part is none."""
    names = ("bboxX", "bboxY", "bboxWidth", "bboxHeight")
    if any(reading.number(values.get(name), 0, 1) is None for name in names):
        return {name: value for name, value in values.items() if name not in names}
    return values
