"""Camtrap DP 1.0.2, the Camera Trap Data Package of TDWG (camtrap-dp.tdwg.org): how ecologists exchange pictures.

A ``datapackage.json`` and three tables. What is read of a record:

* deployment: ``data.deploymentID``, ``data.deployment`` (text, or an object with any column of the table),
  ``data.site``, else the folder of the name. Every column of the table is read of ``data`` under its own name.
* position: ``data.latitude`` and ``data.longitude``, else that of the EXIF where ``metadata_location`` lets records
  have it; the first of a deployment counts. The standard requires one: a deployment without is left out, with its
  pictures, and told in the notes. Pictures that were taken elsewhere make ``coordinateUncertainty`` larger.
* time: ``data.timestamp``, else the EXIF's, else the upload's. Where the zone, or the time itself, is not known,
  ``timestampIssues`` says so. A deployment lasts from its first picture to its last, or as its data say.
* observations: ``data.observations`` (objects with columns of the table), ``data.annotations`` (with their boxes),
  and ``data.scientificName`` or ``data.species`` with ``count``, ``sex`` … beside it. A picture of which nothing is
  said is ``unclassified``.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

from image_repo.exchange.base import About, Exported, File, Sheets
from image_repo.exchange.formats import coercion, observations, tables
from image_repo.exchange.formats.deployments import Deployment, Deployments, fill
from image_repo.exchange.formats.notes import Notes, member
from image_repo.exchange.formats.placement import place
from image_repo.exchange.formats.positions import extent
from image_repo.exchange.formats.tables import DEPLOYMENTS, MEDIA, OBSERVATIONS, Column

_STANDARD = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2/"
#: the standard's own pattern for a relative path, and nothing that a spreadsheet would calculate
_PATH = re.compile(r"(?![./~=+\-@\t])(?!.*\.\.).+")
#: the most different names of species of one package
_MOST_TAXA = 10_000
_SAMPLING = ("simpleRandom", "systematicRandom", "clusteredRandom", "experimental", "targeted", "opportunistic")


class Camtrap:
    """The format, as exports know it."""

    name = "camtrap"
    help = "Camtrap DP 1.0: datapackage.json, deployments.csv, media.csv, observations.csv"

    def open(self, about: About) -> Sheets:
        """Begins an export."""
        return _Sheets(about)


@dataclass(slots=True)
class _Project:
    """What the package says of the whole.

    :param taxa: names of species, each with a number from 1
    """

    taxa: dict[str, int] = field(default_factory=dict)
    methods: dict[str, None] = field(default_factory=dict)
    holders: dict[str, None] = field(default_factory=dict)
    sampling: str | None = None
    individuals: bool = False


class _Sheets:
    """The files of one export. Rows wait on disk, because whether their deployment has a position shows at the end."""

    def __init__(self, about: About) -> None:
        self._about = about
        self._notes = Notes()
        self._deployments = Deployments(self._notes)
        self._project = _Project()
        self._media = _Rows(about.temporary(), MEDIA)
        self._observations = _Rows(about.temporary(), OBSERVATIONS)
        self._files: list[BinaryIO] = []

    def add(self, exported: Exported) -> None:
        """Takes the next picture; a description has none."""
        document, file = exported.document, exported.file
        if file is None:
            return
        if not _PATH.fullmatch(file.name):
            self._notes.add(file.name, "left out of the tables: the standard has no such paths")
            return
        when, known = _taken(document)
        deployment = self._deployments.of(document, when, known=known)
        if deployment is None:
            return
        media = _media(document, file, deployment, when)
        self._media.add(deployment.number, media)
        self._observe(document, file, media, deployment.number)
        self._learn(document, media)

    def members(self, newest: float) -> Iterator[tuple[str, bytes | BinaryIO]]:
        """``datapackage.json``, the tables, and what had to be left out of them."""
        placed = [one for one in self._deployments if one.position]
        for one in self._deployments:
            if one.position is None:
                self._notes.add(one.name, "left out with its pictures: Camtrap DP requires latitude and longitude")
        numbers, taxa = {one.number for one in placed}, set[int]()
        yield "deployments.csv", self._table(placed)
        yield "media.csv", self._kept(self._media, numbers, set())
        yield "observations.csv", self._kept(self._observations, numbers, taxa)
        yield "datapackage.json", self._package(placed, taxa, newest)
        told = self._notes.text()
        if told:
            yield member(Camtrap.name), told

    def close(self) -> None:
        """Lets the temporary files go."""
        for file in (self._media.file, self._observations.file, *self._files):
            file.close()

    # -- as documents come --------------------------------------------------------------

    def _observe(self, document: Mapping[str, Any], file: File, media: Mapping[str, str], deployment: int) -> None:
        name = str(document.get("name"))
        seen = observations.read(document, place(document, file), self._notes)
        for number, values in enumerate(seen, 1):
            cells: dict[str, str] = {}
            for column in OBSERVATIONS:
                fill(cells, column, values.get(column.name), name, self._notes)
            cells.setdefault("observationType", "unclassified")
            self._project.individuals = self._project.individuals or "individualID" in cells
            self._observations.add(deployment, cells | _linked(media, number), self._taxon(cells))

    def _taxon(self, cells: Mapping[str, str]) -> int:
        """The number of the species that an observation names; 0 where it names none, or there are too many."""
        name, taxa = cells.get("scientificName"), self._project.taxa
        if name is None:
            return 0
        if name not in taxa and len(taxa) >= _MOST_TAXA:
            self._notes.add(name, f"not in `taxonomic`: there are more than {_MOST_TAXA} names")
            return 0
        return taxa.setdefault(name, len(taxa) + 1)

    def _learn(self, document: Mapping[str, Any], media: Mapping[str, str]) -> None:
        """What a picture tells of the project."""
        data, project = coercion.user_data(document), self._project
        if "captureMethod" in media:
            project.methods[media["captureMethod"]] = None
        if project.sampling is None and data.get("samplingDesign") in _SAMPLING:
            project.sampling = str(data["samplingDesign"])
        holder = coercion.text(data.get("rightsHolder"))
        if holder and len(project.holders) < 100:
            project.holders[holder] = None

    # -- in the end ---------------------------------------------------------------------

    def _temporary(self) -> BinaryIO:
        self._files.append(self._about.temporary())
        return self._files[-1]

    def _table(self, placed: list[Deployment]) -> BinaryIO:
        file = self._temporary()
        file.write(tables.header(DEPLOYMENTS).encode("utf-8", "replace"))
        for one in placed:
            file.write(one.row().encode("utf-8", "replace"))
        file.seek(0)
        return file

    def _kept(self, rows: _Rows, deployments: set[int], taxa: set[int]) -> BinaryIO:
        """A table with the rows of these deployments; the species that they name are put into a set."""
        file = self._temporary()
        file.write(tables.header(rows.columns).encode("utf-8", "replace"))
        for deployment, taxon, line in rows:
            if deployment in deployments:
                file.write(line)
                taxa.add(taxon)
        file.seek(0)
        return file

    def _package(self, placed: list[Deployment], taxa: set[int], newest: float) -> bytes:
        made = datetime.fromtimestamp(newest, UTC)
        start = min((one.first for one in placed), default=made)
        end = max((one.last for one in placed), default=made)
        source = {"title": "image_repo"} | ({"path": self._about.images} if "://" in (self._about.images or "") else {})
        package = {
            "profile": _STANDARD + "camtrap-dp-profile.json",
            "created": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "title": self._about.title,
            "contributors": self._contributors(),
            "sources": [source],
            "project": self._told(),
            "spatial": extent([one.position for one in placed if one.position]),
            "temporal": {"start": start.date().isoformat(), "end": end.date().isoformat()},
            "taxonomic": [{"scientificName": name} for name, number in self._project.taxa.items() if number in taxa],
            "resources": [_resource(name) for name in ("deployments", "media", "observations")],
        }
        return json.dumps(package, ensure_ascii=False, allow_nan=False, indent=2).encode("utf-8", "replace") + b"\n"

    def _contributors(self) -> list[dict[str, str]]:
        holders = [{"title": name, "role": "rightsHolder"} for name in self._project.holders]
        if not holders:
            self._notes.add("datapackage.json", "contributors: nobody is told (data.rightsHolder); write who it is")
        return holders or [{"title": "image_repo", "role": "publisher"}]

    def _told(self) -> dict[str, Any]:
        """The project. What the standard requires, and nobody has said, is what claims least; the notes tell."""
        project = self._project
        if project.sampling is None:
            self._notes.add(
                "datapackage.json", "project.samplingDesign is not told (data.samplingDesign): opportunistic"
            )
        if not project.methods:
            self._notes.add(
                "datapackage.json", "project.captureMethod is not told (data.captureMethod): activityDetection"
            )
        return {
            "title": self._about.title,
            "samplingDesign": project.sampling or "opportunistic",
            "captureMethod": sorted(project.methods) or ["activityDetection"],
            "individualAnimals": project.individuals,
            "observationLevel": ["media"],
        }


class _Rows:
    """Rows of a table on disk, each with the numbers of its deployment and its species."""

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


def _taken(document: Mapping[str, Any]) -> tuple[datetime, bool]:
    """When a picture was taken, and whether that is certain."""
    for value in (coercion.user_data(document).get("timestamp"), coercion.facts(document).get("captured")):
        read = coercion.moment(value)
        if read:
            return read
    read = coercion.moment(document.get("uploaded"))
    return (read[0] if read else datetime.fromtimestamp(0, UTC)), False


def _media(document: Mapping[str, Any], file: File, deployment: Deployment, when: datetime) -> dict[str, str]:
    data, exif = coercion.user_data(document), coercion.facts(document)
    said = {key: data.get(key) for key in ("captureMethod", "favorite", "mediaComments")}
    said |= {"mediaID": str(document.get("name")), "timestamp": when.isoformat(), "fileMediatype": file.media_type}
    said |= {"filePath": file.name, "fileName": file.name.rpartition("/")[2]}
    # that a file is in the package does not say that everybody may fetch it elsewhere
    said |= {"filePublic": data.get("filePublic") is True}
    if exif:
        said["exifData"] = json.dumps(exif, ensure_ascii=False, allow_nan=False, sort_keys=True)
    cells = {column.name: cell for column in MEDIA if (cell := column.read(said.get(column.name))) is not None}
    return cells | {"deploymentID": deployment.name}


def _linked(media: Mapping[str, str], number: int) -> dict[str, str]:
    """The cells by which an observation belongs to its picture."""
    return {
        "observationID": f"{media['mediaID']}#{number}",
        "deploymentID": media["deploymentID"],
        "mediaID": media["mediaID"],
        "eventStart": media["timestamp"],
        "eventEnd": media["timestamp"],
        "observationLevel": "media",
    }
