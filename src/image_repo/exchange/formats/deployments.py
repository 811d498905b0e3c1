"""Deployments of Camtrap DP: a camera at a place for a time, put together of what its pictures tell."""

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

#: how many there may be, and what they may tell in all, in characters: they are kept in memory
_MOST, _MOST_TOLD = 50_000, 16 << 20
#: columns that are not simply what the data of one picture say
_OWN = frozenset(
    ("deploymentID", "latitude", "longitude", "coordinateUncertainty", "deploymentStart", "deploymentEnd",
     "timestampIssues"),
)  # fmt: skip
_SAID = tuple(column for column in DEPLOYMENTS if column.name not in _OWN)


def fill(cells: dict[str, str], column: Column, value: Any, where: str, notes: Notes) -> None:
    """Puts a value into its cell; one that does not fit is noted."""
    if value is None or value == "":
        return
    cell = column.read(value)
    if cell is None:
        notes.add(where, f"{column.name} does not fit the standard and is left out")
    else:
        cells[column.name] = cell


@dataclass(slots=True)
class Deployment:
    """A camera at a place for a time.

    :param name: as it stands in its cell
    :param cells: column → cell, of what its data say
    :param position: of the first picture that has one
    :param uncertainty: metres to the farthest other position, or what its data say, whichever is more
    :param doubtful: whether the time of a picture, or its zone, is not known
    """

    number: int
    name: str
    cells: dict[str, str]
    first: datetime
    last: datetime
    position: Position | None = None
    uncertainty: float = 0.0
    doubtful: bool = False

    def widen(self, when: datetime, said: Mapping[str, Any]) -> None:
        """Takes the time of a picture into account, and what its data say of the deployment's."""
        bounds = [read[0] for key in ("deploymentStart", "deploymentEnd") if (read := coercion.moment(said.get(key)))]
        self.first, self.last = min(self.first, when, *bounds), max(self.last, when, *bounds)

    def place(self, said: Mapping[str, Any], exif: Mapping[str, Any]) -> None:
        """Takes the position of a picture into account."""
        told = coercion.number(said.get("coordinateUncertainty"), 1)
        found = position(said, exif)
        self.position = self.position or found
        away = distance(self.position, found) if self.position and found else 0.0
        self.uncertainty = max(self.uncertainty, told or 0.0, away)

    def row(self) -> str:
        """Its line of the table; it has a position."""
        assert self.position is not None
        cells = self.cells | {
            "deploymentID": self.name,
            "latitude": f"{self.position[0]:.6f}",
            "longitude": f"{self.position[1]:.6f}",
            "deploymentStart": tables.timed(self.first.isoformat()) or "",
            "deploymentEnd": tables.timed(self.last.isoformat()) or "",
            "timestampIssues": str(self.doubtful).lower(),
        }
        if self.uncertainty:
            cells["coordinateUncertainty"] = str(math.ceil(self.uncertainty))
        return tables.row(DEPLOYMENTS, cells)


class Deployments:
    """All of an export, in the order in which they come; bounded."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._by_name: dict[str, Deployment] = {}
        self._told = 0

    def of(self, document: Mapping[str, Any], when: datetime, *, known: bool) -> Deployment | None:
        """The deployment of a picture, with what the picture tells of it; None where there are too many.

        :param known: whether it is certain when the picture was taken
        """
        name, said = _deployed(document)
        found = self._by_name.get(name)
        if found is None:
            if len(self._by_name) >= _MOST or self._told > _MOST_TOLD:
                self._notes.add(name, "left out with its pictures: there is no room for so many deployments")
                return None
            found = self._by_name[name] = Deployment(len(self._by_name), name, {}, when, when)
            self._told += len(name)
        self._describe(found, said)
        found.widen(when, said)
        found.place(said, coercion.facts(document))
        found.doubtful = found.doubtful or not known
        return found

    def __iter__(self) -> Iterator[Deployment]:
        return iter(self._by_name.values())

    def _describe(self, found: Deployment, said: Mapping[str, Any]) -> None:
        """Fills the cells that are empty still."""
        for column in _SAID:
            if column.name not in found.cells and self._told <= _MOST_TOLD:
                fill(found.cells, column, said.get(column.name), found.name, self._notes)
                self._told += len(found.cells.get(column.name, ""))


def _deployed(document: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of a picture's deployment, ready for its cell, and all that is said of it."""
    data, exif = coercion.user_data(document), coercion.facts(document)
    own = data.get("deployment")
    said = dict(data) | (dict(own) if isinstance(own, Mapping) else {"deployment": own})
    folder = str(document.get("name")).rpartition("/")[0]
    told = (said.get("deploymentID"), said.get("deployment"), said.get("site"), folder)
    name = next((cell for value in told if (cell := DEPLOYMENTS[0].read(value))), "all")
    said.setdefault("locationID", said.get("site"))
    model = [str(exif[key]) for key in ("camera_make", "camera_model") if isinstance(exif.get(key), str)]
    if model:
        said.setdefault("cameraModel", "-".join(model))
    return name, said
