"""The tables of Camtrap DP 1.0.2: columns, types, bounds and vocabularies of their cells.

Written after ``deployments-table-schema.json``, ``media-table-schema.json`` and ``observations-table-schema.json``
of the standard (github.com/tdwg/camtrap-dp, MIT License, Copyright 2021 Camtrap DP Development Team).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from image_repo.exchange.formats import coercion

#: what begins a formula in a spreadsheet, and the sign that prevents that
_FORMULA, _PLAIN = tuple("=+-@\t\r\n'"), "'"
#: what readers of the standard take for an empty cell
_MISSING = ("NA", "NaN", "nan")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    :param read: maps a JSON value to the text of the cell; None if the value does not fit the column
    """

    name: str
    read: Callable[[Any], str | None]


def guarded(text: str) -> str:
    """Return text with an apostrophe in front if it would be a formula or an empty cell.

    Text that begins with an apostrophe gets another, so that different texts stay different.
    """
    return _PLAIN + text if text.startswith(_FORMULA) or text in _MISSING else text


def row(columns: Iterable[Column], cells: Mapping[str, str]) -> str:
    """Return a line of CSV (RFC 4180); absent cells are empty."""
    return ",".join(_quoted(cells.get(column.name, "")) for column in columns) + "\r\n"


def header(columns: Iterable[Column]) -> str:
    """Return the first line."""
    return ",".join(column.name for column in columns) + "\r\n"


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell


def _text(value: Any) -> str | None:
    label = coercion.label(value)
    return None if label is None else guarded(label.replace("\0", ""))


def _name(value: Any) -> str | None:
    return guarded(value) if isinstance(value, str) else None


def listed(value: Any) -> str | None:
    """Return one text, or several separated by pipes, as in the standard."""
    if not isinstance(value, list):
        return _text(value)
    texts = [text for one in value[:100] if (text := coercion.text(one))]
    return guarded(" | ".join(texts).replace("\0", "")) if texts else None


def timed(value: Any) -> str | None:
    """Return a time with its zone, to the second."""
    moment = coercion.moment(value)
    return moment[0].isoformat().replace("+00:00", "Z") if moment else None


def _truth(value: Any) -> str | None:
    return str(value).lower() if isinstance(value, bool) else None


def _decimal(least: float, most: float = 1e9) -> Callable[[Any], str | None]:
    def read(value: Any) -> str | None:
        number = coercion.number(value, least, most)
        # never 1e-05: not every reader knows it
        return None if number is None else f"{number:.7f}".rstrip("0").rstrip(".")

    return read


def _whole(least: int, most: int = 1_000_000_000) -> Callable[[Any], str | None]:
    def read(value: Any) -> str | None:
        number = coercion.number(value, least, most)
        return str(int(number)) if number is not None and number == int(number) else None

    return read


def _one_of(*words: str) -> Callable[[Any], str | None]:
    return lambda value: value if isinstance(value, str) and value in words else None


def _plain(value: Any) -> str | None:
    return value if isinstance(value, str) else None


OBSERVATION_TYPES = ("animal", "human", "vehicle", "blank", "unknown", "unclassified")
CAPTURE_METHODS = ("activityDetection", "timeLapse")

DEPLOYMENTS = (
    Column("deploymentID", _text),
    Column("locationID", _text),
    Column("locationName", _text),
    Column("latitude", _decimal(-90, 90)),
    Column("longitude", _decimal(-180, 180)),
    Column("coordinateUncertainty", _whole(1)),
    Column("deploymentStart", timed),
    Column("deploymentEnd", timed),
    Column("setupBy", _text),
    Column("cameraID", _text),
    Column("cameraModel", _text),
    Column("cameraDelay", _whole(0)),
    Column("cameraHeight", _decimal(0)),
    Column("cameraDepth", _decimal(0)),
    Column("cameraTilt", _whole(-90, 90)),
    Column("cameraHeading", _whole(0, 360)),
    Column("detectionDistance", _decimal(0)),
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
    Column("individualPositionRadius", _decimal(0)),
    Column("individualPositionAngle", _decimal(-90, 90)),
    Column("individualSpeed", _decimal(0)),
    Column("bboxX", _decimal(0, 1)),
    Column("bboxY", _decimal(0, 1)),
    Column("bboxWidth", _decimal(1e-6, 1)),
    Column("bboxHeight", _decimal(1e-6, 1)),
    Column("classificationMethod", _one_of("human", "machine")),
    Column("classifiedBy", _text),
    Column("classificationTimestamp", timed),
    Column("classificationProbability", _decimal(0, 1)),
    Column("observationTags", listed),
    Column("observationComments", _text),
)
