"""Croissant 1.0 of MLCommons (docs.mlcommons.org/croissant/docs/croissant-spec.html): ``croissant.json`` describes the
export to training libraries.

Records are lines of ``records.jsonl``. (The ``data`` of ``metadata.jsonl`` is no such table: its keys may hold
anything.)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from image_repo.exchange.base import About, Exported
from image_repo.exchange.formats import coercion
from image_repo.exchange.formats.base import TableMember
from image_repo.exchange.formats.columns import Column
from image_repo.exchange.formats.flat import FlatWriter, json_line

RECORDS, DESCRIPTION = "records.jsonl", "croissant.json"
_FILES, _IMAGES = "files", "images"
_MAX_ENDINGS = 100
_TIMES = re.compile("_(at|time)_*$", re.IGNORECASE)
_TYPES = {"boolean": "sc:Boolean", "integer": "sc:Integer", "float": "sc:Float", "text": "sc:Text"}
#: from the specification; embedded, so that readers fetch nothing
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
} | {
    name: f"cr:{name}"
    for name in (
        "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
        "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references",
        "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
    )
}  # fmt: skip


class Croissant(FlatWriter):
    """The files of one export."""

    name = "croissant"
    help = "Croissant 1.0: croissant.json with the types of all fields, records.jsonl"

    def __init__(self, about: About) -> None:
        super().__init__(about, _label)
        self._media_types: set[str] = set()
        self._endings: set[str] = set()
        self._licenses: set[str | None] = set()

    def add(self, exported: Exported) -> None:
        """Add the next picture; descriptions have none."""
        super().add(exported)
        if exported.file is None:
            return
        self._media_types.add(exported.file.media_type)
        ending = exported.file.name.rpartition("/")[2].rpartition(".")[2]
        if len(self._endings) < _MAX_ENDINGS:
            self._endings.add(ending)
        if len(self._licenses) < 2:
            self._licenses.add(coercion.text(coercion.user_data(exported.document).get("license")))

    def _tables(self, newest: float) -> Iterator[TableMember]:
        digest, records = hashlib.sha256(), self._temporary()
        for row in self._rows():
            line = json_line(row)
            digest.update(line)
            records.write(line)
        size = records.tell()
        records.seek(0)
        yield RECORDS, records
        yield DESCRIPTION, self._description(digest.hexdigest(), size, newest)

    def _description(self, digest: str, size: int, newest: float) -> bytes:
        description: dict[str, Any] = {
            "@context": _CONTEXT,
            "@type": "sc:Dataset",
            "conformsTo": "http://mlcommons.org/croissant/1.0",
            "name": self._about.title,
            "description": f"Pictures and what is known of them: {self._about.title}",
            "datePublished": datetime.fromtimestamp(newest, UTC).date().isoformat(),
            "version": "1.0.0",
        }
        if self._about.images:
            description["url"] = self._about.images
        license_ = next(iter(self._licenses)) if len(self._licenses) == 1 else None
        if license_:
            description["license"] = license_
        description["distribution"] = [_records(digest, size)]
        description["recordSet"] = []
        if self._endings:
            description["distribution"].append(self._pictures())
            description["recordSet"] = [_file_records(), self._image_records()]
        return json.dumps(description, ensure_ascii=False, allow_nan=False, indent=2).encode("utf-8", "replace") + b"\n"

    def _pictures(self) -> dict[str, Any]:
        # readers differ in whether `*` goes over a slash, and whether `**/` may be nothing
        patterns = [pattern for ending in sorted(self._endings) for pattern in (f"*.{ending}", f"**/*.{ending}")]
        return {
            "@type": "cr:FileSet",
            "@id": "pictures",
            "name": "pictures",
            "encodingFormat": sorted(self._media_types),
            "includes": patterns,
        }

    def _image_records(self) -> dict[str, Any]:
        fields = [_column_field(column) for column in self._columns]
        path = next(one for one in fields if one["name"] == "file_name")
        path["references"] = {"field": {"@id": f"{_FILES}/path"}}
        image = _field(_IMAGES, "image", "sc:ImageObject", {"field": {"@id": f"{_FILES}/content"}})
        return {"@type": "cr:RecordSet", "@id": _IMAGES, "name": _IMAGES, "field": [image, *fields]}


def _records(digest: str, size: int) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": "records",
        "name": RECORDS,
        "contentUrl": RECORDS,
        "contentSize": f"{size} B",
        "encodingFormat": "application/jsonlines",
        "sha256": digest,
    }


def _file_records() -> dict[str, Any]:
    """Return the files by their paths: the join of a line and its picture."""
    pictures = {"fileSet": {"@id": "pictures"}}
    path = {**pictures, "extract": {"fileProperty": "fullpath"}, "transform": {"regex": "^(.*)$"}}
    content = {**pictures, "extract": {"fileProperty": "content"}}
    return {
        "@type": "cr:RecordSet",
        "@id": _FILES,
        "name": _FILES,
        "key": {"@id": f"{_FILES}/path"},
        "field": [_field(_FILES, "path", "sc:Text", path), _field(_FILES, "content", "sc:ImageObject", content)],
    }


def _column_field(column: Column) -> dict[str, Any]:
    source = {"fileObject": {"@id": "records"}, "extract": {"column": _label(column.name)}}
    data_type = "sc:DateTime" if column.name == "uploaded" else _TYPES[column.kind]
    field = _field(_IMAGES, column.name, data_type, source)
    return field | ({"repeated": True} if column.repeated else {})


def _field(record_set: str, name: str, data_type: str, source: Mapping[str, Any]) -> dict[str, Any]:
    identity = f"{record_set}/{quote(name, safe='')}"
    return {"@type": "cr:Field", "@id": identity, "name": name, "dataType": data_type, "source": dict(source)}


def _label(name: str) -> str:
    """Return the column of a key. Pandas reads numbers under some names as times: those get another ending."""
    return name + "_" if _TIMES.search(name) else name
