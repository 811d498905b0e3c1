"""The tables of Camtrap DP 1.0.2, as far as cells are concerned: columns, types, bounds, vocabularies.

Written after ``deployments-table-schema.json``, ``media-table-schema.json`` and ``observations-table-schema.json``
of the standard (github.com/tdwg/camtrap-dp, MIT License, Copyright 2021 Camtrap DP Development Team).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from image_repo.exchange.formats import coercion

#: what a spreadsheet takes for the beginning of a formula, and the sign that keeps it from doing so
_FORMULA, _PLAIN = tuple("=+-@\t\r\n'"), "'"
#: what the standard's readers take for an empty cell
_MISSING = ("NA", "NaN", "nan")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    :param read: a JSON value → the text of the cell; None where the value does not fit the column
    """

    name: str
    read: Callable[[Any], str | None]


def guarded(text: str) -> str:
    """Text that no spreadsheet takes for a formula, and nobody for an empty cell: an apostrophe goes before it.

    What begins with one already gets another, so that different texts stay different.
    """
    return _PLAIN + text if text.startswith(_FORMULA) or text in _MISSING else text


def row(columns: Iterable[Column], cells: Mapping[str, str]) -> str:
    """A line of CSV (RFC 4180) with every cell in its place; absent ones are empty."""
    return ",".join(_quoted(cells.get(column.name, "")) for column in columns) + "\r\n"


def header(columns: Iterable[Column]) -> str:
    """The first line."""
    return ",".join(column.name for column in columns) + "\r\n"


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell


def _text(value: Any) -> str | None:
    read = coercion.named(value)
    return None if read is None else guarded(read.replace("\0", ""))


def _name(value: Any) -> str | None:
    return guarded(value) if isinstance(value, str) else None


def listed(value: Any) -> str | None:
    """Several texts, a pipe between them, as the standard has it; one stands for itself."""
    if not isinstance(value, list):
        return _text(value)
    read = [text for one in value[:100] if (text := coercion.text(one))]
    return guarded(" | ".join(read).replace("\0", "")) if read else None


def timed(value: Any) -> str | None:
    """A time with its zone, to the second."""
    read = coercion.moment(value)
    return read[0].isoformat().replace("+00:00", "Z") if read else None


def _truth(value: Any) -> str | None:
    return str(value).lower() if isinstance(value, bool) else None


def _number(least: float, most: float = 1e9) -> Callable[[Any], str | None]:
    def read(value: Any) -> str | None:
        found = coercion.number(value, least, most)
        # never 1e-05: not every reader knows it
        return None if found is None else f"{found:.7f}".rstrip("0").rstrip(".")

    return read


def _whole(least: int, most: int = 1_000_000_000) -> Callable[[Any], str | None]:
    def read(value: Any) -> str | None:
        found = coercion.number(value, least, most)
        return str(int(found)) if found is not None and found == int(found) else None

    return read


def _one_of(*words: str) -> Callable[[Any], str | None]:
    return lambda value: value if isinstance(value, str) and value in words else None


def _plain(value: Any) -> str | None:
    return value if isinstance(value, str) else None


#: what an animal, a person or nothing is told as
OBSERVATION_TYPES = ("animal", "human", "vehicle", "blank", "unknown", "unclassified")
#: how pictures are taken
CAPTURE_METHODS = ("activityDetection", "timeLapse")

DEPLOYMENTS = (
    Column("deploymentID", _text),
    Column("locationID", _text),
    Column("locationName", _text),
    Column("latitude", _number(-90, 90)),
    Column("longitude", _number(-180, 180)),
    Column("coordinateUncertainty", _whole(1)),
    Column("deploymentStart", timed),
    Column("deploymentEnd", timed),
    Column("setupBy", _text),
    Column("cameraID", _text),
    Column("cameraModel", _text),
    Column("cameraDelay", _whole(0)),
    Column("cameraHeight", _number(0)),
    Column("cameraDepth", _number(0)),
    Column("cameraTilt", _whole(-90, 90)),
    Column("cameraHeading", _whole(0, 360)),
    Column("detectionDistance", _number(0)),
    Column("timestampIssues", _truth),
    Column("baitUse", _truth),
    Column(
        "featureType",
        _one_of(
            "roadPaved", "roadDirt", "trailHiking", "trailGame", "roadUnderpass", "roadOverpass", "roadBridge",
            "culvert", "burrow", "nestSite", "carcass", "waterSource", "fruitingTree",
        ),
    ),
    Column("habitat", _text),
    Column("deploymentGroups", listed),
    Column("deploymentTags", listed),
    Column("deploymentComments", _text),
)  # fmt: skip

MEDIA = (
    Column("mediaID", _name),
    Column("deploymentID", _text),
    Column("captureMethod", _one_of(*CAPTURE_METHODS)),
    Column("timestamp", timed),
    Column("filePath", _plain),
    Column("filePublic", _truth),
    Column("fileName", _name),
    Column("fileMediatype", _plain),
    Column("exifData", _plain),
    Column("favorite", _truth),
    Column("mediaComments", _text),
)

OBSERVATIONS = (
    Column("observationID", _text),
    Column("deploymentID", _text),
    Column("mediaID", _text),
    Column("eventID", _text),
    Column("eventStart", timed),
    Column("eventEnd", timed),
    Column("observationLevel", _one_of("media", "event")),
    Column("observationType", _one_of(*OBSERVATION_TYPES)),
    Column("cameraSetupType", _one_of("setup", "calibration")),
    Column("scientificName", _text),
    Column("count", _whole(1)),
    Column("lifeStage", _one_of("adult", "subadult", "juvenile")),
    Column("sex", _one_of("female", "male")),
    Column("behavior", listed),
    Column("individualID", _text),
    Column("individualPositionRadius", _number(0)),
    Column("individualPositionAngle", _number(-90, 90)),
    Column("individualSpeed", _number(0)),
    Column("bboxX", _number(0, 1)),
    Column("bboxY", _number(0, 1)),
    Column("bboxWidth", _number(1e-6, 1)),
    Column("bboxHeight", _number(1e-6, 1)),
    Column("classificationMethod", _one_of("human", "machine")),
    Column("classifiedBy", _text),
    Column("classificationTimestamp", timed),
    Column("classificationProbability", _number(0, 1)),
    Column("observationTags", listed),
    Column("observationComments", _text),
)
