"""Camtrap DP 1.0.2, the Camera Trap Data Package of TDWG (camtrap-dp.tdwg.org), for the exchange among ecologists.

A ``datapackage.json`` and three tables. Their sources in a record:

* deployment: ``data.deploymentID``, ``data.deployment`` (text, or an object with any column of the table),
  ``data.site``, else the folder of the name. Every column of the table may stand in ``data`` under its own name.
* position: ``data.latitude`` and ``data.longitude``, else that of the EXIF if ``metadata_location`` allows it in
  records; the first of a deployment counts. The standard requires one: a deployment without position is left out
  with its pictures, and noted. Distances between pictures increase ``coordinateUncertainty``.
* time: ``data.timestamp``, else that of the EXIF, else that of the upload. If the zone or the time is unknown,
  ``timestampIssues`` is set. A deployment lasts from its first picture to its last, or as its data say.
* observations: ``data.observations`` (objects with columns of the table), ``data.annotations`` (with their boxes),
  and ``data.scientificName`` or ``data.species`` with ``count``, ``sex`` … beside it. A picture without
  any of these is ``unclassified``.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

from image_repo.exchange.base import About, Exported, File
from image_repo.exchange.formats import coercion, observations, tables
from image_repo.exchange.formats.base import FormatWriter, TableMember
from image_repo.exchange.formats.deployments import Deployment, Deployments, fill
from image_repo.exchange.formats.placement import place
from image_repo.exchange.formats.positions import extent
from image_repo.exchange.formats.tables import DEPLOYMENTS, MEDIA, OBSERVATIONS, Column

_STANDARD = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2/"
#: the standard's own pattern for a relative path, without beginnings of formulas
_PATH = re.compile(r"(?![./~=+\-@\t])(?!.*\.\.).+")
#: names of species of one package
_MAX_TAXA = 10_000
_SAMPLING = ("simpleRandom", "systematicRandom", "clusteredRandom", "experimental", "targeted", "opportunistic")


@dataclass(slots=True)
class _Project:
    """Metadata of the whole package.

    :param taxa: names of species, each with a number from 1
    """

    taxa: dict[str, int] = field(default_factory=dict)
    methods: dict[str, None] = field(default_factory=dict)
    holders: dict[str, None] = field(default_factory=dict)
    sampling: str | None = None
    individuals: bool = False


class Camtrap(FormatWriter):
    """The tables of one export. Rows are spooled to disk: only the end shows which deployments have a position."""

    name = "camtrap"
    help = "Camtrap DP 1.0: datapackage.json, deployments.csv, media.csv, observations.csv"

    def __init__(self, about: About) -> None:
        super().__init__(about)
        self._deployments = Deployments(self._notes)
        self._project = _Project()
        self._media = _Rows(self._temporary(), MEDIA)
        self._observations = _Rows(self._temporary(), OBSERVATIONS)

    def add(self, exported: Exported) -> None:
        """Add the next picture; descriptions have none."""
        document, file = exported.document, exported.file
        if file is None:
            return
        if not _PATH.fullmatch(file.name):
            self._notes.add(file.name, "left out of the tables: the standard has no such paths")
            return
        time, is_certain = _capture_time(document)
        deployment = self._deployments.of(document, time, is_certain=is_certain)
        if deployment is None:
            return
        media = _media(document, file, deployment, time)
        self._media.add(deployment.number, media)
        self._add_observations(document, file, media, deployment.number)
        self._update_project(document, media)

    def _tables(self, newest: float) -> Iterator[TableMember]:
        placed = [one for one in self._deployments if one.position]
        for one in self._deployments:
            if one.position is None:
                self._notes.add(one.name, "left out with its pictures: Camtrap DP requires latitude and longitude")
        numbers, taxa = {one.number for one in placed}, set[int]()
        yield "deployments.csv", self._table(placed)
        yield "media.csv", self._filtered(self._media, numbers, set())
        yield "observations.csv", self._filtered(self._observations, numbers, taxa)
        yield "datapackage.json", self._package(placed, taxa, newest)

    # -- as documents come --------------------------------------------------------------

    def _add_observations(
        self, document: Mapping[str, Any], file: File, media: Mapping[str, str], deployment: int
    ) -> None:
        name = str(document.get("name"))
        rows = observations.read(document, place(document, file), self._notes)
        for number, values in enumerate(rows, 1):
            cells: dict[str, str] = {}
            for column in OBSERVATIONS:
                fill(cells, column, values.get(column.name), name, self._notes)
            cells.setdefault("observationType", "unclassified")
            self._project.individuals = self._project.individuals or "individualID" in cells
            self._observations.add(deployment, cells | _linked(media, number), self._taxon(cells))

    def _taxon(self, cells: Mapping[str, str]) -> int:
        """Return the number of the species of an observation; 0 without species, or beyond the limit."""
        name, taxa = cells.get("scientificName"), self._project.taxa
        if name is None:
            return 0
        if name not in taxa and len(taxa) >= _MAX_TAXA:
            self._notes.add(name, f"not in `taxonomic`: there are more than {_MAX_TAXA} names")
            return 0
        return taxa.setdefault(name, len(taxa) + 1)

    def _update_project(self, document: Mapping[str, Any], media: Mapping[str, str]) -> None:
        data, project = coercion.user_data(document), self._project
        if "captureMethod" in media:
            project.methods[media["captureMethod"]] = None
        if project.sampling is None and data.get("samplingDesign") in _SAMPLING:
            project.sampling = str(data["samplingDesign"])
        holder = coercion.text(data.get("rightsHolder"))
        if holder and len(project.holders) < 100:
            project.holders[holder] = None

    # -- at the end ---------------------------------------------------------------------

    def _table(self, placed: list[Deployment]) -> BinaryIO:
        file = self._temporary()
        file.write(tables.header(DEPLOYMENTS).encode("utf-8", "replace"))
        for one in placed:
            file.write(one.row().encode("utf-8", "replace"))
        file.seek(0)
        return file

    def _filtered(self, rows: _Rows, deployments: set[int], taxa: set[int]) -> BinaryIO:
        """Return a table with the rows of these deployments, and add their species to ``taxa``."""
        file = self._temporary()
        file.write(tables.header(rows.columns).encode("utf-8", "replace"))
        for deployment, taxon, line in rows:
            if deployment in deployments:
                file.write(line)
                taxa.add(taxon)
        file.seek(0)
        return file

    def _package(self, placed: list[Deployment], taxa: set[int], newest: float) -> bytes:
        created = datetime.fromtimestamp(newest, UTC)
        start = min((one.first for one in placed), default=created)
        end = max((one.last for one in placed), default=created)
        source = {"title": "image_repo"} | ({"path": self._about.images} if "://" in (self._about.images or "") else {})
        package = {
            "profile": _STANDARD + "camtrap-dp-profile.json",
            "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "title": self._about.title,
            "contributors": self._contributors(),
            "sources": [source],
            "project": self._project_metadata(),
            "spatial": extent([one.position for one in placed if one.position]),
            "temporal": {"start": start.date().isoformat(), "end": end.date().isoformat()},
            "taxonomic": [{"scientificName": name} for name, number in self._project.taxa.items() if number in taxa],
            "resources": [_resource(name) for name in ("deployments", "media", "observations")],
        }
        return json.dumps(package, ensure_ascii=False, allow_nan=False, indent=2).encode("utf-8", "replace") + b"\n"

    def _contributors(self) -> list[dict[str, str]]:
        holders = [{"title": name, "role": "rightsHolder"} for name in self._project.holders]
        if not holders:
            self._notes.add("datapackage.json", "contributors: no data.rightsHolder; add them")
        return holders or [{"title": "image_repo", "role": "publisher"}]

    def _project_metadata(self) -> dict[str, Any]:
        """Return the project; required members without data get the weakest claim, and a note."""
        project = self._project
        if project.sampling is None:
            self._notes.add(
                "datapackage.json", "project.samplingDesign: no data.samplingDesign; opportunistic is assumed"
            )
        if not project.methods:
            self._notes.add(
                "datapackage.json", "project.captureMethod: no data.captureMethod; activityDetection is assumed"
            )
        return {
            "title": self._about.title,
            "samplingDesign": project.sampling or "opportunistic",
            "captureMethod": sorted(project.methods) or ["activityDetection"],
            "individualAnimals": project.individuals,
            "observationLevel": ["media"],
        }


class _Rows:
    """Rows of a table on disk, each with the numbers of its deployment and species."""

    _HEAD = struct.Struct(">III")

    def __init__(self, file: BinaryIO, columns: tuple[Column, ...]) -> None:
        self.file = file
        self.columns = columns

    def add(self, deployment: int, cells: Mapping[str, str], taxon: int = 0) -> None:
        line = tables.row(self.columns, cells).encode("utf-8", "replace")
        self.file.write(self._HEAD.pack(deployment, taxon, len(line)) + line)

    def __iter__(self) -> Iterator[tuple[int, int, bytes]]:
        self.file.seek(0)
        while head := self.file.read(self._HEAD.size):
            deployment, taxon, size = self._HEAD.unpack(head)
            yield deployment, taxon, self.file.read(size)


def _resource(name: str) -> dict[str, str]:
    return {
        "name": name,
        "path": f"{name}.csv",
        "profile": "tabular-data-resource",
        "format": "csv",
        "mediatype": "text/csv",
        "encoding": "utf-8",
        "schema": f"{_STANDARD}{name}-table-schema.json",
    }


def _capture_time(document: Mapping[str, Any]) -> tuple[datetime, bool]:
    """Return the capture time of a picture, and whether it is certain."""
    for value in (coercion.user_data(document).get("timestamp"), coercion.facts(document).get("captured")):
        if moment := coercion.moment(value):
            return moment
    upload = coercion.moment(document.get("uploaded"))
    return (upload[0] if upload else datetime.fromtimestamp(0, UTC)), False


def _media(document: Mapping[str, Any], file: File, deployment: Deployment, time: datetime) -> dict[str, str]:
    data, exif = coercion.user_data(document), coercion.facts(document)
    values = {key: data.get(key) for key in ("captureMethod", "favorite", "mediaComments")}
    values |= {"mediaID": str(document.get("name")), "timestamp": time.isoformat(), "fileMediatype": file.media_type}
    values |= {"filePath": file.name, "fileName": file.name.rpartition("/")[2]}
    # a file in the package is not necessarily public elsewhere
    values |= {"filePublic": data.get("filePublic") is True}
    if exif:
        values["exifData"] = json.dumps(exif, ensure_ascii=False, allow_nan=False, sort_keys=True)
    cells = {column.name: cell for column in MEDIA if (cell := column.read(values.get(column.name))) is not None}
    return cells | {"deploymentID": deployment.name}


def _linked(media: Mapping[str, str], number: int) -> dict[str, str]:
    """Return the cells that link an observation to its picture."""
    return {
        "observationID": f"{media['mediaID']}#{number}",
        "deploymentID": media["deploymentID"],
        "mediaID": media["mediaID"],
        "eventStart": media["timestamp"],
        "eventEnd": media["timestamp"],
        "observationLevel": "media",
    }
