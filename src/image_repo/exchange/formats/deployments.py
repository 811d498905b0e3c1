"""Deployments of Camtrap DP (a camera at a place for a time), derived from the records of their pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from image_repo.exchange.formats import coercion, tables
from image_repo.exchange.formats.notes import Notes
from image_repo.exchange.formats.positions import Position, distance, position
from image_repo.exchange.formats.tables import DEPLOYMENTS, Column

#: deployments are in memory: their number, and characters of all their cells
_MAX_DEPLOYMENTS, _MAX_CHARACTERS = 50_000, 16 << 20
#: columns that are not copied from data
_DERIVED = frozenset(
    ("deploymentID", "latitude", "longitude", "coordinateUncertainty", "deploymentStart", "deploymentEnd",
     "timestampIssues"),
)  # fmt: skip
_COPIED = tuple(column for column in DEPLOYMENTS if column.name not in _DERIVED)


def fill(cells: dict[str, str], column: Column, value: Any, subject: str, notes: Notes) -> None:
    """Put a value into its cell, or note that it does not fit."""
    if value is None or value == "":
        return
    cell = column.read(value)
    if cell is None:
        notes.add(subject, f"{column.name} does not fit the standard and is left out")
    else:
        cells[column.name] = cell


@dataclass(slots=True)
class Deployment:
    """A camera at a place for a time.

    :param name: the text of its cell
    :param cells: column → cell, from data
    :param position: of the first picture with one
    :param uncertainty: in metres: the larger of the distance to the farthest other position and that in the data
    :param has_doubtful_times: whether the time of a picture, or its zone, is unknown
    """

    number: int
    name: str
    cells: dict[str, str]
    first: datetime
    last: datetime
    position: Position | None = None
    uncertainty: float = 0.0
    has_doubtful_times: bool = False

    def extend(self, time: datetime, data: Mapping[str, Any]) -> None:
        """Extend the deployment to the time of a picture, and to the bounds in its data."""
        moments = (coercion.moment(data.get(key)) for key in ("deploymentStart", "deploymentEnd"))
        bounds = [moment[0] for moment in moments if moment]
        self.first, self.last = min(self.first, time, *bounds), max(self.last, time, *bounds)

    def place(self, data: Mapping[str, Any], exif: Mapping[str, Any]) -> None:
        """Add the position of a picture."""
        uncertainty = coercion.number(data.get("coordinateUncertainty"), 1)
        here = position(data, exif)
        self.position = self.position or here
        metres = distance(self.position, here) if self.position and here else 0.0
        self.uncertainty = max(self.uncertainty, uncertainty or 0.0, metres)

    def row(self) -> str:
        """Return the row of a deployment with a position."""
        assert self.position is not None
        cells = self.cells | {
            "deploymentID": self.name,
            "latitude": f"{self.position[0]:.6f}",
            "longitude": f"{self.position[1]:.6f}",
            "deploymentStart": tables.timed(self.first.isoformat()) or "",
            "deploymentEnd": tables.timed(self.last.isoformat()) or "",
            "timestampIssues": str(self.has_doubtful_times).lower(),
        }
        if self.uncertainty:
            cells["coordinateUncertainty"] = str(math.ceil(self.uncertainty))
        return tables.row(DEPLOYMENTS, cells)


class Deployments:
    """The deployments of an export, in order of appearance; bounded."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._by_name: dict[str, Deployment] = {}
        self._characters = 0

    def of(self, document: Mapping[str, Any], time: datetime, *, is_certain: bool) -> Deployment | None:
        """Return the deployment of a picture, updated with its record; None beyond the limits.

        :param time: when the picture was taken
        """
        name, data = _deployment_data(document)
        deployment = self._by_name.get(name)
        if deployment is None:
            if len(self._by_name) >= _MAX_DEPLOYMENTS or self._characters > _MAX_CHARACTERS:
                self._notes.add(name, "left out with its pictures: there are too many deployments")
                return None
            deployment = self._by_name[name] = Deployment(len(self._by_name), name, {}, time, time)
            self._characters += len(name)
        self._fill_empty_cells(deployment, data)
        deployment.extend(time, data)
        deployment.place(data, coercion.facts(document))
        deployment.has_doubtful_times |= not is_certain
        return deployment

    def __iter__(self) -> Iterator[Deployment]:
        return iter(self._by_name.values())

    def _fill_empty_cells(self, deployment: Deployment, data: Mapping[str, Any]) -> None:
        for column in _COPIED:
            if column.name not in deployment.cells and self._characters <= _MAX_CHARACTERS:
                fill(deployment.cells, column, data.get(column.name), deployment.name, self._notes)
                self._characters += len(deployment.cells.get(column.name, ""))


def _deployment_data(document: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of a picture's deployment, as text of its cell, and its data."""
    data, exif = coercion.user_data(document), coercion.facts(document)
    own = data.get("deployment")
    merged = dict(data) | (dict(own) if isinstance(own, Mapping) else {"deployment": own})
    folder = str(document.get("name")).rpartition("/")[0]
    candidates = (merged.get("deploymentID"), merged.get("deployment"), merged.get("site"), folder)
    name = next((cell for value in candidates if (cell := DEPLOYMENTS[0].read(value))), "all")
    merged.setdefault("locationID", merged.get("site"))
    model = [str(exif[key]) for key in ("camera_make", "camera_model") if isinstance(exif.get(key), str)]
    if model:
        merged.setdefault("cameraModel", "-".join(model))
    return name, merged
